"""Exercises of chapter 10, decoding and measuring: a greedy loop, a cache's work, insertions, a paired draw, calibration."""

import math
from collections.abc import Callable, Sequence
from random import Random
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from course_lib.exercises.base import Exercise, Mistake
from course_lib.exercises.reading import Ids, Number, Numbers, Parts
from course_lib.text.metrics import ErrorCounts, error_counts

END = 0
VOCAB = 5


class Probabilities(Tensor):
    """A tensor that also has a list's `index`: whoever takes it for one or the other is right."""

    def index(self, value: Any) -> int:
        return self.tolist().index(float(value))


class ToyModel:
    """Probabilities of five tokens that depend on all that was written. It goes on after the end token, as any model would."""

    def __init__(self, name: str, end_after: float):
        self.name = name
        self.end_after = end_after

    def __call__(self, ids: Any) -> Probabilities:
        written = [int(token) for token in ids]
        rng = Random(f"10.1 {self.name} {written}")
        weights = [len(written) / self.end_after, *(rng.random() + 0.1 for _ in range(VOCAB - 1))]
        if END in written:
            weights[END] = 0.05
        return torch.tensor([weight / sum(weights) for weight in weights], dtype=torch.double).as_subclass(Probabilities)

    def __repr__(self) -> str:
        return f"toy model {self.name!r}"


def greedy(next_probabilities: Callable[[list[int]], Tensor], max_new_tokens: int) -> list[int]:
    """The likeliest token, again and again, until the end token or the limit."""
    return _greedy(next_probabilities, max_new_tokens)


def _greedy(model: Callable[[list[int]], Tensor], most: int, slip: str = "") -> list[int]:
    """The loop, or one with a planted slip."""
    ids: list[int] = []
    for _ in range(most):
        chances = model([] if slip == "no feed" else ids[-1:] if slip == "last only" else list(ids)).tolist()
        token = chances.index(min(chances) if slip == "min" else max(chances))
        if token == END and slip not in ("no stop", "filters"):
            return [*ids, token] if slip == "keeps end" else ids
        ids.append(token)
    return [token for token in ids if token != END] if slip == "filters" else ids


def greedy_cases() -> list[tuple[ToyModel, int]]:
    """Models that stop soon, late, at once and never; limits that are reached, that are not, and of 0 and 1 token."""
    models = [ToyModel("a", 4.0), ToyModel("b", 9.0), ToyModel("never", 1e9), ToyModel("d", 2.0)]
    cases = [(model, most) for model in models for most in (8, 20, 3, 1, 0)]
    return [*cases, (_Silent("silent", 1.0), 5)]


class _Silent(ToyModel):
    """Says the end at once, and then goes on."""

    def __call__(self, ids: Any) -> Probabilities:
        if len(ids) == 0:
            return torch.tensor([0.9, 0.1, 0.0, 0.0, 0.0], dtype=torch.double).as_subclass(Probabilities)
        return super().__call__(ids)


def positions(prefix: int, steps: int) -> tuple[int, int]:
    """Positions multiplied for `steps` tokens after a prefix, without a cache and with one."""
    return prefix * steps + steps * (steps - 1) // 2, prefix + steps - 1


def _without(change: Callable[[int, int], int]) -> Callable[[int, int], tuple[int, int]]:
    return lambda prefix, steps: (change(prefix, steps), positions(prefix, steps)[1])


def _with(change: Callable[[int, int], int]) -> Callable[[int, int], tuple[int, int]]:
    return lambda prefix, steps: (positions(prefix, steps)[0], change(prefix, steps))


Texts = list[str]

REFERENCES = ["ja", "det regner i dag", "hun har en rød cykel", "nej tak"]
HEARD = ["ja ja ja", "det regner i dag", "hun har rød cykel", "nej mange tak"]


def insertion_rate(references: Texts, hypotheses: Texts) -> float:
    """Inserted words over the words of the references."""
    return _total(references, hypotheses).insertions / _words(references)


def _total(references: Texts, hypotheses: Texts) -> ErrorCounts:
    return sum(error_counts(references, hypotheses), ErrorCounts())


def _words(texts: Texts) -> int:
    return sum(len(text.split()) for text in texts)


def _by_lengths(references: Texts, hypotheses: Texts) -> float:
    return (_words(hypotheses) - _words(references)) / _words(references)


