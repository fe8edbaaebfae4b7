"""Each exercise of chapter 08: the solution passes, the stub is not attempted, each planted mistake hears its own reason."""

import pytest
import torch
import torch.nn.functional as F


def labels_right(audio_tokens, prompt_tokens, answer_ids, eos_id):
    return [-100] * (audio_tokens + prompt_tokens) + answer_ids + [eos_id]


def loss_right(logits, labels):
    return F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1))


def loss_by_rows_and_words(logits, labels):
    """The same number without cross_entropy, in plain loops."""
    surprises = [
        -logits[row, t].log_softmax(dim=-1)[labels[row, t + 1]]
        for row in range(len(labels))
        for t in range(labels.shape[1] - 1)
        if labels[row, t + 1] != -100
    ]
    return float(sum(surprises) / len(surprises))


def graded(cut_logits, cut_labels, **options):
    return lambda logits, labels: F.cross_entropy(
        logits[:, cut_logits].reshape(-1, logits.shape[-1]), labels[:, cut_labels].reshape(-1), **options
    )


def flattened_first(logits, labels):
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1])[:-1], labels.reshape(-1)[1:])


def mean_of_rows(logits, labels):
    return torch.stack([loss_right(*row) for row in zip(logits.split(1), labels.split(1), strict=True)]).mean()


def end_right(ids, pad_id):
    first = ids.index(pad_id)
    return ids[: first + 1] + [-100] * (len(ids) - first - 1)


def end_last(ids, pad_id):
    return [-100 if i == pad_id else i for i in ids[:-1]] + [pad_id]


def end_twice(ids, pad_id):
    keep = ids.index(pad_id) + 2
    return ids[:keep] + [-100] * len(ids[keep:])


def look_right(real):
    past = torch.ones(len(real), len(real), dtype=torch.bool).tril()
    return past & real[None, :] | torch.eye(len(real), dtype=torch.bool)


def look_with_open_padding(real):
    """Padding that looks at everything: as good, and what the lowest finite score amounts to."""
    past = torch.ones(len(real), len(real), dtype=torch.bool).tril()
    return past & real[None, :] | ~real[:, None]


def past_of(real):
    return torch.ones(len(real), len(real), dtype=torch.bool).tril()


def bytes_right(lengths, answers, vocab, size):
    return len(lengths) * max(lengths) * vocab * size, sum(answers) * vocab * size


SOLUTIONS = {
    "08.1": labels_right,
    "08.2": loss_right,
    "08.3": end_right,
    "08.4": look_right,
    "08.5": bytes_right,
}

ALSO_RIGHT = [
    ("08.1", lambda *given: torch.tensor(labels_right(*given))),
    ("08.2", loss_by_rows_and_words),
    ("08.4", look_with_open_padding),
    ("08.5", lambda *given: list(bytes_right(*given))),
]

