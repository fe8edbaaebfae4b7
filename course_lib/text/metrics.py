"""References and hypotheses → alignments, error counts, WER, CER and how sure we are of them.

Every function compares exactly the strings it is given: "Hej," and "hej" are two different words. Normalise
both sides first (`course_lib.text.normalise`) and name the normaliser beside the number.

All rates are corpus-level: the errors of all utterances over the reference words of all utterances. The mean
of per-utterance or per-batch rates is another number, and it moves with the batch size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

Unit = Literal["word", "char"]


class Operation(NamedTuple):
    """One step from the reference to the hypothesis; the side that has no word is None."""

    kind: Literal["hit", "substitution", "insertion", "deletion"]
    reference: str | None
    hypothesis: str | None


@dataclass(frozen=True)
class ErrorCounts:
    """How many words (or characters) were right, replaced, added and lost. Counts add up over utterances.

    >>> total = ErrorCounts(hits=4, substitutions=1) + ErrorCounts(hits=2, insertions=3)
    >>> total.errors, total.reference_length, round(total.rate, 3)
    (4, 7, 0.571)
    """

    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0
    hits: int = 0

    @property
    def reference_length(self) -> int:
        """Words in the reference: an insertion has no word there."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """The edit distance."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Errors per reference word, from 0 to beyond 1; with no reference word, the errors, as in jiwer."""
        return self.errors / max(self.reference_length, 1)

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            substitutions=self.substitutions + other.substitutions,
            insertions=self.insertions + other.insertions,
            deletions=self.deletions + other.deletions,
            hits=self.hits + other.hits,
        )


@dataclass(frozen=True)
class Alignment:
    """The operations that turn a reference into a hypothesis, in reading order; prints with marks below.

    >>> print(align("hvordan har du det i dag".split(), "vordan har det i dag nok".split()))
    reference   hvordan  har  du  det  i  dag  ***
    hypothesis  vordan   har  **  det  i  dag  nok
                S             D                I
    """

    operations: list[Operation]

    @property
    def counts(self) -> ErrorCounts:
        """Count the operations of each kind."""
        kinds = [operation.kind for operation in self.operations]
        return ErrorCounts(kinds.count("substitution"), kinds.count("insertion"), kinds.count("deletion"), kinds.count("hit"))

    def __str__(self) -> str:
        rows = [["reference"], ["hypothesis"], [""]]
        for kind, reference, hypothesis in self.operations:
            rows[0].append(reference if reference is not None else "*" * len(hypothesis or ""))
            rows[1].append(hypothesis if hypothesis is not None else "*" * len(reference or ""))
            rows[2].append("" if kind == "hit" else kind[0].upper())
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def edit_table(reference: Sequence[str], hypothesis: Sequence[str]) -> list[list[int]]:
    """Fill the table whose cell [i][j] is the fewest edits from reference[:i] to hypothesis[:j].

    Levenshtein 1966; filled row by row as in Wagner & Fischer 1974.

    >>> for row in edit_table("sol", "sool"):
    ...     print(row)
    [0, 1, 2, 3, 4]
    [1, 0, 1, 2, 3]
    [2, 1, 0, 1, 2]
    [3, 2, 1, 1, 1]
    """
    table = [list(range(len(hypothesis) + 1))]
    for i, reference_word in enumerate(reference, start=1):
        above = table[-1]
        row = [i]
        for hypothesis_word, diagonal, up in zip(hypothesis, above, above[1:], strict=False):
            # A hit is never dearer than the two ways round it, so there is nothing to compare.
            hit = reference_word == hypothesis_word
            row.append(diagonal if hit else 1 + min(diagonal, up, row[-1]))
        table.append(row)
    return table


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Alignment:
    """Walk the edit table back from its last corner and name each step.

    Several walks can be the cheapest. The total is the same for all of them; how it parts into substitutions,
    insertions and deletions is not. This one prefers the diagonal, then a deletion.

    >>> align("det er godt".split(), "det er".split()).counts
    ErrorCounts(substitutions=0, insertions=0, deletions=1, hits=2)
    """
    table = edit_table(reference, hypothesis)
    i, j = len(reference), len(hypothesis)
    steps: list[Operation] = []
    while i or j:
        hit = i and j and reference[i - 1] == hypothesis[j - 1]
        if i and j and table[i][j] == table[i - 1][j - 1] + (not hit):
            kind = "hit" if hit else "substitution"
            steps.append(Operation(kind, reference[i - 1], hypothesis[j - 1]))
            i, j = i - 1, j - 1
        elif i and table[i][j] == table[i - 1][j] + 1:
            steps.append(Operation("deletion", reference[i - 1], None))
            i -= 1
        else:
            steps.append(Operation("insertion", None, hypothesis[j - 1]))
            j -= 1
    return Alignment(steps[::-1])


