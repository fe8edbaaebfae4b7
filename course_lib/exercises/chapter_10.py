"""Exercises of chapter 10, decoding and measuring: a greedy loop, a cache's work, insertions, a paired draw, calibration."""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from random import Random
from statistics import fmean
from typing import Any

from course_lib.exercises.base import Exercise, NotYet, attempt
from course_lib.text.metrics import ErrorCounts, error_counts

Mistakes = Sequence[tuple[Any, str]]  # what each common mistake would give, and what to say to it
Next = Callable[[list[int]], list[float]]

END = 0


def examine_greedy(answer: Callable[[Next, int], list[int]]) -> None:
    """10.1: the likeliest token, again and again, until the end token or the limit."""
    for seed, most in (("a", 8), ("b", 20), ("c", 3), ("d", 1)):
        model = _toy_model(seed)
        found = attempt(answer, model, most)
        told = f"toy model {seed!r}, at most {most} tokens: you wrote {found!r}"
        expected = _greedy(model, most)
        mistakes = [
            (_greedy(model, most, "keeps end"), "The end token stops the loop, but it is no part of the text."),
            (_greedy(model, most + 1), "That is one token more than the limit allows."),
            (_greedy(model, most - 1), "That is one token too few: the limit itself is allowed."),
            (_greedy(model, most, "no stop"), f"Token {END} means the end: stop there."),
            (_greedy(model, most, "no feed"), "Every step was asked the same question. Show the model what you have written."),
            (_greedy(model, most, "last only"), "The model must see all that was written, not only the last token."),
            (_greedy(model, most, "min"), "You took the least likely token."),
        ]
        _expect(found, expected, told, mistakes, f"Expected {expected}: the likeliest token, append it, ask again.")


def _toy_model(seed: str) -> Next:
    """Probabilities of five tokens that depend on all that was written; the end gets likelier with every token, but in "c"."""

    def after(ids: list[int]) -> list[float]:
        rng = Random(f"10.1 {seed} {ids}")
        weights = [0.06 * len(ids) ** 2 * (seed != "c"), *(rng.random() + 0.1 for _ in range(4))]
        return [weight / sum(weights) for weight in weights]

    return after


def _greedy(model: Next, most: int, slip: str = "") -> list[int]:
    """The loop, or one with a planted slip."""
    ids: list[int] = []
    for _ in range(most):
        chances = model([] if slip == "no feed" else ids[-1:] if slip == "last only" else list(ids))
        token = chances.index(min(chances) if slip == "min" else max(chances))
        if token == END and slip != "no stop":
            return [*ids, token] if slip == "keeps end" else ids
        ids.append(token)
    return ids


def examine_positions(answer: Callable[[int, int], tuple[int, int]]) -> None:
    """10.2: positions multiplied for `steps` tokens after a prefix, without a cache and with one."""
    for prefix, steps in ((56, 11), (30, 1), (1, 5), (1500, 200)):
        found = attempt(answer, prefix, steps)
        told = f"a prefix of {prefix}, {steps} tokens written (the end among them): you say {found!r}"
        plain = prefix * steps + steps * (steps - 1) // 2
        kept = prefix + steps - 1
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise NotYet(f"{told}. Give back two numbers: without a cache, with one.")
        if plain != kept and tuple(found) == (kept, plain):
            raise NotYet(f"{told}. The other way round: first without a cache, then with one.")
        mistakes = [
            (prefix * steps, "Without a cache the text so far is read again as well, and it grows by one each step."),
            (plain + steps, "The first token is written after the prefix alone: there is no text yet to read."),
            (kept, "That is the count with a cache; without one, every step reads everything again."),
        ]
        _expect(found[0], plain, told, mistakes, f"Without a cache: {prefix} + {prefix + 1} + …, {steps} terms, is {plain:,}.")
        mistakes = [
            (prefix + steps, "The last token is written, but nobody reads it: the loop is over."),
            (steps, "The prefix has to be read once, cache or not."),
            (prefix, "The tokens that were written have to be read, too, each once."),
            (plain, "That is the count without a cache. With one, every position is multiplied once."),
        ]
        _expect(found[1], kept, told, mistakes, f"With a cache every position is multiplied once: {kept:,}.")


