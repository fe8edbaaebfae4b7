"""Each exercise of chapter 05: the solution passes, the stub is not attempted, each planted mistake hears its own reason."""

import itertools
import math

import torch


def repeats(text):
    return sum(a == b for a, b in itertools.pairwise(text))


def aligned_right(text, frames, by):
    return math.ceil(frames / by) >= len(text) + repeats(text)


def parameters(
    d,
    layers,
    d_ff,
    vocab,
    bins=128,
    downsample_time=4,
    *,
    bias=1,
    norm_bias=1,
    norms=2,
    last_norm=True,
    kernel=3,
    head=True,
    halvings=None,
    matrices=3,
    output=1,
    down=1,
):
    """The answer by pencil; each keyword plants a mistake. It shares no code with what the exercise computes."""
    norm = d + norm_bias * d
    halvings = halvings or int(math.log2(downsample_time))
    convolutions = kernel * bins * d + (halvings - 1) * kernel * d * d + halvings * bias * d
    attention = matrices * (d * d + bias * d) + output * (d * d + bias * d)
    feed_forward = d * d_ff + bias * d_ff + down * (d_ff * d + bias * d)
    letters = d * vocab + bias * vocab if head else 0
    return convolutions + layers * (attention + feed_forward + norms * norm) + (norm if last_norm else 0) + letters


def miscount(**mistake):
    return lambda *sizes: parameters(*sizes, **mistake)


def stretch_right(log_mel, start, width):
    masked = log_mel.clone()
    masked[start : start + width] = 0
    return masked


def stretch_in_place(log_mel, start, width):
    log_mel[start : start + width] = 0
    return log_mel


def stretch_with(value=None, before=0, after=0, bins=False):
    def stretch(log_mel, start, width):
        masked = log_mel.clone()
        hole = slice(start - before, start + width + after)
        masked[(slice(None), hole) if bins else hole] = log_mel.min() if value is None else value
        return masked

    return stretch


def stretch_cut(log_mel, start, width):
    return torch.cat([log_mel[:start], log_mel[start + width :]])


def stretch_start_to_width(log_mel, start, width):
    masked = log_mel.clone()
    masked[start:width] = 0
    return masked


def batches_of(lengths, size):
    return [lengths[i : i + size] for i in range(0, len(lengths), size)]


def share_of(batches):
    total = sum(len(batch) * max(batch) for batch in batches)
    return (total - sum(sum(batch) for batch in batches)) / total


def share_right(lengths, size):
    return share_of(batches_of(lengths, size))


def share_longest_of_all(lengths, size):
    total = len(lengths) * max(lengths)
    return (total - sum(lengths)) / total


def share_mean(lengths, size):
    shares = [share_of([batch]) for batch in batches_of(lengths, size)]
    return sum(shares) / len(shares)


def share_of_real(lengths, size):
    return sum(len(batch) * max(batch) - sum(batch) for batch in batches_of(lengths, size)) / sum(lengths)


