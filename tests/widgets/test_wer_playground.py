"""The WER playground: its pure functions on what they say and draw, its shell by setting values."""

import base64
import itertools
import random
import re

import pytest
from matplotlib.figure import Figure

from course_lib.text.metrics import align, edit_table
from course_lib.widgets.wer_playground import (
    MOST_CHARACTERS,
    MOST_TABLE_ROWS,
    WERPlayground,
    alignment_html,
    cells_of_walk,
    draw_playground,
    draw_table,
    scores_html,
    table_html,
)

SAID, WRITTEN = "hvordan har du det i dag", "vordan har det i dag nok"


@pytest.fixture
def demo() -> WERPlayground:
    return WERPlayground(SAID, WRITTEN)


def numbers_in(table: str) -> list[list[int]]:
    return [[int(cell) for cell in re.findall(r"<td[^>]*>(\d+)</td>", row)] for row in table.split("<tr>")[2:]]


def test_a_walk_goes_from_corner_to_corner_and_pays_for_each_error():
    rng = random.Random(7)
    for _ in range(50):
        said, written = ([rng.choice("abc") for _ in range(rng.randrange(6))] for _ in range(2))
        walk, table = cells_of_walk(align(said, written)), edit_table(said, written)
        assert walk[0] == (0, 0)
        assert walk[-1] == (len(said), len(written))
        costs = [table[i][j] for i, j in walk]
        assert all(0 <= after - before <= 1 for before, after in itertools.pairwise(costs))


def test_the_alignment_has_a_column_for_each_step_and_a_letter_for_each_error():
    shown = alignment_html(SAID, WRITTEN)
    steps = [step.kind for step in align(SAID.split(), WRITTEN.split()).operations]
    assert re.findall(r'class="step-(\w+)"', shown) == steps
    assert re.findall(r"<b>([SDI])&nbsp;</b>", shown) == ["S", "D", "I"]


def test_errors_differ_by_more_than_colour():
    parts = re.split(r'<div class="step-', alignment_html(SAID, WRITTEN))[1:]
    look = {part.split('"')[0]: part for part in parts}
    assert "line-through" in look["deletion"]
    assert "dashed" in look["deletion"]
    assert "underline" in look["insertion"]
    assert "double" in look["insertion"]
    assert not re.search("line-through|underline|dashed|double", look["substitution"] + look["hit"])


def test_only_the_line_that_has_the_word_is_stroked():
    upper, lower = re.findall(r"text-decoration:([\w-]+)", alignment_html("ja", ""))
    assert (upper, lower) == ("line-through", "none")
    upper, lower = re.findall(r"text-decoration:([\w-]+)", alignment_html("", "ja"))
    assert (upper, lower) == ("none", "underline")


def test_the_table_holds_the_edit_table_and_marks_the_walk():
    shown = table_html(SAID, WRITTEN)
    assert numbers_in(shown) == edit_table(SAID.split(), WRITTEN.split())
    assert shown.count("font-weight:bold") == len(cells_of_walk(align(SAID.split(), WRITTEN.split())))


def test_a_table_of_characters_shows_the_space():
    assert "␣" in table_html("i dag", "idag", "char")
    assert numbers_in(table_html("i dag", "idag", "char"))[-1][-1] == 1


def test_a_large_table_is_left_out_and_said():
    many = " ".join("a" * (MOST_TABLE_ROWS + 1))
    assert f"up to {MOST_TABLE_ROWS} words" in table_html(many, "a")
    assert "<table" in table_html(many[:-2], "a")


def test_scores_say_the_rate_and_its_sum():
    shown = scores_html(SAID, WRITTEN)
    assert "WER 50.0%" in shown
    assert "(1 substituted + 1 inserted + 1 deleted) / 6 words said" in shown
    assert re.search(r"CER \d+\.\d%.* / 24 characters said", shown)


def test_nothing_said_is_not_called_a_rate_over_words():
    assert "nothing to divide by" in scores_html("", "hov")
    assert "no error" in alignment_html("", " ")


@pytest.mark.parametrize("show", [alignment_html, table_html])
def test_the_learners_text_is_escaped(show):
    shown = show('<script>alert("av")</script>', "<b>du</b>")
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "&lt;b&gt;du&lt;/b&gt;" in shown


def test_the_drawn_table_has_the_numbers_and_greys_the_walk():
    axes = Figure().subplots()
    draw_table(axes, ["det", "er"], ["er"])
    assert [int(text.get_text()) for text in axes.texts] == [0, 1, 1, 1, 2, 1]
    white = [patch.get_facecolor() == (1, 1, 1, 1) for patch in axes.patches]
    assert white == [False, True, False, True, True, False]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["(nothing)", "det", "er"]
    draw_table(blank := Figure().subplots(), ["det"], ["er"], walk=False)
    assert all(patch.get_facecolor() == (1, 1, 1, 1) for patch in blank.patches)


def test_the_twin_shows_alignment_rates_and_table():
    upper, lower = draw_playground(SAID, WRITTEN).axes
    assert "WER 50.0%" in upper.texts[0].get_text()
    assert str(align(SAID.split(), WRITTEN.split())) in upper.texts[0].get_text()
    assert len(lower.texts) == 7 * 7


def test_the_demo_has_a_static_twin(demo):
    data, _ = demo._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert SAID in data["text/plain"]


def test_typing_changes_all_three_views(demo):
    before = demo.scores.value, demo.alignment.value, demo.table.value
    demo.hypothesis.value = SAID
    after = demo.scores.value, demo.alignment.value, demo.table.value
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert "WER 0.0%" in demo.scores.value
    demo.reference.value = "ja"
    assert "WER 600.0%" in demo.scores.value


def test_characters_instead_of_words(demo):
    demo.unit.value = "char"
    assert demo.alignment.value == alignment_html(SAID, WRITTEN, "char")
    assert numbers_in(demo.table.value) == edit_table(SAID, WRITTEN)
    demo.hypothesis.value = WRITTEN + " ja"
    assert f"up to {MOST_TABLE_ROWS} characters on each side" in demo.table.value


def test_normalising_both_sides_changes_the_rates(demo):
    demo.reference.value, demo.hypothesis.value = "Klokken er 20.", "klokken er tyve"
    raw = demo.scores.value
    assert "WER 66.7%" in raw
    demo.normalised.value = True
    assert "WER 0.0%" in demo.scores.value
    demo.normalised.value = False
    assert demo.scores.value == raw


def test_a_pasted_novel_is_refused_kindly(demo):
    demo.reference.value = "a " * MOST_CHARACTERS
    assert "Too long" in demo.scores.value
    assert demo.alignment.value == demo.table.value == ""
    demo.reference.value = SAID
    assert "WER 50.0%" in demo.scores.value


@pytest.mark.parametrize("text", ["a " * 3_000, r"$\frac$", "$", r"\alpha_{$", "<script>alert(1)</script>"])
def test_any_text_may_be_given(text):
    demo = WERPlayground(text, "det er godt")
    assert demo.twin_png.startswith(b"\x89PNG")
    assert "<script" not in demo.alignment.value + demo.scores.value + demo.table.value
