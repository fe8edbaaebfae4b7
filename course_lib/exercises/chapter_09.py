"""Exercises of chapter 09, training: a step of AdamW, gradients added up and clipped, when to stop, a learning rate."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from course_lib.exercises.base import Exercise, Mistake
from course_lib.exercises.reading import ListOf, Number, Numbers, Parts

State = tuple[float, float, float]
"""Weight, running mean of the gradients, running mean of their squares."""

GRADIENTS = ([0.5, -0.2, 0.9, 0.1], [3e-6, 2e-6, -1e-6, 4e-6], [-40.0, -60.0, 10.0, 0.0])


def adamw(weight: float, gradient: float, mean: float, square: float, step: int, lr: float, weight_decay: float) -> State:
    """One step of AdamW on a number (Loshchilov & Hutter 2019, algorithm 2)."""
    return _adamw(weight, gradient, mean, square, step, lr, weight_decay)


def _adamw(
    weight: float, gradient: float, mean: float, square: float, step: int, lr: float, decay: float, slip: str = ""
) -> State:
    """The step, or one with a planted `slip`."""
    if slip == "l2":
        gradient = gradient + decay * weight
    mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
    corrections = (1 - 0.9**step, 1 - 0.999**step)
    slow, fast = (mean, square) if slip == "no correction" else (mean / corrections[0], square / corrections[1])
    root = fast if slip == "no root" else math.sqrt(fast + 1e-8) if slip == "inside" else math.sqrt(fast)
    move = lr * slow / (root + (0.0 if slip == "inside" else 1e-8))
    shrink = {"l2": 1.0, "no decay": 1.0, "without lr": 1 - decay}.get(slip, 1 - lr * decay)
    kept = (slow, fast) if slip == "keeps corrected" else (mean, square)
    if slip == "after":
        return (weight - move) * shrink, *kept
    return weight * shrink + (move if slip == "uphill" else -move), *kept


def _slip(name: str):
    return lambda *given: _adamw(*given, slip=name)


def _with_rate(weight: float, gradient: float, mean: float, square: float, step: int, lr: float, decay: float) -> State:
    return _adamw(weight, gradient, mean, square, step, 0.1, decay)


def _with_decay(weight: float, gradient: float, mean: float, square: float, step: int, lr: float, decay: float) -> State:
    return _adamw(weight, gradient, mean, square, step, lr, 0.3)


def adamw_cases() -> list[tuple[float, float, float, float, int, float, float]]:
    """Walks through small and large gradients, with three pairs of rate and decay, and a step late in a training."""
    cases = []
    for lr, decay in ((0.1, 0.3), (0.02, 0.0), (0.5, 0.05)):
        for row in GRADIENTS:
            weight, mean, square = 2.0, 0.0, 0.0
            for step, gradient in enumerate(row, start=1):
                cases.append((weight, gradient, mean, square, step, lr, decay))
                weight, mean, square = adamw(*cases[-1])
    return [*cases, (-1.5, 0.3, 0.2, 0.04, 5000, 0.01, 0.1), (0.0, 0.0, 0.0, 0.0, 1, 0.1, 0.1)]


def accumulate(gradients: Sequence[Tensor], label_tokens: Sequence[int]) -> Tensor:
    """Gradients of batch means → the gradient of the mean over all label tokens."""
    return _weighed(gradients, label_tokens) / sum(label_tokens)


def _weighed(gradients: Sequence[Tensor], weights: Sequence[int | float]) -> Tensor:
    return torch.stack([g * weight for g, weight in zip(gradients, weights, strict=True)]).sum(dim=0)


def _inverse(gradients: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    weights = [1 / n for n in counts]
    return _weighed(gradients, weights) / sum(weights)


def accumulation_cases() -> list[tuple[list[Tensor], list[int]]]:
    """Equal and unequal counts, one batch, many, and gradients of one, two and three dimensions."""
    rng = torch.Generator().manual_seed(82)
    counted = (([97, 131, 60, 210], (3,)), ([8, 8, 8, 8], (3,)), ([5, 40], (2, 3)), ([7], (4,)), ([1, 2, 3, 4, 90], (2, 2, 2)))
    return [([torch.randn(shape, generator=rng, dtype=torch.double) for _ in counts], counts) for counts, shape in counted]


def clip(gradients: Sequence[Tensor], max_norm: float) -> list[Tensor]:
    """All gradients times one factor, so that they are together at most `max_norm` long."""
    return _clipped(gradients, max_norm)


def _length(gradients: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float(g.square().sum()) for g in gradients))


def _clipped(gradients: Sequence[Tensor], max_norm: float, slip: str = "") -> list[Tensor]:
    """Clipped, or with a planted `slip`."""
    norm = _length(gradients)
    norm = {"squared": norm**2, "added": sum(float(g.norm()) for g in gradients)}.get(slip, norm)
    if slip == "largest":
        norm = max(float(g.abs().max()) for g in gradients)
    if norm == 0:
        return list(gradients)
    factor = max_norm / norm if slip == "up" else min(1.0, max_norm / norm)
    return [g * factor for g in gradients]


def clipping_cases() -> list[tuple[list[Tensor], float]]:
    """Longer and shorter than limits of 1, 0.5 and 20; one tensor; all zeros, which are as long as they can be."""
    rng = torch.Generator().manual_seed(83)
    cases = []
    for scale, limit in ((3, 1.0), (0.02, 1.0), (0.25, 0.5), (3, 20.0), (50, 20.0)):
        cases.append(
            ([scale * torch.randn(shape, generator=rng, dtype=torch.double) for shape in ((4, 3), (5,), (2, 2))], limit)
        )
    alone = [torch.tensor([3.0, 4.0], dtype=torch.double)]
    return [
        *cases,
        (alone, 2.5),
        (alone, 5.0),
        ([torch.zeros(3, dtype=torch.double), torch.zeros(2, 2, dtype=torch.double)], 1.0),
    ]


CURVES = (
    ([0.5, 0.5, 0.5, 0.5], 2, 0.0),
    ([0.5, 0.75, 0.25, 0.75, 0.75, 0.125], 2, 0.0),
    ([0.5, 0.375, 0.25, 0.125], 2, 0.125),
    ([0.5, 0.4375, 0.375, 0.3125, 0.25], 2, 0.09375),
    ([0.75, 0.5, 0.25], 2, 0.125),
    ([0.5, 0.25, 0.5, 0.375, 0.3125, 0.28125], 3, 0.0),
    ([0.5, 0.484375, 0.46875, 0.453125], 2, 0.25),
    ([0.25, 0.21875, 0.1875, 0.15625], 2, 0.0625),
    ([3.0, 2.0, 1.5, 1.25, 0.5], 2, 0.0),
    ([1.5, 1.5, 1.25, 1.25, 1.0], 1, 0.0),
    ([0.5, 0.25, 0.375, 0.125], 1, 0.0),
    ([4.0, 2.0, 1.0], 1, 0.0),
    ([0.5], 1, 0.0),
    ([], 2, 0.0),
    ([0.5, 0.625, 0.5625, 0.25], 2, 0.0),
)
"""WER after each validation, patience, min_delta; all exact in binary, so that < and ≤ can be told apart."""


def stops_after(wers: Sequence[float], patience: int, min_delta: float) -> int:
    """How many validations a training sees before its patience is used up."""
    return _stops(wers, patience, min_delta)


def _stops(wers: Sequence[float], patience: int, min_delta: float, slip: str = "") -> int:
    """The count, or with a planted `slip`."""
    best = 1.0 if slip == "from one" else math.inf
    stale = 0
    before = math.inf
    for number, wer in enumerate(wers, start=1):
        floors = {"relative": best * (1 - min_delta), "no delta": best, "neighbour": before - min_delta}
        floor = floors.get(slip, best - min_delta)
        gain = wer <= floor if slip == "not strict" else wer < floor
        stale = stale if gain and slip == "no reset" else 0 if gain else stale + 1
        if stale >= patience + (slip == "one more"):
            return number - (slip == "index")
        best = best if slip == "sticky" and not gain else min(best, wer)
        before = wer
    return len(wers) - (slip == "index")


def _stop_slip(name: str):
    return lambda wers, patience, min_delta: _stops(wers, patience, min_delta, name)


def rate_at(step: int, total: int, warmup: int, peak: float) -> float:
    """Straight up to the peak in `warmup` steps, straight down to 0 in the rest."""
    if step < warmup:
        return peak * step / warmup
    return peak * (total - step) / (total - warmup)


def rate_with_a_jump(step: int, total: int, warmup: int, peak: float) -> float:
    """The broken one: the way down begins at step 0, so the rate falls when the warm-up is over."""
    if step < warmup:
        return peak * step / warmup
    return peak * (total - step) / total


def rate_cases() -> list[tuple[int, int, int, float]]:
    """The start, the warm-up, its last step, the peak, the way down and the end, of two schedules; one without warm-up."""
    long = [(step, 1000, 100, 0.002) for step in (0, 1, 50, 99, 100, 101, 550, 999, 1000)]
    return [*long, *((step, 40, 10, 1.0) for step in (0, 5, 9, 10, 25, 40)), *((step, 8, 0, 0.5) for step in (0, 4, 8))]


EXERCISES: dict[str, Exercise] = {
    "09.1": Exercise(
        title="one step, one weight",
        level=2,
        minutes=15,
        purpose="to have written the optimiser that nearly everybody uses",
        solve=adamw,
        cases=adamw_cases,
        reader=Parts(
            Number(rtol=1e-6, atol=1e-12),
            *(Number(rtol=1e-6, atol=1e-15),) * 2,
            wanted="three numbers, (weight, mean, square)",
        ),
        mistakes=(
            Mistake(_slip("l2"), "The decay went into the gradient: that is L2 in Adam. AdamW takes it off the weight itself."),
            Mistake(
                _slip("no correction"), "The running means start at 0, too small: divide by 1 − β ** step before you use them."
            ),
            Mistake(
                _slip("keeps corrected"), "Give back the uncorrected means: these would be corrected again at the next step."
            ),
            Mistake(
                _slip("inside"), "ε belongs outside the root. Inside, it is 10,000 times as strong when gradients are small."
            ),
            Mistake(_slip("no root"), "Divide by the root of the mean square, so that the gradient's unit cancels."),
            Mistake(_slip("without lr"), "The decay is multiplied by the learning rate too."),
            Mistake(_slip("no decay"), "The weight is not decayed."),
            Mistake(_slip("after"), "Decay the old weight and then take the step; you decayed the step as well."),
            Mistake(_slip("uphill"), "It walks uphill: the step is subtracted."),
            Mistake(_with_rate, "The rate is `lr`, which is not always 0.1."),
            Mistake(_with_decay, "The decay is `weight_decay`, which is not always 0.3."),
        ),
        otherwise="Two running means, their corrections, the decay, the step: print each and compare with a pencil.",
        hints=(
            "Five lines: two running means, their two corrections, and the new weight.",
            "mean = 0.9 * mean + 0.1 * gradient, and the same with 0.999 and the gradient's square.",
            "Divide the means by 1 − 0.9 ** step and 1 − 0.999 ** step, for the step only: keep the uncorrected ones.",
            "The weight loses lr · weight_decay of itself, and lr · corrected mean / (root of the corrected square + 1e-8).",
        ),
    ),
    "09.2": Exercise(
        title="make them equal",
        level=2,
        minutes=10,
        purpose="to add up batches without favouring short sentences",
        solve=accumulate,
        cases=accumulation_cases,
        reader=Numbers(),
        mistakes=(
            Mistake(lambda g, n: sum(g) / len(g), "That is the plain mean. It is right only for equally many label tokens."),
            Mistake(
                lambda g, n: sum(g), "That is the sum of the gradients. Four batches would take a step four times as long."
            ),
            Mistake(_weighed, "They are weighted; now divide by all label tokens together."),
            Mistake(lambda g, n: _weighed(g, n) / len(n), "Divide by the number of tokens, not by the number of batches."),
            Mistake(_inverse, "A batch with more label tokens counts more; you divided by its tokens."),
            Mistake(lambda g, n: g[-1], "That is the last batch alone. Did zero_grad come too early?"),
            Mistake(lambda g, n: g[0], "That is the first batch alone."),
            Mistake(lambda g, n: accumulate(g, n).mean(), "That is one number; the result has the shape of each gradient."),
        ),
        otherwise="Σ gradient · tokens / Σ tokens.",
        hints=(
            "A batch's gradient is a mean over its label tokens. What was the sum?",
            "gradient * tokens is that sum; the sums of all batches add up.",
            "And the mean over all of them is that, divided by how many there are.",
        ),
    ),
    "09.3": Exercise(
        title="clip",
        level=2,
        minutes=10,
        purpose="to hold one wild batch back without changing where it points",
        solve=clip,
        cases=clipping_cases,
        reader=ListOf(Numbers(), wanted="a list of tensors, one for each that came in"),
        mistakes=(
            Mistake(
                lambda g, m: [_clipped([one], m)[0] for one in g],
                "Each tensor was clipped by itself. That bends the direction; take one norm of all of them together.",
            ),
            Mistake(
                lambda g, m: [one.clamp(-m, m) for one in g],
                "Every number was clamped. That bends the direction; multiply all by one factor.",
            ),
            Mistake(
                lambda g, m: _clipped(g, m, "up"), "Gradients shorter than the limit were stretched to it; leave those alone."
            ),
            Mistake(lambda g, m: _clipped(g, m, "added"), "Norms do not add up: take the root of the sum of squares."),
            Mistake(lambda g, m: _clipped(g, m, "squared"), "That is the squared length; take the root of it."),
            Mistake(lambda g, m: _clipped(g, m, "largest"), "That is the largest number; the length is meant."),
            Mistake(lambda g, m: list(g), "Nothing was clipped."),
            Mistake(lambda g, m: _clipped(g, 1.0), "The limit is `max_norm`, which is not always 1."),
            Mistake(
                lambda g, m: [one * min(1.0, m / _length(g)) if _length(g) else one * math.nan for one in g],
                "Zeros are 0 long, and 0 / 0 is NaN: they stay as they are.",
            ),
            Mistake(
                lambda g, m: [one * (m / _length(g) if _length(g) > m else 0.0) for one in g],
                "Short gradients are multiplied by 0; leave those alone.",
            ),
        ),
        otherwise="The factor is max_norm / norm, if that is below 1.",
        forbidden=("clip_grad_norm_", "clip_grad_norm", "clip_grads_with_norm_"),
        hints=(
            "Imagine all gradients in one long list of numbers: how long is that vector?",
            "The root of the sum of all squares, over all tensors.",
            "One factor for every tensor: max_norm / norm, but never more than 1, and 1 for zeros.",
        ),
    ),
    "09.4": Exercise(
        title="patience",
        level=2,
        minutes=12,
        purpose="to stop neither too early nor never",
        solve=stops_after,
        cases=lambda: [(list(wers), patience, delta) for wers, patience, delta in CURVES],
        reader=Number(whole=True),
        mistakes=(
            Mistake(_stop_slip("not strict"), "A gain of exactly min_delta is not more than min_delta: use <."),
            Mistake(_stop_slip("relative"), "min_delta is in units of WER, a difference, and no share of the best."),
            Mistake(_stop_slip("no delta"), "Any gain resets your patience; it must be more than min_delta."),
            Mistake(_stop_slip("neighbour"), "Compare with the best so far, not with the validation before."),
            Mistake(_stop_slip("no reset"), "A gain sets the count of stale validations back to 0."),
            Mistake(_stop_slip("one more"), "It stops when the count reaches patience; yours waits for one more."),
            Mistake(_stop_slip("index"), "Count validations from 1: after the first one, one was seen."),
            Mistake(_stop_slip("sticky"), "A gain below min_delta does not reset the count, but it is the new mark to beat."),
            Mistake(
                _stop_slip("from one"),
                "A WER can pass 1, so the first validation is always the best so far: begin with infinity.",
            ),
            Mistake(lambda w, p, d: _stops(w, 2, d), "The patience is not always 2."),
            Mistake(lambda w, p, d: len(w), "It never stops early."),
        ),
        otherwise="Keep two numbers: the best so far, and how many validations in a row brought no gain.",
        hints=(
            "Two numbers are enough: best = infinity and stale = 0.",
            "if wer < best - min_delta: stale = 0, else stale = stale + 1; afterwards best = min(best, wer).",
            "When stale == patience, return how many validations there have been; after the loop, return len(wers).",
        ),
    ),
    "09.5": Exercise(
        title="repair: a rate that jumps",
        level=1,
        minutes=8,
        purpose="to look at the schedule when a curve has a kink",
        solve=rate_at,
        cases=rate_cases,
        reader=Number(atol=1e-9),
        broken=rate_with_a_jump,
        symptom="After the warm-up the rate falls at once, and the peak is never reached. Where does the way down begin?",
        mistakes=(
            Mistake(
                lambda s, t, w, p: p * s / w if s < w else p * (t - (s - w)) / t,
                "Now it begins at the peak, but never comes down to 0: how many steps are left for the way down?",
            ),
            Mistake(lambda s, t, w, p: p * s / w if s < w else p, "It stays at the peak; it should go down to 0 at `total`."),
            Mistake(lambda s, t, w, p: p * s / w if s < w else p * (t - s) / (t - w) / 2, "Half as high as the peak."),
            Mistake(lambda s, t, w, p: p * (t - s) / t, "The warm-up is gone."),
        ),
        otherwise="At `warmup` it is the peak, at `total` 0, and straight between.",
        hints=(
            "What does each of the two branches give at step == warmup? They should meet.",
            "The way down takes total − warmup steps, and total − step of them are left.",
        ),
    ),
}