def _by_clip_lengths(references: Texts, hypotheses: Texts) -> float:
    surplus = [len(b.split()) - len(a.split()) for a, b in zip(references, hypotheses, strict=True)]
    return sum(max(0, more) for more in surplus) / _words(references)


def _joined(references: Texts, hypotheses: Texts) -> float:
    return insertion_rate([" ".join(references)], [" ".join(hypotheses)])


def _mean_of_clips(references: Texts, hypotheses: Texts) -> float:
    counts = error_counts(references, hypotheses)
    return fmean(c.insertions / max(c.reference_length, 1) for c in counts)


def insertion_cases() -> list[tuple[Texts, Texts]]:
    """Insertions beside deletions in one clip and across clips, none, babble, silence that was written on, nothing written."""
    return [
        (REFERENCES, HEARD),
        (REFERENCES[:2], HEARD[:2]),
        (REFERENCES[1:3], ["det sner meget i dag", "hun har"]),
        (["nu går vi hjem i aften"], ["så nu går vi hjem"]),
        (["en kop te", "ja tak"], ["en kop", "te ja tak"]),
        (["", "hej med dig"], ["det er nok", "hej"]),
        (["god morgen"], [""]),
        (["a b c d", "e f"], ["x a b d y", "e f"]),
        (["det er godt"], ["det er godt"]),
    ]


Counts = list[int]


def paired_difference(first: Counts, second: Counts, words: Counts, draw: Counts) -> float:
    """The difference of two word error rates on one draw of clips, second minus first."""
    return _rate(second, words, draw) - _rate(first, words, draw)


def _rate(errors: Counts, words: Counts, clips: Sequence[int]) -> float:
    return sum(errors[i] for i in clips) / sum(words[i] for i in clips)


def _every(words: Counts) -> range:
    return range(len(words))


def paired_cases() -> list[tuple[Counts, Counts, Counts, Counts]]:
    """Small and large draws, with clips that come twice and never, a draw of one clip again and again, a tie."""
    rng = Random("10.4")
    cases = []
    for clips, drawn in ((5, 5), (12, 12), (40, 40), (6, 3), (4, 9)):
        words = [rng.randint(1, 9) for _ in range(clips)]
        errors = [[rng.randint(0, count) for count in words] for _ in range(2)]
        cases.append((*errors, words, [rng.randrange(clips) for _ in range(drawn)]))
    return [*cases, ([1, 0], [0, 2], [4, 5], [1, 1]), ([1, 2], [1, 2], [3, 3], [0, 1]), ([2], [1], [8], [0])]


Sure = list[float]


def expected_calibration_error(confidences: Sure, right: list[bool], bins: int) -> float:
    """|Share right − mean confidence| of each bin of equal width, weighted by its clips; 1 is in the last bin."""
    groups = _groups(confidences, right, bins)
    return sum(len(group) * abs(_gap(group)) for group in groups) / len(right)


Group = list[tuple[float, bool]]


def _groups(sure: Sure, right: list[bool], bins: int, keep_last: bool = True, round_: Callable = int) -> list[Group]:
    pairs = list(zip(sure, right, strict=True))
    places = [min(round_(value * bins), bins - 1) if keep_last else round_(value * bins) for value in sure]
    groups = [[pair for pair, place in zip(pairs, places, strict=True) if place == one] for one in range(bins + 1)]
    return [group for group in groups if group]


def _gap(group: Group) -> float:
    return fmean(is_right for _, is_right in group) - fmean(value for value, _ in group)


def _weighted(groups: list[Group], total: int) -> float:
    return sum(len(group) * abs(_gap(group)) for group in groups) / total


