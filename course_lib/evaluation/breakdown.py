"""Transcripts → how single words went, those that training knows and those that it does not, and how sentences went."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from course_lib.text.metrics import character_error_rate, word_error_rate


@dataclass(frozen=True)
class Part:
    """One kind of clips: how many, how many of them exactly right, and WER and CER as fractions."""

    name: str
    clips: int
    right: int
    wer: float
    cer: float


def kind_of(text: str, known: Collection[str]) -> str:
    """Say what was asked of the recogniser: a word that training knows, one that it does not, or several words."""
    if " " in text:
        return "sentences"
    return "words in the list" if text in known else "words outside the list"


def break_down(references: Sequence[str], hypotheses: Sequence[str], known: Collection[str]) -> list[Part]:
    """Measure each kind of clips by itself; `known` are the words of the grammar. Kinds without a clip are left out."""
    parts = []
    for name in ("words in the list", "words outside the list", "sentences"):
        pairs = [pair for pair in zip(references, hypotheses, strict=True) if kind_of(pair[0], known) == name]
        if pairs:
            said, heard = map(list, zip(*pairs, strict=True))
            right = sum(reference == hypothesis for reference, hypothesis in pairs)
            parts.append(Part(name, len(pairs), right, word_error_rate(said, heard), character_error_rate(said, heard)))
    return parts


def show_parts(parts: Sequence[Part]) -> str:
    """The parts as lines for people."""
    return "\n".join(
        f"  {part.name:<23}{part.right:>4} of {part.clips:<4} exactly right   WER {part.wer:6.1%}   CER {part.cer:6.1%}"
        for part in parts
    )
