"""A sentence → a corrupted string of its tokens, from which the tiny language model learns to restore it: denoising.

The task is that of denoising autoencoders such as BART (Lewis et al. 2020). The corruption imitates audio tokens: they are cut
by the clock and not at letters, sounds are long, swallowed or misheard, and there are no spaces in speech. So a model which
never hears audio can later read audio tokens.
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
    """How much a sentence is corrupted before the model has to restore it.

    Each rate is the highest there is. Every sentence draws a severity, and with it its own rates (a third of the highest, on
    average), so that the model sees easy sentences to learn from and hard ones to grow on.
    `bpe_dropout` goes from and to: the share of merges left out, so that tokens get shorter; from 1 on they are single letters.
    Tokens are repeated (a long sound), deleted (a swallowed one) or substituted (a misheard one), words are joined, and silence
    stands between tokens and around them (`edge_silence`, in tokens). Embeddings are blended with the next token's and get
    Gaussian `noise`, for an audio token is never quite the right vector.
    """

    bpe_dropout: tuple[float, float] = (0.5, 1.5)
    repeat: float = 0.5
    delete: float = 0.15
    substitute: float = 0.2
    join_words: float = 1.0
    silence: float = 0.6
    edge_silence: int = 12
    blend: float = 0.5
    noise: float = 0.9


RATES = ("repeat", "delete", "substitute", "join_words", "silence")


class Corruptor:
    """Sentences → the corrupted token ids that the denoising task starts from."""

    def __init__(self, tokenizer: "transformers.PreTrainedTokenizerFast", corruption: Corruption, rng: random.Random):
        self.tokenizer, self.corruption, self.rng = tokenizer, corruption, rng
        self.ids = tokenizer.get_vocab()
        self.silence_id = self.ids[SILENCE]
        merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
        self.merge_ranks = {tuple(pair): rank for rank, pair in enumerate(merges)}
        self.alike = _sound_alike_ids(tokenizer)

    def corrupt(self, sentence: str) -> list[int]:
        """Segment the sentence at random (BPE-dropout, Provilkov et al. 2020), then corrupt the tokens one by one."""
        severity = self.rng.random() ** 0.5  # the root: more hard sentences than easy ones
        rates = {name: severity * self.rng.uniform(0, getattr(self.corruption, name)) for name in RATES}
        dropout = self.rng.uniform(*self.corruption.bpe_dropout)
        tokens = self._edge_silence()
        for number, word in enumerate(sentence.split()):
            joined = number == 0 or self.rng.random() < rates["join_words"]
            for token in self._segment(word, dropout, joined):
                tokens += self._corrupt_token(token, rates)
        return tokens + self._edge_silence()

    def _edge_silence(self) -> list[int]:
        return [self.silence_id] * self.rng.randint(0, self.corruption.edge_silence)

    def _segment(self, word: str, dropout: float, joined: bool) -> list[int]:
        """Byte-pair encoding, in which every possible merge is overlooked with probability `dropout`, each time anew.

        The tokenizers library can do this too, but draws from a generator of its own that nobody can seed, and would cut å
        into its two bytes.
        """
        symbols = [] if joined else ["Ġ"]
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

    def _corrupt_token(self, token: int, rates: dict[str, float]) -> list[int]:
        if self.rng.random() < rates["delete"]:
            return []
        before = [self.silence_id] * self._repeats(rates["silence"])
        if self.rng.random() < rates["substitute"]:
            token = self._substitute(token)
        return before + [token] * (1 + self._repeats(rates["repeat"]))

    def _repeats(self, rate: float) -> int:
        repeats = 0
        while repeats < 3 and self.rng.random() < rate:
            repeats += 1
        return repeats

    def _substitute(self, token: int) -> int:
        """Mostly a letter that sounds alike, sometimes anything at all."""
        if token in self.alike and self.rng.random() < 0.7:
            return self.rng.choice(self.alike[token])
        return self.rng.randrange(len(self.tokenizer))


def _byte_spelling(tokenizer: "transformers.PreTrainedTokenizerFast", text: str) -> str:
    """How byte-level BPE writes a text inside: "å" has two bytes and is written "Ã¥"."""
    return tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)[0][0]


def letter_ids(tokenizer: "transformers.PreTrainedTokenizerBase") -> dict[str, int]:
    """The token id of each Danish letter that is one token; in our tokenizer that is all 29."""
    encoded = {letter: tokenizer(letter).input_ids for letter in LETTERS}
    return {letter: ids[0] for letter, ids in encoded.items() if len(ids) == 1}


def _sound_alike_ids(tokenizer: "transformers.PreTrainedTokenizerFast") -> dict[int, list[int]]:
    ids = letter_ids(tokenizer)
    alike = {}
    for group in SOUND_ALIKE:
        known = [ids[letter] for letter in group if letter in ids]
        for letter in known:
            alike.setdefault(letter, []).extend(other for other in known if other != letter)
    return alike
