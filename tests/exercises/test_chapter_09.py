"""Each exercise of chapter 09: the solution passes, the stub is not attempted, each planted mistake hears its own reason."""

import math

import pytest
import torch


def adamw_right(weight, gradient, mean, square, step, lr, weight_decay):
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient**2
    move = (mean / (1 - 0.9**step)) / ((square / (1 - 0.999**step)) ** 0.5 + 1e-8)
    return weight * (1 - lr * weight_decay) - lr * move, mean, square


def adamw_l2(weight, gradient, mean, square, step, lr, weight_decay):
    return adamw_right(weight, gradient + weight_decay * weight, mean, square, step, lr, 0.0)


def adamw_uncorrected(weight, gradient, mean, square, step, lr, weight_decay):
    mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
    return weight * (1 - lr * weight_decay) - lr * mean / (square**0.5 + 1e-8), mean, square


def adamw_epsilon_inside(weight, gradient, mean, square, step, lr, weight_decay):
    mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
    move = (mean / (1 - 0.9**step)) / (square / (1 - 0.999**step) + 1e-8) ** 0.5
    return weight * (1 - lr * weight_decay) - lr * move, mean, square


def adamw_without_root(weight, gradient, mean, square, step, lr, weight_decay):
    mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
    move = (mean / (1 - 0.9**step)) / (square / (1 - 0.999**step) + 1e-8)
    return weight * (1 - lr * weight_decay) - lr * move, mean, square


def adamw_decay_without_rate(weight, gradient, mean, square, step, lr, weight_decay):
    moved, mean, square = adamw_right(weight, gradient, mean, square, step, lr, 0.0)
    return moved - weight_decay * weight, mean, square


def adamw_decay_after(weight, gradient, mean, square, step, lr, weight_decay):
    moved, mean, square = adamw_right(weight, gradient, mean, square, step, lr, 0.0)
    return moved * (1 - lr * weight_decay), mean, square


def adamw_uphill(weight, gradient, mean, square, step, lr, weight_decay):
    moved, mean, square = adamw_right(weight, gradient, mean, square, step, lr, weight_decay)
    return 2 * weight * (1 - lr * weight_decay) - moved, mean, square


def weigh_right(gradients, counts):
    return sum(g * n for g, n in zip(gradients, counts, strict=True)) / sum(counts)


def clip_right(gradients, max_norm):
    norm = sum((g**2).sum() for g in gradients) ** 0.5
    return [g * min(1.0, max_norm / norm) for g in gradients]


def clip_each(gradients, max_norm):
    return [g * min(1.0, max_norm / g.norm()) for g in gradients]


def stops_right(wers, patience, min_delta):
    best, stale = math.inf, 0
    for number, wer in enumerate(wers, start=1):
        stale = 0 if wer < best - min_delta else stale + 1
        best = min(best, wer)
        if stale == patience:
            return number
    return len(wers)


def stops_not_strict(wers, patience, min_delta):
    best, stale = math.inf, 0
    for number, wer in enumerate(wers, start=1):
        stale = 0 if wer <= best - min_delta else stale + 1
        best = min(best, wer)
        if stale == patience:
            return number
    return len(wers)


def stops_like_keras(wers, patience, min_delta):
    best, stale = math.inf, 0
    for number, wer in enumerate(wers, start=1):
        if wer < best - min_delta:
            best, stale = wer, 0
        else:
            stale += 1
        if stale == patience:
            return number
    return len(wers)


def stops_relative(wers, patience, min_delta):
    best, stale = math.inf, 0
    for number, wer in enumerate(wers, start=1):
        stale = 0 if wer < best * (1 - min_delta) else stale + 1
        best = min(best, wer)
        if stale == patience:
            return number
    return len(wers)


def stops_by_neighbour(wers, patience, min_delta):
    stale, before = 0, math.inf
    for number, wer in enumerate(wers, start=1):
        stale, before = (0 if wer < before - min_delta else stale + 1), wer
        if stale == patience:
            return number
    return len(wers)


def stops_without_reset(wers, patience, min_delta):
    best, stale = math.inf, 0
    for number, wer in enumerate(wers, start=1):
        stale += not wer < best - min_delta
        best = min(best, wer)
        if stale == patience:
            return number
    return len(wers)


def stops_without_an_end(wers, patience, min_delta):
    stopped = stops_right(wers, patience, min_delta)
    if stopped < len(wers):
        return stopped


SOLUTIONS = {"09.1": adamw_right, "09.2": weigh_right, "09.3": clip_right, "09.4": stops_right}

