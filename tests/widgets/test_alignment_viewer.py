"""The alignment viewer: letters stand at their seconds, the piece is the sound under the cursor, and clips can be switched."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from course_lib.ctc.paths import collapse, forced_alignment
from course_lib.ctc.recogniser import StageBRecogniser
from course_lib.ctc.spec_augment import SpecAugment
from course_lib.encoder.tiny import StageBEncoder
from course_lib.sound.audio import SAMPLE_RATE
from course_lib.text.vocabulary import CharVocabulary
from course_lib.widgets.alignment_viewer import (
    AlignedClip,
    AlignmentViewer,
    align_clip,
    audio_html,
    describe_frame,
    draw_alignment,
    piece,
)

SYMBOLS = ("_", " ", "n", "a", "t", "å", "<", "&")


def made_up_clip(
    path: Sequence[str], said: Sequence[str] | None = None, symbols: tuple[str, ...] = SYMBOLS, frames_per_second: float = 25
) -> AlignedClip:
    """A clip whose posteriors give the symbols of `path` 90 % each; sample i of its sound is i / 100,000."""
    ids = [symbols.index(symbol) for symbol in path]
    probabilities = torch.full((len(path), len(symbols)), 0.1 / (len(symbols) - 1))
    probabilities[range(len(path)), ids] = 0.9
    heard = [symbols[i] for i in collapse(ids)]
    said = heard if said is None else said
    aligned = forced_alignment(probabilities.log(), [symbols.index(symbol) for symbol in said])
    frames = round(100 * len(path) / frames_per_second)
    log_mel = torch.randn(frames, 128, generator=torch.Generator().manual_seed(0))
    sound = (torch.arange(frames * 160) / 100_000, log_mel, probabilities.log())
    text = "".join(said)
    return AlignedClip(text, *sound, text, "".join(heard), aligned, symbols, frames_per_second)


@pytest.fixture
def clip() -> AlignedClip:
    """Letters of one and of two frames, a space, and equal neighbours: "nat ått" in 20 frames of 40 ms."""
    return made_up_clip("__nn_aa_t_ ___å_t_t_")


def letters_of(axes) -> list[tuple[str, float]]:
    return [(text.get_text(), round(text.get_position()[0], 4)) for text in axes.texts]


def boxes_overlap(axes) -> list[tuple[str, str]]:
    """Letters whose boxes, as really drawn, cover one another."""
    FigureCanvasAgg(axes.figure).draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in axes.texts]
    return [(a, b) for i, (a, box) in enumerate(boxes) for b, other in boxes[i + 1 :] if box.overlaps(other)]


def test_letters_stand_over_the_middle_of_their_spans_in_seconds(clip):
    upper, lower = draw_alignment(clip, 0).axes
    expected = [("n", 0.12), ("a", 0.24), ("t", 0.34), ("␣", 0.42), ("å", 0.58), ("t", 0.66), ("t", 0.74)]
    assert letters_of(upper) == expected
    assert letters_of(lower) == expected
    edges = {round(float(segment[0][0]), 4) for segment in upper.collections[0].get_segments()}
    assert edges == {frame / 25 for span in clip.spans for frame in (span.start, span.end)}
    assert upper.get_xlim() == lower.get_xlim() == (0, 0.8)
    assert upper.images[0].get_extent()[:2] == [0, 0.8]


def test_what_was_heard_may_differ_from_what_was_said():
    upper, lower = draw_alignment(made_up_clip("_n_å_t_", said="nat"), 0).axes
    assert [letter for letter, _ in letters_of(upper)] == ["n", "a", "t"]
    assert [letter for letter, _ in letters_of(lower)] == ["n", "å", "t"]
    labels = [text.get_text() for text in lower.figure.legends[0].get_texts()]
    assert labels == ["blank", "letters of the text", "other letters heard"]


def test_the_steps_are_the_probabilities_of_blank_and_of_the_letters_that_matter(clip):
    steps = [patch.get_data() for patch in draw_alignment(clip, 0).axes[1].patches if hasattr(patch, "get_data")]
    assert len(steps) == 6  # the blank, n a t å and the space; no < and no &
    np.testing.assert_allclose(steps[0].values, clip.log_probs[:, 0].exp())
    np.testing.assert_allclose(steps[0].edges, np.arange(21) / 25, rtol=1e-6)
    np.testing.assert_allclose(steps[2].values, clip.log_probs[:, SYMBOLS.index("n")].exp())


def test_the_cursor_is_one_frame_wide_in_both_panels(clip):
    for axes in draw_alignment(clip, 7).axes:
        cursor = axes.patches[-1]
        assert cursor.get_x() == pytest.approx(0.28)
        assert cursor.get_width() == pytest.approx(0.04)


def test_axes_are_labelled_with_units(clip):
    upper, lower = draw_alignment(clip, 0).axes
    assert lower.get_xlabel() == "time (s)"
    assert "frequency (Hz)" in upper.get_ylabel()
    assert lower.get_ylabel() == "probability"


@pytest.mark.parametrize("path", ["nanatåna" * 20, "_n" * 70, "n" + "_" * 120], ids=["dense", "spiky", "at the left edge"])
def test_letters_never_overlap(path):
    for axes in draw_alignment(made_up_clip(path), 0).axes:
        assert boxes_overlap(axes) == []
        tops = [text.get_position()[1] for text in axes.texts]
        assert max(tops) < axes.get_ylim()[1]


def test_a_letter_at_the_left_edge_stands_in_the_lowest_row():
    edge, middle = (draw_alignment(made_up_clip(path), 0).axes[0].texts[0] for path in ("n" + "_" * 120, "_" * 60 + "n"))
    assert edge.get_position()[1] == middle.get_position()[1]


def test_pieces_of_words_do_not_overlap_either():
    symbols = ("_", "▁turisten", "▁har", "en")
    clip = made_up_clip(("_", "▁turisten", "▁har", "en", *"_" * 20), symbols=symbols, frames_per_second=12.5)
    upper = draw_alignment(clip, 0).axes[0]
    assert letters_of(upper) == [("␣turisten", 0.12), ("␣har", 0.2), ("en", 0.28)]
    assert len({text.get_position()[1] for text in upper.texts}) == 2
    assert boxes_overlap(upper) == []
    assert "on <b>␣har</b>:  turisten<mark>␣har</mark>en" in describe_frame(clip, 2)


def test_the_words_say_time_beliefs_and_the_letter(clip):
    said = describe_frame(clip, 3)
    assert "Frame 3, 0.12–0.16 s. The network: <b>n</b> 90 %, blank 1 %, " in said
    assert "The forced alignment is on <b>n</b>: <mark>n</mark>at ått" in said
    assert "heard: <b>nat ått</b>" in said
    assert "on <b>␣</b>: nat<mark>␣</mark>ått" in describe_frame(clip, 10)
    assert "The network: blank 90 %" in describe_frame(clip, 15)
    assert "between letters: nat å<mark>|</mark>tt" in describe_frame(clip, 15)
    assert "between letters: <mark>|</mark>nat ått" in describe_frame(clip, 0)


def test_text_is_escaped():
    clip = made_up_clip("_<_&_n_")
    assert "<b>&lt;&amp;n</b>" in describe_frame(clip, 0)
    assert "on <b>&amp;</b>: &lt;<mark>&amp;</mark>n" in describe_frame(clip, 3)
    assert "<b>&lt;</b> 90 %" in describe_frame(clip, 1)
    assert "&lt;b&gt;" in audio_html(clip.waveform, "<b>")


def test_nothing_heard_is_said():
    clip = made_up_clip("_____", said="na")
    assert "heard: <b>(nothing)</b>" in describe_frame(clip, 0)
    assert letters_of(draw_alignment(clip, 0).axes[1]) == []


@pytest.mark.parametrize(
    ("frame", "seconds", "first", "last"),
    [
        (10, 0.4, 3520, 9920),  # 0.42 s is in the middle
        (10, 0.1, 5920, 7520),
        (0, 0.4, 0, 6400),
        (19, 0.4, 6400, 12_800),
        (3, 5.0, 0, 12_800),
    ],
)
def test_the_piece_is_the_sound_around_the_frame(clip, frame, seconds, first, last):
    samples = piece(clip, frame, seconds)
    assert (samples * 100_000).round().int().tolist() == list(range(first, last))


def test_the_bar_under_the_spectrogram_is_the_piece(clip):
    (bar,) = draw_alignment(clip, 10).axes[0].collections[1].get_segments()
    np.testing.assert_allclose(bar[:, 0], [0.22, 0.62])


@pytest.mark.parametrize("frame", [-1, 20])
@pytest.mark.parametrize("function", [draw_alignment, describe_frame, piece])
def test_a_frame_outside_the_clip_is_refused(clip, function, frame):
    with pytest.raises(ValueError, match=f"frame {frame}: the clip has the frames 0 to 19"):
        function(clip, frame)


def played(content: str) -> np.ndarray:
    """The samples in a player."""
    (sound,) = re.findall(r'src="data:audio/wav;base64,([^"]*)"', content)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)), dtype="float32")
    assert rate == SAMPLE_RATE
    return samples


def test_the_player_holds_the_sound_in_16_bit(clip):
    content = audio_html(clip.waveform, "all")
    np.testing.assert_allclose(played(content), clip.waveform, atol=2**-15)
    assert len(audio_html(piece(clip, 10), "")) < 18_000
    assert played(audio_html(torch.tensor([2.0, -2.0]), "")).tolist() == pytest.approx([1, -1], abs=1e-4)


@pytest.fixture
def demo(clip) -> AlignmentViewer:
    return AlignmentViewer([clip, replace(made_up_clip("_a_t_"), caption="the short one"), made_up_clip("_n" * 40)])


def test_it_begins_at_the_first_letter(demo):
    assert (demo.place.value, demo.place.max) == (2, 19)
    assert "on <b>n</b>" in demo.text.value
    assert "autoplay" not in demo.piece.value


def test_the_slider_moves_text_picture_and_sound(demo, clip):
    before = bytes(demo.picture.value)
    demo.place.value = 13
    assert "between letters" in demo.text.value
    assert bytes(demo.picture.value) != before
    np.testing.assert_allclose(played(demo.piece.value), piece(clip, 13), atol=2**-15)
    np.testing.assert_allclose(played(demo.whole.value), clip.waveform, atol=2**-15)
    assert "autoplay" not in demo.piece.value


def test_switching_to_a_shorter_and_to_a_longer_clip(demo):
    demo.place.value = 19
    demo.clip.value = 1
    assert (demo.place.value, demo.place.max) == (1, 4)
    assert "<mark>a</mark>t" in demo.text.value
    assert len(played(demo.whole.value)) == len(demo.clips[1].waveform)
    assert "0.20 s" in demo.whole.value
    demo.clip.value = 2
    assert (demo.place.value, demo.place.max) == (1, 79)
    demo.place.value = 79
    assert "Frame 79" in demo.text.value
    demo.clip.value = 0
    assert (demo.place.value, demo.place.max) == (2, 19)
    assert [caption for caption, _ in demo.clip.options] == ["nat ått", "the short one", "n" * 40]


def test_a_clip_is_drawn_once_when_it_is_picked(demo, monkeypatch):
    drawn = []
    module = "course_lib.widgets.alignment_viewer.draw_alignment"
    monkeypatch.setattr(module, lambda clip, frame: drawn.append((clip.text, frame)) or draw_alignment(clip, frame))
    demo.clip.value = 1
    assert drawn == [("at", 1)]


def test_the_button_plays_the_piece_again_and_again(demo, clip):
    demo.place.value = 13
    seen = []
    demo.piece.observe(lambda change: seen.append(change.new), names="value")
    demo.play.click()
    demo.play.click()
    assert len(seen) == 2
    for content in seen:
        assert "<audio controls autoplay " in content
        np.testing.assert_allclose(played(content), piece(clip, 13), atol=2**-15)


def test_it_plays_at_every_move_when_asked_to(demo):
    demo.follow.value = True
    assert "autoplay" not in demo.piece.value
    demo.place.value = 5
    assert "autoplay" in demo.piece.value
    demo.follow.value = False
    demo.place.value = 6
    assert "autoplay" not in demo.piece.value


def test_a_clip_of_one_frame_and_one_without_text_can_be_shown():
    demo = AlignmentViewer([made_up_clip("n" + "_" * 5), made_up_clip("n", frames_per_second=5), made_up_clip("____")])
    demo.clip.value = 1
    assert (demo.place.value, demo.place.max) == (0, 0)
    demo.clip.value = 2
    assert "between letters: <mark>|</mark>" in demo.text.value


def test_no_clips_are_refused():
    with pytest.raises(ValueError, match="no clips"):
        AlignmentViewer([])


def test_the_static_twin(demo):
    data, _ = demo._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert "“nat ått”" in data["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" in data


@pytest.fixture
def recogniser() -> StageBRecogniser:
    """Random weights: nonsense, but aligned nonsense."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return StageBRecogniser(StageBEncoder(24, 1, 2, 48, dropout=0.5), CharVocabulary(), SpecAugment())


