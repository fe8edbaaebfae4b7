"""Exercises of chapter 04, CTC: collapse, frames needed, a step of the forward algorithm, the loss at the start, spans."""

import itertools
import math
from collections.abc import Callable
from random import Random
from typing import Any

from course_lib.ctc.paths import collapse, count_paths, frames_needed, label_spans
from course_lib.exercises.base import Exercise, NotYet, attempt

Lists = list[float]

WORDS = ("otte", "nat", "ø", "bil", "hobby", "hallo", "anden", "sommer", "blåbær", "flagger", "ææh")


def _diagnose(found: Any, wrong: dict[str, Any], otherwise: str) -> NotYet:
    """The mistake whose result is what was found; `wrong` maps what to say to the result of that mistake."""
    return NotYet(next((say for say, result in wrong.items() if result == found), otherwise))


def _close(found: Any, expected: list[float]) -> bool:
    try:
        return len(found) == len(expected) and all(
            math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-9) for a, b in zip(found, expected, strict=True)
        )
    except TypeError:
        return False


def examine_collapse(answer: Callable[[list[int]], list[int]]) -> None:
    """04.1: merge repeats, then remove blanks."""
    rng = Random("04.1")
    paths = [[0, 0], [3, 3, 3], [1, 1, 2], [2, 0, 2, 2, 1, 0, 2], *([rng.randrange(4) for _ in range(9)] for _ in range(20))]
    for path in paths:
        found, expected = attempt(answer, list(path)), collapse(path)
        if found == expected:
            continue
        merged = [symbol for symbol, _ in itertools.groupby(path)]
        without = [symbol for symbol in path if symbol != 0]
        start = f"{path} gave {found}, expected {expected}. "
        wrong = {
            start + "Did you remove the blanks before you merged? Then no blank is left to keep a double letter apart.": [
                symbol for symbol, _ in itertools.groupby(without)
            ],
            start + "You removed the blanks; neighbours that are equal must become one, too, and before that.": without,
            start + "You merged the repeats; now the blanks (0) have to go.": merged,
            start + "Only neighbours merge: a letter may come back later in the word.": list(dict.fromkeys(without)),
        }
        raise _diagnose(found, wrong, start + "Merge equal neighbours first, then drop every 0.")


def examine_frames_needed(answer: Callable[[str], int]) -> None:
    """04.2: symbols + equal neighbours."""
    for word in WORDS:
        found, expected = attempt(answer, word), frames_needed(word)
        if found == expected:
            continue
        start = f'"{word}" gave {found}, expected {expected}. '
        doubled = sum(word.count(letter) - 1 for letter in set(word))
        wrong = {
            start + "You counted its letters. Equal neighbours need something between them.": len(word),
            start
            + "That is a blank around every letter. Blanks are allowed everywhere, but needed only between equal letters.": 2
            * len(word)
            + 1,
            start + "That is a blank between all letters. It is needed only between equal ones.": 2 * len(word) - 1,
            start + "You counted letters that come back anywhere; only neighbours would merge.": len(word) + doubled,
        }
        raise _diagnose(found, wrong, start + "Letters, plus one for each pair of equal neighbours.")


def _step(alpha: Lists, row: Lists, states: list[int], skip: str = "right", how: Callable[..., float] = sum) -> Lists:
    """One step of the forward algorithm in probabilities, or one with a planted mistake."""
    new = []
    for s, state in enumerate(states):
        ways = [alpha[s]]
        if s >= 1:
            ways.append(alpha[s - 1])
        right = s >= 2 and state != 0 and state != states[s - 2]
        if right if skip == "right" else (s >= 2 and skip == "always") or (skip == "letters" and s >= 2 and state != 0):
            ways.append(alpha[s - 2])
        new.append(how(ways) * row[state])
    return new


def examine_forward_step(answer: Callable[[Lists, Lists, list[int]], Lists]) -> None:
    """04.3: stay, one on, or two on over a blank between different letters."""
    rng = Random("04.3")
    for labels in ([1, 2, 3], [1, 2, 2, 3], [2, 2]):
        states = [0, *(state for label in labels for state in (label, 0))]
        alpha = [rng.random() for _ in states]
        row = [rng.random() for _ in range(4)]
        found, expected = attempt(answer, list(alpha), list(row), list(states)), _step(alpha, row, states)
        if _close(found, expected):
            continue
        start = f"for the states {states}: "
        wrong = {
            "no path steps over a blank. Two letters that differ may follow each other without one.": _step(
                alpha, row, states, "never"
            ),
            "a blank can be skipped, a letter cannot: a blank is entered from itself and from the letter before.": _step(
                alpha, row, states, "always"
            ),
            "the blank between two equal letters was skipped. They would merge into one.": _step(alpha, row, states, "letters"),
            "you kept the best way in; CTC adds all of them. (With max it is Viterbi, the last part of this notebook.)": _step(
                alpha, row, states, how=max
            ),
            "the ways are added up; now multiply by how likely the state's symbol is in this frame, row[states[s]].": _step(
                alpha, [1.0] * 4, states
            ),
        }
        for say, result in wrong.items():
            if _close(found, result):
                raise NotYet(start + say)
        if not hasattr(found, "__len__") or len(found) != len(states):
            raise NotYet(start + f"give back a list of {len(states)} numbers, one a state.")
        at = next((s for s in range(len(states)) if not _close([found[s]], [expected[s]])), 0)
        raise NotYet(start + f"state {at} gave {found[at]}, expected {expected[at]:.4f}. Which states lead into it?")


