"""Exercises of chapter 09, training: a step of AdamW, gradients added up, gradients clipped, and when to stop."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from course_lib.exercises.base import Exercise, NotYet, attempt

State = tuple[float, float, float]
"""Weight, running mean of the gradients, running mean of their squares."""

GRADIENTS = ([0.5, -0.2, 0.9, 0.1], [3e-6, 2e-6, -1e-6, 4e-6], [-40.0, -60.0, 10.0, 0.0])

CURVES = (
    ([0.5, 0.5, 0.5, 0.5], 2, 0.0),
    ([0.5, 0.75, 0.25, 0.75, 0.75, 0.125], 2, 0.0),
    ([0.5, 0.375, 0.25, 0.125], 2, 0.125),
    ([0.5, 0.4375, 0.375, 0.3125, 0.25], 2, 0.09375),
    ([0.75, 0.5, 0.25], 2, 0.125),
    ([0.5, 0.25, 0.5, 0.375, 0.3125, 0.28125], 3, 0.0),
    ([0.5, 0.484375, 0.46875, 0.453125], 2, 0.25),
    ([0.25, 0.21875, 0.1875, 0.15625], 2, 0.0625),
)
"""WER after each validation, patience, min_delta; all exact in binary, so that < and ≤ can be told apart."""


def _diagnose(found: Any, wrong: dict[str, Any], same: Callable[[Any, Any], bool], otherwise: str) -> NotYet:
    """The mistake whose results are those that were found; `wrong` maps what to say to the results of that mistake."""
    return NotYet(next((say for say, results in wrong.items() if same(found, results)), otherwise))


def adamw(
    weight: float, gradient: float, mean: float, square: float, step: int, lr: float, decay: float, slip: str = ""
) -> State:
    """One step of AdamW on a number (Loshchilov & Hutter 2019, algorithm 2), or with a planted `slip`."""
    if slip == "l2":
        gradient = gradient + decay * weight
    mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
    slow, fast = (mean, square) if slip == "no correction" else (mean / (1 - 0.9**step), square / (1 - 0.999**step))
    root = fast if slip == "no root" else math.sqrt(fast + 1e-8) if slip == "inside" else math.sqrt(fast)
    move = lr * slow / (root + (0.0 if slip == "inside" else 1e-8))
    shrink = {"l2": 1.0, "no decay": 1.0, "without lr": 1 - decay}.get(slip, 1 - lr * decay)
    if slip == "after":
        return (weight - move) * shrink, mean, square
    return weight * shrink + (move if slip == "uphill" else -move), mean, square


def _walk(step_of: Callable[..., Any]) -> list[float]:
    """The weights that a rule walks through, for all rows of gradients."""
    weights = []
    for row in GRADIENTS:
        state: State = (2.0, 0.0, 0.0)
        for step, gradient in enumerate(row, start=1):
            state = step_of(state[0], gradient, state[1], state[2], step, 0.1, 0.3)
            weights.append(state[0])
    return weights


def _checked(answer: Callable[..., Any]) -> Callable[..., State]:
    def step_of(*given: int | float) -> State:
        found = attempt(answer, *given)
        try:
            weight, mean, square = (float(part) for part in found)
        except (TypeError, ValueError):
            raise NotYet(f"give back three numbers (weight, mean, square), not {found!r}.") from None
        return weight, mean, square

    return step_of


def _close(found: Sequence[float], expected: Sequence[float]) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9) for a, b in zip(found, expected, strict=True))


def examine_adamw(answer: Callable[..., State]) -> None:
    """09.1: shrink, remember, correct, divide."""
    found, expected = _walk(_checked(answer)), _walk(adamw)
    if _close(found, expected):
        return
    slips = {
        "l2": "the decay went into the gradient: that is L2 in Adam. The W of AdamW takes it off the weight itself.",
        "no correction": "the running means start at 0, too small: divide by 1 − β ** step before you use them.",
        "inside": "ε belongs outside the root. Inside, it is 10,000 times as strong when gradients are small.",
        "no root": "divide by the root of the mean square, so that the gradient's unit cancels.",
        "without lr": "the decay is multiplied by the learning rate too: weight * (1 − lr * weight_decay).",
        "no decay": "the weight is not decayed. Before the step, take lr * weight_decay of it away.",
        "after": "decay the old weight and then take the step; you decayed the step as well.",
        "uphill": "it walks uphill: the step is subtracted.",
    }
    wrong = {say: _walk(lambda *given, slip=slip: adamw(*given, slip=slip)) for slip, say in slips.items()}
    at = next(index for index in range(len(found)) if not _close([found[index]], [expected[index]]))
    off = f"gradient {at % 4 + 1} of {GRADIENTS[at // 4]} should bring the weight to {expected[at]:.6f}, not {found[at]:.6f}."
    raise _diagnose(found, wrong, _close, off)


def _same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(found, expected, strict=True))


def _tensor(found: Any, shape: torch.Size) -> Tensor:
    if not isinstance(found, Tensor) or found.shape != shape:
        raise NotYet(f"give back one tensor of shape {tuple(shape)}, not {getattr(found, 'shape', found)!r}.")
    return found.double()


def weigh(gradients: Sequence[Tensor], counts: Sequence[int], slip: str = "") -> Tensor:
    """Gradients of batch means → the gradient of the mean over all label tokens, or with a planted `slip`."""
    weights = [1 / n for n in counts] if slip == "inverse" else [1] * len(counts) if slip in ("mean", "sum") else list(counts)
    total = torch.stack([g * weight for g, weight in zip(gradients, weights, strict=True)]).sum(dim=0)
    divisor = {"sum": 1, "undivided": 1, "batches": len(counts)}.get(slip, sum(weights))
    return gradients[-1] if slip == "last" else total / divisor


def examine_accumulation(answer: Callable[[list[Tensor], list[int]], Tensor]) -> None:
    """09.2: weigh each batch's mean by its label tokens."""
    rng = torch.Generator().manual_seed(82)
    counted = ([8, 8, 8, 8], [97, 131, 60, 210], [5, 40])
    cases = [([torch.randn(3, generator=rng, dtype=torch.double) for _ in counts], counts) for counts in counted]
    found = [_tensor(attempt(answer, [g.clone() for g in case[0]], list(case[1])), case[0][0].shape) for case in cases]
    if _same(found, [weigh(*case) for case in cases]):
        return
    slips = {
        "mean": "that is the plain mean. It is right only if all batches hold equally many label tokens: weigh them.",
        "sum": "that is the sum of the gradients. Four batches would take a step four times as long.",
        "undivided": "they are weighted; now divide by all label tokens together.",
        "batches": "divide by the number of tokens, not by the number of batches.",
        "inverse": "a batch with more label tokens counts more; you divided by its tokens.",
        "last": "that is the last batch alone. Did zero_grad come too early?",
    }
    wrong = {say: [weigh(*case, slip=slip) for case in cases] for slip, say in slips.items()}
    raise _diagnose(found, wrong, _same, "that is not Σ gradient · tokens / Σ tokens, the mean over all label tokens.")