@pytest.fixture
def second() -> torch.Tensor:
    return 0.1 * torch.randn(SAMPLE_RATE, generator=torch.Generator().manual_seed(1))


def test_a_recogniser_makes_an_aligned_clip(recogniser, second):
    clip = align_clip(recogniser.eval(), second, "på øen")
    assert clip.log_probs.shape == (25, 31)
    torch.testing.assert_close(clip.log_probs, recogniser.log_probs([clip.log_mel])[0][0, :25])
    assert not clip.log_probs.requires_grad
    assert clip.log_mel.shape == (100, 128)
    assert "".join(clip.symbols[span.symbol] for span in clip.spans) == clip.text == clip.caption == "på øen"
    assert " ".join(clip.heard.split()) == recogniser.transcribe([second])[0]
    assert clip.frame_seconds(10) == (0.4, 0.44)
    assert align_clip(recogniser, second, "på", caption="dev 3").caption == "dev 3"


def test_a_recogniser_in_training_is_asked_without_dropout_and_left_in_training(recogniser, second):
    log_probs = align_clip(recogniser.eval(), second, "på øen").log_probs
    torch.testing.assert_close(align_clip(recogniser.train(), second, "på øen").log_probs, log_probs)
    assert recogniser.training


def test_a_text_that_cannot_be_aligned_is_refused(recogniser, second):
    with pytest.raises(ValueError, match="26 symbols need 26 frames, there are 25"):
        align_clip(recogniser, second, "ab" * 13)
