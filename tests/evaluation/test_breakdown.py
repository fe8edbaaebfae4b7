"""Single words in the list, words outside it, and sentences are measured apart."""

import pytest

from course_lib.evaluation.breakdown import break_down, kind_of, show_parts

KNOWN = {"hund", "kat", "en", "to"}


@pytest.mark.parametrize(
    ("text", "kind"), [("hund", "words in the list"), ("skib", "words outside the list"), ("en hund", "sentences")]
)
def test_what_was_asked_is_told_from_the_text(text, kind):
    assert kind_of(text, KNOWN) == kind


def test_each_kind_has_its_own_figures():
    parts = break_down(["hund", "kat", "skib", "en to"], ["hund", "kalv", "skib", "en"], KNOWN)
    assert [(part.name, part.clips, part.right) for part in parts] == [
        ("words in the list", 2, 1),
        ("words outside the list", 1, 1),
        ("sentences", 1, 0),
    ]
    assert [part.wer for part in parts] == [0.5, 0.0, 0.5]
    assert [part.cer for part in parts] == pytest.approx([2 / 7, 0.0, 3 / 5])


def test_a_kind_without_a_clip_is_left_out_and_all_have_their_line():
    parts = break_down(["en to tre"], ["en to"], KNOWN)
    assert [part.name for part in parts] == ["sentences"]
    assert show_parts(parts).split() == "sentences 0 of 1 exactly right WER 33.3% CER 44.4%".split()
