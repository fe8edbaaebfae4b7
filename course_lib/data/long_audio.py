"""A recogniser of short clips → transcripts of recordings of any length, with times.

    blocks [samples] → cut_at_pauses → pieces, eight at a time → recogniser → TimedTranscript(start, end, text, …)

What is short enough goes through as it is, in one piece.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from course_lib.data.recogniser import NoWordTimesError, Recogniser, Transcript, Word
from course_lib.sound.segments import Segment, cut_at_pauses


class TimedTranscript(NamedTuple):
    """What was said from `start` to `end`, in seconds of the whole recording; `words` is None where they have no times."""

    start: float
    end: float
    text: str
    confidence: float | None = None
    words: list[Word] | None = None


def transcribe_long(
    recogniser: Recogniser, blocks: Iterable[Float[Tensor, "_samples"]], word_times: bool = False, batch_size: int = 8
) -> Iterator[TimedTranscript]:
    """Transcribe 16 kHz sound of any length, as `stream_audio` reads it; in memory are `batch_size` pieces and no more.

    With `word_times`, each piece has its words, unless the recogniser cannot tell when they were said.
    """
    pieces = _cut(recogniser, blocks)
    for piece, features, transcript in _recognise(recogniser, pieces, batch_size):
        words = _words_of(recogniser, piece, features, transcript.text) if word_times else None
        yield TimedTranscript(piece.start, piece.end, transcript.text, transcript.confidence, words)


def transcribe_clips(
    recogniser: Recogniser, waveforms: Sequence[Float[Tensor, "_samples"]], batch_size: int = 16
) -> list[Transcript]:
    """One transcript for each waveform (16 kHz mono), of whatever length; short ones share their batches."""
    cut = [list(_cut(recogniser, [waveform])) for waveform in waveforms]
    read = _recognise(recogniser, itertools.chain.from_iterable(cut), batch_size)
    return [join_transcripts([transcript for _, _, transcript in itertools.islice(read, len(pieces))]) for pieces in cut]


def join_transcripts(pieces: Sequence[Transcript | TimedTranscript]) -> Transcript:
    """The texts of a recording's pieces as one. It is right when each of them is, so confidences are multiplied.

    >>> join_transcripts([Transcript("en kop", 0.5), Transcript("", 0.5), Transcript("te", 0.5)])
    Transcript(text='en kop te', confidence=0.125)
    """
    confidences = [piece.confidence for piece in pieces]
    told = bool(confidences) and None not in confidences
    return Transcript(" ".join(piece.text for piece in pieces if piece.text), math.prod(confidences) if told else None)


def _cut(recogniser: Recogniser, blocks: Iterable[Float[Tensor, "_samples"]]) -> Iterator[Segment]:
    return cut_at_pauses(blocks, recogniser.longest_seconds, recogniser.piece_seconds)


def _recognise(
    recogniser: Recogniser, pieces: Iterable[Segment], batch_size: int
) -> Iterator[tuple[Segment, Float[Tensor, "frames features"], Transcript]]:
    pieces = iter(pieces)
    while batch := list(itertools.islice(pieces, batch_size)):
        features = recogniser.encode([piece.waveform for piece in batch])
        yield from zip(batch, features, recogniser.recognise(features), strict=True)


def _words_of(
    recogniser: Recogniser, piece: Segment, features: Float[Tensor, "frames features"], text: str
) -> list[Word] | None:
    """Words in seconds of the recording; the last may not outlast its piece, which the last frame, rounded up, can do."""
    try:
        words = recogniser.word_times(features, text)
    except NoWordTimesError:
        return None
    times = [[min(piece.start + time, piece.end) for time in (word.start, word.end)] for word in words]
    return [Word(word.text, *time, word.confidence) for word, time in zip(words, times, strict=True)]
