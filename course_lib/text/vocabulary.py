"""Text ↔ the symbol ids of a CTC model: characters, or subwords where the frames are too few for characters.

Stage B at 8 × has 12.5 frames a second, and Danish 14 letters. A few hundred frequent subwords ("ede", "▁en", "ing") spell the
same sentence with half as many symbols. They come from byte-pair encoding (Sennrich et al. 2016),
by Hugging Face's `tokenizers`.
"""

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from course_lib.errors import CourseError
from course_lib.files import write_beside
from course_lib.text.normalise import DANISH_CHARACTERS

WORD_START = "▁"
"""Stands for the space before a word, at the beginning of a subword."""


@runtime_checkable
class Vocabulary(Protocol):
    """What `CharVocabulary` and `SubwordVocabulary` have in common; id 0 is the blank."""

    blank_id: int
    symbols: tuple[str, ...]

    def encode(self, text: str) -> list[int]:
        """Text → ids."""

    def decode(self, ids: Sequence[int]) -> str:
        """Ids → text."""

    def __len__(self) -> int: ...


class CharVocabulary:
    """The 31 symbols of a character CTC model: the blank is 0, then space, a–z, æ, ø, å.

    There is no end symbol: CTC's output ends where the sound does. `symbols` shows the blank as "_".

    >>> vocabulary = CharVocabulary()
    >>> vocabulary.encode("på ø")
    [17, 30, 1, 29]
    >>> vocabulary.decode([17, 30, 1, 29]), len(vocabulary)
    ('på ø', 31)
    """

    blank_id = 0

    def __init__(self, characters: str = DANISH_CHARACTERS):
        """Raises ValueError when a character comes twice, or is the "_" that stands for the blank."""
        doubled = {character for character in characters if characters.count(character) > 1}
        if doubled or "_" in characters:
            raise ValueError(f'characters must differ and leave out "_", the blank; got {characters!r}')
        self.symbols: tuple[str, ...] = ("_", *characters)
        self._id_of = {character: i for i, character in enumerate(characters, start=1)}

    def __len__(self) -> int:
        """Count the symbols, the blank included: the width of the CTC head."""
        return len(self.symbols)

    def encode(self, text: str) -> list[int]:
        """Write `text` as symbol ids, one a character. Raises ValueError naming every unknown character."""
        unknown = [character for character in dict.fromkeys(text) if character not in self._id_of]
        if unknown:
            raise CourseError(self._refusal(unknown, text))
        return [self._id_of[character] for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        """Read symbol ids as text; blanks spell nothing, repeats are kept (collapse a CTC path first).

        Raises ValueError for an id outside the vocabulary.
        """
        outside = [i for i in ids if not 0 <= i < len(self)]
        if outside:
            raise ValueError(f"symbol ids must be from 0 to {len(self) - 1}; got {outside[:5]}")
        return "".join(self.symbols[i] for i in ids if i != self.blank_id)

    def _refusal(self, unknown: list[str], text: str) -> str:
        names = ", ".join(f"{c!r} ({unicodedata.name(c, 'no name')})" for c in unknown)
        return (
            f"the vocabulary has no symbol for {names}\n  in the text {text!r}\n"
            f"It knows {''.join(self.symbols[1:])!r}. Run normalise() first, or leave the clip out."
        )


class SubwordVocabulary:
    """The same for subwords: the blank is 0, then the pieces that byte-pair encoding found.

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
            raise CourseError(f"no piece has {sorted(unknown)}\n  in the text {text!r}\nRun normalise() first.")
        return [index + 1 for index in self.tokenizer.encode(text).ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Read ids as text; blanks spell nothing, repeats are kept (collapse a CTC path first)."""
        text = "".join(self.symbols[index] for index in ids if index != self.blank_id)
        return text.replace(WORD_START, " ").removeprefix(" ")