def error_counts(references: str | Sequence[str], hypotheses: str | Sequence[str], unit: Unit = "word") -> list[ErrorCounts]:
    """Count the errors of every utterance; `sum(…, ErrorCounts())` is the corpus.

    Words are parted by white space; characters include the spaces between words, not those around the text,
    as in jiwer. Raises ValueError when there are not as many hypotheses as references.
    """
    if isinstance(references, str) and isinstance(hypotheses, str):
        references, hypotheses = [references], [hypotheses]
    if isinstance(references, str) or isinstance(hypotheses, str):
        raise ValueError("give two strings, or two lists of strings; got one of each")
    if len(references) != len(hypotheses):
        raise ValueError(
            f"{len(references)} references but {len(hypotheses)} hypotheses: one for each is needed, in "
            'the same order. An utterance that got no words is the empty string ""'
        )
    pairs = zip(references, hypotheses, strict=True)
    return [align(_split(reference, unit), _split(hypothesis, unit)).counts for reference, hypothesis in pairs]


def word_error_rate(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> float:
    """Errors over reference words, for one pair of strings or two lists of them; equals `jiwer.wer`.

    It can exceed 1: an insertion costs, and adds nothing below the line. Without any reference word it is the
    number of inserted words (0 for two empty strings), as in jiwer. Raises ValueError for unequal lengths.

    >>> word_error_rate("hej hvordan har du det", "hej vordan har du det")
    0.2
    >>> word_error_rate(["ja", "det er godt"], ["ja ja ja", "det er godt"])
    0.5
    """
    return sum(error_counts(references, hypotheses), ErrorCounts()).rate


def character_error_rate(references: str | Sequence[str], hypotheses: str | Sequence[str]) -> float:
    """Errors over reference characters, spaces between words included; equals `jiwer.cer`.

    Empty references and unequal lengths are treated as in `word_error_rate`.

    >>> character_error_rate("hvordan", "vordan") == 1 / 7
    True
    """
    return sum(error_counts(references, hypotheses, unit="char"), ErrorCounts()).rate


def bootstrap_interval(
    references: Sequence[str],
    hypotheses: Sequence[str],
    unit: Unit = "word",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """How far the rate would move on another test set of this size, as a percentile bootstrap interval.

    Whole utterances are drawn with replacement, because the words of one utterance go wrong together (Bisani
    & Ney 2004). Speakers outside the list are not covered. Raises ValueError for an empty list of references.
    """
    if not references:
        raise ValueError("an interval needs at least one utterance; the list of references is empty")
    counts = error_counts(references, hypotheses, unit)
    errors = [count.errors for count in counts]
    _, low, high = resample_rates(errors, [count.reference_length for count in counts], resamples, confidence, seed)
    return low, high


def resample_rates(
    errors: Sequence[int], lengths: Sequence[int], resamples: int, confidence: float, seed: int
) -> tuple[Float[np.ndarray, " resamples"], float, float]:
    """Rates of utterances drawn with replacement, and the percentiles between which the middle `confidence` of them lies.

    `errors` and `lengths` are those of each utterance. Raises ValueError for a confidence or a number of draws that makes no
    interval.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(f"need 0 < confidence < 1 and resamples ≥ 1; got {confidence} and {resamples}")
    over = np.array(errors)
    under = np.array(lengths)
    random = np.random.default_rng(seed)
    draws = (random.integers(len(over), size=len(over)) for _ in range(resamples))
    rates = np.array([over[drawn].sum() / max(under[drawn].sum(), 1) for drawn in draws])
    tail = (1 - confidence) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    return rates, float(low), float(high)


def token_accuracy(predicted: Int[Tensor, "..."], targets: Int[Tensor, "..."], ignore_index: int = -100) -> float:
    """Share of the target tokens predicted right under teacher forcing: each step is told the true past.

    Not 1 − WER: when it transcribes, the model reads its own past, and one early slip moves all that follows.
    The two tensors have one shape and are already shifted: the logits at position t predict token t + 1.
    Raises ValueError when the shapes differ, or when every target is `ignore_index`.
    """
    if predicted.shape != targets.shape:
        raise ValueError(f"predicted has shape {list(predicted.shape)}, targets {list(targets.shape)}: make them the same")
    counted = targets != ignore_index
    if not counted.any():
        raise ValueError(f"no target to count: all {targets.numel()} are ignore_index ({ignore_index})")
    return (predicted == targets)[counted].float().mean().item()


def _split(text: str, unit: Unit) -> list[str]:
    if unit not in ("word", "char"):
        raise ValueError(f'unit must be "word" or "char"; got {unit!r}')
    return text.split() if unit == "word" else list(text.strip())
