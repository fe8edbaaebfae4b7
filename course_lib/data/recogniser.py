"""What every recogniser of the course can do, whatever is inside: sound → features → text, and how sure it is of it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


class Transcript(NamedTuple):
    """What a recogniser wrote for a clip, and how sure it is, from 0 to 1; None where it cannot tell."""

    text: str
    confidence: float | None = None


@runtime_checkable
class Recogniser(Protocol):
    """A recogniser says how it encodes sound and what it reads in features; the rest follows."""

    def encode(self, waveforms: Sequence[Float[Tensor, "_samples"]]) -> list[Float[Tensor, "_frames features"]]:
        """Features of waveforms (16 kHz mono, at most 30 s)."""
        ...

    def recognise(self, features: Sequence[Float[Tensor, "_frames features"]]) -> list[Transcript]:
        """What is said in clips that are encoded already; the answer for a clip does not depend on its batch."""
        ...

    def transcribe_features(self, features: Sequence[Float[Tensor, "_frames features"]]) -> list[str]:
        """Write what is said in clips that are encoded already, one line a clip."""
        return [transcript.text for transcript in self.recognise(features)]

    def transcribe(self, waveforms: Sequence[Float[Tensor, "_samples"]]) -> list[str]:
        """Write what is said in each waveform (16 kHz mono, at most 30 s)."""
        return self.transcribe_features(self.encode(waveforms))
