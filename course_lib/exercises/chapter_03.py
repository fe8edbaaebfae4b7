"""Exercises of notebook 03: the edit table, the rate of a pair and of a corpus, the kinds of error, a normaliser, a scorer."""

import random
import unicodedata
from collections import Counter
from collections.abc import Callable
from statistics import fmean

from course_lib.exercises.base import Exercise, Mistake
from course_lib.exercises.reading import Ids, Number, OneOf, Parts, Text
from course_lib.text.metrics import align, edit_table, error_counts

HAND_REFERENCE, HAND_HYPOTHESIS = "jeg drikker sort kaffe", "jeg drak kaffe"
"""The pair whose table is filled with a pencil."""

WORDS = str.split("det er jeg du har en kop kaffe te rugbrød på øl og ja nej måske i dag går hvordan")
MARKED = str.split("Rødgrød! E-mail, På Århus? «Ål» 7-eleven Æble; så... Café fløde/skyr snake_case 3,5 (måske)")

Pair = tuple[str, str]


def random_pair(rng: random.Random) -> Pair:
    """A sentence and a mishearing of it: words lost, replaced and added."""
    said = [rng.choice(WORDS) for _ in range(rng.randint(1, 7))]
    written: list[str] = []
    for word in said:
        fate = rng.random()
        written += [] if fate < 0.15 else [rng.choice(WORDS)] if fate < 0.35 else [word]
        written += [rng.choice(WORDS)] if fate > 0.8 else []
    return " ".join(said), " ".join(written)


def last_row() -> list[int]:
    """The bottom row of the table of HAND_REFERENCE and HAND_HYPOTHESIS."""
    return edit_table(HAND_REFERENCE.split(), HAND_HYPOTHESIS.split())[-1]


def table_without_substitutions(reference: list[str], hypothesis: list[str]) -> list[list[int]]:
    """The table that comes out when one word for another costs 2, a deletion and an insertion."""
    table = [list(range(len(hypothesis) + 1))]
    for i, said in enumerate(reference, start=1):
        row = [i]
        for j, written in enumerate(hypothesis):
            row.append(table[-1][j] if said == written else 1 + min(table[-1][j + 1], row[-1]))
        table.append(row)
    return table


def _edits(said: list[str], written: list[str]) -> int:
    return edit_table(said, written)[-1][-1]


def word_error_rate(reference: str, hypothesis: str) -> float:
    """Fewest edits over the words that were said; for nothing said, the words written."""
    said, written = reference.split(), hypothesis.split()
    return _edits(said, written) / max(len(said), 1)


def _rate(errors: Callable[[list[str], list[str]], float], over: Callable[[list[str], list[str]], int]) -> Callable:
    """A rate with a planted slip in its errors or in what they are divided by."""

    def rate(reference: str, hypothesis: str) -> float:
        said, written = reference.split(), hypothesis.split()
        return errors(said, written) / max(over(said, written), 1)

    return rate


def _said(said: list[str], written: list[str]) -> int:
    return len(said)


def _by_place(said: list[str], written: list[str]) -> int:
    return sum(a != b for a, b in zip(said, written, strict=False))


def _by_counting(said: list[str], written: list[str]) -> int:
    """Words of one side that the other lacks, in whatever order: the larger of the two."""
    lost, made_up = Counter(said) - Counter(written), Counter(written) - Counter(said)
    return max(lost.total(), made_up.total())


PAIRS = (
    ("det er godt", "det er"),
    ("ja", "ja ja ja"),
    ("ja", "ja ja"),
    ("ja ja", "ja"),
    ("hvordan har du det", "har du det"),
    ("en  kop te", "en kop te"),
    ("kop en", "en kop"),
    ("nej", ""),
    ("", "ja tak"),
    ("", ""),
    ("ja", "nej nej nej"),
)


def pairs() -> list[Pair]:
    """The pairs above, and forty that are drawn."""
    rng = random.Random(32)
    return [*PAIRS, *(random_pair(rng) for _ in range(40))]


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


def counts(reference: str, hypothesis: str) -> OneOf:
    """Substitutions, insertions and deletions of any cheapest walk."""
    return OneOf(tuple(sorted(cheapest_splits(reference.split(), hypothesis.split()))))


def _of_counts(change: Callable[[int, int, int], tuple]) -> Callable[[str, str], OneOf]:
    return lambda reference, hypothesis: OneOf(tuple(change(*split) for split in counts(reference, hypothesis).values))


