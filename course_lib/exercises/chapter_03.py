"""Chapter 03: the edit table, the word error rate of a pair and of a corpus, the kinds of error, and a normaliser."""

import random
import unicodedata
from collections.abc import Callable
from typing import Any

from course_lib.exercises.base import Exercise, NotYet, attempt
from course_lib.exercises.chapter_03_reasons import (
    as_number,
    cheapest_splits,
    near,
    table_without_substitutions,
    tidy,
    why_corpus,
    why_counts,
    why_text,
    why_wer,
)
from course_lib.text.metrics import edit_table, word_error_rate

HAND_REFERENCE, HAND_HYPOTHESIS = "jeg drikker sort kaffe", "jeg drak kaffe"
"""The pair whose table is filled with a pencil."""

WORDS = str.split("det er jeg du har en kop kaffe te rugbrød på øl og ja nej måske i dag går hvordan")
MARKED = str.split("Rødgrød! E-mail, På Århus? «Ål» 7-eleven Æble; så... Café fløde/skyr")


def random_pair(rng: random.Random, least: int = 1, most: int = 7) -> tuple[str, str]:
    """A sentence and a mishearing of it: words lost, replaced and added."""
    said = [rng.choice(WORDS) for _ in range(rng.randint(least, most))]
    written: list[str] = []
    for word in said:
        fate = rng.random()
        written += [] if fate < 0.15 else [rng.choice(WORDS)] if fate < 0.35 else [word]
        written += [rng.choice(WORDS)] if fate > 0.8 else []
    return " ".join(said), " ".join(written)


def examine_last_row(answer: Any) -> None:
    """03.1: the bottom row of the table of HAND_REFERENCE and HAND_HYPOTHESIS."""
    reference, hypothesis = HAND_REFERENCE.split(), HAND_HYPOTHESIS.split()
    table = edit_table(reference, hypothesis)
    right = table[-1]
    try:
        row = [int(cell) for cell in answer]
    except (TypeError, ValueError):
        raise NotYet(f"a list of whole numbers is wanted, as many as the last row has cells; this is {answer!r}") from None
    if row == [line[-1] for line in table]:
        raise NotYet("this is the last column, read downwards. The last row belongs to the last word that was said")
    if len(row) != len(right):
        raise NotYet(f"{len(hypothesis)} words and the column before them make {len(right)} cells; these are {len(row)}")
    if row == table_without_substitutions(reference, hypothesis)[-1]:
        raise NotYet("you never took the diagonal for a substitution: one word for another costs 1, not 2")
    if row[0] != right[0]:
        raise NotYet(f"the first cell is wrong. How many edits turn all {len(reference)} words into nothing?")
    wrong = [j for j, cell in enumerate(row) if cell != right[j]]
    if wrong:
        raise NotYet(f"cell {wrong[0]} (from 0) should not be {row[wrong[0]]}. Which of its three neighbours is the cheapest?")


def examine_word_error_rate(answer: Callable[[str, str], float]) -> None:
    """03.2: the word error rate of one pair."""
    rng = random.Random(32)
    pairs = [("det er godt", "det er"), ("ja", "ja ja ja"), ("hvordan har du det", "har du det"), ("en  kop te", "en kop te")]
    for reference, hypothesis in pairs + [random_pair(rng) for _ in range(20)]:
        found, right = attempt(answer, reference, hypothesis), word_error_rate(reference, hypothesis)
        if not near(found, right):
            seen = f'"{reference}" → "{hypothesis}" gave {as_number(found)}, expected {right:.2f}. '
            raise NotYet(seen + why_wer(reference, hypothesis, found, right))


