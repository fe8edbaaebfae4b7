"""Chapter 03: the edit table, the word error rate of a pair and of a corpus, the kinds of error, and a normaliser.

After each check stand its reasons: `why_…` tries the usual mistakes on the same input and names the one that fits.
"""

import random
import unicodedata
from collections.abc import Callable
from numbers import Real
from typing import Any

from course_lib.exercises.base import Exercise, NotYet, attempt
from course_lib.text.metrics import align, edit_table, error_counts, word_error_rate

HAND_REFERENCE, HAND_HYPOTHESIS = "jeg drikker sort kaffe", "jeg drak kaffe"
"""The pair whose table is filled with a pencil."""

WORDS = str.split("det er jeg du har en kop kaffe te rugbrød på øl og ja nej måske i dag går hvordan")
MARKED = str.split("Rødgrød! E-mail, På Århus? «Ål» 7-eleven Æble; så... Café fløde/skyr")


def random_pair(rng: random.Random) -> tuple[str, str]:
    """A sentence and a mishearing of it: words lost, replaced and added."""
    said = [rng.choice(WORDS) for _ in range(rng.randint(1, 7))]
    written: list[str] = []
    for word in said:
        fate = rng.random()
        written += [] if fate < 0.15 else [rng.choice(WORDS)] if fate < 0.35 else [word]
        written += [rng.choice(WORDS)] if fate > 0.8 else []
    return " ".join(said), " ".join(written)


def near(found: Any, right: int | float) -> bool:
    """Whether the learner's value is this number, floating-point dust aside."""
    return isinstance(found, Real) and abs(float(found) - right) < 1e-6


def as_number(found: Any) -> str:
    """A number with two digits after the point, anything else as Python writes it."""
    return f"{float(found):.2f}" if isinstance(found, Real) else repr(found)


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


def table_without_substitutions(reference: list[str], hypothesis: list[str]) -> list[list[int]]:
    """The table that comes out when one word for another costs 2, a deletion and an insertion."""
    table = [list(range(len(hypothesis) + 1))]
    for i, said in enumerate(reference, start=1):
        row = [i]
        for j, written in enumerate(hypothesis):
            row.append(table[-1][j] if said == written else 1 + min(table[-1][j + 1], row[-1]))
        table.append(row)
    return table


def examine_word_error_rate(answer: Callable[[str, str], float]) -> None:
    """03.2: the word error rate of one pair."""
    rng = random.Random(32)
    pairs = [("det er godt", "det er"), ("ja", "ja ja ja"), ("hvordan har du det", "har du det"), ("en  kop te", "en kop te")]
    for reference, hypothesis in pairs + [random_pair(rng) for _ in range(20)]:
        found, right = attempt(answer, reference, hypothesis), word_error_rate(reference, hypothesis)
        if not near(found, right):
            seen = f'"{reference}" → "{hypothesis}" gave {as_number(found)}, expected {right:.2f}. '
            raise NotYet(seen + why_wer(reference, hypothesis, found, right))


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
    total = sum(min(possible))
    surplus = min(possible)[1] - min(possible)[2]
    if (substitutions, deletions, insertions) in possible:
        return "Insertions and deletions are swapped: a deletion is a word that was said and not written"
    if sum(found) < total:
        return f"{total} edits are needed, these are {sum(found)}. Does your walk stop at an edge, before the corner (0, 0)?"
    if sum(found) > total:
        return f"{total} edits are enough, these are {sum(found)}. Are hits among them, or is it not the cheapest walk?"
    if insertions - deletions != surplus:
        return f"The total is right, but insertions minus deletions must be {surplus}, the words written minus the words said"
    return f"The total is right, but no cheapest walk has these parts. One that has: {min(possible)}"


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


def examine_normaliser(answer: Callable[[str], str]) -> None:
    """03.5: composed letters, lower case, marks to spaces, single spaces; letters and digits stay."""
    rng = random.Random(35)
    texts = ["Hej, du!", "Blåbærgrød på Ærø, 20 øre", "e-mail", "  To  spaces\tand a tab "]
    texts.append(unicodedata.normalize("NFD", "Får får får? Nej, får får lam."))
    for text in texts + [" ".join(rng.sample(MARKED, 4)) for _ in range(10)]:
        found, right = attempt(answer, text), tidy(text)
        if found != right:
            raise NotYet(f"{text!r} became {found!r}, expected {right!r}. {why_text(text, found, right)}")


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