def examine_start_loss(answer: Callable[[str, int, int], float]) -> None:
    """04.4: frames · log(vocab) − log(number of paths)."""
    for word, frames, vocab in (("ø", 2, 31), ("nat", 4, 4), ("otte", 30, 31), ("tusind tak", 102, 31)):
        found = attempt(answer, word, frames, vocab)
        one_path = frames * math.log(vocab)
        paths = count_paths(word, frames)
        expected = one_path - math.log(paths)
        start = f'"{word}" in {frames} frames with {vocab} symbols: '
        if _close([found], [expected]):
            continue
        wrong = {
            "that is the loss of one path. There are many, and they are added up before the logarithm.": one_path,
            "logarithms of probabilities are negative, and a loss is minus that: check your signs.": -expected,
            "that is plain cross-entropy over the letters. CTC pays for every frame.": len(word) * math.log(vocab),
            "that is divided by the number of letters: the mean, not the sum.": expected / len(word),
            "take natural logarithms (math.log), as PyTorch does.": expected / math.log(10),
            "natural logarithms, not base 2: math.log(x).": expected / math.log(2),
            "more paths make a text more likely, so the loss smaller: subtract.": one_path + math.log(paths),
        }
        for say, result in wrong.items():
            if _close([found], [result]):
                raise NotYet(start + say)
        raise NotYet(start + f"gave {found}, expected {expected:.3f}. It is −log(number of paths × probability of each).")


def examine_spans(answer: Callable[[str], list[tuple[str, int, int]]]) -> None:
    """04.5: runs of a letter with first frame and the frame after the last."""
    rng = Random("04.5")
    paths = ["nnaa_t", "_oot_t_te__", *("".join(rng.choice("_øåt") for _ in range(9)) for _ in range(10))]
    for path in paths:
        found = attempt(answer, path)
        expected = _spans(path)
        try:
            tuples = [tuple(span) for span in found]
        except TypeError:
            raise NotYet(f'"{path}": give back a list of (letter, start, end), not {found!r}.') from None
        if tuples == expected:
            continue
        wrong = {
            "`end` is the frame after the last one, so that end − start is the length.": [
                (c, a, b - 1) for c, a, b in expected
            ],
            "blanks are no letters: leave their runs out, but count their frames.": _spans(path, blank=""),
            "a letter that comes back after a blank is a second letter, with a span of its own.": _joined(expected),
            "every frame has its own span; merge the neighbours that are equal.": [
                (c, t, t + 1) for t, c in enumerate(path) if c != "_"
            ],
            "blanks take time, too: the first frame is 0, and the frames of a blank count.": _spans(path.replace("_", "")),
        }
        raise _diagnose(
            tuples, {f'"{path}": {say}': result for say, result in wrong.items()}, _first_off(path, tuples, expected)
        )


def _spans(path: str, blank: str = "_") -> list[tuple[str, int, int]]:
    spans = label_spans([ord(letter) for letter in path], ord(blank) if blank else -1)
    return [(chr(symbol), start, end) for symbol, start, end in spans]


def _joined(spans: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    joined: list[tuple[str, int, int]] = []
    for letter, start, end in spans:
        if joined and joined[-1][0] == letter:
            joined[-1] = (letter, joined[-1][1], end)
        else:
            joined.append((letter, start, end))
    return joined


def _first_off(path: str, found: list[Any], expected: list[Any]) -> str:
    pairs = itertools.zip_longest(found, expected)
    got, wanted = next((a, b) for a, b in pairs if a != b)
    return f'"{path}": expected {wanted} where you have {got}.'


EXERCISES = {
    "04.1": Exercise(
        examine_collapse,
        (
            "Two steps, and their order is the lesson.",
            "A symbol survives merging if it differs from the one before it (the first always does).",
            "merged = [s for i, s in enumerate(path) if i == 0 or s != path[i - 1]]; then leave out the zeros of `merged`.",
        ),
    ),
    "04.2": Exercise(
        examine_frames_needed,
        (
            'Spell "otte" in as few frames as you can, with the widget. Why do four not do?',
            "Every letter needs a frame, and between two equal neighbours there must be a blank.",
            "zip(word, word[1:]) gives the pairs of neighbours; count those that are equal and add len(word).",
        ),
    ),
    "04.3": Exercise(
        examine_forward_step,
        (
            "For each state: who can lead into it? Itself, the one before, sometimes the one before that.",
            "Two before is allowed when the state is no blank (0) and differs from states[s - 2].",
            "new[s] = (alpha[s] + alpha[s - 1] + maybe alpha[s - 2]) * row[states[s]]",
            "Mind the edge: in Python alpha[-1] is the last one. Use s >= 1 and s >= 2.",
        ),
    ),
    "04.4": Exercise(
        examine_start_loss,
        (
            "When all symbols are equally likely in all frames, how likely is one path?",
            "Each of `frames` frames gives 1 / vocab; all paths are equally likely, and count_paths says how many there are.",
            "−log(count × (1 / vocab) ** frames). Take the logarithm apart before you compute it, or it underflows.",
        ),
    ),
    "04.5": Exercise(
        examine_spans,
        (
            "Walk over the path and remember where the present run began.",
            "itertools.groupby(path) gives runs of equal letters; keep a counter of frames that grows by the run's length.",
            'Append (letter, start, start + length) if letter != "_", and in either case start += length.',
        ),
    ),
}
