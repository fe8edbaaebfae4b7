"""Each exercise of chapter 04: the solution passes, the stub is not attempted, each planted mistake hears its own reason."""

import itertools
import math

from course_lib.ctc.paths import count_paths


def collapse_right(path):
    merged = [s for i, s in enumerate(path) if i == 0 or s != path[i - 1]]
    return [s for s in merged if s != 0]


def collapse_blanks_first(path):
    return [s for s, _ in itertools.groupby(s for s in path if s != 0)]


def collapse_unique(path):
    return list(dict.fromkeys(s for s in path if s))


def frames_right(word):
    return len(word) + sum(a == b for a, b in itertools.pairwise(word))


def step_right(alpha, row, states):
    new = []
    for s in range(len(states)):
        total = alpha[s]
        if s >= 1:
            total += alpha[s - 1]
        if s >= 2 and states[s] != 0 and states[s] != states[s - 2]:
            total += alpha[s - 2]
        new.append(total * row[states[s]])
    return new


def step_with(skip, how=sum, emit=True, wrap=False):
    def step(alpha, row, states):
        new = []
        for s, state in enumerate(states):
            ways = [alpha[s]] + ([alpha[s - 1]] if s >= 1 or wrap else [])
            if (s >= 2 or wrap) and skip(state, states[s - 2]):
                ways.append(alpha[s - 2])
            new.append(how(ways) * (row[state] if emit else 1))
        return new

    return step


def allowed(state, before):
    return state not in (0, before)


def start_loss_right(word, frames, vocab):
    return frames * math.log(vocab) - math.log(count_paths(word, frames))


def spans_right(path):
    spans, start = [], 0
    for letter, run in itertools.groupby(path):
        length = len(list(run))
        if letter != "_":
            spans.append((letter, start, start + length))
        start += length
    return spans


def spans_with_blanks(path):
    spans, start = [], 0
    for letter, run in itertools.groupby(path):
        spans.append((letter, start, start + len(list(run))))
        start = spans[-1][2]
    return spans


SOLUTIONS = {
    "04.1": collapse_right,
    "04.2": frames_right,
    "04.3": step_right,
    "04.4": start_loss_right,
    "04.5": spans_right,
}

MISTAKES = {
    "04.1": [
        (collapse_blanks_first, "remove the blanks before you merged"),
        (lambda path: [s for s in path if s], "neighbours that are equal must become one"),
        (lambda path: [s for s, _ in itertools.groupby(path)], "now the blanks (0) have to go"),
        (collapse_unique, "a letter may come back later"),
        (lambda path: sorted(collapse_right(path)), "Merge equal neighbours first, then drop every 0"),
        (lambda path: path[99], "stopped with IndexError"),
    ],
    "04.2": [
        (len, "You counted its letters"),
        (lambda word: 2 * len(word) + 1, "a blank around every letter"),
        (lambda word: 2 * len(word) - 1, "a blank between all letters"),
        (lambda word: len(word) + len(word) - len(set(word)), "come back anywhere"),
        (lambda word: 42, "Letters, plus one for each pair"),
    ],
    "04.3": [
        (step_with(lambda state, before: False), "no path steps over a blank"),
        (step_with(lambda state, before: True), "a blank can be skipped, a letter cannot"),
        (step_with(lambda state, before: state != 0), "the blank between two equal letters was skipped"),
        (step_with(allowed, how=max), "you kept the best way in"),
        (step_with(allowed, emit=False), "now multiply by how likely"),
        (step_with(allowed, wrap=True), "Which states lead into it?"),
        (lambda alpha, row, states: sum(step_right(alpha, row, states)), "give back a list of 7 numbers"),
        (lambda alpha, row, states: step_right(alpha, row, states)[1:], "give back a list of 7 numbers"),
    ],
    "04.4": [
        (lambda word, frames, vocab: frames * math.log(vocab), "the loss of one path"),
        (lambda *given: -start_loss_right(*given), "check your signs"),
        (lambda word, frames, vocab: len(word) * math.log(vocab), "plain cross-entropy"),
        (lambda *given: start_loss_right(*given) / math.log(2), "not base 2"),
        (lambda *given: start_loss_right(*given) / math.log(10), "natural logarithms (math.log)"),
        (lambda word, frames, vocab: frames * math.log(vocab) + math.log(count_paths(word, frames)), "so the loss smaller"),
        (lambda word, *given: start_loss_right(word, *given) / len(word) if len(word) > 1 else start_loss_right(word, *given),
         "the mean, not the sum"),
        (lambda word, frames, vocab: 0.5, "expected 5.769"),
    ],
    "04.5": [
        (lambda path: [(c, a, b - 1) for c, a, b in spans_right(path)], "`end` is the frame after the last one"),
        (spans_with_blanks, "blanks are no letters"),
        (lambda path: [(c, t, t + 1) for t, c in enumerate(path) if c != "_"], "merge the neighbours that are equal"),
        (lambda path: spans_right(path.replace("_", "")), "blanks take time"),
        (lambda path: spans_right(path)[:-1], "where you have None"),
        (lambda path: len(path), "give back a list of (letter, start, end)"),
    ],
}  # fmt: skip