REFERENCES = ["ja", "det regner i dag", "hun har en rød cykel", "nej tak"]
HEARD = ["ja ja ja", "det regner i dag", "hun har rød cykel", "nej mange tak"]


def examine_insertions(answer: Callable[[list[str], list[str]], float]) -> None:
    """10.3: inserted words over the words of the references."""
    cases = [(REFERENCES, HEARD), (REFERENCES[:2], HEARD[:2]), (REFERENCES[1:3], ["det sner meget i dag", "hun har"])]
    for said, heard in cases:
        found = attempt(answer, list(said), list(heard))
        counts = error_counts(said, heard)
        total = sum(counts, ErrorCounts())
        lengths = [sum(len(text.split()) for text in texts) for texts in (said, heard)]
        told = f"{said} heard as {heard}: you say {found!r}"
        mistakes = [
            (total.rate, "That is the whole word error rate; only insertions are asked for."),
            (total.insertions / lengths[1], "You divided by the words written. A system that babbles would look better."),
            (fmean(c.insertions / c.reference_length for c in counts), "A mean of the clips' rates. Add up, divide once."),
            (float(total.insertions), "That is how many. Divide by the words that were said."),
            ((lengths[1] - lengths[0]) / lengths[0], "Words written minus said: a word lost hides a word made up. Align them."),
            (total.deletions / lengths[0], "Those are deletions: words said and not written."),
        ]
        expected = total.insertions / lengths[0]
        _expect(found, expected, told, mistakes, f"Expected {expected:.4f}: error_counts(…) has .insertions, clip by clip.")


Counts = list[int]


def examine_paired(answer: Callable[[Counts, Counts, Counts, Counts], float]) -> None:
    """10.4: the difference of two word error rates on one draw of clips."""
    rng = Random("10.4")
    for clips in (5, 12, 40):
        words = [rng.randint(1, 9) for _ in range(clips)]
        first = [rng.randint(0, count) for count in words]
        second = [rng.randint(0, count) for count in words]
        draw = [rng.randrange(clips) for _ in range(clips)]
        found = attempt(answer, list(first), list(second), list(words), list(draw))
        expected = _rate(second, words, draw) - _rate(first, words, draw)
        every = list(range(clips))
        once = sorted(set(draw))
        more = sum(second[i] - first[i] for i in draw)
        told = f"{clips} clips, of which {len(once)} were drawn: you say {found!r}"
        mistakes = [
            (-expected, "The sign: second minus first, so that below zero the second is better."),
            (_rate(second, words, every) - _rate(first, words, every), "That is the difference on all clips. Use `draw`."),
            (_rate(second, words, draw) - _rate(first, words, every), "Draw for both systems: that is the pairing."),
            (_rate(second, words, every) - _rate(first, words, draw), "Draw for both systems: that is the pairing."),
            (more / sum(words), "Divide by the words of the clips that were *drawn*; other clips, other words."),
            (fmean((second[i] - first[i]) / words[i] for i in draw), "A mean of the clips' rates. Add up first, divide once."),
            (_rate(second, words, once) - _rate(first, words, once), "A clip that is drawn twice counts twice."),
            (more, "Errors, but not a rate: divide by the words drawn."),
        ]
        _expect(found, expected, told, mistakes, f"Expected {expected:.4f}: sums over the clips in `draw`.")


def _rate(errors: Counts, words: Counts, clips: Counts) -> float:
    return sum(errors[i] for i in clips) / sum(words[i] for i in clips)