def examine_counts(answer: Callable[[str, str], tuple[int, int, int]]) -> None:
    """03.3: substitutions, insertions and deletions of some cheapest walk; which one is the learner's choice."""
    rng = random.Random(34)
    for reference, hypothesis in [("det er godt", "det er"), ("ja", "ja tak"), *[random_pair(rng) for _ in range(25)]]:
        found = attempt(answer, reference, hypothesis)
        try:
            counts = tuple(int(part) for part in found)
        except (TypeError, ValueError):
            counts = ()
        if len(counts) != 3:
            raise NotYet(f"three numbers are wanted, (substitutions, insertions, deletions); this is {found!r}")
        possible = cheapest_splits(reference.split(), hypothesis.split())
        if counts not in possible:
            raise NotYet(f'"{reference}" → "{hypothesis}" gave {counts}. {why_counts(counts, possible)}')


def examine_corpus(answer: Callable[[list[str], list[str]], float]) -> None:
    """03.4: the word error rate of a list of pairs."""
    rng = random.Random(33)
    corpora = [
        (["ja", "det er godt i dag", "vi ses i morgen"], ["nej", "det er godt i dag", "vi ses"]),
        (["jeg har en", "kop te"], ["jeg har", "en kop te"]),
    ]
    corpora += [tuple(map(list, zip(*[random_pair(rng) for _ in range(size)], strict=True))) for size in (3, 8, 15)]
    for references, hypotheses in corpora:
        found, right = attempt(answer, references, hypotheses), word_error_rate(references, hypotheses)
        if not near(found, right):
            seen = f"{len(references)} pairs, the first {references[0]!r}, gave {as_number(found)}, expected {right:.3f}. "
            raise NotYet(seen + why_corpus(references, hypotheses, found, right))


def examine_normaliser(answer: Callable[[str], str]) -> None:
    """03.5: composed letters, lower case, marks to spaces, single spaces; letters and digits stay."""
    rng = random.Random(35)
    texts = ["Hej, du!", "Blåbærgrød på Ærø, 20 øre", "e-mail", "  To  spaces\tand a tab "]
    texts.append(unicodedata.normalize("NFD", "Får får får? Nej, får får lam."))
    for text in texts + [" ".join(rng.sample(MARKED, 4)) for _ in range(10)]:
        found, right = attempt(answer, text), tidy(text)
        if found != right:
            raise NotYet(f"{text!r} became {found!r}, expected {right!r}. {why_text(text, found, right)}")


EXERCISES: dict[str, Exercise] = {
    "03.1": Exercise(
        examine_last_row,
        (
            "The first row is 0 1 2 3: from nothing to one, two, three words, by insertions. The first column: deletions.",
            "Where the two words are the same, copy the diagonal neighbour. Elsewhere, 1 + the smallest of three neighbours.",
            'The row of "jeg" is 1 0 1 2, the row of "drikker" 2 1 1 2. Two more.',
        ),
    ),
    "03.2": Exercise(
        examine_word_error_rate,
        (
            "Two numbers and a division: the corner of the table, and how many words were said.",
            "text.split() makes the words; edit_table(said, written)[-1][-1] is the number of edits.",
            "return edit_table(reference.split(), hypothesis.split())[-1][-1] / … what?",
        ),
    ),
    "03.3": Exercise(
        examine_counts,
        (
            "Start in the last corner, at i = len(said), j = len(written). Which neighbour did the number come from?",
            "Diagonal, if table[i][j] == table[i-1][j-1] + (said[i-1] != written[j-1]): a hit or a substitution.",
            "From above, table[i-1][j] + 1: a deletion. From the left, table[i][j-1] + 1: an insertion.",
            "Loop while i or j, not while i and j: on the upper edge insertions are left, on the left edge deletions.",
        ),
    ),
    "03.4": Exercise(
        examine_corpus,
        (
            "Walk through both lists at once with zip, and keep two sums.",
            "One sum for errors, one for reference words. Divide after the loop, once.",
            "errors += edit_table(reference.split(), hypothesis.split())[-1][-1] and words += len(reference.split())",
        ),
    ),
    "03.5": Exercise(
        examine_normaliser,
        (
            'unicodedata.normalize("NFC", text) first: å typed as a plus ring becomes one character.',
            "Then text.lower(). Then every character that is not letter.isalnum() becomes a space.",
            '" ".join(text.split()) leaves one space between words and none around them.',
        ),
    ),
}
