"""Clips → the same clips joined into longer recordings → word error rate over length: does it hold beyond what was learnt?"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from course_lib.data.long_audio import join_transcripts, transcribe_long
from course_lib.data.recogniser import Recogniser
from course_lib.sound.audio import SAMPLE_RATE
from course_lib.text.metrics import word_error_rate


class Joined(NamedTuple):
    """A recording of several clips: what is said in it, and its sound, clip by clip with the gaps between."""

    text: str
    blocks: list[Float[Tensor, "_samples"]]

    @property
    def seconds(self) -> float:
        """How long it is."""
        return sum(map(len, self.blocks)) / SAMPLE_RATE


def join_clips(
    waveforms: Sequence[Float[Tensor, "_samples"]], texts: Sequence[str], seconds: float, gap: float
) -> list[Joined]:
    """Recordings of at least `seconds` that hold every clip once, in order, silence of `gap` seconds between two.

    The last one goes on with the first clips again; a recording that is longer than all clips together repeats them, too.
    Clips that are long enough stay alone.
    """
    silence = torch.zeros(round(gap * SAMPLE_RATE))
    clips = itertools.cycle(zip(waveforms, texts, strict=True))
    recordings, used = [], 0
    while used < len(waveforms):
        spoken: list[str] = []
        blocks: list[Tensor] = []
        while sum(map(len, blocks)) < seconds * SAMPLE_RATE:
            waveform, text = next(clips)
            blocks += [silence, waveform] if blocks else [waveform]
            spoken.append(text)
        recordings.append(Joined(" ".join(spoken), blocks))
        used += len(spoken)
    return recordings


def joined_error_rate(recogniser: Recogniser, recordings: Sequence[Joined]) -> float:
    """Word error rate over all recordings, each of which is cut as any long file is."""
    return word_error_rate([recording.text for recording in recordings], list(_texts(recogniser, recordings)))


def _texts(recogniser: Recogniser, recordings: Sequence[Joined]) -> Iterator[str]:
    for recording in recordings:
        yield join_transcripts([*transcribe_long(recogniser, recording.blocks)]).text
