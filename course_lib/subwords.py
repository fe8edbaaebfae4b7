"""Transcripts → pieces of words: the symbols of a CTC model whose frames are too few for letters.

At 8 × there are 12.5 frames a second and 14 letters. A few hundred frequent pieces ("ede", "▁en", "ing") spell the same
sentence with half as many symbols. The pieces come from byte-pair encoding (Sennrich et al. 2016), by Hugging Face's
`tokenizers`.
"""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from course_lib.checkpoints import write_beside
from course_lib.text import DANISH_CHARACTERS

WORD_START = "▁"
"""Stands for the space before a word, at the beginning of a piece."""


class SubwordVocabulary:
    """Pieces of words with `CharVocabulary`'s face: the blank is 0, `encode` and `decode` go between text and ids.

    >>> vocabulary = SubwordVocabulary.train(["hej med dig", "hej hej"], size=40)
    >>> vocabulary.decode(vocabulary.encode("hej dig")), vocabulary.symbols[0]
    ('hej dig', '_')
    """

    blank_id = 0

    def __init__(self, tokenizer: Tokenizer):
        """Wrap a trained tokenizer; its ids move up by one to make room for the blank."""
        self.tokenizer = tokenizer
        pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
        self.symbols: tuple[str, ...] = ("_", *pieces)

    @classmethod
    def train(cls, texts: Sequence[str], size: int) -> "SubwordVocabulary":
        """Merge the most frequent neighbours, beginning with letters, until there are `size` symbols, the blank included."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(WORD_START)
        letters = [WORD_START, *DANISH_CHARACTERS.strip()]
        trainer = trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=letters, limit_alphabet=30, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> "SubwordVocabulary":
        """Read what `save` wrote."""
        return cls(Tokenizer.from_file(str(path)))

    def save(self, path: Path) -> None:
        """Write the pieces and the order of their merges as JSON."""
        write_beside(path, lambda beside: self.tokenizer.save(str(beside)))

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> list[int]:
        """Write `text` as ids of pieces. Raises ValueError for letters that no piece has."""
        unknown = set(text) - set(DANISH_CHARACTERS)
        if unknown:
            raise ValueError(f"no piece has {sorted(unknown)}\n  in the text {text!r}\nRun normalise() first.")
        return [index + 1 for index in self.tokenizer.encode(text).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Read ids as text; blanks spell nothing, repeats are kept (collapse a CTC path first)."""
        text = "".join(self.symbols[index] for index in ids if index != self.blank_id)
        return text.replace(WORD_START, " ").removeprefix(" ")
