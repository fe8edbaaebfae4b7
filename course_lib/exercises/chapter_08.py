"""Exercises of chapter 08, prompt and labels: labels of a row, the shift, the end that is padding too, who may look, bytes."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.exercises.base import Exercise, NotYet, attempt
from course_lib.language_model.prompt import IGNORE_INDEX

Mistakes = Sequence[tuple[Any, str]]  # what each common mistake would give, and what to say to it


def examine_row_labels(answer: Callable[[int, int, list[int], int], list[int]]) -> None:
    """08.1: −100 for audio and prompt, the answer's ids, end-of-text."""
    rng = Random("08.1")
    for audio, prompt, length in ((50, 6, 10), (3, 2, 1), (27, 6, 5)):
        ids = [rng.randrange(2, 500) for _ in range(length)]
        end = rng.choice([0, 1])
        masked = [IGNORE_INDEX] * (audio + prompt)
        found = _as_list(attempt(answer, audio, prompt, list(ids), end))
        told = f"{audio} audio tokens, {prompt} of prompt, answer {_short(ids)}, end-of-text {end}"
        mistakes = [
            (masked + ids, "The end is missing: nobody would teach the model to stop."),
            (masked + ids + [IGNORE_INDEX], "End-of-text is masked: it is read, but nobody is asked for it."),
            ([*ids, end], "Every position has a label, also those that are not graded: −100."),
            ([IGNORE_INDEX] * audio + [*ids, end], "The prompt stands in the sequence, too, and is not graded."),
            ([IGNORE_INDEX] * prompt + [*ids, end], "The audio tokens stand in the sequence, too, and are not graded."),
            ([*masked[1:], *ids, end, IGNORE_INDEX], "Shifted already. A label stands where its token does; the loss shifts."),
            ([0] * len(masked) + [*ids, end], "0 is a token like any other. “Do not grade” is −100."),
            ([-1] * len(masked) + [*ids, end], "“Do not grade” is −100 for PyTorch; −1 is an error in cross_entropy."),
        ]  # fmt: skip
        _expect(found, [*masked, *ids, end], told, mistakes)


def examine_shifted_loss(answer: Callable[[Tensor, Tensor], Any]) -> None:
    """08.2: mean cross-entropy of logits at t against labels at t + 1."""
    rng = torch.Generator().manual_seed(7)
    for rows, positions, vocab in ((2, 6, 5), (3, 9, 11), (1, 7, 4)):
        logits = 2 * torch.randn(rows, positions, vocab, generator=rng)
        labels = torch.randint(vocab, (rows, positions), generator=rng)
        for row in range(rows):
            labels[row, 1 : 3 + row] = IGNORE_INDEX  # label 0 is kept: a row that begins with one
        labels[0, -2:] = IGNORE_INDEX
        found = attempt(answer, logits.clone(), labels.clone())
        told = f"{rows} rows of {positions} positions: you say {_number(found)}"
        _expect(found, float(_loss(logits[:, :-1], labels[:, 1:])), told, _misshifted(logits, labels))


def _misshifted(logits: Tensor, labels: Tensor) -> Mistakes:
    right = (logits[:, :-1], labels[:, 1:])
    vocab = logits.shape[-1]
    rows = [_loss(row[None, :-1], targets[None, 1:]) for row, targets in zip(logits, labels, strict=True)]
    total = _loss(*right, "sum")
    flat = logits.reshape(-1, vocab)
    graded_anywhere = (labels != IGNORE_INDEX).sum()
    return [
        (_loss(logits, labels), "No shift: the logits at t are asked for the token that was just read at t."),
        (_loss(logits[:, 1:], labels[:, :-1]), "The wrong way round: the logits at t are asked for the token before."),
        (_loss(logits[:, :-2], labels[:, 2:]), "Shifted twice: the logits at t are asked for t + 2. The planted bug."),
        (_loss(flat[:-1], labels.reshape(-1)[1:]), "You flattened first: the end of a row is asked for the start of the next."),
        (total, "That is the sum. The mean is over the labels that are graded."),
        (total / right[1].numel(), "You divided by all positions. Those with −100 do not count."),
        (total / graded_anywhere, "You divided by all labels; those at position 0 are never graded, for nothing comes before."),
        (torch.stack(rows).mean(), "A mean of row means. All graded labels count alike, whichever row they are in."),
        (-_loss(*right), "The sign: a loss is minus the log-probability."),
        (_loss(*right) / torch.log(torch.tensor(2.0)), "Natural logarithms, not base 2."),
    ]  # fmt: skip


