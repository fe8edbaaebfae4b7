"""Sound of any length → pieces that are short enough for a recogniser, cut where nobody speaks.

    blocks [samples] → level of each 10 ms → silence or not → cut in the middle of the longest pause → Segment(start, waveform)

The encoders hear 30 s at most, and a recogniser that has learnt from short sentences gets lost in long ones. Silence is a
matter of contrast: near the quietest that was heard in the last half minute, and far below the loudest.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor

from course_lib.sound.audio import SAMPLE_RATE

LONGEST_SECONDS = 6.0
"""What is no longer is left in one piece: the longest clip of dev and test, plain and augmented, has 5.7 s."""

PIECE_SECONDS = 3.0
"""A piece's limit when something has to be cut; `python -m course_lib.benchmark long --piece` compares others."""

SHORTEST_SECONDS = 0.2
"""No cut leaves less than this behind it: what an encoder needs to have anything to say."""

MARGIN_SECONDS = 0.3
"""Silence that is left before and behind the speech of a piece; what is more is dropped."""

FRAME = SAMPLE_RATE // 100
_QUIETEST_DB, _QUIET_ROOM_DB = -80.0, -50.0
_NEAR_FLOOR_DB, _BELOW_LOUDEST_DB = 6.0, 20.0
_MEMORY = 3000


class Segment(NamedTuple):
    """A piece of a recording and where it starts, in seconds."""

    start: float
    waveform: Float[Tensor, "samples"]

    @property
    def end(self) -> float:
        """Where it ends, in seconds."""
        return self.start + len(self.waveform) / SAMPLE_RATE


def cut_at_pauses(
    blocks: Iterable[Float[Tensor, "_samples"]], longest: float = LONGEST_SECONDS, piece: float = PIECE_SECONDS
) -> Iterator[Segment]:
    """Leave 16 kHz sound of up to `longest` seconds as it is; cut what is longer into pieces of at most `piece` seconds.

    Where a piece would get longer, it is cut in the middle of its longest pause, by preference in its last two thirds; without
    a pause, at its quietest 50 ms. Silence at the ends of a piece is shortened to 0.3 s, and a piece of silence is left out,
    so there may be time between two pieces. At any moment, `longest` seconds and one block are in memory.
    Raises ValueError for a `piece` under 1 s or above `longest`.
    """
    if not 1 <= piece <= longest:
        raise ValueError(
            f"pieces of {piece:g} s: at least 1 s, or every word is cut, and at most the {longest:g} s that may stay whole"
        )
    limit = round(piece * SAMPLE_RATE)
    pending, start, is_long = torch.zeros(0), 0, False
    recent: deque[float] = deque(maxlen=_MEMORY)
    for block in blocks:
        pending = torch.cat([pending, block])
        is_long = is_long or len(pending) > longest * SAMPLE_RATE
        while is_long and len(pending) > limit:
            levels = frame_levels(pending[:limit])
            silent = _silent_frames(levels, recent)
            cut = FRAME * _place_of_cut(levels, silent)
            yield from _trimmed(pending[:cut], silent[: cut // FRAME], start)
            recent.extend(levels[: cut // FRAME].tolist())
            pending, start = pending[cut:], start + cut
    if is_long:
        yield from _trimmed(pending, _silent_frames(frame_levels(pending), recent), start)
    else:
        yield Segment(0.0, pending)


def frame_levels(waveform: Float[Tensor, "samples"]) -> Float[np.ndarray, "frames"]:
    """Level of every 10 ms in dB of full scale (root mean square), at least −80; a last frame that is not full counts, too.

    >>> frame_levels(torch.tensor([0.1] * 160 + [0.0] * 160)).round().tolist()
    [-20.0, -80.0]
    """
    padded = np.pad(waveform.numpy().astype(np.float64), (0, -len(waveform) % FRAME))
    power = reduce(padded**2, "(frames samples) -> frames", "mean", samples=FRAME)
    return 10 * np.log10(np.maximum(power, 10 ** (_QUIETEST_DB / 10)))


def _silent_frames(levels: Float[np.ndarray, "frames"], recent: Iterable[float]) -> Bool[np.ndarray, "frames"]:
    """Frames near the noise floor, the level that a hundredth of the last half minute stays below.

    A tenth would do for a dictation; but where pauses are rarer than that, the floor would be the quieter of two speakers.

    In steady noise everything is near the floor. Hence the second condition: it must be far below the loudest, or below
    what a quiet room would be.
    """
    heard = np.concatenate([np.array(recent, dtype=np.float64), levels])
    floor, loudest = np.percentile(heard, 1), max(heard.max(), _QUIET_ROOM_DB)
    return (levels <= floor + _NEAR_FLOOR_DB) & (levels <= loudest - _BELOW_LOUDEST_DB)


def _place_of_cut(levels: Float[np.ndarray, "frames"], silent: Bool[np.ndarray, "frames"]) -> int:
    """Frame before which to cut a piece that is full."""
    latest = len(levels) - round(100 * SHORTEST_SECONDS)
    pauses = _runs(silent[:latest])
    in_reach = [pause for pause in pauses if sum(pause) / 2 > latest / 3]
    if pauses:
        start, end = max(in_reach or pauses, key=lambda pause: pause[1] - pause[0])
        return max(1, (start + end) // 2)
    half = latest // 2
    smooth = np.convolve(levels, np.ones(5) / 5, mode="same")
    return half + int(smooth[half:latest].argmin())


def _runs(silent: Bool[np.ndarray, "frames"]) -> list[tuple[int, int]]:
    """First frame and end of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], silent.astype(np.int8), [0]])))
    return [(int(start), int(end)) for start, end in rearrange(edges, "(runs edge) -> runs edge", edge=2)]


def _trimmed(waveform: Float[Tensor, "samples"], silent: Bool[np.ndarray, "frames"], start: int) -> Iterator[Segment]:
    """The piece from 0.3 s before its first frame of sound to 0.3 s behind its last; nothing, if it has none."""
    sound = np.flatnonzero(~silent)
    if len(sound):
        margin = round(100 * MARGIN_SECONDS)
        first = FRAME * max(0, int(sound[0]) - margin)
        yield Segment((start + first) / SAMPLE_RATE, waveform[first : FRAME * (int(sound[-1]) + 1 + margin)])