def _only_the_edge(reference: str, hypothesis: str) -> OneOf:
    """What walks give that stop as soon as one of the two sides is used up."""
    said, written = reference.split(), hypothesis.split()
    table = edit_table(said, written)
    ends: set[tuple[int, int, int]] = set()

    def walk(i: int, j: int, found: tuple[int, int, int]) -> None:
        if not (i and j):
            ends.add(found)
            return
        s, n, d = found
        wrong = said[i - 1] != written[j - 1]
        if table[i][j] == table[i - 1][j - 1] + wrong:
            walk(i - 1, j - 1, (s + wrong, n, d))
        if table[i][j] == table[i][j - 1] + 1:
            walk(i, j - 1, (s, n + 1, d))
        if table[i][j] == table[i - 1][j] + 1:
            walk(i - 1, j, (s, n, d + 1))

    walk(len(said), len(written), (0, 0, 0))
    return OneOf(tuple(sorted(ends)))


def _by_bags(reference: str, hypothesis: str) -> tuple[int, int, int]:
    lost = (Counter(reference.split()) - Counter(hypothesis.split())).total()
    made_up = (Counter(hypothesis.split()) - Counter(reference.split())).total()
    both = min(lost, made_up)
    return both, made_up - both, lost - both


def _by_lengths(reference: str, hypothesis: str) -> tuple[int, int, int]:
    said, written = reference.split(), hypothesis.split()
    return _by_place(said, written), max(0, len(written) - len(said)), max(0, len(said) - len(written))


Corpus = tuple[list[str], list[str]]


def corpora() -> list[Corpus]:
    """Sentences of unlike length, words that stand on the wrong side of a full stop, an empty reference, one pair alone."""
    rng = random.Random(33)
    named = [
        (["ja", "det er godt i dag", "vi ses i morgen"], ["nej", "det er godt i dag", "vi ses"]),
        (["jeg har en", "kop te"], ["jeg har", "en kop te"]),
        (["", "ja tak"], ["øh", "ja tak"]),
        (["nej", "en kop kaffe og te"], ["nej nej nej", ""]),
        (["hvordan går det"], ["hvordan det går"]),
    ]
    drawn = [tuple(map(list, zip(*[random_pair(rng) for _ in range(size)], strict=True))) for size in (3, 8, 15, 15)]
    return [*named, *drawn]


def corpus_rate(references: list[str], hypotheses: list[str]) -> float:
    """All errors over all words said."""
    return _sum_of_errors(references, hypotheses) / sum(len(text.split()) for text in references)


def _sum_of_errors(references: list[str], hypotheses: list[str]) -> int:
    return sum(_edits(a.split(), b.split()) for a, b in zip(references, hypotheses, strict=True))


def _rates(references: list[str], hypotheses: list[str]) -> list[float]:
    return [word_error_rate(*pair) for pair in zip(references, hypotheses, strict=True)]


def _joined_rate(references: list[str], hypotheses: list[str]) -> float:
    return word_error_rate(" ".join(references), " ".join(hypotheses))


def _first_pair(references: list[str], hypotheses: list[str]) -> float:
    return word_error_rate(references[0], hypotheses[0])


def tidy(text: str) -> str:
    """Composed letters, lower case, a space for every mark, one space between words."""
    return _tidy(text)


def _tidy(text: str, keep: Callable[[str], bool] = str.isalnum, mark: str = " ", form: str = "NFC", lower: bool = True) -> str:
    text = unicodedata.normalize(form, text) if form else text
    text = text.lower() if lower else text
    return " ".join("".join(c if keep(c) else " " if c.isspace() else mark for c in text).split())


def _without_collapsing(text: str) -> str:
    return "".join(c if c.isalnum() else " " for c in unicodedata.normalize("NFC", text).lower())


def _outer_marks(text: str) -> str:
    words = unicodedata.normalize("NFC", text).lower().split()
    return " ".join("".join(w.strip(".,;:!?«»()/-_")) for w in words if w.strip(".,;:!?«»()/-_"))


def texts() -> list[tuple[str]]:
    """Marks at the ends and within words, digits, an underscore, letters in two parts, spaces of all kinds, and nothing."""
    rng = random.Random(35)
    named = [
        "Hej, du!",
        "Blåbærgrød på Ærø, 20 øre",
        "e-mail",
        "  To  spaces\tand a tab ",
        "",
        " ",
        "?",
        "a_b og _",
        "Nå?! Jo.",
    ]
    named += [unicodedata.normalize("NFD", text) for text in ("Får får får? Nej, får får lam.", "Ål på Læsø: 3 kg")]
    return [(text,) for text in (*named, "linje\nto", *(" ".join(rng.sample(MARKED, 4)) for _ in range(12)))]