def _loss(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction=reduction)


def examine_end_or_padding(answer: Callable[[list[int], int], list[int]]) -> None:
    """08.3: the first end-of-text is the end, what follows is padding."""
    rng = Random("08.3")
    for length, padding in ((4, 3), (6, 0), (1, 5), (3, 1)):
        end = rng.choice([0, 7])
        ids = [rng.randrange(8, 500) for _ in range(length)]
        given = [*ids, end] + [end] * padding
        found = _as_list(attempt(answer, list(given), end))
        expected = [*ids, end] + [IGNORE_INDEX] * padding
        mistakes = [
            (ids + [IGNORE_INDEX] * (padding + 1), "The true end is masked with the padding, because it has the same id."),
            (given, "Nothing is masked: the model would be taught to say end-of-text after end-of-text."),
            (ids + [IGNORE_INDEX] * padding + [end], "You kept the last of them. The sentence ends with the first."),
            ([*ids, end], "The padding has vanished. A batch needs rows of one length: put −100 there."),
            (ids, "The padding has vanished, and the end with it."),
            (ids + [end, end] + [IGNORE_INDEX] * (padding - 1), "One too many kept: after the first end all is padding."),
            ([IGNORE_INDEX] * length + expected[length:], "Only the end is left. The answer is what should be learnt."),
        ]  # fmt: skip
        _expect(found, expected, f"{_short(given)} with pad and end-of-text {end} gave {_short(found)}", mistakes)


def examine_may_look(answer: Callable[[Tensor], Tensor]) -> None:
    """08.4: real positions see the real ones up to themselves; no row is empty."""
    for shown in ("..xxx", "xxx..", "xxxx", ".x", "...xxxx"):
        real = torch.tensor([mark == "x" for mark in shown])
        found = attempt(answer, real.clone())
        told = f"real positions {shown} (x is real)"
        size = len(real)
        if not isinstance(found, Tensor) or found.shape != (size, size):
            raise NotYet(f"{told}: give back a tensor of shape {(size, size)}, a row for each position that looks.")
        if found.dtype != torch.bool:
            raise NotYet(f"{told}: the matrix should be of True and False, not {found.dtype}. Use & and |, or compare.")
        past = torch.ones(size, size, dtype=torch.bool).tril()
        expected = past & real
        if torch.equal(found, past & real[:, None]) and not real.all():
            raise NotYet(f"{told}. You masked the rows of padding. Who asks does not matter; who is asked does.")
        _expect(found[real], expected[real], told, [(wrong[real], why) for wrong, why in _mislooked(past, real)])
        if not found.any(dim=1).all():
            raise NotYet(f"{told}. Right for real positions, but rows of padding are empty, and softmax of nothing is NaN.")


def _mislooked(past: Tensor, real: Tensor) -> Mistakes:
    return [
        (past, "Padding is looked at. Its columns must be False for every real position."),
        (real.expand_as(past), "The future is looked at: position 0 could copy its answer from position 1."),
        (past.T & real, "That sees the future and not the past: tril, not triu. Rows look, columns are looked at."),
        (past.tril(-1) & real, "A position may look at itself; the first real one has nothing else."),
        (~(past & real), "The wrong way round: True means that it may look."),
        (torch.eye(len(real), dtype=torch.bool), "Everyone sees only themselves. The past is what the model reads."),
    ]


