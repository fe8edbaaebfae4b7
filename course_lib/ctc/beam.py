"""CTC's symbol probabilities + a character n-gram → the text that both believe.

The search is `paths.prefix_beam_search` with two more terms in a text's score. The sum is called shallow fusion: the two
models meet only in the score, neither is trained with the other.

    score(text) = log p_ctc(text) + weight · log p_ngram(text) + bonus · characters of text

Every character costs log p_ngram, which is below zero, so the n-gram alone likes short texts; the bonus pays that back. (Hannun
et al. 2014, algorithm 1, has words where this has characters, and their number to a power: β · log |W|.)
"""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from course_lib.ctc.paths import log_add
from course_lib.text.char_ngram import END, CharNgram
from course_lib.text.vocabulary import Vocabulary


@dataclass(slots=True)
class Paths:
    """What is known of a prefix: log-probability of its paths that end in a blank, of those that end in its last character,
    and what n-gram and bonus give it (`fused`), which no frame changes.
    """

    blank: float
    character: float
    fused: float

    @property
    def ctc(self) -> float:
        """Log-probability of all paths."""
        return log_add(self.blank, self.character)


Beam = dict[str, Paths]


@dataclass(frozen=True)
class Fusion:
    """What the n-gram and the bonus add to a prefix that gets one more symbol; nothing without an n-gram."""

    ngram: CharNgram | None
    weight: float
    bonus: float

    def gain(self, prefix: str, symbol: str) -> float:
        """Score of a character, or of END: that has a probability too, but is no character and earns no bonus."""
        if self.ngram is None:
            return 0.0
        log_probability = math.log(self.ngram.probabilities(prefix)[symbol])
        return self.weight * log_probability + (0.0 if symbol == END else self.bonus)


def beam_search(
    log_probs: Float[Tensor, "frames vocab"],
    vocabulary: Vocabulary,
    ngram: CharNgram | None = None,
    beam_width: int = 16,
    weight: float = 0.5,
    bonus: float = 0.5,
    prune: float = 1e-3,
) -> list[tuple[str, float]]:
    """Find the texts of one clip with the highest score: up to `beam_width` (text, score), best first.

    Symbols less likely than `prune` in a frame are not tried there; the blank and the frame's likeliest symbol always are.
    Without an n-gram, `weight` and `bonus` do nothing, and with `prune=0.0` as well, this is `ctc.paths.prefix_beam_search`.
    Texts are as CTC spells them, and may have a space at an end. Raises ValueError for a vocabulary whose symbols are not
    characters, are unknown to the n-gram or do not fit `log_probs`; for a beam narrower than 1 or `prune` outside [0, 1).
    """
    _refuse(log_probs, vocabulary, ngram)
    if beam_width < 1 or not 0 <= prune < 1:
        raise ValueError(f"beam_width must be at least 1 and prune from 0 to below 1; got {beam_width} and {prune}")
    fusion = Fusion(ngram, weight, bonus)
    beam: Beam = {"": Paths(blank=0.0, character=-math.inf, fused=0.0)}
    for row in log_probs.tolist():
        blank = row[vocabulary.blank_id]
        likely = _likely_characters(row, vocabulary, prune)
        beam = _best(_grow(beam, blank, likely, fusion), beam_width)
    for text, paths in beam.items():
        paths.fused += fusion.gain(text, END)
    return [(text, paths.ctc + paths.fused) for text, paths in _best(beam, beam_width).items()]


@dataclass(frozen=True)
class BeamDecoder:
    """`beam_search` with its settings, as a `StageBRecogniser` decodes: log-probabilities of a clip → symbol ids.

    Weight and bonus of the n-gram were chosen on dev.
    """

    vocabulary: Vocabulary
    ngram: CharNgram | None = None
    beam_width: int = 16
    weight: float = 0.8
    bonus: float = 1.0

    def __call__(self, log_probs: Float[Tensor, "frames vocab"]) -> list[int]:
        """The ids of the text with the highest score."""
        best = beam_search(log_probs, self.vocabulary, self.ngram, self.beam_width, self.weight, self.bonus)[0]
        return self.vocabulary.encode(best[0])


def _likely_characters(row: list[float], vocabulary: Vocabulary, prune: float) -> list[tuple[str, float]]:
    floor = min(math.log(prune) if prune else -math.inf, max(row))
    symbols = zip(vocabulary.symbols, row, strict=True)
    return [(symbol, score) for i, (symbol, score) in enumerate(symbols) if score >= floor and i != vocabulary.blank_id]


def _grow(beam: Beam, blank: float, likely: list[tuple[str, float]], fusion: Fusion) -> Beam:
    """One frame on: each prefix stays (blank, or its last character again) or gets one character longer."""
    grown: Beam = {}
    for prefix, paths in beam.items():
        ctc = paths.ctc
        stays = grown.setdefault(prefix, Paths(-math.inf, -math.inf, paths.fused))
        stays.blank = ctc + blank
        for character, score in likely:
            before = ctc
            if character == prefix[-1:]:
                stays.character = log_add(stays.character, paths.character + score)
                before = paths.blank  # without a blank between them, equal characters are one
            longer = grown.get(prefix + character)
            if longer is None:
                fused = paths.fused + fusion.gain(prefix, character)
                longer = grown[prefix + character] = Paths(-math.inf, -math.inf, fused)
            longer.character = log_add(longer.character, before + score)
    return grown


def _best(beam: Beam, width: int) -> Beam:
    """The prefixes with the highest scores, best first; impossible ones are left out."""
    scores = {text: paths.ctc + paths.fused for text, paths in beam.items()}
    possible = [text for text, score in scores.items() if score > -math.inf]
    return {text: beam[text] for text in sorted(possible, key=lambda text: (-scores[text], text))[:width]}


def _refuse(log_probs: Float[Tensor, "frames vocab"], vocabulary: Vocabulary, ngram: CharNgram | None) -> None:
    if log_probs.shape[1] != len(vocabulary):
        raise ValueError(f"log_probs has {log_probs.shape[1]} columns, the vocabulary {len(vocabulary)} symbols")
    long = [symbol for symbol in vocabulary.symbols if len(symbol) != 1]
    if long:
        raise ValueError(
            f"beam_search spells with single characters; this vocabulary has {len(long)} longer symbols, such as {long[:3]}.\n"
            "Use ctc.paths.prefix_beam_search for pieces of words."
        )
    blank = vocabulary.symbols[vocabulary.blank_id]
    unknown = set(vocabulary.symbols) - {blank, *ngram.symbols[:-1]} if ngram else set()
    if unknown:
        raise ValueError(
            f"the n-gram does not know {sorted(unknown)}, which the vocabulary has; train it on the same characters"
        )