def fair_score(reference: str, hypothesis: str) -> tuple[int, int]:
    """Errors, and words said, when both sides went through the same normaliser."""
    said, written = tidy(reference).split(), tidy(hypothesis).split()
    return _edits(said, written), len(said)


def one_sided_score(reference: str, hypothesis: str) -> tuple[int, int]:
    """The broken one: what was written is normalised, what was said is not."""
    said, written = reference.split(), tidy(hypothesis).split()
    return _edits(said, written), len(said)


def _other_sided(reference: str, hypothesis: str) -> tuple[int, int]:
    said, written = tidy(reference).split(), hypothesis.split()
    return _edits(said, written), len(said)


def _neither(reference: str, hypothesis: str) -> tuple[int, int]:
    said, written = reference.split(), hypothesis.split()
    return _edits(said, written), len(said)


def score_pairs() -> list[Pair]:
    """Capitals, marks and hyphens on one side, on both and on none."""
    return [
        ("Hej, du!", "hej du"),
        ("det er godt", "Det er godt."),
        ("E-mail: ja tak", "e-mail ja"),
        ("På Ærø? Nej", "på ærø"),
        ("en kop te", "en kop kaffe"),
        ("Ja!", ""),
        ("7-eleven", "7 eleven er åben"),
        ("nej nej", "Nej, nej"),
    ]


NUMBER = Number()


def _first_wrong_cell(found: list[int], right: list[int]) -> str:
    if len(found) != len(right):
        return f"Three words and the column before them make {len(right)} cells; these are {len(found)}."
    cell = next(at for at, (a, b) in enumerate(zip(found, right, strict=True)) if a != b)
    return f"Look at cell {cell} (from 0) again: which of its three neighbours is the cheapest?"


def _totals(found: tuple[int | float, ...], right: tuple[int, int, int]) -> str:
    if sum(found) != sum(right):
        return f"The cheapest walk costs {sum(right)}; these add up to {sum(found)}."
    return f"The total is right, but no cheapest walk has these parts. One that has: {right}."


def _what_parts_them(found: str, right: str) -> str:
    if found.split() == right.split():
        return "The words are right, the spaces are not: one between words, none around them."
    if found.lower() == right:
        return "Only capital letters differ."
    return "Compare the two letter by letter: where do they part?"


