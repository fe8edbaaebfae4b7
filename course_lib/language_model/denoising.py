"""A sentence → the mangled string of pieces that the tiny language model learns to retype.

Audio tokens are cut by the clock, not at letters; sounds are long, swallowed, misheard, and there are no spaces in speech.
This is the text-only imitation of all that, so that a model which never hears audio can later read audio tokens.
"""

import itertools
import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from course_lib.text.normalise import DANISH_CHARACTERS

if TYPE_CHECKING:  # an annotation needs its name only; course_lib.huggingface says why that matters
    import transformers

SILENCE = "<|silence|>"

LETTERS = DANISH_CHARACTERS.strip()

SOUND_ALIKE = (
    "aæe",
    "eiæ",
    "iyj",
    "eøy",
    "oåu",
    "åa",
    "bp",
    "dtg",
    "gkr",
    "fv",
    "mn",
    "rl",
    "sz",
    "sc",
    "kc",
    "jg",
    "vu",
    "hr",
)
"""Letters that are easily heard as one another in Danish: "bil" and "pil", "dal" and "tal", "mor" and "mår"."""


@dataclass(frozen=True)
class Corruption:
    """How badly the pieces of a sentence are mangled before the model has to retype it.

    Each rate is the highest there is. Every sentence draws a severity, and with it its own rates (a third of the highest, on
    average), so that the model sees easy sentences to learn from and hard ones to grow on.
    `dropout` is BPE-dropout's, from and to: the share of merges left out, so that pieces get shorter; from 1 on they are single
    letters. Some sounds are long (`double`), some swallowed (`drop`), some misheard (`swap`), two sounds in one token
    (`blend`), no spaces in speech (`glue`), silence between pieces (`silence`) and around them (`edge`, in tokens), and
    never quite the right vector (`noise`).
    """

    dropout: tuple[float, float] = (0.5, 1.5)
    double: float = 0.5
    drop: float = 0.15
    swap: float = 0.2
    glue: float = 1.0
    silence: float = 0.6
    edge: int = 12
    blend: float = 0.5
    noise: float = 0.9


RATES = ("double", "drop", "swap", "glue", "silence")


class Corruptor:
    """Sentences → the mangled piece ids that the retype task starts from."""

    def __init__(self, tokenizer: "transformers.PreTrainedTokenizerFast", scramble: Corruption, rng: random.Random):
        self.tokenizer, self.scramble, self.rng = tokenizer, scramble, rng
        self.ids = tokenizer.get_vocab()
        self.silence_id = self.ids[SILENCE]
        merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
        self.merge_ranks = {tuple(pair): rank for rank, pair in enumerate(merges)}
        self.alike = _sound_alike_ids(tokenizer)

    def pieces(self, sentence: str) -> list[int]:
        """Cut the sentence at random places (BPE-dropout, Provilkov et al. 2020), then damage the pieces."""
        severity = self.rng.random() ** 0.5  # the root: more hard sentences than easy ones
        rates = {name: severity * self.rng.uniform(0, getattr(self.scramble, name)) for name in RATES}
        dropout = self.rng.uniform(*self.scramble.dropout)
        pieces = self._silence_at_edge()
        for number, word in enumerate(sentence.split()):
            glued = number == 0 or self.rng.random() < rates["glue"]
            for piece in self._cut(word, dropout, glued):
                pieces += self._damage(piece, rates)
        return pieces + self._silence_at_edge()

    def _silence_at_edge(self) -> list[int]:
        return [self.silence_id] * self.rng.randint(0, self.scramble.edge)

    def _cut(self, word: str, dropout: float, glued: bool) -> list[int]:
        """Byte-pair encoding, in which every possible merge is overlooked with probability `dropout`, each time anew.

        The tokenizers library can do this too, but draws from a generator of its own that nobody can seed, and would cut å
        into its two bytes.
        """
        symbols = [] if glued else ["Ġ"]
        for letter in word:
            spelled = _byte_spelling(self.tokenizer, letter)
            symbols += [spelled] if spelled in self.ids else [*spelled]
        while seen := [
            (self.merge_ranks[pair], index)
            for index, pair in enumerate(itertools.pairwise(symbols))
            if pair in self.merge_ranks and self.rng.random() >= dropout
        ]:
            _, index = min(seen)
            symbols[index : index + 2] = [symbols[index] + symbols[index + 1]]
        return [self.ids[symbol] for symbol in symbols]

    def _damage(self, piece: int, rates: dict[str, float]) -> list[int]:
        if self.rng.random() < rates["drop"]:
            return []
        before = [self.silence_id] * self._repeats(rates["silence"])
        if self.rng.random() < rates["swap"]:
            piece = self._mishear(piece)
        return before + [piece] * (1 + self._repeats(rates["double"]))

    def _repeats(self, rate: float) -> int:
        repeats = 0
        while repeats < 3 and self.rng.random() < rate:
            repeats += 1
        return repeats

    def _mishear(self, piece: int) -> int:
        """Mostly as a letter that sounds alike, sometimes as anything at all."""
        if piece in self.alike and self.rng.random() < 0.7:
            return self.rng.choice(self.alike[piece])
        return self.rng.randrange(len(self.tokenizer))


def _byte_spelling(tokenizer: "transformers.PreTrainedTokenizerFast", text: str) -> str:
    """How byte-level BPE writes a text inside: "å" has two bytes and is written "Ã¥"."""
    return tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)[0][0]


def letter_ids(tokenizer: "transformers.PreTrainedTokenizerBase") -> dict[str, int]:
    """The token id of each Danish letter that is one token; in our tokenizer that is all 29."""
    encoded = {letter: tokenizer(letter).input_ids for letter in LETTERS}
    return {letter: ids[0] for letter, ids in encoded.items() if len(ids) == 1}


def _sound_alike_ids(tokenizer: "transformers.PreTrainedTokenizerFast") -> dict[int, list[int]]:
    ids, alike = letter_ids(tokenizer), {}
    for group in SOUND_ALIKE:
        known = [ids[letter] for letter in group if letter in ids]
        for letter in known:
            alike.setdefault(letter, []).extend(other for other in known if other != letter)
    return alike
