"""The neighbours of audio tokens: the right ones, in order, over their own sound; and a slider that moves all of it."""

import base64
import copy
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from course_lib.slam.model import SlamASR
from course_lib.slam.projector import ConcatProjector
from course_lib.sound.audio import SAMPLE_RATE
from course_lib.widgets.token_neighbours import (
    PIECE_SECONDS,
    ReadClip,
    TokenNeighbours,
    describe_token,
    draw_neighbours,
    nearest_rows,
    piece_names,
    piece_of,
    read_clip,
)


def made_up_clip(names="··hhe·j␣<", caption="hej"):
    """A clip of 25 audio tokens a second whose nearest pieces are `names`; sample i of its sound is i / 100,000."""
    neighbours = [[(name, 0.9), ("å", 0.5), ("$x$", 0.25)] for name in names]
    return ReadClip(caption, torch.arange(640 * len(names)) / 100_000, neighbours, 25.0)


@pytest.fixture
def clip():
    return made_up_clip()


def test_nearest_is_by_direction_and_not_by_length():
    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0], [-1.0, 0.0]])
    cosines, ids = nearest_rows(torch.tensor([[2.0, 0.1], [0.0, 0.01]]), table, 3)
    assert ids.tolist() == [[0, 2, 1], [1, 2, 0]]
    torch.testing.assert_close(cosines[0], torch.cosine_similarity(torch.tensor([[2.0, 0.1]]), table[[0, 2, 1]]))


def test_pieces_are_written_for_people(tiny_llm):
    names = piece_names(tiny_llm.tokenizer)
    vocabulary = tiny_llm.tokenizer.get_vocab()
    assert len(names) == len(vocabulary)
    assert names[vocabulary["<|silence|>"]] == "·"
    assert names[vocabulary["Ġ"]] == "␣"
    assert names[vocabulary["Ã¥"]] == "å"
    assert names[vocabulary["Ã"]] == "�"
    assert names[vocabulary["Ċ"]] == "�"  # the end of a line: no font has a picture of it


def test_a_clip_is_read_token_by_token(encoder, tiny_llm):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        projector = ConcatProjector(512, tiny_llm.model.config.hidden_size, 3)
    slam = SlamASR(encoder, projector, copy.deepcopy(tiny_llm.model), tiny_llm.tokenizer, precision="fp32")
    waveform = 0.1 * torch.randn(SAMPLE_RATE, generator=torch.Generator().manual_seed(1))
    clip = read_clip(slam, waveform, "noise")
    assert len(clip.neighbours) == 50 // 3
    assert clip.token_seconds(2) == pytest.approx((0.12, 0.18))
    tokens = slam.audio_tokens(slam.encode([waveform]))[0].detach()
    cosines = torch.cosine_similarity(tokens[4], tiny_llm.model.get_input_embeddings().weight.detach())
    names = piece_names(tiny_llm.tokenizer)
    assert clip.neighbours[4][0] == (names[int(cosines.argmax())], pytest.approx(float(cosines.max()), abs=1e-5))
    found = [cosine for _, cosine in clip.neighbours[4]]
    assert found == sorted(found, reverse=True)
    assert len(found) == 5


def test_pieces_stand_over_their_own_sound_a_run_once_and_silence_never(clip):
    upper, _ = draw_neighbours(clip, 4).axes
    written = [(text.get_text(), round(text.get_position()[0], 3)) for text in upper.texts]
    assert written == [("h", 0.12), ("e", 0.18), ("j", 0.26), ("␣", 0.3), ("<", 0.34)]


@pytest.mark.parametrize(
    "names", ["ab" * 40, ["turisten", "har"] * 12, "a" + "·" * 60], ids=["dense", "long", "at the left edge"]
)
def test_pieces_never_overlap(names):
    figure = draw_neighbours(made_up_clip(names), 0)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    upper = figure.axes[0]
    boxes = [text.get_window_extent(renderer) for text in upper.texts]
    assert len(boxes) == sum(name != "·" for name in names)
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.shrunk(0.95, 0.6).overlaps(b.shrunk(0.95, 0.6))]
    assert max(text.get_position()[1] for text in upper.texts) < upper.get_ylim()[1]


