"""Chapter 02, Whisper's features: lengths, how far a row hears, attention, self-similarity, and the score to beat."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.exercises.base import Exercise, NotYet, attempt

Diagnosis = tuple[Any, str]
"""What a common mistake would give, and what to say to it."""


def examine_conv_length(answer: Any) -> None:
    """⌊(n + 2·padding − width) / stride⌋ + 1."""
    for frames, width, stride, padding in ((101, 4, 3, 6), (500, 3, 1, 1), (501, 3, 2, 1), (97, 5, 3, 0)):
        places = frames + 2 * padding - width
        diagnoses = [
            (places // stride, "Places are counted like fence posts: one more than there are steps."),
            ((frames - width) // stride + 1, "Did you forget that zeros are put at the ends?"),
            ((frames + padding - width) // stride + 1, "The padding is put at both ends."),
            (places + 1, "The window moves by `stride`, not by one."),
            (places / stride + 1, "Half a place is no place: round down."),
        ]
        found = attempt(answer, frames, width, stride, padding)
        told = f"{frames} frames, width {width}, stride {stride}, padding {padding}: you say {found!r}"
        _expect(found, places // stride + 1, told, diagnoses)


def examine_receptive_field(answer: Any) -> None:
    """1 + Σ (width − 1) × product of the strides before."""
    for layers in ([(3, 1), (3, 2)], [(3, 2), (3, 2)], [(3, 2), (3, 2), (3, 2)], [(5, 1), (3, 3), (7, 2)]):
        reach = late = plain = 1
        jump = 1
        for width, stride in layers:
            reach += (width - 1) * jump
            jump *= stride
            late += (width - 1) * jump
            plain += width - 1
        diagnoses = [
            (plain, "A step of a later layer is several frames wide: what do the strides before it multiply?"),
            (late, "A layer's own stride does not widen its own reach, only that of the layers after it."),
            (sum(width for width, _ in layers), "Neighbouring windows overlap: each layer adds its width less one."),
            (reach - 1, "The frame in the middle counts too: begin with 1."),
        ]
        found = attempt(answer, layers)
        _expect(found, reach, f"layers (width, stride) {layers}: you say {found!r}", diagnoses)


def examine_attention(answer: Any) -> None:
    """softmax(Q Kᵀ / √size) V for one head."""
    rng = torch.Generator().manual_seed(2017)
    for count, size in ((4, 9), (6, 16)):
        queries, keys, values = (torch.randn(count, size, generator=rng) for _ in range(3))
        scores = queries @ keys.T
        root = size**0.5
        diagnoses = [
            (torch.softmax(scores, 1) @ values, "Did you forget to divide the scores by √size?"),
            (torch.softmax(scores / size, 1) @ values, "You divide by the size, not by its root."),
            (
                torch.softmax(scores / root, 0) @ values,
                "The shares of a *query* should add up to 1: softmax over the keys, dim=1.",
            ),
            (scores / root @ values, "The scores are used as they are. Where is the softmax?"),
            (torch.softmax(scores.T / root, 1) @ values, "Rows of the scores are queries, columns keys: yours are swapped."),
            (torch.softmax(scores / root, 1), "These are the shares. What do they take shares of?"),
        ]
        found = attempt(answer, queries, keys, values)
        expected = torch.softmax(scores / root, 1) @ values
        _expect(found, expected, f"{count} positions of size {size}", diagnoses)


def examine_self_similarity(answer: Any) -> None:
    """Cosine between every two rows, after the mean row is taken away."""
    rng = torch.Generator().manual_seed(7)
    for rows, columns in ((6, 5), (9, 4)):
        features = torch.randn(rows, columns, generator=rng) * 3 + 5
        centred = features - features.mean(0)
        by_row = features - features.mean(1, keepdim=True)
        diagnoses = [
            (_cosines(features), "The mean row is still in there, so all rows look alike. Take it away first."),
            (_cosines(by_row), "You took away each row's own mean. Meant is the mean *row*: features.mean(dim=0)."),
            (centred @ centred.T, "These are dot products: long rows win. Bring every row to length 1."),
            (
                F.normalize(centred, dim=0) @ F.normalize(centred, dim=0).T,
                "You normalised the columns; each *row* should have length 1.",
            ),
        ]
        _expect(attempt(answer, features), _cosines(centred), f"{rows} rows of {columns} numbers", diagnoses)


def examine_score_to_beat(answer: Any) -> None:
    """Share of test labels that equal the commonest training label."""
    for train, test in (("aaabbc", "abbbc"), ("øøøøå", "øåå"), ("eiiiii", "eeeiiu")):
        expected = _share(test, _commonest(train))
        diagnoses = [
            (_share(test, _commonest(test)), "You looked at the test labels to choose your answer: that is peeking."),
            (
                _share(train, _commonest(train)),
                "That is the score on the training labels. How does the same answer do on the test?",
            ),
            (
                1 / len(set(train)),
                "One in so many classes is the score of a die. Always saying the commonest does better or worse.",
            ),
        ]
        found = attempt(answer, list(train), list(test))
        _expect(found, expected, f"train {list(train)}, test {list(test)}: you say {found!r}", diagnoses)


def _expect(found: Any, expected: Any, told: str, diagnoses: Sequence[Diagnosis]) -> None:
    """Pass, or raise NotYet with the first mistake that gives exactly what was found."""
    if _same(found, expected):
        return
    reason = next((text for value, text in diagnoses if _same(found, value)), None)
    if reason is None and isinstance(expected, Tensor) and isinstance(found, Tensor) and found.shape != expected.shape:
        reason = f"Your shape is {tuple(found.shape)}, expected {tuple(expected.shape)}."
    if reason is None:
        shown = "other numbers" if isinstance(expected, Tensor) else f"{expected:g}"
        reason = f"Expected {shown}. Try the smallest case by hand."
    raise NotYet(f"{told}. {reason}")


def _same(found: Any, expected: Any) -> bool:
    """Equal up to rounding; of another kind or shape is not equal."""
    if isinstance(expected, Tensor):
        alike = isinstance(found, Tensor) and found.shape == expected.shape
        return alike and torch.allclose(found.detach().to(expected.dtype), expected, atol=1e-4)
    try:
        return abs(float(found) - expected) < 1e-6
    except (TypeError, ValueError, RuntimeError):
        return False


def _cosines(rows: Tensor) -> Tensor:
    directions = F.normalize(rows, dim=1)
    return directions @ directions.T


def _commonest(labels: Sequence[str]) -> str:
    return Counter(labels).most_common(1)[0][0]


def _share(labels: Sequence[str], label: str) -> float:
    return sum(one == label for one in labels) / len(labels)


EXERCISES = {
    "02.1": Exercise(
        examine_conv_length,
        (
            "With zeros at both ends the row is frames + 2 × padding long. Where can the window's left edge stand?",
            "The left edge goes from 0 to frames + 2 × padding − width, in steps of `stride`.",
            "Count the places: the last one divided by the stride, rounded down, plus one for place 0.",
        ),
    ),
    "02.2": Exercise(
        examine_receptive_field,
        (
            "One row before any layer hears 1 frame. A layer of width 3 adds two neighbours: how far away are they, in frames?",
            "Keep two numbers: `reach` (starts at 1) and `jump`, the frames from one row to the next (starts at 1).",
            "For each layer: reach grows by (width − 1) × jump, and *then* jump is multiplied by the layer's stride.",
        ),
    ),
    "02.3": Exercise(
        examine_attention,
        (
            "All scores at once: which product of `queries` and `keys` has a row for each query and a column for each key?",
            "queries @ keys.T, divided by the square root of queries.shape[1].",
            "Softmax over dim=1 makes each row shares that add up to 1; multiply them with `values`.",
        ),
    ),
    "02.4": Exercise(
        examine_self_similarity,
        (
            "What all rows share says nothing about which rows are alike. Subtract features.mean(dim=0).",
            "The cosine of two rows is their dot product once both have length 1: F.normalize(…, dim=1).",
            "With `directions` of length 1 in the rows, directions @ directions.T is every cosine at once.",
        ),
    ),
    "02.5": Exercise(
        examine_score_to_beat,
        (
            "Which label would you always say if you had only seen the training labels? max(…, key=train.count) finds it.",
            "Count how often that one label stands among the *test* labels, and divide by how many test labels there are.",
        ),
    ),
}
