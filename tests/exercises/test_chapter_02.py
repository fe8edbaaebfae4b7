"""Every exercise of chapter 02: its solution passes, its stub is not judged, and each planted mistake hears its own reason."""

import math

import pytest
import torch
import torch.nn.functional as F

from course_lib.exercises.chapter_02 import EXERCISES


def conv_length(frames, width, stride, padding):
    return (frames + 2 * padding - width) // stride + 1


def receptive_field(layers):
    reach, jump = 1, 1
    for width, stride in layers:
        reach, jump = reach + (width - 1) * jump, jump * stride
    return reach


def attention(queries, keys, values):
    return torch.softmax(queries @ keys.T / math.sqrt(queries.shape[1]), dim=1) @ values


def self_similarity(features):
    directions = F.normalize(features - features.mean(dim=0), dim=1)
    return directions @ directions.T


def score_to_beat(train, test):
    return test.count(max(train, key=train.count)) / len(test)


SOLUTIONS = {
    "02.1": conv_length,
    "02.2": receptive_field,
    "02.3": attention,
    "02.4": self_similarity,
    "02.5": score_to_beat,
}


def late_jump(layers):
    reach, jump = 1, 1
    for width, stride in layers:
        jump *= stride
        reach += (width - 1) * jump
    return reach


def unit(rows):
    return F.normalize(rows, dim=1)


WRONG = {
    "02.1": [
        (lambda n, w, s, p: (n + 2 * p - w) // s, "fence posts"),
        (lambda n, w, s, p: (n - w) // s + 1, "zeros are put at the ends"),
        (lambda n, w, s, p: (n + p - w) // s + 1, "at both ends"),
        (lambda n, w, s, p: n + 2 * p - w + 1, "moves by `stride`"),
        (lambda n, w, s, p: (n + 2 * p - w) / s + 1, "round down"),
        (lambda n, w, s, p: (n + 1) // s, "you say 34. Expected 37"),
        (lambda n, w, s, p: "many", "you say 'many'. Expected"),
    ],
    "02.2": [
        (lambda layers: 1 + sum(w - 1 for w, _ in layers), "strides before it"),
        (late_jump, "own stride"),
        (lambda layers: sum(w for w, _ in layers), "overlap"),
        (lambda layers: receptive_field(layers) - 1, "begin with 1"),
        (lambda layers: math.prod(w for w, _ in layers), "Expected 5"),
    ],
    "02.3": [
        (lambda q, k, v: torch.softmax(q @ k.T, 1) @ v, "√size?"),
        (lambda q, k, v: torch.softmax(q @ k.T / q.shape[1], 1) @ v, "not by its root"),
        (lambda q, k, v: torch.softmax(q @ k.T / math.sqrt(q.shape[1]), 0) @ v, "over the keys"),
        (lambda q, k, v: q @ k.T / math.sqrt(q.shape[1]) @ v, "Where is the softmax"),
        (lambda q, k, v: torch.softmax(k @ q.T / math.sqrt(q.shape[1]), 1) @ v, "yours are swapped"),
        (lambda q, k, v: torch.softmax(q @ k.T / math.sqrt(q.shape[1]), 1), "take shares of"),
        (lambda q, k, v: v[0], "Your shape is (9,), expected (4, 9)"),
        (lambda q, k, v: v, "other numbers"),
        (lambda q, k, v: 0.0, "other numbers"),
    ],
    "02.4": [
        (lambda x: unit(x) @ unit(x).T, "look alike"),
        (lambda x: unit(x - x.mean(1, keepdim=True)) @ unit(x - x.mean(1, keepdim=True)).T, "mean *row*"),
        (lambda x: (x - x.mean(0)) @ (x - x.mean(0)).T, "long rows win"),
        (lambda x: F.normalize(x - x.mean(0), dim=0) @ F.normalize(x - x.mean(0), dim=0).T, "the columns"),
        (lambda x: torch.eye(len(x)), "other numbers"),
        (lambda x: unit(x - x.mean(0)).T @ unit(x - x.mean(0)), "Your shape is (5, 5), expected (6, 6)"),
    ],
    "02.5": [
        (lambda train, test: test.count(max(test, key=test.count)) / len(test), "peeking"),
        (lambda train, test: train.count(max(train, key=train.count)) / len(train), "score on the training labels"),
        (lambda train, test: 1 / len(set(train)), "a die"),
        (lambda train, test: 0.9, "you say 0.9. Expected 0.2"),
        (lambda train, test: test.count(max(train, key=train.count)), "you say 1. Expected 0.2"),
    ],
}
PLANTED = [(key, wrong, reason) for key, planted in WRONG.items() for wrong, reason in planted]


@pytest.mark.parametrize("key", EXERCISES)
def test_the_solution_is_right(key, verdict):
    assert verdict(key, SOLUTIONS[key]) == f"{key}  right\n"


@pytest.mark.parametrize("key", EXERCISES)
def test_the_untouched_stub_is_not_judged(key, verdict):
    def stub(*inputs): ...

    assert f"{key}  not attempted yet" in verdict(key, stub)


@pytest.mark.parametrize(("key", "wrong", "reason"), PLANTED)
def test_a_planted_mistake_hears_its_own_reason(key, wrong, reason, verdict):
    said = verdict(key, wrong)
    assert said.startswith(f"{key}  not yet: ")
    assert reason in said
    others = [other for _, other in WRONG[key] if other != reason]
    assert not [other for other in others if other in said]


@pytest.mark.parametrize("key", EXERCISES)
def test_hints(key):
    assert 2 <= len(EXERCISES[key].hints) <= 4
