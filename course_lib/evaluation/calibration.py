"""How sure a recogniser is of a sentence → whether it is right as often as it is sure.

A confidence of 0.8 is *calibrated* if, of all clips that got about 0.8, about 80 % are right. Nothing makes a network so: it is
measured, on clips that it did not train on (Guo et al. 2017, "On Calibration of Modern Neural Networks").
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from course_lib.sound.plots import INK, SOFT


class Bin(NamedTuple):
    """Clips whose confidence lies in one range: how many, how sure on average, and which share was right."""

    low: float
    high: float
    clips: int
    confidence: float
    accuracy: float


def reliability_bins(confidences: Sequence[float], right: Sequence[bool], bins: int = 5) -> list[Bin]:
    """Sort clips into ranges of equal width by confidence; empty ranges are left out.

    A range holds its upper end and not its lower one, but the first holds 0 as well. Raises ValueError for confidences outside
    [0, 1], unequal lengths, or fewer than one range.

    >>> for one in reliability_bins([0.2, 0.3, 0.9, 1.0], [False, True, True, True], bins=2):
    ...     print(one)
    Bin(low=0.0, high=0.5, clips=2, confidence=0.25, accuracy=0.5)
    Bin(low=0.5, high=1.0, clips=2, confidence=0.95, accuracy=1.0)
    """
    if len(confidences) != len(right):
        raise ValueError(f"{len(confidences)} confidences but {len(right)} verdicts: one for each clip is needed")
    outside = [confidence for confidence in confidences if not 0 <= confidence <= 1]
    if outside or bins < 1:
        raise ValueError(f"need confidences from 0 to 1 and one bin at least; got {outside[:3]} and {bins} bins")
    members: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for confidence, is_right in zip(confidences, right, strict=True):
        members[max(0, math.ceil(round(confidence * bins, 9)) - 1)].append((confidence, is_right))
    return [
        Bin(
            place / bins,
            (place + 1) / bins,
            len(clips),
            *(math.fsum(column) / len(clips) for column in zip(*clips, strict=True)),
        )
        for place, clips in sorted(members.items())
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error (Guo et al. 2017, eq. 3): |accuracy − confidence|, averaged over the clips.

    >>> calibration_error([Bin(0.0, 0.5, 1, 0.25, 1.0), Bin(0.5, 1.0, 3, 0.75, 0.5)])
    0.375
    """
    clips = sum(one.clips for one in bins)
    return math.fsum(one.clips * abs(one.accuracy - one.confidence) for one in bins) / clips


def keep_the_surest(confidences: Sequence[float], share: int | float) -> list[int]:
    """Indices of that share of the clips (rounded) of which the system is surest, in the order of the clips.

    >>> keep_the_surest([0.2, 0.9, 0.5, 0.7], 0.5)
    [1, 3]
    """
    order = sorted(range(len(confidences)), key=lambda index: -confidences[index])
    return sorted(order[: round(share * len(order))])


def plot_reliability(axes: Axes, bins: Sequence[Bin]) -> None:
    """Share of clips that are right over confidence; on the dashed line sureness is deserved. Numbers count clips."""
    axes.plot([0, 1], [0, 1], "--", color=INK, linewidth=1, label="as sure as right")
    for one in bins:
        width = one.high - one.low
        axes.bar(one.low, one.accuracy, width, align="edge", color=SOFT, edgecolor=INK)
        axes.text(one.low + width / 2, 0.02, str(one.clips), ha="center", fontsize=8)
    axes.plot([one.confidence for one in bins], [one.accuracy for one in bins], "o", color=INK, label="mean of the bin")
    axes.set(xlabel="confidence", ylabel="share of sentences right", xlim=(0, 1), ylim=(0, 1.1))