def clip_together(gradients: Sequence[Tensor], max_norm: float, slip: str = "") -> list[Tensor]:
    """All gradients times one factor, so that they are together at most `max_norm` long, or with a planted `slip`."""
    if slip == "each":
        return [clip_together([g], max_norm)[0] for g in gradients]
    if slip == "clamp":
        return [g.clamp(-max_norm, max_norm) for g in gradients]
    squared = sum(float(g.square().sum()) for g in gradients)
    norm = {"squared": squared, "added": sum(float(g.norm()) for g in gradients)}.get(slip, math.sqrt(squared))
    factor = 1.0 if slip == "nothing" else max_norm / norm if slip == "up" else min(1.0, max_norm / norm)
    return [g * factor for g in gradients]


def examine_clipping(answer: Callable[[list[Tensor], float], list[Tensor]]) -> None:
    """09.3: one norm for all, one factor, and only downwards."""
    rng = torch.Generator().manual_seed(83)
    shapes = ((4, 3), (5,), (2, 2))
    cases = [[scale * torch.randn(shape, generator=rng, dtype=torch.double) for shape in shapes] for scale in (3, 0.02, 0.25)]
    found = [part for case in cases for part in _tensors(attempt(answer, [g.clone() for g in case], 1.0), case)]
    if _same(found, [part for case in cases for part in clip_together(case, 1.0)]):
        return
    slips = {
        "each": "each tensor was clipped by itself. That bends the direction; take one norm of all of them together.",
        "clamp": "every number was clamped. That bends the direction; multiply all by one factor.",
        "up": "gradients shorter than the limit were stretched to it; leave those alone.",
        "added": "norms do not add up: take the root of the sum of squares.",
        "squared": "that is the squared length; take the root of it.",
        "nothing": "nothing was clipped.",
    }
    wrong = {say: [part for case in cases for part in clip_together(case, 1.0, slip)] for slip, say in slips.items()}
    raise _diagnose(found, wrong, _same, "this differs from torch's. The factor is max_norm / norm, if that is below 1.")


