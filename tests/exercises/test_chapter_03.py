"""Chapter 03's checks: the solution passes, the stub was not attempted, and each planted mistake hears its own reason."""

import re
import unicodedata

import pytest

from course_lib.exercises.chapter_03 import EXERCISES, HAND_HYPOTHESIS, HAND_REFERENCE, cheapest_splits, tidy
from course_lib.text.metrics import align, edit_table, error_counts


def edits(reference, hypothesis):
    return edit_table(reference.split(), hypothesis.split())[-1][-1]


def wer(reference, hypothesis):
    return edits(reference, hypothesis) / len(reference.split())


def corpus_wer(references, hypotheses):
    errors = sum(edits(*pair) for pair in zip(references, hypotheses, strict=True))
    return errors / sum(len(text.split()) for text in references)


def walk_back(reference, hypothesis):
    said, written = reference.split(), hypothesis.split()
    table, i, j = edit_table(said, written), len(said), len(written)
    substitutions = insertions = deletions = 0
    while i or j:
        if j and table[i][j] == table[i][j - 1] + 1:
            insertions, j = insertions + 1, j - 1
        elif i and table[i][j] == table[i - 1][j] + 1:
            deletions, i = deletions + 1, i - 1
        else:
            substitutions, i, j = substitutions + (said[i - 1] != written[j - 1]), i - 1, j - 1
    return substitutions, insertions, deletions


SOLUTIONS = {
    "03.1": edit_table(HAND_REFERENCE.split(), HAND_HYPOTHESIS.split())[-1],
    "03.2": wer,
    "03.3": walk_back,
    "03.4": corpus_wer,
    "03.5": tidy,
}


def stub_of_two(reference, hypothesis): ...


def stub_of_one(text): ...


STUBS = {"03.1": None, "03.2": stub_of_two, "03.3": stub_of_two, "03.4": stub_of_two, "03.5": stub_of_one}


@pytest.mark.parametrize("key", EXERCISES)
def test_the_solution_is_right(verdict, key):
    assert verdict(key, SOLUTIONS[key]) == f"{key}  right\n"


@pytest.mark.parametrize("key", EXERCISES)
def test_the_stub_was_not_attempted(verdict, key):
    assert f"{key}  not attempted yet" in verdict(key, STUBS[key])


@pytest.mark.parametrize("key", EXERCISES)
def test_hints_are_graded(key):
    assert 2 <= len(EXERCISES[key].hints) <= 4


def by_place(reference, hypothesis):
    said, written = reference.split(), hypothesis.split()
    wrong = sum(a != b for a, b in zip(said, written, strict=False))
    return (wrong + abs(len(said) - len(written))) / len(said)


def forgets_return(reference, hypothesis):
    rate = wer(reference, hypothesis)  # noqa: F841


def parts(reference, hypothesis):
    counts = align(reference.split(), hypothesis.split()).counts
    return counts.substitutions, counts.insertions, counts.deletions


def stops_at_the_edge(reference, hypothesis):
    said, written = reference.split(), hypothesis.split()
    table, i, j, found = edit_table(said, written), len(said), len(written), [0, 0, 0]
    while i and j:
        if table[i][j] == table[i - 1][j - 1] + (said[i - 1] != written[j - 1]):
            found[0] += said[i - 1] != written[j - 1]
            i, j = i - 1, j - 1
        elif table[i][j] == table[i - 1][j] + 1:
            found[2], i = found[2] + 1, i - 1
        else:
            found[1], j = found[1] + 1, j - 1
    return tuple(found)


def without_spaces_for_marks(text):
    kept = (c for c in unicodedata.normalize("NFC", text).lower() if c.isalnum() or c.isspace())
    return " ".join("".join(kept).split())


def with_isalpha(text):
    return " ".join("".join(c if c.isalpha() else " " for c in unicodedata.normalize("NFC", text).lower()).split())


def without_nfc(text):
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