def share_whole_batches(lengths, size):
    return share_of([lengths[i : i + size] for i in range(0, len(lengths) // size * size, size)])


def attention_right(scores, real):
    return torch.where(real, scores, -torch.inf).softmax(dim=-1)


def attention_rows(scores, real):
    return scores.masked_fill(~real[:, None], -torch.inf).softmax(dim=-1)


def attention_by_hand(scores, real):
    shares = scores.exp() * real
    return shares / shares.sum(dim=-1, keepdim=True)


def attention_with_penalty(scores, real):
    return scores.masked_fill(~real, -100).softmax(dim=-1)


SOLUTIONS = {
    "05.1": parameters,
    "05.2": attention_right,
    "05.3": aligned_right,
    "05.4": stretch_right,
    "05.5": share_right,
}

MISTAKES = {
    "05.1": [
        (miscount(bias=0), "Every convolution and every Linear has biases"),
        (miscount(norms=0, last_norm=False), "The LayerNorms learn too"),
        (miscount(last_norm=False), "After the last layer stands one more LayerNorm"),
        (miscount(kernel=1), "Kernel size 3"),
        (miscount(head=False), "you forgot the head"),
        (miscount(halvings=2), "4 × takes two convolutions. And 8 ×?"),
        (miscount(matrices=1), "Queries, keys and values have a matrix each"),
        (miscount(output=0), "one more Linear, d_model → d_model"),
        (miscount(down=0), "up to d_ff and comes down again"),
        (lambda *sizes: 10_500_000, "Expected 1970527"),
    ],
    "05.2": [
        (lambda scores, real: scores.softmax(dim=-1) * real, "no longer add up to 1"),
        (lambda scores, real: (scores * real).softmax(dim=-1), "You set the scores of padding to 0"),
        (attention_rows, "You masked queries"),
        (lambda scores, real: scores.softmax(dim=-1) * real[:, None], "You masked queries"),
        (lambda scores, real: scores.masked_fill(~real, -torch.inf).softmax(dim=0), "The shares of a *query*"),
        (lambda scores, real: scores.softmax(dim=-1), "as if it were sound"),
        (lambda scores, real: scores.masked_fill(real, -torch.inf).softmax(dim=-1), "listens to padding alone"),
        (lambda scores, real: (scores + ~real * -torch.inf).softmax(dim=-1), "0 × −inf is NaN"),
        (attention_by_hand, "e⁻²⁰⁰ is 0 in float32"),
        (lambda scores, real: scores.masked_fill(~real, -10).softmax(dim=-1), "A finite score leaves padding a share"),
        (attention_with_penalty, "A finite score leaves padding a share"),
        (lambda scores, real: scores.softmax(dim=-1)[:, real], "of shape (5, 5); yours: (5, 3)"),
    ],
    "05.3": [
        (lambda text, frames, by: math.ceil(frames / by) >= len(text), "Equal neighbours need a blank"),
        (lambda text, frames, by: frames // by >= len(text) + repeats(text), "Did you round down, or not at all?"),
        (lambda text, frames, by: frames / by >= len(text) + repeats(text), "Did you round down, or not at all?"),
        (lambda text, frames, by: frames >= len(text) + repeats(text), "CTC does not see mel frames"),
        (lambda text, frames, by: math.ceil(frames / by) > len(text) + repeats(text), "Exactly enough is enough"),
        (lambda text, frames, by: math.ceil(frames / by) >= 2 * len(text) - len(set(text)), "letters that come back anywhere"),
        (lambda text, *rest: aligned_right(text.replace(" ", ""), *rest), "The space is a symbol like any other"),
        (lambda *given: not aligned_right(*given), "the wrong way round"),
        (lambda *given: True, "Print both sides"),
        (lambda text, frames, by: math.ceil(frames / by), "give back True or False, not 4"),
    ],
    "05.4": [
        (stretch_in_place, "Copy first"),
        (stretch_with(0, bins=True), "You masked bins"),
        (stretch_with(0, after=1), "One frame too many"),
        (stretch_with(0, after=-1), "One frame too few"),
        (stretch_start_to_width, "where it ends, not how long it is"),
        (stretch_with(), "the quietest value of the clip"),
        (stretch_with(1), "You filled in ones"),
        (stretch_cut, "You cut the frames out"),
        (lambda log_mel, start, width: log_mel.clone(), "Nothing was masked"),
        (lambda log_mel, start, width: 0.0, "of shape (12, 10); yours: ()"),
        (stretch_with(-7), "other numbers, of shape (12, 10); yours: (12, 10)"),
    ],
    "05.5": [
        (share_longest_of_all, "not to the longest of all"),
        (share_mean, "A mean of shares"),
        (share_of_real, "You divided by what is real"),
        (share_whole_batches, "The last batch may be smaller"),
        (lambda lengths, size: share_right(sorted(lengths), size), "You sorted the clips"),
        (lambda lengths, size: 1 - share_right(lengths, size), "That is the share of sound"),
        (lambda lengths, size: "a quarter", "Expected 0.2671884"),
        (lambda lengths, size: torch.tensor(lengths), "Expected 0.2671884"),
    ],
}


def test_minus_a_milliard_is_as_good_as_minus_infinity(verdict):
    assert "right" in verdict("05.2", lambda scores, real: scores.masked_fill(~real, -1e9).softmax(dim=-1))