def _tensors(found: Any, like: list[Tensor]) -> list[Tensor]:
    parts = list(found) if isinstance(found, list | tuple) else []
    if len(parts) != len(like):
        raise NotYet(f"give back a list of {len(like)} tensors, one for each that came in.")
    return [_tensor(part, g.shape) for part, g in zip(parts, like, strict=True)]


def stops_after(wers: Sequence[float], patience: int, min_delta: float, slip: str = "") -> int:
    """How many validations a training sees before its patience is used up, or with a planted `slip`."""
    best = math.inf
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


def examine_stopping(answer: Callable[[list[float], int, float], int]) -> None:
    """09.4: patience, min_delta and the best so far."""
    found = [attempt(answer, list(wers), patience, delta) for wers, patience, delta in CURVES]
    expected = [stops_after(*curve) for curve in CURVES]
    if found == expected:
        return
    slips = {
        "not strict": "a gain of exactly min_delta is not more than min_delta: use <.",
        "relative": "min_delta is in units of WER, a difference, and no share of the best.",
        "no delta": "any gain resets your patience; it must be more than min_delta.",
        "neighbour": "compare with the best so far, not with the validation before.",
        "no reset": "a gain sets the count of stale validations back to 0.",
        "one more": "it stops when the count reaches patience; yours waits for one more.",
        "index": "count validations from 1: after the first one, one was seen.",
        "sticky": "a gain below min_delta does not reset the count, but it is the new best, and the new mark to beat.",
    }
    at = next(index for index in range(len(found)) if found[index] != expected[index])
    wers, patience, delta = CURVES[at]
    start = f"WER {wers}, patience {patience}, min_delta {delta}: gave {found[at]}, expected {expected[at]}. "
    wrong = {start + say: [stops_after(*curve, slip=slip) for curve in CURVES] for slip, say in slips.items()}
    otherwise = start + "Keep two numbers: the best so far, and how many validations in a row brought no gain."
    raise _diagnose(found, wrong, operator.eq, otherwise)


EXERCISES = {
    "09.1": Exercise(
        examine_adamw,
        (
            "Five lines: two running means, their two corrections, and the new weight.",
            "mean = 0.9 * mean + 0.1 * gradient, and the same with 0.999 and the gradient's square.",
            "Divide the means by 1 − 0.9 ** step and 1 − 0.999 ** step, for the step only: keep the uncorrected ones.",
            "weight * (1 - lr * weight_decay) - lr * corrected_mean / (corrected_square ** 0.5 + 1e-8)",
        ),
    ),
    "09.2": Exercise(
        examine_accumulation,
        (
            "A batch's gradient is a mean over its label tokens. What was the sum?",
            "gradient * tokens is that sum; the sums of all batches add up.",
            "Divide by sum(label_tokens) at the end.",
        ),
    ),
    "09.3": Exercise(
        examine_clipping,
        (
            "Imagine all gradients in one long list of numbers: how long is that vector?",
            "norm = sum((g ** 2).sum() for g in gradients) ** 0.5",
            "factor = min(1, max_norm / norm), the same for every tensor.",
        ),
    ),
    "09.4": Exercise(
        examine_stopping,
        (
            "Two numbers are enough: best = infinity and stale = 0.",
            "if wer < best - min_delta: stale = 0, else stale = stale + 1; afterwards best = min(best, wer).",
            "When stale == patience, return how many validations there have been; after the loop, return len(wers).",
        ),
    ),
}