EXERCISES: dict[str, Exercise] = {
    "03.1": Exercise(
        title="the last row, by hand",
        level=1,
        minutes=5,
        purpose="to fill the table once with a pencil, so that no edit distance is ever magic again",
        solve=last_row,
        cases=lambda: [()],
        reader=Ids(wanted="a list of four whole numbers"),
        of_values=True,
        mistakes=(
            Mistake(
                lambda: [row[-1] for row in edit_table(HAND_REFERENCE.split(), HAND_HYPOTHESIS.split())],
                "This is the last column, read downwards. The last row belongs to the last word that was said.",
            ),
            Mistake(
                lambda: table_without_substitutions(HAND_REFERENCE.split(), HAND_HYPOTHESIS.split())[-1],
                "You never took the diagonal for a substitution: one word for another costs 1, not 2.",
            ),
            Mistake(
                lambda: edit_table(HAND_REFERENCE.split(), HAND_HYPOTHESIS.split())[-2],
                "That is the row of *sort*; one more.",
            ),
            Mistake(lambda: last_row()[1:], "The first cell is missing: what it costs to lose every word."),
            Mistake(lambda: [0, *last_row()[1:]], "The first cell: how many edits turn all four words into nothing?"),
            Mistake(
                lambda: [len(HAND_REFERENCE.split()) - j for j in range(4)],
                "The last cell would be 1, but two things happened: *drikker* became *drak*, and *sort* was lost.",
            ),
        ),
        otherwise=_first_wrong_cell,
        hints=(
            "The first row is 0 1 2 3: from nothing to one, two, three words, by insertions. The first column: deletions.",
            "Where the two words are the same, copy the diagonal neighbour. Elsewhere, 1 + the smallest of three neighbours.",
            'The row of "jeg" is 1 0 1 2, the row of "drikker" 2 1 1 2. Two more.',
        ),
    ),
    "03.2": Exercise(
        title="the word error rate, from nothing",
        level=3,
        minutes=20,
        purpose="to have written once what every leaderboard rests on",
        solve=word_error_rate,
        cases=pairs,
        reader=NUMBER,
        mistakes=(
            Mistake(_rate(_edits, lambda a, b: len(b)), "Did you divide by the hypothesis? What counts is what was said."),
            Mistake(_rate(_edits, lambda a, b: max(len(a), len(b))), "Did you divide by the longer of the two?"),
            Mistake(_rate(_edits, lambda a, b: 1), "That is the number of errors. Over how many words?"),
            Mistake(lambda a, b: 100 * word_error_rate(a, b), "That is percent; a rate is wanted, where 1.0 is every word."),
            Mistake(lambda a, b: 1 - word_error_rate(a, b), "The errors are wanted, and not what is left of 1."),
            Mistake(lambda a, b: min(1.0, word_error_rate(a, b)), "Did you cap it? More errors than words are possible."),
            Mistake(_rate(_by_place, _said), "Did you compare word by word with zip? A lost word shifts all that follow."),
            Mistake(
                _rate(lambda a, b: _by_place(a, b) + abs(len(a) - len(b)), _said),
                "Did you compare word by word from the left? A lost word shifts all that follow.",
            ),
            Mistake(_rate(_by_counting, _said), "The order counts, too: *kop en* for *en kop* is two errors."),
            Mistake(
                lambda a, b: error_counts(a, b, "char")[0].rate,
                "That is the rate over characters. Did you split the text into words?",
            ),
            Mistake(
                lambda a, b: _edits(a.split(" "), b.split(" ")) / max(len(a.split(" ")), 1),
                'Two spaces hold no word between them: text.split() knows that, split(" ") does not.',
            ),
            Mistake(
                _rate(lambda a, b: table_without_substitutions(a, b)[-1][-1], _said),
                "One word for another costs 1, not 2: the diagonal neighbour plus 1 is the third way.",
            ),
            Mistake(lambda a, b: word_error_rate(a, b) if a.split() else 0.0, "Nothing said, two words written: two errors."),
        ),
        otherwise="Fill the table of this pair by hand; errors over the words that were said.",
        forbidden=("edit_table", "align", "error_counts", "word_error_rate", "wer", "process_words", "Levenshtein"),
        hints=(
            "Split both texts into words. The first row is 0, 1, 2, … and every further row begins with its own number.",
            "A cell is the diagonal neighbour if the words agree, else 1 + the smallest of three neighbours. Two rows do.",
            "The last cell over how many words? And for nothing said, over 1.",
        ),
    ),
    "03.3": Exercise(
        title="the kinds of error",
        level=3,
        minutes=20,
        purpose="to read off what went wrong, and not only how much",
        solve=counts,
        cases=pairs,
        reader=Parts(*(Number(whole=True),) * 3, wanted="three whole numbers, (substitutions, insertions, deletions)"),
        mistakes=(
            Mistake(
                _of_counts(lambda s, n, d: (s, d, n)),
                "Insertions and deletions are swapped: a deletion is a word that was said and not written.",
            ),
            Mistake(_of_counts(lambda s, n, d: (n, s, d)), "Another order: substitutions, insertions, deletions."),
            Mistake(_of_counts(lambda s, n, d: (n, d, s)), "Another order: substitutions come first."),
            Mistake(_of_counts(lambda s, n, d: (d, n, s)), "Substitutions and deletions are swapped."),
            Mistake(_only_the_edge, "Does your walk stop at an edge, before the corner (0, 0)?"),
            Mistake(_by_bags, "You compared which words there are; their order counts, too."),
            Mistake(
                _by_lengths, "You compared word by word from the left. A lost word shifts all that follow; walk the table."
            ),
        ),
        otherwise=_totals,
        forbidden=("align", "error_counts", "process_words"),
        hints=(
            "Start in the last corner, at i = len(said), j = len(written). Which neighbour did the number come from?",
            "Diagonal, if table[i][j] == table[i-1][j-1] + (said[i-1] != written[j-1]): a hit or a substitution.",
            "From above, table[i-1][j] + 1: a deletion. From the left, table[i][j-1] + 1: an insertion.",
            "Loop while i or j, not while i and j: on the upper edge insertions are left, on the left edge deletions.",
        ),
    ),
    "03.4": Exercise(
        title="the corpus rate",
        level=1,
        minutes=8,
        purpose="to get the number that people mean when they say “the WER”",
        solve=corpus_rate,
        cases=corpora,
        reader=NUMBER,
        mistakes=(
            Mistake(lambda a, b: 100 * corpus_rate(a, b), "That is percent; a rate is wanted."),
            Mistake(
                lambda a, b: fmean(_rates(a, b)), "That is the mean of the sentences' rates: *nej* weighs as much as ten words."
            ),
            Mistake(lambda a, b: sum(_rates(a, b)), "That is the sum of the sentences' rates."),
            Mistake(_joined_rate, "You joined all sentences into one: then a word may be matched with the next sentence's."),
            Mistake(
                lambda a, b: _sum_of_errors(a, b) / sum(len(text.split()) for text in b),
                "Did you divide by the words that were written?",
            ),
            Mistake(_sum_of_errors, "That is the number of errors. Over how many words?"),
            Mistake(lambda a, b: _sum_of_errors(a, b) / len(a), "That is errors per sentence, not per word."),
            Mistake(_first_pair, "That is the first sentence alone. Is your return inside the loop?"),
            Mistake(
                lambda a, b: (
                    sum(abs(len(x.split()) - len(y.split())) for x, y in zip(a, b, strict=True))
                    / sum(len(x.split()) for x in a)
                ),
                "Lengths alone do not tell: a wrong word leaves them as they are.",
            ),
        ),
        otherwise="Sum errors and words over all pairs, then divide once.",
        forbidden=("error_counts", "word_error_rate", "wer"),
        hints=(
            "Walk through both lists at once with zip, and keep two sums.",
            "One sum for errors, one for reference words. Divide after the loop, once.",
        ),
    ),
    "03.5": Exercise(
        title="a normaliser",
        level=2,
        minutes=10,
        purpose="to decide what counts as the same word, before anything is counted",
        solve=tidy,
        cases=texts,
        reader=Text(),
        mistakes=(
            Mistake(lambda t: _tidy(t, form=""), "This letter is two characters, an a and a ring. Make them one first: NFC."),
            Mistake(lambda t: _tidy(t, form="NFD"), "NFD takes the rings off the letters; NFC puts them on."),
            Mistake(lambda t: _tidy(t, lower=False), "Capital letters are left."),
            Mistake(lambda t: _tidy(t, mark=""), "A mark between two words became nothing; make it a space: e-mail is e mail."),
            Mistake(lambda t: _tidy(t, str.isalpha), "The digits are gone. Somebody said them."),
            Mistake(
                lambda t: _tidy(t, lambda c: c.isalnum() or c == "_"),
                "The underscore is a mark, too (\\w in a pattern keeps it).",
            ),
            Mistake(lambda t: _tidy(t, lambda c: c.isalnum() and c.isascii()), "Where did æ, ø and å go? Danish needs them."),
            Mistake(lambda t: _tidy(t, lambda c: c.isalnum() or c == "?"), "The question marks are left."),
            Mistake(lambda t: _tidy(t, lambda c: c.isalnum() or c == "-"), "The hyphens are left: e-mail is e mail here."),
            Mistake(lambda t: _tidy(t, lambda c: not c.isspace()), "The marks are left. What does str.isalnum say of them?"),
            Mistake(
                lambda t: " ".join("".join(c if c.isalnum() else " " for c in t.lower() if c.isascii()).split()),
                "Where did æ, ø and å go? Throwing away what is not ASCII throws Danish away.",
            ),
            Mistake(lambda t: unicodedata.normalize("NFC", t).lower(), "The marks are left, and the spaces as they were."),
            Mistake(_without_collapsing, "The words are right, the spaces are not: one between words, none around them."),
            Mistake(lambda t: _without_collapsing(t).strip(), "Two spaces in a row are left between words."),
            Mistake(_outer_marks, "Marks within words are left: only those at the ends went."),
        ),
        otherwise=_what_parts_them,
        hints=(
            'unicodedata.normalize("NFC", text) first: å typed as a plus ring becomes one character.',
            "Then lower case. Then every character that str.isalnum does not know becomes a space.",
            "Splitting and joining again leaves one space between words and none around them.",
        ),
    ),
    "03.6": Exercise(
        title="repair: a perfect transcript with errors",
        level=1,
        minutes=6,
        purpose="to see how a normaliser in the wrong place makes a good system bad",
        solve=fair_score,
        cases=score_pairs,
        reader=Parts(Number(whole=True), Number(whole=True), wanted="two whole numbers, (errors, words said)"),
        broken=one_sided_score,
        symptom="“Hej, du!” written down as “hej du” has two errors, and so has “Hej, du!” itself. Who is tidied?",
        mistakes=(
            Mistake(_other_sided, "Now what was said is tidied, and what was written is not."),
            Mistake(_neither, "Now neither side is tidied."),
            Mistake(
                lambda a, b: (align(tidy(a).split(), tidy(b).split()).counts.errors, len(tidy(b).split())),
                "The errors are right; the words are those that were said.",
            ),
            Mistake(
                lambda a, b: (_edits(list(tidy(a)), list(tidy(b))), len(tidy(a))), "Those are characters. Split into words."
            ),
        ),
        otherwise="Both sides through the same normaliser, then into words.",
        hints=(
            "Follow one comma of the reference through the function.",
            "Both sides need the same treatment, before they are split.",
        ),
    ),
}
