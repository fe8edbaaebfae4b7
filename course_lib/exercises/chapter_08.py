"""Exercises of chapter 08, prompt and labels: labels, the shift, the end among padding, who may look, bytes, positions."""

import math
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.exercises.base import Exercise, Mistake
from course_lib.exercises.reading import Ids, Number, Parts, Truths
from course_lib.language_model.prompt import IGNORE_INDEX

Row = list[int]


def row_labels(audio_tokens: int, prompt_tokens: int, answer_ids: Row, eos_id: int) -> Row:
    """−100 for audio and prompt, the answer's ids, end-of-text."""
    return [IGNORE_INDEX] * (audio_tokens + prompt_tokens) + [*answer_ids, eos_id]


def _masked_with(value: int, audio: int, prompt: int, ids: Row, end: int) -> Row:
    return [value] * (audio + prompt) + [*ids, end]


def row_cases() -> list[tuple[int, int, Row, int]]:
    """The guide's sizes and others, no audio, no prompt, an empty answer, an end that is not 0."""
    rng = Random("08.1")
    sizes = ((50, 6, 10), (3, 2, 1), (27, 6, 5), (4, 0, 3), (0, 3, 2), (2, 1, 0))
    return [
        (audio, prompt, [rng.randrange(2, 500) for _ in range(length)], (0, 1, 151_643)[at % 3])
        for at, (audio, prompt, length) in enumerate(sizes)
    ]


