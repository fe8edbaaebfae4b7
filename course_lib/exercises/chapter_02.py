"""Exercises of notebook 02: lengths, how far a row hears, attention, self-similarity, the score to beat, a LayerNorm."""

from collections import Counter
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.exercises.base import Exercise, Mistake
from course_lib.exercises.reading import Number, Numbers, OneOf


def conv_length(frames: int, width: int, stride: int, padding: int) -> int:
    """⌊(frames + 2·padding − width) / stride⌋ + 1."""
    return (frames + 2 * padding - width) // stride + 1


def conv_cases() -> list[tuple[int, int, int, int]]:
    """Odd and even lengths, widths and strides, with and without padding, and a window that fits exactly once."""
    named = ((101, 4, 3, 6), (500, 3, 1, 1), (501, 3, 2, 1), (97, 5, 3, 0), (3000, 3, 2, 1), (5, 5, 2, 0), (1, 3, 2, 1))
    rng = Random("02.1")
    drawn = [(rng.randrange(20, 400), rng.randrange(1, 9), rng.randrange(1, 6), rng.randrange(7)) for _ in range(8)]
    return [*named, *drawn]


Layers = list[tuple[int, int]]


def receptive_field(layers: Layers) -> int:
    """1 + Σ (width − 1) × product of the strides before."""
    reach, jump = 1, 1
    for width, stride in layers:
        reach += (width - 1) * jump
        jump *= stride
    return reach


def _late_reach(layers: Layers) -> int:
    reach, jump = 1, 1
    for width, stride in layers:
        jump *= stride
        reach += (width - 1) * jump
    return reach


def _last_stride_only(layers: Layers) -> int:
    reach, before = 1, 1
    for width, stride in layers:
        reach += (width - 1) * before
        before = stride
    return reach


def _product(layers: Layers) -> int:
    reach = 1
    for width, _ in layers:
        reach *= width
    return reach


def field_cases() -> list[tuple[Layers]]:
    """Whisper's stack, deeper ones, strides at the start, a layer of width 1, one layer, and none."""
    stacks: list[Layers] = [[(3, 1), (3, 2)], [(3, 2), (3, 2)], [(3, 2), (3, 2), (3, 2)], [(5, 1), (3, 3), (7, 2)]]
    return [(stack,) for stack in (*stacks, [(10, 5), (8, 4), (4, 2), (4, 2)], [(1, 2), (5, 1)], [(7, 4)], [])]


def attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(Q Kᵀ / √size) V for one head."""
    return _shares(queries, keys) @ values


def _shares(queries: Tensor, keys: Tensor, power: int | float = 0.5, dim: int = 1) -> Tensor:
    return torch.softmax(queries @ keys.T / queries.shape[1] ** power, dim)


def _swapped(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _shares(keys, queries) @ values


def attention_cases() -> list[tuple[Tensor, Tensor, Tensor]]:
    """As many queries as keys and fewer, values of another width, large scores, one of each."""
    rng = torch.Generator().manual_seed(2017)
    cases = []
    for queries, keys, size, width, scale in (
        (4, 4, 9, 9, 1),
        (6, 6, 16, 4, 1),
        (2, 5, 4, 7, 1),
        (3, 3, 8, 2, 9),
        (1, 1, 5, 3, 1),
    ):
        shapes = ((queries, size), (keys, size), (keys, width))
        cases.append(tuple(scale * torch.randn(shape, generator=rng) for shape in shapes))
    return cases


def similarity(features: Tensor) -> Tensor:
    """Cosine between every two rows, after the mean row is taken away."""
    return _cosines(features - features.mean(0))


def _cosines(rows: Tensor) -> Tensor:
    directions = F.normalize(rows, dim=1)
    return directions @ directions.T


def _by_columns(features: Tensor) -> Tensor:
    directions = F.normalize(features - features.mean(0), dim=0)
    return directions @ directions.T


def similarity_cases() -> list[tuple[Tensor]]:
    """Tall and wide blocks with an offset, rows of very different length, and two rows."""
    rng = torch.Generator().manual_seed(7)
    blocks = [torch.randn(rows, columns, generator=rng) * 3 + 5 for rows, columns in ((6, 5), (9, 4), (3, 8), (2, 3))]
    blocks[1][0] *= 20
    return [(block,) for block in blocks]


Labels = list[Any]


def score_to_beat(train_labels: Labels, test_labels: Labels) -> OneOf:
    """Share of test labels that equal the commonest training label; of several that are equally common, any."""
    return OneOf(tuple(_share(test_labels, label) for label in _commonest(train_labels)))


def _commonest(labels: Labels) -> list[Any]:
    counts = Counter(labels)
    return [label for label, count in counts.items() if count == max(counts.values())]


def _rarest(labels: Labels) -> Any:
    return min(Counter(labels).items(), key=lambda pair: pair[1])[0]


def _share(labels: Labels, label: Any) -> float:
    return sum(one == label for one in labels) / len(labels)


def score_cases() -> list[tuple[Labels, Labels]]:
    """Labels in which the commonest is neither the first, nor the last, nor the largest; numbers; a tie; an unseen label."""
    words = (("baacbaa", "abbbca"), ("øøøøå", "øåå"), ("zeiiiiiz", "zeeeiiu"), ("bbaabac", "ccab"), ("aab", "bb"), ("x", "x"))
    rng = Random("02.5")
    drawn = [([rng.choice("aeiouyæøå") for _ in range(60)], [rng.choice("aeiouyæøå") for _ in range(41)]) for _ in range(4)]
    return [*((list(train), list(test)) for train, test in words), ([3, 1, 1, 7], [7, 1, 3, 1]), *drawn]


def layer_norm(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Every row to mean 0 and mean square 1, then scaled and shifted."""
    return _norm(rows, 1) * scale + shift