def examine_logit_bytes(answer: Callable[[list[int], list[int], int, int], tuple[int, int]]) -> None:
    """08.5: rows × longest × vocabulary × bytes, against labels × vocabulary × bytes."""
    cases = (([67, 60, 41], [11, 9, 4], 151_936, 4), ([30], [7], 512, 2), ([317, 317], [11, 20], 32_000, 2))
    for lengths, answers, vocab, size in cases:
        found = attempt(answer, list(lengths), list(answers), vocab, size)
        told = f"rows of {lengths} positions with {answers} labels, {vocab:,} tokens, {size} bytes a number"
        try:
            full, labelled = (int(number) for number in found)
        except (TypeError, ValueError):
            raise NotYet(f"{told}: give back two numbers, (all positions, labels only), not {found!r}.") from None
        per = vocab * size
        rows = len(lengths)
        right = rows * max(lengths) * per
        few = sum(answers) * per
        mistakes = [
            ((few, right), "Both right, in the other order: all positions first, then labels only."),
            ((sum(lengths) * per, few), "Padding has logits, too: every row is as long as the longest."),
            ((max(lengths) * per, few), "That is one row. The batch has as many as `lengths`."),
            ((right, rows * max(answers) * per), "Labels are picked out one by one; nothing needs to be padded for that."),
            ((right, sum(number - 1 for number in answers) * per), "Every label is graded, the end too, one before it."),
            ((right // size, few // size), "Those are numbers. Each takes bytes."),
            ((8 * right, 8 * few), "Those are bits; a byte has eight."),
            ((right, right - few), "The second is what the labels need, not what is saved."),
            ((right // vocab, few // vocab), "A logit for every token of the vocabulary, at every position."),
        ]  # fmt: skip
        told = f"{told}: you say {full:,} and {labelled:,}"
        _expect((full, labelled), (right, few), told, mistakes)


def _expect(found: Any, expected: Any, told: str, mistakes: Mistakes) -> None:
    """Pass, or raise NotYet with the first mistake that gives exactly what was found."""
    if _same(found, expected):
        return
    reason = next((text for value, text in mistakes if _same(found, value)), None)
    raise NotYet(f"{told}. {reason or f'Expected {_short(expected)}.'}")


def _same(found: Any, expected: Any) -> bool:
    """Equal; numbers up to rounding, tensors with their shape."""
    if isinstance(expected, Tensor) and expected.ndim:
        return isinstance(found, Tensor) and found.shape == expected.shape and torch.equal(found, expected)
    if isinstance(expected, (float, Tensor)):
        return _number(found) == _number(expected)
    return found == expected


def _number(found: Any) -> str:
    try:
        return f"{float(found):.4f}"
    except (TypeError, ValueError, RuntimeError):
        return _short(found)


def _as_list(found: Any) -> list[int]:
    found = found.tolist() if isinstance(found, Tensor) else found
    try:
        return [int(number) for number in found]
    except (TypeError, ValueError):
        raise NotYet(f"give back a list of ids, not {found!r}.") from None


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(value.int().tolist()) if value.numel() < 50 else f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, float):
        return f"{value:.4f}"
    text = str(value)
    return text if len(text) <= 70 else f"{text[:40]} … {text[-25:]}"


EXERCISES = {
    "08.1": Exercise(
        examine_row_labels,
        (
            "One label a position, in the order in which they stand: audio, prompt, answer, end.",
            "[-100] * 3 is [-100, -100, -100], and lists are joined by +.",
            "[-100] * (audio_tokens + prompt_tokens) + answer_ids + [eos_id]",
        ),
    ),
    "08.2": Exercise(
        examine_shifted_loss,
        (
            "How often is something moved by one on the way to cross_entropy? Count the slices.",
            "logits[:, :-1] and labels[:, 1:] are as long as each other, and their i-th entries belong together.",
            "F.cross_entropy wants [numbers, vocab] and [numbers]: cut first, flatten then. It passes over −100 by itself.",
        ),
    ),
    "08.3": Exercise(
        examine_end_or_padding,
        (
            "You cannot tell the end from padding by its id. By what, then?",
            "ids.index(pad_id) is where it occurs first.",
            "Keep ids[: first + 1]; the rest, len(ids) - first - 1 of them, is −100.",
        ),
    ),
    "08.4": Exercise(
        examine_may_look,
        (
            "Two rules at once: not into the future, and not at padding. Then look for rows that are left with nothing.",
            "torch.ones(n, n, dtype=torch.bool).tril() is the past; real[None, :] says which columns may be looked at.",
            "A row of padding is read by nobody, so let it look at itself: | torch.eye(n, dtype=torch.bool).",
        ),
    ),
    "08.5": Exercise(
        examine_logit_bytes,
        (
            "How many positions have logits? Each of them has one number for every token of the vocabulary.",
            "In a batch every row is as long as the longest: len(lengths) * max(lengths) positions.",
            "With labels only it is sum(answers) positions, however the rows are padded.",
        ),
    ),
}
