"""Each exercise of chapter 07: the solution passes, the stub is not attempted, each planted mistake hears its own reason."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from course_lib.ctc.paths import frames_needed


def whole(features, k):
    return features[: len(features) // k * k]


def stack_right(features, k):
    return rearrange(whole(features, k), "(tokens k) d -> tokens (k d)", k=k)


def count_right(feature_dim, k, hidden_dim, llm_dim):
    return (k * feature_dim + 1) * hidden_dim + (hidden_dim + 1) * llm_dim


def largest_k_right(text, features):
    return features // frames_needed(text)


def nearest_right(tokens, table, count):
    return (F.normalize(tokens, dim=1) @ F.normalize(table, dim=1).T).topk(count).indices


def nearest_values(tokens, table, count):
    return (F.normalize(tokens, dim=1) @ F.normalize(table, dim=1).T).topk(count).values


SOLUTIONS = {"07.1": nearest_right, "07.2": stack_right, "07.3": count_right, "07.4": largest_k_right}

MISTAKES = {
    "07.1": [
        (lambda tokens, table, count: (tokens @ table.T).topk(count).indices, "long rows win"),
        (lambda tokens, table, count: torch.cdist(tokens, table).topk(count, largest=False).indices, "by distance"),
        (lambda tokens, table, count: nearest_right(-tokens, table, count), "the least alike"),
        (nearest_values, "these are the cosines"),
        (lambda tokens, table, count: nearest_right(tokens, table, count).flip(1), "the nearest should come first"),
        (lambda tokens, table, count: nearest_right(table, tokens, min(count, len(tokens))), "ask each token"),
        (lambda tokens, table, count: nearest_right(tokens, table, count)[:, :-1], "the shape is"),
        (lambda tokens, table, count: nearest_right(tokens, table, count) + 1, "row"),
    ],
    "07.2": [
        (lambda features, k: rearrange(features, "(tokens k) d -> tokens (k d)", k=k), "stopped with EinopsError"),
        (lambda features, k: rearrange(whole(features, k), "(tokens k) d -> tokens (d k)", k=k), "are there, but mixed"),
        (lambda features, k: rearrange(whole(features, k), "(k tokens) d -> tokens (k d)", k=k), "lie far apart"),
        (lambda features, k: whole(features, k)[::k], "every k-th frame is kept"),
        (lambda features, k: whole(features, k).unflatten(0, (-1, k)).mean(dim=1), "the mean of the neighbours"),
        (lambda features, k: stack_right(features[1:], k), "the shape is"),
        (lambda features, k: stack_right(features.flip(0), k), "row"),
        (lambda features, k: features.tolist(), "give back a tensor, not list"),
    ],
    "07.3": [
        (lambda d, k, hidden, llm: k * d * hidden + hidden * llm, "a bias, one number for each"),
        (lambda d, k, hidden, llm: (d + 1) * hidden + (hidden + 1) * llm, "reads k frames side by side"),
        (lambda d, k, hidden, llm: (k * d + 1) * hidden, "That is the first layer"),
        (lambda d, k, hidden, llm: (k * d + 1) * llm, "straight into the language model"),
        (lambda d, k, hidden, llm: count_right(d, k, hidden, llm) + k * d, "two biases"),
        (lambda d, k, hidden, llm: 2_600_000, "Draw the two matrices"),
    ],
    "07.4": [
        (lambda text, features: features // len(text), "Equal neighbours need a token between them"),
        (lambda text, features: features / frames_needed(text), "k is a whole number"),
        (lambda text, features: -(-features // frames_needed(text)), "Rounded up"),
        (lambda text, features: frames_needed(text), "how many audio tokens the text needs"),
        (lambda text, features: features // frames_needed(text.replace(" ", "")), "The spaces are letters, too"),
        (lambda text, features: largest_k_right(text, features) - 1, "a larger k fits"),
        (lambda text, features: 77, "audio tokens for the"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("key", MISTAKES)
def test_every_mistake_has_its_own_message(verdict, key):
    said = {verdict(key, wrong) for wrong, _ in MISTAKES[key]}
    assert len(said) == len(MISTAKES[key]) >= 3