def test_beneath_are_the_neighbours_of_the_token_at_the_cursor(clip):
    changed = replace(clip, neighbours=[[("x", 0.1)]] * 4 + [[("e", 0.9), ("æ", 0.5)]] + [[("x", 0.1)]] * 4)
    upper, lower = draw_neighbours(changed, 4).axes
    assert [bar.get_width() for bar in lower.patches] == [0.9, 0.5]
    assert [label.get_text() for label in lower.get_yticklabels()] == ["e", "æ"]
    assert "0.16 to 0.20 s" in lower.get_xlabel()
    (cursor,) = upper.patches
    assert (cursor.get_x(), cursor.get_x() + cursor.get_width()) == pytest.approx((0.16, 0.2))


def test_the_words_can_be_hovered_over_and_are_escaped(clip):
    said = describe_token(clip, 4)
    assert 'title="4: e 0.90, å 0.50, $x$ 0.25">e</span>' in said
    assert 'title="8: &lt; 0.90, å 0.50, $x$ 0.25">&lt;</span>' in said
    assert re.findall(r'background:[^"]*" title="(\d+)', said) == ["4"]
    assert "Audio token 4, 0.16–0.20 s." in said


@pytest.mark.parametrize(("token", "first", "last"), [(4, 960, 4800), (0, 0, 3840), (8, 1920, 5760)])
def test_the_piece_is_the_sound_around_the_token(clip, token, first, last):
    assert (piece_of(clip, token) * 100_000).round().int().tolist() == list(range(first, last))
    assert last - first == PIECE_SECONDS * SAMPLE_RATE


def test_a_clip_shorter_than_the_piece_is_played_whole():
    assert len(piece_of(made_up_clip("ja"), 1)) == 2 * 640


@pytest.mark.parametrize("token", [-1, 9])
@pytest.mark.parametrize("function", [draw_neighbours, describe_token, piece_of])
def test_a_token_outside_the_clip_is_refused(clip, function, token):
    with pytest.raises(ValueError, match=f"token {token}: the clip has the audio tokens 0 to 8"):
        function(clip, token)


def played(content):
    """The samples in a player."""
    (sound,) = re.findall(r'src="data:audio/wav;base64,([^"]*)"', content)
    return soundfile.read(io.BytesIO(base64.b64decode(sound)), dtype="float32")[0]


@pytest.fixture
def demo(clip):
    return TokenNeighbours([clip, made_up_clip("·ja", "the short one"), made_up_clip("a" * 40)])


def test_it_begins_at_the_first_token_that_is_no_silence(demo):
    assert (demo.place.value, demo.place.max) == (2, 8)
    assert "Audio token 2" in demo.text.value
    assert "autoplay" not in demo.piece.value


def test_the_slider_moves_text_picture_and_sound(demo, clip):
    before = bytes(demo.picture.value)
    demo.place.value = 7
    assert "Audio token 7" in demo.text.value
    assert bytes(demo.picture.value) != before
    np.testing.assert_allclose(played(demo.piece.value), piece_of(clip, 7), atol=2**-15)


def test_switching_to_a_shorter_and_to_a_longer_clip(demo):
    demo.place.value = 8
    demo.clip.value = 1
    assert (demo.place.value, demo.place.max) == (1, 2)
    demo.clip.value = 2
    assert (demo.place.value, demo.place.max) == (0, 39)
    demo.place.value = 39
    assert "Audio token 39" in demo.text.value
    assert [caption for caption, _ in demo.clip.options] == ["hej", "the short one", "hej"]


def test_the_button_plays_again_and_again_and_the_box_at_every_move(demo):
    seen = []
    demo.piece.observe(lambda change: seen.append(change.new), names="value")
    demo.play.click()
    demo.play.click()
    assert len(seen) == 2
    assert all("autoplay" in content for content in seen)
    demo.place.value = 3
    assert "autoplay" not in demo.piece.value
    demo.follow.value = True
    demo.place.value = 4
    assert "autoplay" in demo.piece.value


def test_a_clip_of_nothing_but_silence_can_be_shown():
    assert TokenNeighbours([made_up_clip("···")]).place.value == 0


def test_no_clips_are_refused():
    with pytest.raises(ValueError, match="no clips"):
        TokenNeighbours([])


def test_the_static_twin(demo):
    data, _ = demo._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert "“hej”" in data["text/plain"]