def examine_calibration(answer: Callable[[list[float], list[bool], int], float]) -> None:
    """10.5: expected calibration error over bins of equal width."""
    rng = Random("10.5")
    for clips, bins in ((6, 2), (30, 5), (50, 10)):
        # Never on an edge: which bin has 0.2 is a convention.
        sure = [rng.randrange(bins) / bins + rng.uniform(0.1, 0.9) / bins for _ in range(clips)]
        sure[:2] = [0.97, 0.99]
        right = [rng.random() < 0.4 + 0.4 * value for value in sure]
        found = attempt(answer, list(sure), list(right), bins)
        groups = _groups(sure, right, bins)
        expected = sum(len(group) * abs(_gap(group)) for group in groups) / clips
        gaps = [_gap(group) for group in groups]
        told = f"{clips} clips in {bins} bins: you say {found!r}"
        cancelled = "Too sure here and too shy there cancelled out."
        single = "That compares clip by clip, and one clip is right or wrong, never 80 % right. First average within a bin."
        mistakes = [
            (fmean(map(abs, gaps)), "A bin of one clip counted like a bin of thirty. Weigh each by its clips."),
            (sum(map(abs, gaps)) / bins, "You divided by all bins, also empty ones. Weigh each bin by its clips."),
            (fmean(right) - fmean(sure), f"{cancelled} Take |accuracy − confidence| of each bin."),
            (fmean(sure) - fmean(right), f"{cancelled} Take |accuracy − confidence| of each bin."),
            (fmean(abs(is_right - value) for value, is_right in zip(sure, right, strict=True)), single),
            (max(map(abs, gaps)), "That is the worst bin (the *maximum* calibration error). Asked is the average."),
        ]
        _expect(found, expected, told, mistakes, f"Expected {expected:.4f}. Bin number: int(confidence * bins).")


def _groups(sure: list[float], right: list[bool], bins: int) -> list[list[tuple[float, bool]]]:
    pairs = list(zip(sure, right, strict=True))
    groups = [[pair for pair in pairs if int(pair[0] * bins) == place] for place in range(bins)]
    return [group for group in groups if group]


def _gap(group: list[tuple[float, bool]]) -> float:
    return fmean(is_right for _, is_right in group) - fmean(value for value, _ in group)


def _expect(found: Any, expected: Any, told: str, mistakes: Mistakes, otherwise: str) -> None:
    """Pass, or raise NotYet with the first mistake that gives exactly what was found."""
    if _same(found, expected):
        return
    reason = next((text for value, text in mistakes if value is not None and _same(found, value)), otherwise)
    raise NotYet(f"{told}. {reason}")


def _same(found: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        try:
            return [int(token) for token in found] == expected
        except (TypeError, ValueError):
            return False
    number = isinstance(found, Real) or getattr(found, "ndim", None) == 0
    return number and math.isclose(float(found), expected, rel_tol=1e-6, abs_tol=1e-9)


EXERCISES = {
    "10.1": Exercise(
        examine_greedy,
        (
            "Start with an empty list. Ask next_probabilities(ids); which token has the highest probability?",
            "max(range(len(p)), key=p.__getitem__) is the place of the largest number in p.",
            "for _ in range(max_new_tokens): ask, pick; a 0 means return what you have. And return behind the loop.",
        ),
    ),
    "10.2": Exercise(
        examine_positions,
        (
            "Take a pencil, 3 positions and 2 tokens. Step 1 reads all 3. What does step 2 read, without a cache and with?",
            "Without: prefix, prefix + 1, prefix + 2, …, one term a step. With: prefix, then 1, 1, …",
            "sum(prefix + step for step in range(steps)), and prefix + (steps - 1).",
        ),
    ),
    "10.3": Exercise(
        examine_insertions,
        (
            "An insertion is a step of the alignment, not a difference of lengths. Who has the alignment?",
            "error_counts(references, hypotheses) gives one ErrorCounts a clip, with .insertions and .reference_length.",
            "Sum of .insertions over all clips, divided by the sum of .reference_length.",
        ),
    ),
    "10.4": Exercise(
        examine_paired,
        (
            "`draw` is a list of clip numbers; some come twice, some never. Both systems get the same list.",
            "Errors of the second system on the draw: sum(second[i] for i in draw). Words: sum(words[i] for i in draw).",
            "(errors of the second − errors of the first) / words, all three over the draw.",
        ),
    ),
    "10.5": Exercise(
        examine_calibration,
        (
            "Put each clip into bin int(confidence * bins). What is compared is one pair of means a bin.",
            "In a bin: the share of clips that are right, minus the mean confidence, without its sign.",
            "Weigh each bin by its number of clips, add up, divide by all clips. Empty bins have nothing to add.",
        ),
    ),
}
