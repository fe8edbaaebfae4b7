"""What every recogniser of the course can do, whatever is inside: sound → features → text, and how sure it is of it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from course_lib.errors import CourseError
from course_lib.sound.segments import LONGEST_SECONDS, PIECE_SECONDS


class Transcript(NamedTuple):
    """What a recogniser wrote for a clip, and how sure it is, from 0 to 1; None where it cannot tell."""

    text: str
    confidence: float | None = None


class Word(NamedTuple):
    """A word of a transcript: from when to when it was said, in seconds from the clip's start, and how sure that is, 0 to 1."""

    text: str
    start: float
    end: float
    confidence: float


class NoWordTimesError(CourseError):
    """A recogniser that cannot say when a word was spoken."""


@runtime_checkable
class Recogniser(Protocol):
    """A recogniser says how it encodes sound and what it reads in features; the rest follows.

    Sound of up to `longest_seconds` it is given whole; what is longer, `data.long_audio` cuts to pieces of `piece_seconds`.
    """

    longest_seconds: float = LONGEST_SECONDS
    piece_seconds: float = PIECE_SECONDS

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

    def word_times(self, features: Float[Tensor, "frames features"], text: str) -> list[Word]:
        """When each word of a clip's text was said; raises NoWordTimesError where the recogniser cannot know."""
        raise NoWordTimesError(f"{type(self).__name__} writes words and does not say when they were spoken")