def layer_norm_over_rows(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The broken one: it takes the mean over the rows, and so one moment depends on all others."""
    return _norm(rows, 0) * scale + shift


def _norm(rows: Tensor, dim: int, power: float = 0.5, correction: int = 0) -> Tensor:
    centred = rows - rows.mean(dim, keepdim=True)
    return centred / (rows.var(dim, correction=correction, keepdim=True) + 1e-5) ** power


def norm_cases() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Several sizes, rows of very different strength, and a row alone."""
    rng = torch.Generator().manual_seed(26)
    cases = []
    for rows, size in ((4, 6), (7, 3), (2, 12), (1, 5)):
        block = torch.randn(rows, size, generator=rng) * (1 + 4 * torch.rand(rows, 1, generator=rng)) + 2
        cases.append((block, torch.rand(size, generator=rng) + 0.5, torch.randn(size, generator=rng)))
    return cases


EXERCISES: dict[str, Exercise] = {
    "02.1": Exercise(
        title="how many rows come out",
        level=1,
        minutes=8,
        purpose="to know the length of everything that a convolution makes, before it runs",
        solve=conv_length,
        cases=conv_cases,
        reader=Number(whole=True),
        mistakes=(
            Mistake(
                lambda n, w, s, p: (n + 2 * p - w) // s, "Places are counted like fence posts: one more than there are steps."
            ),
            Mistake(lambda n, w, s, p: (n - w) // s + 1, "Did you forget that zeros are put at the ends?"),
            Mistake(lambda n, w, s, p: (n + p - w) // s + 1, "The padding is put at both ends."),
            Mistake(lambda n, w, s, p: n + 2 * p - w + 1, "The window moves by `stride`, not by one."),
            Mistake(lambda n, w, s, p: (n + 2 * p - w) / s + 1, "Half a place is no place: round down."),
            Mistake(
                lambda n, w, s, p: -(-(n + 2 * p - w) // s) + 1, "A window that hangs over the end does not count: round down."
            ),
            Mistake(lambda n, w, s, p: (n + 2 * p) // s, "The window's own width is taken off before you divide."),
            Mistake(
                lambda n, w, s, p: n // s, "That is right for a padding of half a width and lengths that the stride divides."
            ),
        ),
        hints=(
            "With zeros at both ends the row is frames + 2 × padding long. Where can the window's left edge stand?",
            "The left edge goes from 0 to frames + 2 × padding − width, in steps of `stride`.",
            "Count the places: the last one divided by the stride, rounded down, plus one for place 0.",
        ),
    ),
    "02.2": Exercise(
        title="how far a row hears",
        level=2,
        minutes=12,
        purpose="to tell how much sound a network can use at one moment",
        solve=receptive_field,
        cases=field_cases,
        reader=Number(whole=True),
        mistakes=(
            Mistake(lambda layers: 1 + sum(w - 1 for w, _ in layers), "A step of a later layer is several frames wide."),
            Mistake(_late_reach, "A layer's own stride does not widen its own reach, only that of the layers after it."),
            Mistake(
                lambda layers: sum(w for w, _ in layers), "Neighbouring windows overlap: each layer adds its width less one."
            ),
            Mistake(lambda layers: receptive_field(layers) - 1, "The frame in the middle counts too: begin with 1."),
            Mistake(_last_stride_only, "Strides multiply: two layers of stride 2 make steps of four frames."),
            Mistake(_product, "Widths do not multiply: neighbouring windows overlap."),
            Mistake(
                lambda layers: receptive_field(layers[::-1]), "The other way round: the first layer of the list is the lowest."
            ),
        ),
        hints=(
            "One row before any layer hears 1 frame. A layer of width 3 adds two neighbours: how far away are they, in frames?",
            "Keep two numbers: `reach` (starts at 1) and `jump`, the frames from one row to the next (starts at 1).",
            "For each layer: reach grows by (width − 1) × jump, and *then* jump is multiplied by the layer's stride.",
        ),
    ),
    "02.3": Exercise(
        title="attention for all rows at once",
        level=2,
        minutes=12,
        purpose="to have written the one formula that everything here is made of",
        solve=attention,
        cases=attention_cases,
        reader=Numbers(atol=1e-4),
        mistakes=(
            Mistake(lambda q, k, v: _shares(q, k, 0) @ v, "Did you forget to divide the scores by √size?"),
            Mistake(lambda q, k, v: _shares(q, k, 1) @ v, "You divide by the size, not by its root."),
            Mistake(
                lambda q, k, v: _shares(q, k, dim=0) @ v, "The shares of a *query* should add up to 1: softmax over the keys."
            ),
            Mistake(lambda q, k, v: q @ k.T / q.shape[1] ** 0.5 @ v, "The scores are used as they are. Where is the softmax?"),
            Mistake(_swapped, "Rows of the scores are queries, columns keys: yours are swapped."),
            Mistake(lambda q, k, v: _shares(q, k), "These are the shares. What do they take shares of?"),
            Mistake(
                lambda q, k, v: torch.softmax(q @ k.T / v.shape[1] ** 0.5, 1) @ v,
                "The root is of the size of queries and keys; the values may have another.",
            ),
            Mistake(
                lambda q, k, v: torch.softmax(q @ k.T / len(k) ** 0.5, 1) @ v,
                "The root is of the numbers in a row, not of how many rows there are.",
            ),
        ),
        otherwise="With one query and one key the answer is the value itself.",
        forbidden=("scaled_dot_product_attention", "multi_head_attention_forward", "MultiheadAttention"),
        hints=(
            "All scores at once: which product of `queries` and `keys` has a row for each query and a column for each key?",
            "The scores are divided by the square root of how many numbers a query has.",
            "Softmax over the keys makes each row shares that add up to 1; they are then multiplied with `values`.",
        ),
    ),
    "02.4": Exercise(
        title="who is like whom",
        level=2,
        minutes=10,
        purpose="to compare rows without comparing what all of them share",
        solve=similarity,
        cases=similarity_cases,
        reader=Numbers(atol=1e-4),
        mistakes=(
            Mistake(_cosines, "The mean row is still in there, so all rows look alike. Take it away first."),
            Mistake(
                lambda x: _cosines(x - x.mean(1, keepdim=True)), "You took away each row's own mean. Meant is the mean *row*."
            ),
            Mistake(lambda x: (x - x.mean(0)) @ (x - x.mean(0)).T, "These are dot products: long rows win."),
            Mistake(_by_columns, "You normalised the columns; each *row* should have length 1."),
            Mistake(
                lambda x: _cosines(F.normalize(x, dim=1) - F.normalize(x, dim=1).mean(0)),
                "You made the rows one long before the mean was taken away; the other way round.",
            ),
            Mistake(lambda x: _cosines(x - x.mean()), "You took away one number; each column has its own mean."),
            Mistake(lambda x: _cosines((x - x.mean(0)).T), "These are columns compared with columns."),
        ),
        otherwise="The diagonal is 1: each row is like itself.",
        hints=(
            "What all rows share says nothing about which rows are alike: the average row goes first.",
            "The cosine of two rows is their dot product once both have length 1.",
            "With directions of length 1 in the rows, one matrix product is every cosine at once.",
        ),
    ),
    "02.5": Exercise(
        title="the score to beat",
        level=1,
        minutes=6,
        purpose="to know what a probe that heard nothing would score",
        solve=score_to_beat,
        cases=score_cases,
        reader=Number(),
        mistakes=(
            Mistake(
                lambda train, test: OneOf(tuple(_share(test, label) for label in _commonest(test))),
                "You looked at the test labels to choose your answer: that is peeking.",
            ),
            Mistake(lambda train, test: _share(train, _commonest(train)[0]), "That is the score on the training labels."),
            Mistake(lambda train, test: 1 / len(set(train)), "One in so many classes is the score of a die."),
            Mistake(lambda train, test: _share(test, max(train)), "max() gives the largest label; the *commonest* is wanted."),
            Mistake(lambda train, test: _share(test, _rarest(train)), "That is the rarest label."),
            Mistake(lambda train, test: _share(test, train[0]), "That is the first label; the commonest is wanted."),
            Mistake(
                lambda train, test: OneOf(tuple(float(test.count(label)) for label in _commonest(train))),
                "That is how many are right. What share?",
            ),
            Mistake(
                lambda train, test: OneOf(tuple(1 - _share(test, label) for label in _commonest(train))),
                "That is the share that is wrong.",
            ),
        ),
        hints=(
            "Which label would you always say if you had only seen the training labels?",
            "Count how often that one label stands among the *test* labels, and divide by how many test labels there are.",
        ),
    ),
    "02.6": Exercise(
        title="repair: a norm that hears the neighbours",
        level=2,
        minutes=8,
        purpose="to find which way a mean goes, from what it does to a clip",
        solve=layer_norm,
        cases=norm_cases,
        reader=Numbers(atol=1e-3),
        broken=layer_norm_over_rows,
        symptom="A row changes when the clip goes on behind it, and a clip of one row is all zeros. Which mean is it?",
        mistakes=(
            Mistake(lambda x, a, b: _norm(x, 1), "The scale and the shift are gone."),
            Mistake(lambda x, a, b: _norm(x, 1, 1.0) * a + b, "Divide by the root of the variance."),
            Mistake(
                lambda x, a, b: _norm(x, 1, correction=1) * a + b,
                "Torch's var divides by n − 1 unless told otherwise; a LayerNorm divides by n: correction=0.",
            ),
            Mistake(
                lambda x, a, b: x / (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt() * a + b, "The mean is not taken away."
            ),
            Mistake(
                lambda x, a, b: (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt() * a + b,
                "One mean for the whole block: each row has its own.",
            ),
        ),
        otherwise="Every row by itself: mean 0, mean square 1, then scale and shift.",
        hints=(
            "rows is [time, features]. Over which of the two is dim=0?",
            "A moment must not depend on the other moments: mean and variance are over the features, with keepdim=True.",
        ),
    ),
}