def _by_size(confidences: Sure, right: list[bool], bins: int) -> float:
    """Bins of equally many clips, and not of equal width."""
    pairs = sorted(zip(confidences, right, strict=True))
    groups = [pairs[len(pairs) * at // bins : len(pairs) * (at + 1) // bins] for at in range(bins)]
    return _weighted([group for group in groups if group], len(pairs))


def _gaps(confidences: Sure, right: list[bool], bins: int) -> list[float]:
    return [abs(_gap(group)) for group in _groups(confidences, right, bins)]


def calibration_cases() -> list[tuple[Sure, list[bool], int]]:
    """Empty bins, one bin, one clip, certainty of exactly 1 beside others in the last bin, exactly 0, too sure and too shy."""
    rng = Random("10.5")
    cases = []
    for clips, bins in ((6, 2), (30, 5), (50, 10), (20, 1)):
        # Never on an inner edge: which bin has 0.2 is a convention.
        sure = [rng.randrange(bins) / bins + rng.uniform(0.1, 0.9) / bins for _ in range(clips)]
        sure[:2] = [0.97, 0.99]
        cases.append((sure, [rng.random() < 0.4 + 0.4 * value for value in sure], bins))
    edges = ([1.0, 0.93, 1.0, 0.0, 0.07], [False, True, False, False, True], 5)
    alone = ([0.7], [True], 4)
    mixed = ([0.95, 0.9, 0.15, 0.1], [False, False, True, True], 2)
    return [*cases, edges, alone, mixed]


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / temperature)."""
    return torch.softmax(logits / temperature, dim=-1)


def tempered_upside_down(logits: Tensor, temperature: float) -> Tensor:
    """The broken one: it multiplies, so that heat makes it surer."""
    return torch.softmax(logits * temperature, dim=-1)


def temperature_cases() -> list[tuple[Tensor, float]]:
    """Hot, cold and neutral, on a few tokens and on many."""
    rng = torch.Generator().manual_seed(106)
    return [(torch.randn(size, generator=rng) * 2, heat) for size, heat in ((4, 2.0), (7, 0.5), (3, 1.0), (20, 5.0), (2, 0.1))]


EXERCISES: dict[str, Exercise] = {
    "10.1": Exercise(
        title="the loop",
        level=2,
        minutes=12,
        purpose="to turn probabilities into a sentence",
        solve=greedy,
        cases=greedy_cases,
        reader=Ids(),
        mistakes=(
            Mistake(lambda m, n: _greedy(m, n, "keeps end"), "The end token stops the loop, but it is no part of the text."),
            Mistake(lambda m, n: _greedy(m, n + 1), "That is one token more than the limit allows."),
            Mistake(lambda m, n: _greedy(m, n - 1), "That is one token too few: the limit itself is allowed."),
            Mistake(lambda m, n: _greedy(m, n, "no stop"), f"Token {END} means the end: stop there."),
            Mistake(
                lambda m, n: _greedy(m, n, "filters"), "You took the end tokens out, but wrote on behind the first of them."
            ),
            Mistake(
                lambda m, n: _greedy(m, n, "no feed"), "Every step was asked the same question. Show what you have written."
            ),
            Mistake(
                lambda m, n: _greedy(m, n, "last only"), "The model must see all that was written, not only the last token."
            ),
            Mistake(lambda m, n: _greedy(m, n, "min"), "You took the least likely token."),
            Mistake(lambda m, n: _greedy(m, 20), "The limit is not always 20."),
        ),
        otherwise="The likeliest token, append it, ask again.",
        hints=(
            "Start with an empty list. Ask next_probabilities(ids); which token has the highest probability?",
            "`.argmax()` is the place of the largest number; int(…) makes a plain number of it.",
            "for _ in range(max_new_tokens): ask, pick; a 0 means return what you have. And return behind the loop.",
        ),
    ),
    "10.2": Exercise(
        title="how much work?",
        level=2,
        minutes=10,
        purpose="to say what a cache saves, before it is built",
        solve=positions,
        cases=lambda: [(56, 11), (30, 1), (1, 5), (1500, 200), (7, 2), (3, 3)],
        reader=Parts(Number(whole=True), Number(whole=True), wanted="two whole numbers, (without a cache, with one)"),
        mistakes=(
            Mistake(lambda p, s: positions(p, s)[::-1], "The other way round: first without a cache, then with one."),
            Mistake(
                _without(lambda p, s: p * s),
                "Without a cache the text so far is read again as well; it grows by one each step.",
            ),
            Mistake(_without(lambda p, s: positions(p, s)[0] + s), "The first token is written after the prefix alone."),
            Mistake(
                _without(lambda p, s: p + s - 1),
                "The first number has a cache; without one, every step reads everything again.",
            ),
            Mistake(_with(lambda p, s: p + s), "The last token is written, but nobody reads it: the loop is over."),
            Mistake(_with(lambda p, s: s), "The prefix has to be read once, cache or not."),
            Mistake(_with(lambda p, s: p), "The tokens that were written have to be read, too, each once."),
            Mistake(
                _with(lambda p, s: positions(p, s)[0]), "The second number has no cache; with one, every position comes once."
            ),
            Mistake(lambda p, s: (positions(p, s)[0] + s, p + s), "Both read the last token, too; but then the loop is over."),
        ),
        otherwise="Take 3 positions and 2 tokens and count with a pencil.",
        hints=(
            "Take a pencil, 3 positions and 2 tokens. Step 1 reads all 3. What does step 2 read, without a cache and with?",
            "Without: prefix, prefix + 1, prefix + 2, …, one term a step. With: prefix, then 1, 1, …",
        ),
    ),
    "10.3": Exercise(
        title="the insertion rate",
        level=2,
        minutes=10,
        purpose="to see invented words where the WER hides them",
        solve=insertion_rate,
        cases=insertion_cases,
        reader=Number(),
        mistakes=(
            Mistake(lambda a, b: _total(a, b).rate, "That is the whole word error rate; only insertions are asked for."),
            Mistake(
                lambda a, b: _total(a, b).insertions / max(_words(b), 1),
                "You divided by the words written. A system that babbles would look better.",
            ),
            Mistake(_mean_of_clips, "A mean of the clips' rates. Add up, divide once."),
            Mistake(lambda a, b: float(_total(a, b).insertions), "That is how many. Divide by the words that were said."),
            Mistake(_by_lengths, "Words written minus said: a word lost hides a word made up. Align them."),
            Mistake(
                _by_clip_lengths, "Longer clips, counted by lengths: a word lost in a clip hides one made up in it. Align them."
            ),
            Mistake(_joined, "You joined all sentences: then a word made up here is matched with one lost there."),
            Mistake(lambda a, b: _total(a, b).deletions / _words(a), "Those are deletions: words said and not written."),
            Mistake(lambda a, b: _total(a, b).substitutions / _words(a), "Those are substitutions."),
            Mistake(
                lambda a, b: _total(a, b).insertions / max(_total(a, b).errors, 1),
                "That is the share of insertions among the errors.",
            ),
            Mistake(lambda a, b: _total(a, b).insertions / len(a), "You divided by the number of clips."),
        ),
        otherwise="Insertions of all clips over the words said in all clips.",
        hints=(
            "An insertion is a step of the alignment, not a difference of lengths. Who has the alignment?",
            "error_counts(references, hypotheses) gives one ErrorCounts a clip, with .insertions and .reference_length.",
            "Two sums over all clips, one division.",
        ),
    ),
    "10.4": Exercise(
        title="one paired draw",
        level=2,
        minutes=10,
        purpose="to compare two systems on the same luck",
        solve=paired_difference,
        cases=paired_cases,
        reader=Number(),
        mistakes=(
            Mistake(lambda a, b, w, d: -paired_difference(a, b, w, d), "The sign: second minus first."),
            Mistake(lambda a, b, w, d: paired_difference(a, b, w, list(_every(w))), "That is on all clips. Use `draw`."),
            Mistake(
                lambda a, b, w, d: _rate(b, w, d) - _rate(a, w, _every(w)),
                "Draw for the first system, too: that is the pairing.",
            ),
            Mistake(
                lambda a, b, w, d: _rate(b, w, _every(w)) - _rate(a, w, d),
                "Draw for the second system, too: that is the pairing.",
            ),
            Mistake(
                lambda a, b, w, d: sum(b[i] - a[i] for i in d) / sum(w),
                "Divide by the words of the clips that were *drawn*; other clips, other words.",
            ),
            Mistake(
                lambda a, b, w, d: fmean((b[i] - a[i]) / w[i] for i in d),
                "A mean of the clips' rates. Add up first, divide once.",
            ),
            Mistake(lambda a, b, w, d: paired_difference(a, b, w, sorted(set(d))), "A clip that is drawn twice counts twice."),
            Mistake(
                lambda a, b, w, d: float(sum(b[i] - a[i] for i in d)), "Errors, but not a rate: divide by the words drawn."
            ),
            Mistake(lambda a, b, w, d: sum(b[i] - a[i] for i in d) / len(d), "You divided by the clips; a rate is per word."),
            Mistake(lambda a, b, w, d: abs(paired_difference(a, b, w, d)), "The sign tells which is better: no abs."),
            Mistake(
                lambda a, b, w, d: _rate(b, w, d) / _rate(a, w, d) - 1 if _rate(a, w, d) else math.inf,
                "That is relative to the first; the plain difference is wanted.",
            ),
        ),
        otherwise="Sums over the clips in `draw`.",
        hints=(
            "`draw` is a list of clip numbers; some come twice, some never. Both systems get the same list.",
            "Errors of the second system on the draw: sum(second[i] for i in draw). And the words?",
            "The difference of two rates on the same clips: one denominator.",
        ),
    ),
    "10.5": Exercise(
        title="the calibration error",
        level=3,
        minutes=15,
        purpose="to ask whether “90 % sure” is right nine times in ten",
        solve=expected_calibration_error,
        cases=calibration_cases,
        reader=Number(),
        mistakes=(
            Mistake(
                lambda c, r, n: fmean(_gaps(c, r, n)),
                "A bin of one clip counted like a bin of thirty. Weigh each by its clips.",
            ),
            Mistake(
                lambda c, r, n: sum(_gaps(c, r, n)) / n, "You divided by all bins, also empty ones. Weigh each by its clips."
            ),
            Mistake(
                lambda c, r, n: fmean(r) - fmean(c), "Too sure here and too shy there cancelled out, and the sign is left."
            ),
            Mistake(
                lambda c, r, n: fmean(c) - fmean(r), "Too sure here and too shy there cancelled out; no bin was looked at."
            ),
            Mistake(
                lambda c, r, n: abs(fmean(r) - fmean(c)), "Too sure here and too shy there cancelled out: bin by bin, please."
            ),
            Mistake(
                lambda c, r, n: fmean(abs(is_right - value) for value, is_right in zip(c, r, strict=True)),
                "That compares clip by clip, and one clip is right or wrong, never 80 % right. First average within a bin.",
            ),
            Mistake(lambda c, r, n: max(_gaps(c, r, n)), "That is the worst bin (the *maximum* calibration error)."),
            Mistake(
                lambda c, r, n: _weighted(_groups(c, r, n, keep_last=False), len(r)),
                "A confidence of exactly 1 belongs to the last bin; yours has a bin of its own.",
            ),
            Mistake(
                lambda c, r, n: _weighted([g for g in _groups(c, r, n, False) if g[0][0] < 1.0], len(r)),
                "A confidence of exactly 1 was lost: it belongs to the last bin.",
            ),
            Mistake(_by_size, "Your bins hold equally many clips; here they are equally wide."),
            Mistake(lambda c, r, n: _weighted(_groups(c, r, 10), len(r)), "There are not always ten bins."),
            Mistake(
                lambda c, r, n: sum(len(g) * _gap(g) ** 2 for g in _groups(c, r, n)) / len(r), "The distance, not its square."
            ),
        ),
        otherwise="Bin number: min(int(confidence * bins), bins − 1).",
        hints=(
            "Put each clip into its bin. What is compared is one pair of means a bin.",
            "In a bin: the share of clips that are right, minus the mean confidence, without its sign.",
            "Weigh each bin by its number of clips, add up, divide by all clips. Empty bins have nothing to add.",
        ),
    ),
    "10.6": Exercise(
        title="repair: hotter and surer",
        level=1,
        minutes=6,
        purpose="to know which way a temperature turns",
        solve=tempered,
        cases=temperature_cases,
        reader=Numbers(),
        broken=tempered_upside_down,
        symptom="At temperature 2 it draws the likeliest token more often, at 0.5 nearly anything. What does heat do?",
        mistakes=(
            Mistake(
                lambda x, t: torch.softmax(x, dim=-1) / t,
                "Divide before the softmax: afterwards the shares no longer add up to 1.",
            ),
            Mistake(lambda x, t: torch.softmax(x, dim=-1), "The temperature is not used."),
            Mistake(lambda x, t: x / t, "Those are scores; the softmax is missing."),
            Mistake(lambda x, t: torch.log_softmax(x / t, dim=-1), "Those are logarithms of the probabilities."),
        ),
        otherwise="As the temperature grows, all tokens become equally likely.",
        hints=("When all scores are equal, so are the probabilities. What brings scores closer together?", "Division does."),
    ),
}