MISTAKES = {
    "03.1": [
        ([3, 2, 2, 2, 2], "this is the last column"),
        ([3, 3, 2], "make 4 cells; these are 3"),
        ([4, 3, 4, 3], "never took the diagonal for a substitution"),
        ([0, 3, 3, 2], "the first cell is wrong"),
        ([4, 3, 3, 1], "cell 3 (from 0) should not be 1"),
        (2, "a list of whole numbers is wanted"),
    ],
    "03.2": [
        (lambda r, h: edits(r, h) / len(h.split()), "divide by the hypothesis?"),
        (lambda r, h: edits(r, h) / max(len(r.split()), len(h.split())), "divide by the longer"),
        (edits, "the number of errors"),
        (lambda r, h: 100 * wer(r, h), "That is percent"),
        (lambda r, h: 1 - wer(r, h), "the share of right words"),
        (lambda r, h: min(1.0, wer(r, h)), "Did you cap it?"),
        (by_place, "word by word from the left?"),
        (lambda r, h: sum(a != b for a, b in zip(r.split(), h.split(), strict=False)) / len(r.split()), "with zip?"),
        (lambda r, h: error_counts(r, h, "char")[0].rate, "the rate over characters"),
        (lambda r, h: align(r.split(" "), h.split(" ")).counts.rate, "Two spaces hold no word"),
        (lambda r, h: str(wer(r, h)), "check both"),
        (lambda r, h: 1 / 0, "stopped with ZeroDivisionError"),
        (forgets_return, "gave nothing back"),
    ],
    "03.3": [
        (lambda r, h: parts(r, h)[::2] + parts(r, h)[1:2], "Insertions and deletions are swapped"),
        (stops_at_the_edge, "Does your walk stop at an edge"),
        (lambda r, h: (len(r.split()), 0, 0), "Are hits among them"),
        (lambda r, h: (edits(r, h), 0, 0), "insertions minus deletions must be"),
        (edits, "three numbers are wanted"),
    ],
    "03.4": [
        (lambda r, h: sum(map(wer, r, h)) / len(r), "the mean of the sentences' rates"),
        (lambda r, h: sum(map(wer, r, h)), "the sum of the sentences' rates"),
        (lambda r, h: wer(" ".join(r), " ".join(h)), "You joined all sentences"),
        (lambda r, h: sum(map(edits, r, h)) / sum(len(text.split()) for text in h), "the words that were written?"),
        (lambda r, h: sum(map(edits, r, h)), "the number of errors"),
        (lambda r, h: 100 * corpus_wer(r, h), "That is percent"),
        (lambda r, h: 0.5 * corpus_wer(r, h), "Sum errors and words over all pairs"),
    ],
    "03.5": [
        (lambda text: tidy(text).encode("ascii", "ignore").decode(), "Where did æ, ø and å go?"),
        (without_nfc, "two characters, a and a ring"),
        (without_spaces_for_marks, "A mark between two words became nothing"),
        (with_isalpha, "The digits are gone"),
        (lambda text: without_nfc(text) if text.islower() else tidy(text).capitalize(), "Capital letters are left"),
        (lambda text: unicodedata.normalize("NFC", text).lower(), "Left over: , !"),
        (lambda text: tidy(text) + " ", "the spaces are not"),
        (lambda text: tidy(text).split(), "One string is wanted"),
        (lambda text: tidy(text)[1:], "Compare the two letter by letter"),
    ],
}
CASES = [(key, wrong, reason) for key, mistakes in MISTAKES.items() for wrong, reason in mistakes]


@pytest.mark.parametrize(("key", "wrong", "reason"), CASES, ids=[f"{key} {reason}" for key, _, reason in CASES])
def test_a_mistake_hears_its_own_reason(verdict, key, wrong, reason):
    said = verdict(key, wrong)
    assert said.startswith(f"{key}  not yet: ")
    assert reason in said
    others = [other for other_key, _, other in CASES if other_key == key and other != reason]
    assert not [other for other in others if other in said]


def test_every_exercise_has_at_least_three_mistakes():
    assert all(len({reason for _, reason in MISTAKES[key]}) >= 3 for key in EXERCISES)


def test_total_right_but_no_such_walk(verdict):
    def fewer_substitutions(reference, hypothesis):
        substitutions, insertions, deletions = parts(reference, hypothesis)
        traded = substitutions >= 2
        return substitutions - 2 * traded, insertions + traded, deletions + traded

    said = verdict("03.3", fewer_substitutions)
    assert re.search(r"no cheapest walk has these parts. One that has: \(\d, \d, \d\)", said)


def test_any_cheapest_walk_will_do():
    assert cheapest_splits(["er", "det"], ["det", "nok"]) == {(2, 0, 0), (0, 1, 1)}
    assert cheapest_splits([], ["ja"]) == {(0, 1, 0)}
    assert cheapest_splits([], []) == {(0, 0, 0)}
