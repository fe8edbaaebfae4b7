"""The two CTC demos: what their pictures hold, what they say, and that they follow the hand."""

import base64
import math

import pytest
import torch

from course_lib.ctc.paths import forward_scores, log_likelihood
from course_lib.widgets.ctc_collapse import CtcCollapse, describe_collapse, draw_collapse, path_runs
from course_lib.widgets.ctc_lattice import CtcLattice, describe_lattice, draw_lattice, useful_states

PNG = b"\x89PNG"


def boxes(path):
    """The letters in the picture, row by row from above, left to right."""
    texts = draw_collapse(path).axes[0].texts
    rows = [sorted((t.get_position()[0], t.get_text()) for t in texts if int(t.get_position()[1]) == row) for row in (2, 1, 0)]
    return ["".join(letter for _, letter in row) for row in rows]


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        ("oot_tte", ["oot_tte", "ot_te", "otte"]),
        ("hell_lo", ["hell_lo", "hel_lo", "hello"]),
        ("___", ["___", "_", ""]),
        ("", ["", "", ""]),
        ("en  _ø", ["en␣␣_ø", "en␣_ø", "en␣ø"]),
    ],
)
def test_the_picture_shows_path_merged_and_text(path, rows):
    assert boxes(path) == rows


def test_a_merged_box_is_as_wide_as_its_frames():
    assert path_runs("ååå_l") == [("å", 0, 3), ("_", 3, 4), ("l", 4, 5)]
    merged = next(t for t in draw_collapse("ååå_l").axes[0].texts if t.get_text() == "å" and 1 < t.get_position()[1] < 2)
    assert merged.get_position()[0] == 1.5


@pytest.mark.parametrize(
    ("path", "word", "parts"),
    [
        ("oot_tte", "otte", ["<code>oot_tte</code> → <code>ot_te</code> → <code>otte</code>", "✓", "45 paths give"]),
        ("otte", "otte", ["<code>ote</code>", "✗ not <b>otte</b>", "needs at least 5"]),
        ("ot_te", "otte", ["✓", "1 path gives", "of 1,024 paths with its 4 symbols"]),
        ("__", "ø", ["(nothing)", "3 paths give"]),
        ("<b>_", "<i>", ["&lt;b&gt;_", "&lt;i&gt;"]),
    ],
)
def test_the_words_beneath_say_the_steps_and_the_count(path, word, parts):
    said = describe_collapse(path, word)
    for part in parts:
        assert part in said
    assert "<i>" not in said


def test_typing_a_path_moves_the_sliders_and_a_slider_changes_the_path():
    demo = CtcCollapse("otte", "_oot_tte")
    assert [slider.value for slider in demo.frames.children] == list("_oot_tte")
    demo.path.value = "ot_te"
    assert [slider.value for slider in demo.frames.children] == list("ot_te")
    assert "✓" in demo.text.value
    before = bytes(demo.picture.value)
    sliders = demo.frames.children
    sliders[2].value = "t"
    assert demo.path.value == "ottte"
    assert "<code>ote</code>" in demo.text.value
    assert bytes(demo.picture.value) != before
    assert demo.frames.children is sliders


def test_a_path_of_the_same_length_is_not_mixed_with_the_old_one():
    demo, seen = CtcCollapse("otte", "ot_te"), []
    demo.path.observe(lambda change: seen.append(change.new), names="value")
    demo.path.value = "to_et"
    assert seen == ["to_et"]
    assert [slider.value for slider in demo.frames.children] == list("to_et")


def test_a_new_word_is_counted_and_offered_on_the_sliders():
    demo = CtcCollapse()
    demo.word.value = "Æøå"
    assert demo.frames.children[0].options == ("_", "e", "o", "t", "å", "æ", "ø")
    assert "æøå" in demo.text.value
    demo.path.value = "x" * 40
    assert len(demo.frames.children) == 16
    demo.path.value = ""
    assert demo.frames.children == ()


@pytest.fixture
def lattice():
    log_probs = torch.randn(6, 4, generator=torch.Generator().manual_seed(4)).log_softmax(dim=-1)
    return log_probs, [1, 2, 2, 3], ["_", "o", "t", "e"]


def test_only_states_on_a_path_are_drawn():
    assert useful_states([1, 2, 3], 3) == [(0, 1), (1, 3), (2, 5)]
    assert useful_states([1], 1) == [(0, 1)]
    assert (2, 4) in useful_states([1, 2, 2, 3], 5)
    assert (2, 3) not in useful_states([1, 2, 2, 3], 5)
    assert useful_states([1, 1], 2) == []


def test_numbers_stand_in_the_states_so_far(lattice):
    log_probs, labels, letters = lattice
    axes = draw_lattice(log_probs, labels, letters, frame=2).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list("_o_t_t_e_")
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    alpha = forward_scores(log_probs, labels).exp()
    assert {frame for frame, _ in shown} == {0, 1, 2}
    assert shown[1, 3] == f"{100 * float(alpha[1, 3]):.2g}"
    assert len(draw_lattice(log_probs, labels, letters, frame=5).axes[0].texts) == len(useful_states(labels, 6))


def test_no_step_jumps_over_the_blank_between_equal_letters(lattice):
    lines = draw_lattice(*lattice, frame=5).axes[0].lines
    steps = {tuple(line.get_ydata()) for line in lines}
    assert (1, 3) in steps
    assert (3, 5) not in steps
    assert (2, 4) not in steps


def test_the_sentence_ends_with_the_probability_of_the_word(lattice):
    total = 100 * math.exp(float(log_likelihood(*lattice[:2])))
    assert f"= {total:.2f} % for <b>otte</b>" in describe_lattice(*lattice, frame=5)
    best = int(forward_scores(*lattice[:2])[1].argmax())
    assert f"After frame 1 most of the probability of <b>otte</b> so far is in state {best}," in describe_lattice(
        *lattice, frame=1
    )


def test_letters_are_escaped(lattice):
    assert "&lt;" in describe_lattice(*lattice[:2], ["_", "<", "t", "e"], frame=5)


def test_the_slider_of_the_lattice_redraws_picture_and_sentence(lattice):
    demo = CtcLattice(*lattice)
    full = bytes(demo.picture.value)
    demo.frame.value = 0
    assert "After frame 0" in demo.text.value
    assert bytes(demo.picture.value) != full
    demo.frame.value = demo.frame.max
    assert bytes(demo.picture.value) == full


def test_both_have_a_static_twin(lattice):
    for demo, sentence in ((CtcCollapse(), "reads as otte"), (CtcLattice(*lattice), 'the lattice of "otte" is full')):
        data, _ = demo._repr_mimebundle_()
        assert base64.b64decode(data["image/png"]).startswith(PNG)
        assert sentence in data["text/plain"]