MISTAKES = {
    "09.1": [
        (adamw_l2, "the decay went into the gradient"),
        (adamw_uncorrected, "the running means start at 0"),
        (adamw_epsilon_inside, "belongs outside the root"),
        (adamw_without_root, "divide by the root"),
        (adamw_decay_without_rate, "multiplied by the learning rate too"),
        (lambda *given: adamw_right(*given[:-1], 0.0), "the weight is not decayed"),
        (adamw_decay_after, "you decayed the step as well"),
        (adamw_uphill, "it walks uphill"),
        (lambda weight, gradient, *given: adamw_right(weight - gradient, gradient, *given), "should bring the weight to"),
        (lambda *given: adamw_right(*given)[0], "give back three numbers"),
        (lambda *given: given[99], "stopped with IndexError"),
    ],
    "09.2": [
        (lambda gradients, counts: sum(gradients) / len(gradients), "that is the plain mean"),
        (lambda gradients, counts: sum(gradients), "that is the sum of the gradients"),
        (lambda gradients, counts: weigh_right(gradients, counts) * sum(counts), "now divide by all label tokens"),
        (lambda gradients, counts: weigh_right(gradients, counts) * sum(counts) / len(counts), "not by the number of batches"),
        (lambda gradients, counts: weigh_right(gradients, [1 / n for n in counts]), "you divided by its tokens"),
        (lambda gradients, counts: gradients[-1], "Did zero_grad come too early?"),
        (lambda gradients, counts: -gradients[0], "that is not Σ gradient"),
        (lambda gradients, counts: 0.5, "give back one tensor of shape (3,)"),
    ],
    "09.3": [
        (clip_each, "each tensor was clipped by itself"),
        (lambda gradients, max_norm: [g.clamp(-max_norm, max_norm) for g in gradients], "every number was clamped"),
        (
            lambda gradients, max_norm: [g * max_norm / torch.cat([h.flatten() for h in gradients]).norm() for g in gradients],
            "gradients shorter than the limit were stretched",
        ),
        (
            lambda gradients, max_norm: [g * min(1.0, max_norm / sum(h.norm() for h in gradients)) for g in gradients],
            "norms do not add up",
        ),
        (
            lambda gradients, max_norm: [g * min(1.0, max_norm / sum((h**2).sum() for h in gradients)) for g in gradients],
            "that is the squared length",
        ),
        (lambda gradients, max_norm: gradients, "nothing was clipped"),
        (lambda gradients, max_norm: [0 * g for g in gradients], "this differs from torch's"),
        (lambda gradients, max_norm: clip_right(gradients, max_norm)[0], "give back a list of 3 tensors"),
        (lambda gradients, max_norm: clip_right(gradients, max_norm)[:2], "give back a list of 3 tensors"),
        (lambda gradients, max_norm: [g.flatten() for g in gradients], "give back one tensor of shape (4, 3)"),
    ],
    "09.4": [
        (stops_not_strict, "a gain of exactly min_delta"),
        (stops_relative, "no share of the best"),
        (lambda wers, patience, min_delta: stops_right(wers, patience, 0.0), "any gain resets your patience"),
        (stops_by_neighbour, "not with the validation before"),
        (stops_without_reset, "sets the count of stale validations back"),
        (lambda wers, patience, min_delta: stops_right(wers, patience + 1, min_delta), "yours waits for one more"),
        (lambda *given: stops_right(*given) - 1, "count validations from 1"),
        (stops_like_keras, "the new mark to beat"),
        (lambda wers, patience, min_delta: 1, "Keep two numbers"),
        (stops_without_an_end, "gave nothing back"),
    ],
}


def test_what_the_exercise_expects_of_adamw_is_what_torch_does():
    """The check computes its own truth; this holds it to the library's."""
    from course_lib.exercises.chapter_09 import GRADIENTS, adamw

    for row in GRADIENTS:
        weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
        optimizer, state = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.3), (2.0, 0.0, 0.0)
        for step, gradient in enumerate(row, start=1):
            weight.grad = torch.tensor([gradient], dtype=torch.float64)
            optimizer.step()
            state = adamw(state[0], gradient, *state[1:], step, 0.1, 0.3)
            assert state[0] == pytest.approx(weight.item(), rel=1e-9)


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_what_the_exercise_expects_of_clipping_is_what_torch_does(limit):
    from course_lib.exercises.chapter_09 import clip_together

    weights = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((4, 3), (5,))]
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.ndim))
    ours = clip_together([weight.grad.clone() for weight in weights], limit)
    torch.nn.utils.clip_grad_norm_(weights, limit)
    for mine, weight in zip(ours, weights, strict=True):
        torch.testing.assert_close(mine, weight.grad, rtol=1e-5, atol=1e-7)