def shifted_loss(logits: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy of logits at t against labels at t + 1."""
    return float(_loss(logits[:, :-1], labels[:, 1:]))


def _loss(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction=reduction)


def _flattened_first(logits: Tensor, labels: Tensor) -> Tensor:
    return _loss(logits.reshape(-1, logits.shape[-1])[:-1], labels.reshape(-1)[1:])


def _row_means(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([_loss(row[None, :-1], one[None, 1:]) for row, one in zip(logits, labels, strict=True)]).mean()


def _sum(logits: Tensor, labels: Tensor) -> Tensor:
    return _loss(logits[:, :-1], labels[:, 1:], "sum")


def _first_row(logits: Tensor, labels: Tensor) -> Tensor:
    return _loss(logits[:1, :-1], labels[:1, 1:])


def loss_cases() -> list[tuple[Tensor, Tensor]]:
    """Rows with labels from the very first position on, with few and with many, one row, and two positions."""
    rng = torch.Generator().manual_seed(7)
    cases = []
    for rows, positions, vocab in ((2, 6, 5), (3, 9, 11), (1, 7, 4), (4, 8, 3)):
        logits = 2 * torch.randn(rows, positions, vocab, generator=rng)
        labels = torch.randint(vocab, (rows, positions), generator=rng)
        for row in range(rows):
            labels[row, 1 : 3 + row] = IGNORE_INDEX  # label 0 is kept: a row that begins with one
        labels[0, -2:] = IGNORE_INDEX
        cases.append((logits, labels))
    return [*cases, (torch.tensor([[[1.0, 2.0], [0.0, 0.0]]]), torch.tensor([[IGNORE_INDEX, 1]]))]


def answer_labels(ids: Row, pad_id: int) -> Row:
    """The first pad_id is the end, what follows is padding; a row without one is all answer."""
    first = ids.index(pad_id) if pad_id in ids else len(ids)
    return ids[: first + 1] + [IGNORE_INDEX] * (len(ids) - first - 1)


def _up_to_end(ids: Row, pad_id: int) -> Row:
    return ids[: ids.index(pad_id) + 1] if pad_id in ids else ids


def _last_end(ids: Row, pad_id: int) -> Row:
    return [*answer_labels(ids[:-1], pad_id)[:-1], IGNORE_INDEX, ids[-1]] if ids.count(pad_id) > 1 else list(ids)


def _keep_last(ids: Row, pad_id: int) -> Row:
    kept = [IGNORE_INDEX if one == pad_id else one for one in ids]
    return kept[:-1] + ids[-1:]


def _one_more(ids: Row, pad_id: int) -> Row:
    right = answer_labels(ids, pad_id)
    after = len(_up_to_end(ids, pad_id))
    return right[:after] + ids[after : after + 1] + right[after + 1 :]


def _repeats_masked(ids: Row, pad_id: int) -> Row:
    """Whatever came before is masked, also words of the answer that come twice."""
    return [IGNORE_INDEX if one in ids[:at] else one for at, one in enumerate(ids)]


def end_cases() -> list[tuple[Row, int]]:
    """Answers that repeat a word, empty ones, rows without padding and without an end, ends that are 0 and that are not."""
    named = [([41, 7, 7, 41, 0, 0, 0], 0), ([0, 0, 0], 0), ([7, 7], 7), ([5, 6, 3], 3), ([5, 6, 5], 0), ([9], 9), ([12], 4)]
    rng = Random("08.3")
    for length, padding in ((4, 3), (6, 0), (1, 5), (3, 1)):
        end = rng.choice([0, 7])
        named.append(([rng.randrange(8, 500) for _ in range(length)] + [end] * (padding + 1), end))
    return named


def may_look(real: Tensor) -> Tensor:
    """Real positions see the real ones up to themselves; no row is empty."""
    return (_past(real) & real) | torch.eye(len(real), dtype=torch.bool)


def _past(real: Tensor) -> Tensor:
    return torch.ones(len(real), len(real), dtype=torch.bool).tril()


def _contiguous(real: Tensor) -> Tensor:
    """As if the real positions were one block."""
    at = real.nonzero().flatten()
    block = torch.zeros_like(real)
    block[int(at[0]) : int(at[-1]) + 1] = True
    return _past(real) & block | torch.eye(len(real), dtype=torch.bool)


def rows_that_matter(found: np.ndarray, real: Tensor) -> np.ndarray:
    """What real positions see, and of the others only whether they see anything: that is free."""
    if found.shape != (len(real), len(real)):
        return found
    seen = found.copy()
    padding = ~real.numpy()
    seen[padding] = found[padding].any(axis=1, keepdims=True)
    return seen


def look_cases() -> list[tuple[Tensor]]:
    """Padding in front, behind and in between, none, one position, and many."""
    shown = ("..xxx", "xxx..", "xxxx", ".x", "...xxxx", "x..x", "xx.x.x", "x", ".x.")
    return [(torch.tensor([mark == "x" for mark in marks]),) for marks in shown]


def logit_bytes(lengths: Row, answers: Row, vocab: int, bytes_per_number: int) -> tuple[int, int]:
    """Rows × longest × vocabulary × bytes, against labels × vocabulary × bytes."""
    per = vocab * bytes_per_number
    return len(lengths) * max(lengths) * per, sum(answers) * per


def bytes_cases() -> list[tuple[Row, Row, int, int]]:
    """Unlike lengths, one row, equal rows, both widths of number."""
    return [
        ([67, 60, 41], [11, 9, 4], 151_936, 4),
        ([30], [7], 512, 2),
        ([317, 317], [11, 20], 32_000, 2),
        ([5, 9, 2, 9], [1, 3, 1, 2], 600, 4),
    ]


def positions(mask: Row) -> Row:
    """Each real token's number among the real ones; 0 for padding."""
    found, count = [], 0
    for real in mask:
        found.append(count if real else 0)
        count += real
    return found


def positions_of_the_row(mask: Row) -> Row:
    """The broken one: padding in front moves every position."""
    return list(range(len(mask)))


def position_cases() -> list[tuple[Row]]:
    """Padding in front, behind, in between, none, and one position."""
    return [([int(mark == "x") for mark in marks],) for marks in ("..xxx", "xxx", "xx..", ".x.xx", "x", "....x", "x.x.x.")]


EXERCISES: dict[str, Exercise] = {
    "08.1": Exercise(
        title="the labels of a row",
        level=1,
        minutes=6,
        purpose="to say at which positions a model is asked, and for what",
        solve=row_labels,
        cases=row_cases,
        reader=Ids(),
        mistakes=(
            Mistake(
                lambda a, p, x, e: _masked_with(-100, a, p, x, e)[:-1],
                "The end is missing: nobody would teach the model to stop.",
            ),
            Mistake(
                lambda a, p, x, e: [*_masked_with(-100, a, p, x, e)[:-1], -100],
                "End-of-text is masked: nobody is asked for it.",
            ),
            Mistake(lambda a, p, x, e: [*x, e], "Every position has a label, also those that are not graded: −100."),
            Mistake(
                lambda a, p, x, e: _masked_with(-100, a, 0, x, e), "The prompt stands in the sequence, too, and is not graded."
            ),
            Mistake(lambda a, p, x, e: _masked_with(-100, 0, p, x, e), "The audio tokens stand in the sequence, too."),
            Mistake(
                lambda a, p, x, e: [*_masked_with(-100, a, p, x, e)[1:], -100],
                "Shifted already. A label stands where its token does; the loss shifts.",
            ),
            Mistake(lambda a, p, x, e: _masked_with(0, a, p, x, e), "0 is a token like any other. “Do not grade” is −100."),
            Mistake(
                lambda a, p, x, e: _masked_with(-1, a, p, x, e), "“Do not grade” is −100 for PyTorch; −1 is an error there."
            ),
            Mistake(lambda a, p, x, e: [-100] * (a + p + len(x)) + [e], "The answer itself is masked."),
            Mistake(lambda a, p, x, e: [-100] * (a + p) + [*x, 0], "The end is `eos_id`, which is not always 0."),
            Mistake(lambda a, p, x, e: [*x, e] + [-100] * (a + p), "The sound comes first, and the answer last."),
        ),
        hints=(
            "One label a position, in the order in which they stand: audio, prompt, answer, end.",
            "[-100] * 3 is [-100, -100, -100], and lists are joined by +.",
        ),
    ),
    "08.2": Exercise(
        title="the loss, without the fault",
        level=2,
        minutes=12,
        purpose="to shift once, and only once",
        solve=shifted_loss,
        cases=loss_cases,
        reader=Number(),
        mistakes=(
            Mistake(lambda x, y: _loss(x, y), "No shift: the logits at t are asked for the token that was just read at t."),
            Mistake(
                lambda x, y: _loss(x[:, 1:], y[:, :-1]), "The wrong way round: the logits at t are asked for the token before."
            ),
            Mistake(
                lambda x, y: _loss(x[:, :-2], y[:, 2:]), "Shifted twice: the logits at t are asked for t + 2. The planted bug."
            ),
            Mistake(_flattened_first, "You flattened first: the end of a row is asked for the start of the next."),
            Mistake(_sum, "That is the sum. The mean is over the labels that are graded."),
            Mistake(lambda x, y: _sum(x, y) / y[:, 1:].numel(), "You divided by all positions. Those with −100 do not count."),
            Mistake(
                lambda x, y: _sum(x, y) / (y != -100).sum(),
                "You divided by all labels; those at position 0 are never graded, for nothing comes before.",
            ),
            Mistake(_row_means, "A mean of row means. All graded labels count alike, whichever row they are in."),
            Mistake(lambda x, y: _sum(x, y) / len(x), "You divided by the rows. The mean is over the labels."),
            Mistake(lambda x, y: -shifted_loss(x, y), "The sign: a loss is minus the log-probability."),
            Mistake(lambda x, y: shifted_loss(x, y) / math.log(2), "Natural logarithms, not base 2."),
            Mistake(_first_row, "That is the first row alone; all of the batch count."),
        ),
        hints=(
            "How often is something moved by one on the way to cross_entropy? Count the slices.",
            "logits[:, :-1] and labels[:, 1:] are as long as each other, and their i-th entries belong together.",
            "F.cross_entropy wants [numbers, vocab] and [numbers]: cut first, flatten then. It passes over −100 by itself.",
        ),
    ),
    "08.3": Exercise(
        title="which of them is the end?",
        level=2,
        minutes=10,
        purpose="to keep the one token that teaches a model to stop",
        solve=answer_labels,
        cases=end_cases,
        reader=Ids(),
        mistakes=(
            Mistake(
                lambda x, p: [-100 if one == p else one for one in x], "The true end is masked with the padding: the same id."
            ),
            Mistake(lambda x, p: list(x), "Nothing is masked: the model would be taught to say end-of-text after end-of-text."),
            Mistake(_keep_last, "You kept the last of them. The sentence ends with the first."),
            Mistake(_up_to_end, "The padding has vanished. A batch needs rows of one length: put −100 there."),
            Mistake(lambda x, p: [one for one in x if one != p], "The padding has vanished, and the end with it."),
            Mistake(_one_more, "One too many kept: after the first end all is padding."),
            Mistake(_repeats_masked, "A word that comes twice is said twice: only what follows the end is padding."),
            Mistake(
                lambda x, p: answer_labels(x, p) if p in x else [-100] * len(x),
                "A row without an end is all answer (it was cut off): nothing of it is padding.",
            ),
        ),
        hints=(
            "You cannot tell the end from padding by its id. By what, then?",
            "ids.index(pad_id) is where it occurs first, and an error if it does not occur at all.",
        ),
    ),
    "08.4": Exercise(
        title="who may look at whom",
        level=3,
        minutes=15,
        purpose="to build the mask that every decoder needs, and that gives no NaN",
        solve=may_look,
        cases=look_cases,
        reader=Truths(),
        view=rows_that_matter,
        mistakes=(
            Mistake(_past, "Padding is looked at. Its columns must be False for every real position."),
            Mistake(
                lambda r: r.expand(len(r), len(r)), "The future is looked at: position 0 could copy its answer from position 1."
            ),
            Mistake(
                lambda r: _past(r).T & r | torch.eye(len(r), dtype=torch.bool),
                "That sees the future and not the past: rows look, columns are looked at.",
            ),
            Mistake(lambda r: _past(r).T & r, "That sees the future and not the past: tril, and not triu."),
            Mistake(lambda r: _past(r).tril(-1) & r, "A position may look at itself; the first real one has nothing else."),
            Mistake(lambda r: ~may_look(r), "The wrong way round: True means that it may look."),
            Mistake(
                lambda r: torch.eye(len(r), dtype=torch.bool),
                "Everyone sees only themselves. The past is what the model reads.",
            ),
            Mistake(
                lambda r: _past(r) & r[:, None], "You masked the rows of padding. Who asks does not matter; who is asked does."
            ),
            Mistake(
                lambda r: _past(r) & r,
                "Right for real positions, but rows of padding are empty, and softmax of nothing is NaN.",
            ),
            Mistake(
                lambda r: r[:, None] & r[None, :] & _past(r),
                "Right for real positions, but all rows of padding are empty: NaN.",
            ),
            Mistake(_contiguous, "The real positions need not be one block: use `real` itself."),
        ),
        otherwise="Two rules at once: not into the future, and not at padding.",
        hints=(
            "Two rules at once: not into the future, and not at padding. Then look for rows that are left with nothing.",
            "torch.ones(n, n, dtype=torch.bool).tril() is the past; real[None, :] says which columns may be looked at.",
            "A row of padding is read by nobody, so let it look at something, itself for example.",
        ),
    ),
    "08.5": Exercise(
        title="predict the memory before the run",
        level=2,
        minutes=10,
        purpose="to know before the run whether it fits",
        solve=logit_bytes,
        cases=bytes_cases,
        reader=Parts(Number(whole=True), Number(whole=True), wanted="two numbers, (all positions, labels only)"),
        mistakes=(
            Mistake(lambda n, a, v, b: logit_bytes(n, a, v, b)[::-1], "Both right, in the other order: all positions first."),
            Mistake(
                lambda n, a, v, b: (sum(n) * v * b, sum(a) * v * b),
                "Padding has logits, too: every row is as long as the longest.",
            ),
            Mistake(
                lambda n, a, v, b: (max(n) * v * b, sum(a) * v * b), "That is one row. The batch has as many as `lengths`."
            ),
            Mistake(
                lambda n, a, v, b: (len(n) * max(n) * v * b, len(a) * max(a) * v * b),
                "Labels are picked out one by one; nothing needs to be padded for that.",
            ),
            Mistake(
                lambda n, a, v, b: (len(n) * max(n) * v * b, sum(one - 1 for one in a) * v * b),
                "Every label is graded, the end too.",
            ),
            Mistake(lambda n, a, v, b: logit_bytes(n, a, v, 1), "Those are numbers. Each takes bytes."),
            Mistake(lambda n, a, v, b: logit_bytes(n, a, v, 4), "Not every number has four bytes."),
            Mistake(lambda n, a, v, b: logit_bytes(n, a, v, 8 * b), "Those are bits; a byte has eight."),
            Mistake(
                lambda n, a, v, b: (len(n) * max(n) * v * b, (len(n) * max(n) - sum(a)) * v * b),
                "The second is what the labels need, not what is saved.",
            ),
            Mistake(
                lambda n, a, v, b: logit_bytes(n, a, 1, b), "A logit for every token of the vocabulary, at every position."
            ),
        ),
        hints=(
            "How many positions have logits? Each of them has one number for every token of the vocabulary.",
            "In a batch every row is as long as the longest: len(lengths) * max(lengths) positions.",
            "With labels only it is sum(answers) positions, however the rows are padded.",
        ),
    ),
    "08.6": Exercise(
        title="repair: clips that decode differently in company",
        level=2,
        minutes=8,
        purpose="to find the fault that shows only in batches",
        solve=positions,
        cases=position_cases,
        reader=Ids(),
        broken=positions_of_the_row,
        symptom="Alone each clip is right; in a batch those that are padded in front are not. Where do they begin to count?",
        mistakes=(
            Mistake(
                lambda m: [at + 1 if real else 0 for real, at in zip(m, positions(m), strict=True)],
                "The first real token is number 0.",
            ),
            Mistake(
                lambda m: [at if real else 0 for at, real in enumerate(m)],
                "Padding is 0 now, but the real ones still count it.",
            ),
            Mistake(lambda m: [max(sum(m[: at + 1]) - 1, 0) for at in range(len(m))], "Positions of padding are 0 here."),
            Mistake(
                lambda m: [max(at - m.index(1), 0) for at in range(len(m))], "Padding behind, or in between, is counted, too."
            ),
        ),
        otherwise="How many real tokens stand before this one?",
        hints=(
            "A token's position is the number of real tokens before it.",
            "A running sum of the mask counts them; it counts the token itself, too. Padding gets 0.",
        ),
    ),
}
