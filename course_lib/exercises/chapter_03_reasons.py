"""Chapter 03: what is probably wrong. Each function tries the usual mistakes on the same input and names the one that fits."""

import unicodedata
from numbers import Real
from typing import Any

from course_lib.text.metrics import align, edit_table, error_counts, word_error_rate


def near(found: Any, right: int | float) -> bool:
    """Whether the learner's value is this number, floating-point dust aside."""
    return isinstance(found, Real) and abs(float(found) - right) < 1e-6


def as_number(found: Any) -> str:
    """A number with two digits after the point, anything else as Python writes it."""
    return f"{float(found):.2f}" if isinstance(found, Real) else repr(found)


def table_without_substitutions(reference: list[str], hypothesis: list[str]) -> list[list[int]]:
    """The table that comes out when one word for another costs 2, a deletion and an insertion."""
    table = [list(range(len(hypothesis) + 1))]
    for i, said in enumerate(reference, start=1):
        row = [i]
        for j, written in enumerate(hypothesis):
            row.append(table[-1][j] if said == written else 1 + min(table[-1][j + 1], row[-1]))
        table.append(row)
    return table


def why_wer(reference: str, hypothesis: str, found: Any, right: int | float) -> str:
    """The mistake that makes a word error rate of `right` come out as `found`."""
    said, written = reference.split(), hypothesis.split()
    errors = align(said, written).counts.errors
    by_place = sum(a != b for a, b in zip(said, written, strict=False))
    surplus = abs(len(said) - len(written))
    (characters,) = error_counts(reference, hypothesis, "char")
    blanks = align(reference.split(" "), hypothesis.split(" ")).counts
    guesses = [
        (100 * right, "That is percent; a rate is wanted, where 1.0 is every word"),
        ((by_place + surplus) / len(said), "Did you compare word by word from the left? A lost word shifts all that follow"),
        (
            by_place / len(said),
            "Did you compare word by word with zip? It stops at the shorter text, and a lost word shifts the rest",
        ),
        (errors, "That is the number of errors. Over how many words?"),
        (1 - right, "That is the share of right words, or close to it. The errors are wanted"),
        (errors / max(len(said), len(written)), "Did you divide by the longer of the two? What counts is what was said"),
        (errors / max(len(written), 1), "Did you divide by the hypothesis? What counts is what was said"),
        (min(right, 1.0), "Did you cap it? More errors than words are possible"),
        (characters.rate, "That is the rate over characters. Did you split the text into words?"),
        (blanks.rate, 'Two spaces hold no word between them: text.split() knows that, text.split(" ") does not'),
    ]
    return next((words for value, words in guesses if near(found, value)), "Errors over the words that were said: check both")


def why_corpus(references: list[str], hypotheses: list[str], found: Any, right: int | float) -> str:
    """The mistake that makes a corpus's rate of `right` come out as `found`."""
    rates = [word_error_rate(*pair) for pair in zip(references, hypotheses, strict=True)]
    errors = sum(counts.errors for counts in error_counts(references, hypotheses))
    joined = word_error_rate(" ".join(references), " ".join(hypotheses))
    written = sum(len(text.split()) for text in hypotheses)
    guesses = [
        (100 * right, "That is percent; a rate is wanted"),
        (sum(rates) / len(rates), "That is the mean of the sentences' rates: a one-word sentence weighs as much as a long one"),
        (sum(rates), "That is the sum of the sentences' rates. Sum errors and words, each for itself, then divide once"),
        (joined, "You joined all sentences into one: then a word may be matched with the next sentence's"),
        (errors / written, "Did you divide by the words that were written?"),
        (errors, "That is the number of errors. Over how many words?"),
        (errors / len(references), "That is errors per sentence, not per word"),
    ]
    return next(
        (words for value, words in guesses if near(found, value)), "Sum errors and words over all pairs, then divide once"
    )


def cheapest_splits(reference: list[str], hypothesis: list[str]) -> set[tuple[int, int, int]]:
    """Every (substitutions, insertions, deletions) that some cheapest walk through the edit table has."""
    table = edit_table(reference, hypothesis)
    splits: dict[tuple[int, int], set[tuple[int, int, int]]] = {(0, 0): {(0, 0, 0)}}
    for i in range(len(reference) + 1):
        for j in range(len(hypothesis) + 1):
            here = splits.setdefault((i, j), set())
            wrong = int(i > 0 and j > 0 and reference[i - 1] != hypothesis[j - 1])
            for (up, left), (s, n, d) in (((1, 1), (wrong, 0, 0)), ((0, 1), (0, 1, 0)), ((1, 0), (0, 0, 1))):
                if i >= up and j >= left and table[i][j] == table[i - up][j - left] + s + n + d:
                    here |= {(a + s, b + n, c + d) for a, b, c in splits[i - up, j - left]}
    return splits[len(reference), len(hypothesis)]


def why_counts(found: tuple[int, ...], possible: set[tuple[int, int, int]]) -> str:
    """What keeps (substitutions, insertions, deletions) from being one of the possible ones."""
    substitutions, insertions, deletions = found
    total, surplus = sum(min(possible)), min(possible)[1] - min(possible)[2]
    if (substitutions, deletions, insertions) in possible:
        return "Insertions and deletions are swapped: a deletion is a word that was said and not written"
    if sum(found) < total:
        return f"{total} edits are needed, these are {sum(found)}. Does your walk stop at an edge, before the corner (0, 0)?"
    if sum(found) > total:
        return f"{total} edits are enough, these are {sum(found)}. Are hits among them, or is it not the cheapest walk?"
    if insertions - deletions != surplus:
        return f"The total is right, but insertions minus deletions must be {surplus}, the words written minus the words said"
    return f"The total is right, but no cheapest walk has these parts. One that has: {min(possible)}"


def tidy(text: str) -> str:
    """Composed letters, lower case, a space for every mark, one space between words."""
    text = unicodedata.normalize("NFC", text).lower()
    return " ".join("".join(letter if letter.isalnum() else " " for letter in text).split())


def why_text(text: str, found: Any, right: str) -> str:
    """The mistake that makes `text` come out as `found` and not as `right`."""
    if not isinstance(found, str):
        return "One string is wanted; did you forget to join the words?"
    marks = " ".join(dict.fromkeys(letter for letter in found if not (letter.isalnum() or letter == " ")))
    lost_digits = any(letter.isdigit() for letter in right) and not any(letter.isdigit() for letter in found)
    together = found.replace(" ", "") == right.replace(" ", "")
    reasons = [
        (
            text != unicodedata.normalize("NFC", text),
            "This å is two characters, a and a ring above. Make it one first, with NFC",
        ),
        (found.lower() == right, "Capital letters are left"),
        (found.isascii() and not right.isascii(), "Where did æ, ø and å go? Danish needs them"),
        (" ".join(found.split()) == right, "The words are right, the spaces are not: one between words, none around them"),
        (lost_digits, "The digits are gone. Somebody said them"),
        (together, "A mark between two words became nothing; make it a space: e-mail is e mail"),
        (bool(marks), f"Left over: {marks}. What does str.isalnum say of them?"),
    ]
    return next((words for holds, words in reasons if holds), "Compare the two letter by letter: where do they part?")