MISTAKES = {
    "08.1": [
        (lambda a, p, ids, end: labels_right(a, p, ids, end)[:-1], "The end is missing"),
        (lambda a, p, ids, end: [*labels_right(a, p, ids, end)[:-1], -100], "End-of-text is masked"),
        (lambda a, p, ids, end: [*ids, end], "Every position has a label"),
        (lambda a, p, ids, end: labels_right(a, 0, ids, end), "The prompt stands in the sequence, too"),
        (lambda a, p, ids, end: labels_right(0, p, ids, end), "The audio tokens stand in the sequence, too"),
        (lambda a, p, ids, end: [*labels_right(a, p, ids, end)[1:], -100], "Shifted already"),
        (lambda a, p, ids, end: [0] * (a + p) + [*ids, end], "0 is a token like any other"),
        (lambda a, p, ids, end: [-1] * (a + p) + [*ids, end], "−1 is an error"),
        (lambda a, p, ids, end: labels_right(a, p, ids[::-1], end), "Expected [-100"),
        (lambda a, p, ids, end: 56, "give back a list of ids"),
    ],
    "08.2": [
        (graded(slice(None), slice(None)), "No shift"),
        (graded(slice(1, None), slice(None, -1)), "The wrong way round"),
        (graded(slice(None, -2), slice(2, None)), "Shifted twice"),
        (flattened_first, "You flattened first"),
        (graded(slice(None, -1), slice(1, None), reduction="sum"), "That is the sum"),
        (lambda logits, labels: graded(slice(None, -1), slice(1, None), reduction="sum")(logits, labels)
         / labels[:, 1:].numel(), "divided by all positions"),
        (lambda logits, labels: graded(slice(None, -1), slice(1, None), reduction="sum")(logits, labels)
         / (labels != -100).sum(), "divided by all labels"),
        (mean_of_rows, "A mean of row means"),
        (lambda logits, labels: -loss_right(logits, labels), "The sign"),
        (lambda logits, labels: float(loss_right(logits, labels)) / 0.6931472, "not base 2"),
        (lambda logits, labels: 1.0, "Expected "),
        (lambda logits, labels: logits, "Expected "),
        (lambda logits, labels: F.cross_entropy(logits, labels), "stopped with"),
    ],
    "08.3": [
        (lambda ids, pad: [-100 if i == pad else i for i in ids], "The true end is masked with the padding"),
        (lambda ids, pad: ids, "Nothing is masked"),
        (end_last, "You kept the last of them"),
        (lambda ids, pad: ids[: ids.index(pad) + 1], "The padding has vanished. A batch"),
        (lambda ids, pad: ids[: ids.index(pad)], "and the end with it"),
        (end_twice, "One too many kept"),
        (lambda ids, pad: [-100] * ids.index(pad) + end_right(ids, pad)[ids.index(pad) :], "Only the end is left"),
        (lambda ids, pad: end_right(ids, pad)[::-1], "Expected ["),
    ],
    "08.4": [
        (past_of, "Padding is looked at"),
        (lambda real: real.repeat(len(real), 1), "The future is looked at"),
        (lambda real: past_of(real).T & real[None, :], "tril, not triu"),
        (lambda real: past_of(real) & real[:, None], "You masked the rows of padding"),
        (lambda real: past_of(real).tril(-1) & real, "A position may look at itself"),
        (lambda real: ~(past_of(real) & real), "True means that it may look"),
        (lambda real: torch.eye(len(real), dtype=torch.bool), "Everyone sees only themselves"),
        (lambda real: past_of(real) & real[None, :], "softmax of nothing is NaN"),
        (lambda real: look_right(real).float(), "True and False"),
        (lambda real: real, "a row for each position that looks"),
        (lambda real: torch.zeros(len(real), len(real), dtype=torch.bool), "Expected [["),
    ],
    "08.5": [
        (lambda *given: bytes_right(*given)[::-1], "in the other order"),
        (lambda lengths, *rest: (sum(lengths) * rest[1] * rest[2], bytes_right(lengths, *rest)[1]), "Padding has logits, too"),
        (lambda lengths, *rest: (max(lengths) * rest[1] * rest[2], bytes_right(lengths, *rest)[1]), "That is one row"),
        (lambda lengths, answers, vocab, size: (bytes_right(lengths, answers, vocab, size)[0],
         len(lengths) * max(answers) * vocab * size), "picked out one by one"),
        (lambda lengths, answers, vocab, size: (bytes_right(lengths, answers, vocab, size)[0],
         (sum(answers) - len(answers)) * vocab * size), "one before it"),
        (lambda lengths, answers, vocab, size: bytes_right(lengths, answers, vocab, 1), "Each takes bytes"),
        (lambda lengths, answers, vocab, size: bytes_right(lengths, answers, vocab, 8 * size), "a byte has eight"),
        (lambda *given: (bytes_right(*given)[0], bytes_right(*given)[0] - bytes_right(*given)[1]), "not what is saved"),
        (lambda lengths, answers, vocab, size: bytes_right(lengths, answers, 1, size), "for every token of the vocabulary"),
        (lambda *given: (1, 2), "Expected ("),
        (lambda *given: 12, "give back two numbers"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("key", "answer"), ALSO_RIGHT)
def test_so_is_another_way_to_say_it(verdict, key, answer):
    assert verdict(key, answer) == f"{key}  right\n"


@pytest.mark.parametrize("key", MISTAKES)
def test_every_mistake_has_its_own_message(key):
    reasons = [reason for _, reason in MISTAKES[key] if not reason.startswith(("Expected", "stopped"))]
    assert len(set(reasons)) == len(reasons) >= 3
