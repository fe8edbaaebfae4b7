"""The label-mask inspector: it shows the sequence that training sees, the shift by one, and the model's own predictions."""

import base64
import itertools
import re
from dataclasses import replace

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from course_lib.data.batches import SpeechBatch
from course_lib.language_model.prompt import label_loss, position_ids
from course_lib.systems import load_slam
from course_lib.widgets.label_mask import (
    LOOKS,
    Guess,
    InspectedRow,
    LabelMaskInspector,
    Position,
    describe_position,
    draw_strip,
    inspect_clips,
    piece_of,
    strip_html,
)


def made_up_row(caption="ja <b>", padding=2):
    """Two audio tokens, one of prompt, an answer of two tokens and the end, padding: the label "ja" is at 3, asked at 2."""
    guesses = (Guess("␣<nej>", 0.625), Guess("x", 0.25), Guess("y", 0.125))
    told = [("audio", "a", None, None), ("audio", "·", None, None), ("prompt", "↵", None, 0.5), ("answer", "ja", "ja", 1.25),
            ("answer", "<b>", "<b>", 2.0), ("answer", "END", "END", None)]  # fmt: skip
    told += [("padding", "", None, None)] * padding
    positions = [Position(kind, piece, label, guesses, loss) for kind, piece, label, loss in told]
    return InspectedRow(caption, tuple(positions), 0.04)


@pytest.fixture(scope="module")
def slam():
    return load_slam()


