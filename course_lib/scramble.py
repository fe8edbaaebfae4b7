"""A sentence → the mangled string of pieces that the tiny language model learns to retype.

Audio tokens are cut by the clock, not at letters; sounds are long, swallowed, misheard, and there are no spaces in speech.
This is the text-only imitation of all that, so that a model which never hears audio can later read audio tokens.
"""

import random
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

SILENCE = "<|silence|>"


@dataclass(frozen=True)
class Scramble:
    """How badly the pieces of a sentence are mangled before the model has to retype it.

    Each rate is the highest; every sentence draws its own between 0 and that, so that the model sees easy and hard ones.
    `dropout` is BPE-dropout's, from and to: the share of merges left out, so that pieces get shorter. Some sounds are long
    (`double`), some swallowed (`drop`), some misheard (`swap`), two sounds in one token (`blend`), no spaces in speech
    (`glue`), silence before, after and between words (`silence`), and never quite the right vector (`noise`).
    """

    dropout: tuple[float, float] = (0.3, 1.0)
    double: float = 0.5
    drop: float = 0.1
    swap: float = 0.08
    glue: float = 1.0
    silence: float = 0.2
    edge: int = 6
    blend: float = 0.5
    noise: float = 0.9


RATES = ("double", "drop", "swap", "glue", "silence")


class Scrambler:
    """Sentences → the mangled piece ids that the retype task starts from."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, scramble: Scramble, rng: random.Random):
        self.tokenizer, self.scramble, self.rng = tokenizer, scramble, rng
        self.silence_id = tokenizer.convert_tokens_to_ids(SILENCE)
        self.space_id = tokenizer.convert_tokens_to_ids("Ġ")
        self.unspaced = {
            index: tokenizer.convert_tokens_to_ids(token[1:])
            for token, index in tokenizer.get_vocab().items()
            if token.startswith("Ġ") and token[1:] in tokenizer.get_vocab()
        }

    def pieces(self, sentence: str) -> list[int]:
        """Cut the sentence at random places (BPE-dropout, Provilkov et al. 2020), then damage the pieces."""
        rates = {name: self.rng.uniform(0, getattr(self.scramble, name)) for name in RATES}
        self.tokenizer.backend_tokenizer.model.dropout = self.rng.uniform(*self.scramble.dropout)
        pieces = [self.silence_id] * self.rng.randint(0, self.scramble.edge)
        for piece in self.tokenizer(sentence).input_ids:
            pieces += self._damage(piece, rates)
        self.tokenizer.backend_tokenizer.model.dropout = None
        return pieces + [self.silence_id] * self.rng.randint(0, self.scramble.edge)

    def _damage(self, piece: int, rates: dict[str, float]) -> list[int]:
        if self.rng.random() < rates["drop"]:
            return []
        before = [self.silence_id] if self.rng.random() < rates["silence"] else []
        if self.rng.random() < rates["swap"]:
            piece = self.rng.randrange(len(self.tokenizer))
        if self.rng.random() < rates["glue"]:
            if piece == self.space_id:
                return before
            piece = self.unspaced.get(piece, piece)
        repeats = 1
        while repeats < 4 and self.rng.random() < rates["double"]:
            repeats += 1
        return before + [piece] * repeats
