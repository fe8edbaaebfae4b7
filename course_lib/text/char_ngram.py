"""Danish sentences → how likely each letter is after the last few: a character n-gram model, counted and smoothed by hand.

It has never heard anything. It knows that "hvorda" goes on with "n", and so which of two texts that sound alike is Danish.
An n-gram of order 6 looks back five characters. Most strings of five never came in training, so every count is mixed with
that of four characters, that with three, and so on down to "all symbols alike" (Witten-Bell smoothing).
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from course_lib.errors import CourseError
from course_lib.text.normalise import DANISH_CHARACTERS

END = "\n"
"""The end of a sentence, and so also what stands before its first letter. No normalised text has a line break."""


def count_ngrams(sentences: Iterable[str], order: int) -> Counter[str]:
    r"""Count all strings of 1 to `order` symbols, with END on both sides; the first END is only looked back at, not counted.

    >>> sorted(count_ngrams(["ja"], order=2).items())
    [('\n', 1), ('\nj', 1), ('a', 1), ('a\n', 1), ('j', 1), ('ja', 1)]
    """
    counts: Counter[str] = Counter()
    for sentence in sentences:
        marked = END + sentence + END
        counts.update(
            marked[start : last + 1] for last in range(1, len(marked)) for start in range(max(0, last + 1 - order), last + 1)
        )
    return counts


class CharNgram:
    """A character n-gram model with Witten-Bell interpolation.

    Let n(hc) say how often character c followed the history h, N(h) how often anything did, and T(h) how many different
    characters did; h' is h without its first character. Then

        p(c | h) = (n(hc) + T(h) · p(c | h')) / (N(h) + T(h))

    and below the empty history stands 1 / (number of symbols), 1/31 here. T(h) is the mass kept for what has not followed yet:
    a history that went on in many ways will find another (Witten & Bell 1991, method C; Chen & Goodman 1999).
    Where h never came, N = T = 0 and the fraction is 0 / 0, it is p(c | h'). `nltk.lm.WittenBellInterpolated` mixes so too,
    but stops at the letters' frequencies, and so gives 0 to a letter it never saw.

    >>> ngram = CharNgram(["en hest", "en hund", "en kat"], order=3)
    >>> round(ngram.probabilities("en ")["h"], 3), round(ngram.probabilities("en ")["e"], 3)
    (0.571, 0.02)
    """

    def __init__(self, sentences: Sequence[str], order: int = 6, characters: str = DANISH_CHARACTERS):
        """Learn by counting. Raises ValueError for an order below 1, no sentences, or characters that it does not know."""
        if order < 1 or not sentences:
            raise ValueError(f"order must be 1 or more, with a sentence to learn from; got {order}, {len(sentences)} sentences")
        self.order = order
        self.symbols = (*characters, END)
        if len(set(self.symbols)) < len(self.symbols):
            raise ValueError(f"characters must differ and leave out the line break, which is END; got {characters!r}")
        for sentence in sentences:
            self._refuse_unknown(sentence)
        self.followers: dict[str, Counter[str]] = {}
        for ngram, count in count_ngrams(sentences, order).items():
            self.followers.setdefault(ngram[:-1], Counter())[ngram[-1]] = count
        self._known: dict[str, Mapping[str, float]] = {}

    def probabilities(self, context: str) -> Mapping[str, float]:
        """Probability of every symbol (the characters, and END) after `context`; they add up to one.

        `context` is the sentence so far: "" is its beginning, and only the last `order` − 1 symbols of it matter.
        """
        # One symbol more than the order looks back at is never found; asking for it spares order 1 a slice of its own.
        return self._after((END + context)[-self.order :])

    def log_probability(self, context: str, character: str) -> float:
        """Natural logarithm of the probability of `character`, or of END, after `context`.

        Raises ValueError for characters that the model does not know.
        """
        self._refuse_unknown(context + character.removesuffix(END))
        if len(character) != 1:
            raise ValueError(f"one character at a time; got {character!r}. score() takes a whole text")
        return math.log(self.probabilities(context)[character])

    def score(self, text: str) -> float:
        """Log-probability of a whole sentence: all its characters and its end. Raises ValueError for unknown characters."""
        return math.fsum(self.log_probability(text[:i], character) for i, character in enumerate(text + END))

    def perplexity(self, texts: Sequence[str]) -> float:
        """Among how many equally likely symbols the model is in doubt: exp of the mean −log p; each text's end counts as one.

        Raises ValueError for no texts.
        """
        if not texts:
            raise ValueError("perplexity is a mean, and there are no texts to take it over")
        return math.exp(-math.fsum(map(self.score, texts)) / sum(len(text) + 1 for text in texts))

    def _after(self, history: str) -> Mapping[str, float]:
        """A history that never came has the row of its longest end that did, so there are only as many rows as histories."""
        while history not in self.followers:
            history = history[1:]
        if history not in self._known:
            self._known[history] = MappingProxyType(self._interpolate(history))
        return self._known[history]

    def _interpolate(self, history: str) -> dict[str, float]:
        followers = self.followers[history]
        kinds, total = len(followers), followers.total()
        shorter = self._after(history[1:]) if history else dict.fromkeys(self.symbols, 1 / len(self.symbols))
        return {symbol: (followers[symbol] + kinds * shorter[symbol]) / (total + kinds) for symbol in self.symbols}

    def _refuse_unknown(self, text: str) -> None:
        unknown = sorted(set(text) - set(self.symbols[:-1]))
        if unknown:
            raise CourseError(f"this n-gram has no {unknown}\n  in the text {text!r}\nRun normalise() first.")