@pytest.fixture(scope="module")
def clips(slam):
    """Two clips' worth of noise: what is shown is checked against the model, and need not make sense."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(frames, 512, generator=generator) for frames in (20, 31)], ["ja tak", "hvor er åse"]


@pytest.fixture(scope="module")
def rows(slam, clips):
    return inspect_clips(slam, *clips)


def runs(row):
    kinds = [position.kind for position in row.positions]
    return {kind: kinds.count(kind) for kind in LOOKS}


def test_kinds_are_counted_as_the_sequence_is_built(slam, clips, rows):
    answers = [len(slam.answer_ids(text)) for text in clips[1]]
    audio = [len(clip) // slam.projector.k for clip in clips[0]]
    assert [runs(row)["audio"] for row in rows] == audio
    assert [runs(row)["prompt"] for row in rows] == [6, 6]
    assert [runs(row)["answer"] for row in rows] == answers
    assert [runs(row)["padding"] for row in rows] == [audio[1] + answers[1] - audio[0] - answers[0], 0]


def test_text_reads_as_itself_and_only_the_answer_has_labels(slam, rows):
    for row, text in zip(rows, ("ja tak", "hvor er åse"), strict=True):
        pieces = [position.piece for position in row.positions if position.kind == "answer"]
        assert "".join(pieces) == text.replace(" ", "␣") + "END"
        assert [position.label for position in row.positions if position.kind == "answer"] == pieces
        assert all(position.label is None for position in row.positions if position.kind != "answer")
        prompt = [position.piece for position in row.positions if position.kind == "prompt"]
        assert "".join(prompt) == "Transcribe␣speech␣to␣text.↵"


def test_losses_stand_one_before_their_labels_and_average_to_the_training_loss(slam, clips, rows):
    for row in rows:
        labelled = [t for t, position in enumerate(row.positions) if position.label is not None]
        assert [t for t, position in enumerate(row.positions) if position.loss is not None] == [t - 1 for t in labelled]
        assert row.first_graded() == labelled[0] - 1
    losses = [position.loss for row in rows for position in row.positions if position.loss is not None]
    with torch.no_grad():
        expected = label_loss(slam.llm, slam.sequences(SpeechBatch(*clips)))
    assert len(losses) == expected.label_tokens
    assert sum(losses) / len(losses) == pytest.approx(float(expected.loss), rel=1e-4)


@torch.no_grad()
def test_guesses_are_the_models_own_likeliest_first(slam, clips, rows):
    batch = slam.sequences(SpeechBatch(*clips))
    logits = slam.llm(
        inputs_embeds=batch.embeddings, attention_mask=batch.attention_mask, position_ids=position_ids(batch.attention_mask)
    ).logits
    for row, scores in zip(rows, logits.softmax(dim=-1), strict=True):
        for position, shares in zip(row.positions, scores, strict=True):
            assert position.guesses[0].piece == piece_of(slam.tokenizer, int(shares.argmax()))
            found = [guess.probability for guess in position.guesses]
            assert found == pytest.approx(shares.sort(descending=True).values[:3].tolist(), abs=1e-5)


def test_an_audio_token_reads_as_the_nearest_piece_of_text(slam, monkeypatch):
    table = slam.llm.get_input_embeddings().weight
    ids = [*slam.tokenizer("k").input_ids, *slam.tokenizer("å").input_ids, slam.tokenizer.convert_tokens_to_ids("<|silence|>")]
    monkeypatch.setattr(slam, "audio_tokens", lambda features: [3 * table[ids].detach()])
    row = inspect_clips(slam, [torch.zeros(6, 512)], ["ja"])[0]
    assert [position.piece for position in row.positions[:3]] == ["k", "å", "·"]


@pytest.mark.parametrize(("token", "shown"), [("<|endoftext|>", "END"), ("<|silence|>", "·")])
def test_special_tokens_have_short_names(slam, token, shown):
    assert piece_of(slam.tokenizer, slam.tokenizer.convert_tokens_to_ids(token)) == shown


@pytest.mark.parametrize(
    ("t", "parts"),
    [
        (0, ["Position 0", "audio", "0.00–0.04 s of sound", "<code>a</code>", "nothing: the label at 1 is −100"]),
        (1, ["0.04–0.08 s", "<code>·</code>"]),
        (2, ["prompt", "<code>↵</code>", "−100, not graded", "the label at 3, <code>ja</code>: loss 0.50"]),
        (3, ["answer", "<code>ja</code>, graded at 2", "the label at 4, <code>&lt;b&gt;</code>: loss 1.25"]),
        (5, ["<code>END</code>, graded at 4", "nothing: the label at 6 is −100"]),
        (7, ["of 0–7", "padding: zeros", "nothing: this is the last position", "<code>␣&lt;nej&gt;</code> 62%"]),
    ],
)
def test_a_position_is_described_with_who_is_graded_by_it(t, parts):
    said = describe_position(made_up_row(), t)
    for part in parts:
        assert part in said
    assert "<nej>" not in said


def columns(row, t):
    """(kind, title, read box, label box) of each position of the strip."""
    found = re.findall(
        r'<div class="position-(\w+)" title="([^"]*)"[^>]*>(<div.*?</div>)(<div.*?</div>)</div>', strip_html(row, t)
    )
    assert len(found) == len(row.positions)
    return found


def test_the_strip_has_a_column_for_each_position_with_a_title_to_point_at():
    found = columns(made_up_row(), 2)
    assert [kind for kind, *_ in found] == ["audio", "audio", "prompt", "answer", "answer", "answer", "padding", "padding"]
    assert found[3][1] == "3, answer: reads ja, label ja, predicts ␣&lt;nej&gt; 62%"
    assert found[7][1].startswith("7, padding: reads nothing, label −100")
    assert ">&lt;b&gt;<" in found[4][2]
    assert [">–<" in label for *_, label in found] == [True, True, True, False, False, False, True, True]


def test_frames_stand_around_the_position_and_the_label_after_it():
    for t in range(8):
        found = columns(made_up_row(), t)
        assert [i for i, (_, _, read, _) in enumerate(found) if "outline" in read] == [t]
        asked = [t + 1] if t in (2, 3, 4) else []
        assert [i for i, (*_, label) in enumerate(found) if "outline" in label] == asked


def test_the_legend_counts_each_kind():
    said = strip_html(made_up_row(), 0)
    for part in ("2 audio", "1 prompt", "3 answer", "2 padding"):
        assert f">{part}<" in said
    assert "padding</span>" not in strip_html(made_up_row(padding=0), 0)


def test_kinds_can_be_told_apart_in_grey():
    """By shade, or by border and hatching where shades are alike."""
    assert len({border for _, border, _ in LOOKS.values()}) == 4

    def lightness(colour):
        return sum(w * int(colour[i : i + 2], 16) for w, i in ((0.3, 1), (0.59, 3), (0.11, 5)))

    plain = sorted(lightness(LOOKS[kind][0]) for kind in ("audio", "prompt", "answer"))
    assert min(b - a for a, b in itertools.pairwise(plain)) > 15
    assert LOOKS["audio"][2]
    assert LOOKS["padding"][2]
    assert LOOKS["audio"][2] != LOOKS["padding"][2]


def test_the_figure_draws_inputs_labels_and_the_arrow():
    axes = draw_strip(made_up_row(), 3).axes[0]
    read = {round(t.get_position()[0]): t.get_text() for t in axes.texts if t.get_position()[1] == 1.5}
    label = {round(t.get_position()[0]): t.get_text() for t in axes.texts if round(t.get_position()[1], 6) == -0.1}
    assert read == {0: "", 1: "", 2: "↵", 3: "ja", 4: "<b>", 5: "END", 6: "", 7: ""}
    assert label == {0: "–", 1: "–", 2: "–", 3: "ja", 4: "<b>", 5: "END", 6: "–", 7: "–"}
    arrow = next(t for t in axes.texts if getattr(t, "arrow_patch", None) is not None)
    assert (arrow.xyann[0], arrow.xy[0]) == (3, 4)
    counts = {t.get_text(): t.get_position()[0] for t in axes.texts if t.get_position()[1] == 2.15}
    assert counts == {"2 audio": 0.5, "1 prompt": 2, "3 answer": 4, "2 padding": 6.5}
    assert not [t for t in draw_strip(made_up_row(), 0).axes[0].texts if getattr(t, "arrow_patch", None) is not None]


def test_a_real_strip_can_be_drawn(rows):
    for row in rows:
        FigureCanvasAgg(draw_strip(row, row.first_graded())).draw()


def test_the_slider_moves_strip_and_description():
    demo = LabelMaskInspector([made_up_row()])
    assert (demo.position.value, demo.position.max) == (2, 7)
    before = demo.strip.value
    demo.position.value = 4
    assert "Position 4" in demo.text.value
    assert demo.strip.value == strip_html(made_up_row(), 4) != before


def test_another_clip_starts_at_its_own_first_question():
    longer = made_up_row("nej", padding=3)
    longer = replace(longer, positions=longer.positions[:1] + longer.positions)
    demo = LabelMaskInspector([made_up_row(), longer])
    demo.position.value = 7
    demo.clip.value = 1
    assert (demo.position.value, demo.position.max) == (3, 9)
    assert "Position 3" in demo.text.value
    demo.position.value = 9
    demo.clip.value = 0
    assert (demo.position.value, demo.position.max) == (2, 7)


def test_it_has_a_static_twin():
    data, _ = LabelMaskInspector([made_up_row()])._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert "slide over its positions. Here, “ja <b>”." in data["text/plain"]


def test_no_rows_is_an_error_for_people():
    with pytest.raises(ValueError, match="no rows to show"):
        LabelMaskInspector([])
