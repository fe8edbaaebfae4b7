"""Exercises of notebook 04, CTC: collapse, shortest path, forward step, first loss, spans, Viterbi, prefix beam, a repair."""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from random import Random

from course_lib.ctc.paths import collapse, count_paths, label_spans
from course_lib.exercises.base import Exercise, Mistake
from course_lib.exercises.reading import Ids, ListOf, Number, Numbers, OneOf, Parts, Text

Floats = list[float]
Pieces = list[list[int]]
Rows = list[Floats]

WORDS = (
    "otte",
    "nat",
    "ø",
    "bil",
    "hobby",
    "hallo",
    "anden",
    "sommer",
    "blåbær",
    "flagger",
    "ææh",
    "otteoo",
    "zzz",
    "mmmm",
    "aabbb",
    "",
)


def collapse_pieces(pieces: Pieces) -> list[int]:
    """Merge repeats, also across pieces, then remove blanks."""
    return collapse(_joined(pieces))


def _joined(pieces: Pieces) -> list[int]:
    return [symbol for piece in pieces for symbol in piece]


def _without_blanks(symbols: Sequence[int]) -> list[int]:
    return [symbol for symbol in symbols if symbol != 0]


def _merged(symbols: Sequence[int]) -> list[int]:
    return [symbol for symbol, _ in itertools.groupby(symbols)]


def _last_kept(symbols: Sequence[int]) -> list[int]:
    kept: list[int] = []
    for symbol in symbols:
        if symbol != 0 and (not kept or kept[-1] != symbol):
            kept.append(symbol)
    return kept


def _seams_by_what_was_written(pieces: Pieces) -> list[int]:
    written: list[int] = []
    for piece in pieces:
        new = collapse(piece)
        written += new[1:] if written and new[:1] == written[-1:] else new
    return written


def _wraps_around(pieces: Pieces) -> list[int]:
    path = _joined(pieces)
    return _without_blanks([symbol for at, symbol in enumerate(path) if symbol != path[at - 1] or len(path) == 1])


def piece_cases() -> list[tuple[Pieces]]:
    """Symbols that go on in the next piece, blanks at the seams, doubles, empty pieces, and nothing."""
    rng = Random("04.1")
    named: list[Pieces] = [
        [[3, 3, 0], [3, 1]],
        [[3, 3], [3, 1]],
        [[2, 0], [0, 2]],
        [[0, 0]],
        [[3, 3, 3]],
        [[1], [1], [], [1, 2]],
    ]
    named += [[], [[]], [[2, 1], [2, 1, 2]], [[5, 0, 5, 5, 0, 5]]]
    drawn = [[[rng.randrange(4) for _ in range(rng.randrange(5))] for _ in range(3)] for _ in range(20)]
    return [(pieces,) for pieces in (*named, *drawn)]


def shortest_path(word: str) -> str:
    """The letters, with a blank only between equal neighbours."""
    return "".join(("_" if at and word[at - 1] == letter else "") + letter for at, letter in enumerate(word))


def _blank_at_any_return(word: str) -> str:
    return "".join(("_" if letter in word[:at] else "") + letter for at, letter in enumerate(word))


def _once_in_a_run(word: str) -> str:
    return "".join("_".join([letter, "".join(run)[1:]]) if len(run) > 1 else letter for letter, run in _runs(word))


def _runs(word: str) -> list[tuple[str, list[str]]]:
    return [(letter, list(run)) for letter, run in itertools.groupby(word)]


def _pairs_by_replace(word: str) -> str:
    """What `replace` does, letter by letter: it finds "zz" in "zzz" only once."""
    for letter in set(word):
        word = word.replace(letter * 2, f"{letter}_{letter}")
    return word


def forward_step(alpha: Floats, row: Floats, states: list[int]) -> Floats:
    """Stay, one on, or two on over a blank between different letters."""
    return _step(alpha, row, states)


def _step(alpha: Floats, row: Floats, states: list[int], skip: str = "right", how: Callable[..., float] = sum) -> Floats:
    """One step of the forward algorithm in probabilities, or one with a planted slip."""
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


def _wrapped_step(alpha: Floats, row: Floats, states: list[int]) -> Floats:
    new = []
    for s, state in enumerate(states):
        skip = state != 0 and state != states[s - 2]
        new.append((alpha[s] + alpha[s - 1] + (alpha[s - 2] if skip else 0)) * row[state])
    return new


def _in_place_values(alpha: Floats, row: Floats, states: list[int]) -> Floats:
    """States in rising order, each from neighbours that are new already."""
    new = list(alpha)
    for s, state in enumerate(states):
        total = new[s] + (new[s - 1] if s >= 1 else 0)
        if s >= 2 and state != 0 and state != states[s - 2]:
            total += new[s - 2]
        new[s] = total * row[state]
    return new


def step_cases() -> list[tuple[Floats, Floats, list[int]]]:
    """Words with and without doubles, of one letter and of none, and a beginning in which most states are empty."""
    rng = Random("04.3")
    cases = []
    for labels in ([1, 2, 3], [1, 2, 2, 3], [2, 2], [3], [], [1, 2, 1], [3, 3, 3, 1]):
        states = [0, *(state for label in labels for state in (label, 0))]
        cases.append(([rng.random() for _ in states], [rng.random() for _ in range(4)], states))
    states = [0, 1, 0, 2, 0]
    return [*cases, ([0.4, 0.6, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4], states)]


def start_loss(word: str, frames: int, vocab: int) -> float:
    """frames · log(vocab) − log(number of paths); infinite where there is none."""
    paths = count_paths(word, frames)
    return frames * math.log(vocab) - math.log(paths) if paths else math.inf


def _of_log(change: Callable[[float, str, int, int], float]) -> Callable[[str, int, int], float]:
    def changed(word: str, frames: int, vocab: int) -> float:
        right = start_loss(word, frames, vocab)
        return change(right, word, frames, vocab) if math.isfinite(right) else right

    return changed


def _or_infinite(wrong: Callable[[str, int, int], float]) -> Callable[[str, int, int], float | OneOf]:
    """A loss that does not look at the number of paths, with or without a thought for a word that does not fit."""
    return lambda w, t, v: wrong(w, t, v) if count_paths(w, t) else OneOf((math.inf, wrong(w, t, v)))


def _underflowing(word: str, frames: int, vocab: int) -> float:
    probability = count_paths(word, frames) * (1 / vocab) ** frames
    return -math.log(probability) if probability else math.inf


def loss_cases() -> list[tuple[str, int, int]]:
    """Short and long clips, small and large vocabularies, exactly one path, none, and 600 frames (where powers are 0.0)."""
    return [
        *(("ø", 2, 31), ("nat", 4, 4), ("nat", 3, 4), ("otte", 30, 31), ("tusind tak", 102, 31), ("hobby", 6, 500)),
        *(("otte", 600, 31), ("nat", 1500, 2), ("otte", 4, 31), ("", 5, 31)),
    ]


Spans = list[tuple[str, int, int]]


def letter_spans(path: str) -> Spans:
    """Runs of a letter with first frame and the frame after the last."""
    return _spans(path)


def _spans(path: str, blank: str = "_") -> Spans:
    spans = label_spans([ord(letter) for letter in path], ord(blank) if blank else -1)
    return [(chr(symbol), start, end) for symbol, start, end in spans]


def _joined_spans(path: str) -> Spans:
    joined: Spans = []
    for letter, start, end in _spans(path):
        if joined and joined[-1][0] == letter:
            joined[-1] = (letter, joined[-1][1], end)
        else:
            joined.append((letter, start, end))
    return joined


def _by_index(path: str) -> Spans:
    return [(c, path.index(c), path.index(c) + b - a) for c, a, b in _spans(path)]


def _without_the_last(path: str) -> Spans:
    return _spans(path) if path.endswith("_") else _spans(path)[:-1]


def span_cases() -> list[tuple[str]]:
    """Doubles with a blank between, runs at both ends, blanks alone, one frame, and none."""
    rng = Random("04.5")
    named = ("nnaa_t", "_oot_t_te__", "___", "a", "", "øøø", "_a", "aba")
    return [(path,) for path in (*named, *("".join(rng.choice("_øåt") for _ in range(9)) for _ in range(10)))]


def viterbi(probabilities: Rows, states: list[int]) -> list[int]:
    """The likeliest path that spells the states' word: maximum for sum, and traced back."""
    return _traced(probabilities, states)


def _traced(
    probabilities: Rows,
    states: list[int],
    end: str = "best of two",
    skip: str = "right",
    start_anywhere: bool = False,
    numbers: bool = False,
) -> list[int]:
    """Viterbi's path, its states as symbols or as numbers; or with a planted slip."""
    best = [[probabilities[0][state] if s < 2 or start_anywhere else 0.0 for s, state in enumerate(states)]]
    came: list[list[int]] = []
    for row in probabilities[1:]:
        scores, froms = [], []
        for s, state in enumerate(states):
            ways = [s]
            if s >= 1:
                ways.append(s - 1)
            if s >= 2 and (skip == "always" or (state != 0 and state != states[s - 2] and skip == "right")):
                ways.append(s - 2)
            origin = max(ways, key=lambda way: best[-1][way])
            scores.append(best[-1][origin] * row[state])
            froms.append(origin)
        best.append(scores)
        came.append(froms)
    ends = range(len(states)) if end == "anywhere" else range(len(states) - 1, max(len(states) - 3, -1), -1)
    place = len(states) - 1 if end == "last blank" else max(ends, key=lambda s: best[-1][s])
    walk = [place]
    for froms in reversed(came):
        walk.append(froms[walk[-1]])
    return [s if numbers else states[s] for s in reversed(walk)]


def _greedy_path(probabilities: Rows, states: list[int]) -> list[int]:
    return [row.index(max(row)) for row in probabilities]


def _backwards(probabilities: Rows, states: list[int]) -> list[int]:
    return viterbi(probabilities, states)[::-1]


def _states_walked(probabilities: Rows, states: list[int]) -> list[int]:
    return _traced(probabilities, states, numbers=True)


def _rows(rng: Random, frames: int, vocab: int) -> Rows:
    rows = [[rng.random() ** 3 + 0.01 for _ in range(vocab)] for _ in range(frames)]
    return [[value / sum(row) for value in row] for row in rows]


def viterbi_cases() -> list[tuple[Rows, list[int]]]:
    """Words with doubles and without, just enough frames and many, one frame, and a word of no letters."""
    rng = Random("04.6")
    words = (([1, 2, 3], 6), ([1, 2, 2, 3], 9), ([2, 2], 3), ([3], 1), ([1, 2, 1], 12), ([], 4), ([1, 1, 1], 8), ([3, 2, 1], 3))
    cases = []
    for labels, frames in (*words, *words[:2], ([2, 1], 15), ([1, 2], 7)):
        states = [0, *(state for label in labels for state in (label, 0))]
        cases.append((_rows(rng, frames, 4), states))
    return cases


def prefix_beam(probabilities: Rows, width: int) -> list[int]:
    """The text with the largest sum over its paths, as far as a beam of `width` prefixes can tell."""
    return _beam(probabilities, width)


def _beam(probabilities: Rows, width: int, slip: str = "") -> list[int]:
    """Prefix → (paths that end in a blank, paths that end in its last symbol); or with a planted slip."""
    beam: dict[tuple[int, ...], tuple[float, float]] = {(): (1.0, 0.0)}
    for row in probabilities:
        grown: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
        for prefix, (blank, symbol) in beam.items():
            both = blank + symbol
            for new, chance in enumerate(row):
                if new == 0:
                    grown[prefix][0] += both * chance
                    continue
                same = bool(prefix) and new == prefix[-1]
                if same and slip != "never stays":
                    stays = both if slip == "one score" else symbol
                    grown[prefix][1] += stays * chance
                if same and slip == "one score":
                    continue
                start = blank if same and slip != "free doubles" else both
                longer = (*prefix, new)
                grown[longer][1] += start * chance
        kept = sorted(grown, key=lambda p, sums=grown: (-sum(sums[p]), p))[:width]
        beam = {prefix: (grown[prefix][0], grown[prefix][1]) for prefix in kept}
    ends = {prefix: (pair[0] if slip == "blank end" else sum(pair)) for prefix, pair in beam.items()}
    return list(max(ends, key=lambda p: (ends[p], [-symbol for symbol in p])))


def beam_cases() -> list[tuple[Rows, int]]:
    """Clips in which the likeliest path is not the likeliest text, doubles, narrow and wide beams, one frame."""
    rng = Random("04.7")
    drawn = [(_rows(rng, frames, vocab), width) for frames in (2, 4, 6, 9) for vocab in (3, 4) for width in (1, 2, 3, 8)]
    two = [[0.4, 0.6, 0.0], [0.6, 0.4, 0.0]]
    double = [[0.1, 0.9, 0.0], [0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]
    return [([[0.6, 0.4], [0.6, 0.4]], 3), (two, 4), (double, 5), ([[0.3, 0.7]], 2), *drawn]


def log_add(a: float, b: float) -> float:
    """log(eᵃ + eᵇ), without ever leaving the logarithms for what is far from 0."""
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def log_add_through_powers(a: float, b: float) -> float:
    """The broken one: e⁻⁸⁰⁰ is 0.0 in a computer, and 0 has no logarithm."""
    total = math.exp(a) + math.exp(b)
    return math.log(total) if total > 0 else -math.inf


def add_cases() -> list[tuple[float, float]]:
    """Near 0, far below, one far below the other, and −∞ on either side and on both."""
    return [
        *((-1.0, -2.0), (-2.0, -1.0), (0.0, 0.0), (-800.0, -801.5), (-1e4, -1e4), (-3.0, -900.0), (-900.0, -3.0), (5.0, 5.0)),
        *((-math.inf, -2.0), (-2.0, -math.inf), (-math.inf, -math.inf)),
    ]


EXERCISES: dict[str, Exercise] = {
    "04.1": Exercise(
        title="collapse, piece by piece",
        level=2,
        minutes=10,
        purpose="to read a path that arrives in pieces, as it does while somebody speaks",
        solve=collapse_pieces,
        cases=piece_cases,
        reader=Ids(),
        mistakes=(
            Mistake(
                lambda pieces: [symbol for piece in pieces for symbol in collapse(piece)],
                "Each piece was collapsed by itself: a symbol that goes on in the next piece is still the same one.",
            ),
            Mistake(lambda p: _merged(_without_blanks(_joined(p))), "Did you remove the blanks before you merged?"),
            Mistake(lambda p: _without_blanks(_joined(p)), "You removed the blanks; equal neighbours must become one, too."),
            Mistake(lambda p: _merged(_joined(p)), "You merged the repeats; now the blanks (0) have to go."),
            Mistake(
                lambda p: list(dict.fromkeys(_without_blanks(_joined(p)))),
                "Only neighbours merge: a letter may come back later in the word.",
            ),
            Mistake(
                _seams_by_what_was_written,
                "A blank at the end of a piece keeps two equal symbols apart, and yours is forgotten at the seam.",
            ),
            Mistake(_wraps_around, "path[-1] is the last symbol: the first one was compared with it, and lost."),
            Mistake(lambda p: collapse(p[0]) if p else [], "Only the first piece was read. Is your return inside the loop?"),
            Mistake(_joined, "Nothing was merged, and the blanks are left."),
        ),
        otherwise="Merge equal neighbours first, also across the seams, then drop every 0.",
        hints=(
            "What do you have to remember from one piece to the next: the last symbol of the path, or the last one written?",
            "A symbol is written if it is no blank and differs from the one before it *in the path*.",
            "Keep `last`, begin with 0, and set it after every symbol, blank or not.",
        ),
    ),
    "04.2": Exercise(
        title="the shortest path",
        level=1,
        minutes=8,
        purpose="to see which blanks are needed, and so how many frames a word needs at least",
        solve=shortest_path,
        cases=lambda: [(word,) for word in WORDS],
        reader=Text(),
        mistakes=(
            Mistake(lambda word: word, "Equal neighbours would merge. What keeps them apart?"),
            Mistake(lambda word: "_".join(word), "A blank between all letters spells the word, but is not the shortest way."),
            Mistake(
                lambda word: "_" + "".join(f"{c}_" for c in word),
                "Those are the states: blanks are allowed everywhere, not needed.",
            ),
            Mistake(_blank_at_any_return, "A letter that comes back later needs no blank; only equal *neighbours* do."),
            Mistake(_once_in_a_run, "Three in a row need two blanks, one in each gap."),
            Mistake(_pairs_by_replace, "`replace` does not find pairs that overlap: in zzz there are two."),
            Mistake(lambda word: "".join(letter for letter, _ in _runs(word)), "That is the word without its double letters."),
        ),
        otherwise="Collapse yours: does it spell the word? Could a blank be left out?",
        hints=(
            'Spell "otte" in as few frames as you can, with the widget. Why do four not do?',
            "Every letter needs a frame, and between two equal neighbours there must be a blank.",
        ),
    ),
    "04.3": Exercise(
        title="one step of the lattice",
        level=2,
        minutes=15,
        purpose="to write the three lines that make CTC fast",
        solve=forward_step,
        cases=step_cases,
        reader=Numbers(),
        mistakes=(
            Mistake(
                lambda a, r, s: _step(a, r, s, "never"),
                "No path steps over a blank here; two unlike letters need none between.",
            ),
            Mistake(lambda a, r, s: _step(a, r, s, "always"), "A blank can be skipped, a letter cannot: who enters a blank?"),
            Mistake(
                lambda a, r, s: _step(a, r, s, "letters"), "The blank between two equal letters was skipped: they would merge."
            ),
            Mistake(lambda a, r, s: _step(a, r, s, how=max), "You kept the best way in; CTC adds all of them."),
            Mistake(lambda a, r, s: _step(a, [1.0] * 4, s), "Now multiply by how likely the state's symbol is in this frame."),
            Mistake(_wrapped_step, "In Python alpha[-1] is the last one: at the left edge there is nothing to add."),
            Mistake(
                _in_place_values, "A state's neighbours were new already when you read them; all three come from the old alpha."
            ),
            Mistake(
                lambda a, r, s: _step(a, [r[0]] * 4, s),
                "All were multiplied by the blank's probability; each state has its own symbol.",
            ),
        ),
        otherwise="Which states lead into it?",
        hints=(
            "For each state: who can lead into it? Itself, the one before, sometimes the one before that.",
            "Two before is allowed when the state is no blank (0) and differs from the state two before it.",
            "Mind the edge: in Python alpha[-1] is the last one. Use s >= 1 and s >= 2.",
        ),
    ),
    "04.4": Exercise(
        title="the loss before the first step",
        level=2,
        minutes=12,
        purpose="to know the number that a healthy training begins with",
        solve=start_loss,
        cases=loss_cases,
        reader=Number(),
        mistakes=(
            Mistake(
                _or_infinite(lambda w, t, v: t * math.log(v)), "That is the loss of one path. There are many, and they add up."
            ),
            Mistake(_of_log(lambda x, w, t, v: -x), "Logarithms of probabilities are negative, and a loss is minus that."),
            Mistake(
                _or_infinite(lambda w, t, v: len(w) * math.log(v)),
                "That is cross-entropy over letters. CTC pays for every frame.",
            ),
            Mistake(
                _of_log(lambda x, w, t, v: x / max(len(w), 1)),
                "That is divided by the number of letters: the mean, not the sum.",
            ),
            Mistake(_of_log(lambda x, w, t, v: x / t), "That is a frame's share of it."),
            Mistake(_of_log(lambda x, w, t, v: x / math.log(10)), "Take natural logarithms (math.log), as PyTorch does."),
            Mistake(_of_log(lambda x, w, t, v: x / math.log(2)), "Natural logarithms, not base 2: math.log(x)."),
            Mistake(
                _of_log(lambda x, w, t, v: 2 * t * math.log(v) - x),
                "More paths make a text likelier, so the loss smaller: subtract.",
            ),
            Mistake(_underflowing, "(1 / 31) ** 600 is 0.0 in a computer. Take the logarithm apart before you compute it."),
            Mistake(
                lambda w, t, v: start_loss(w, t, v) if count_paths(w, t) else 0.0,
                "A word that no path spells is no free lunch: ∞.",
            ),
        ),
        otherwise="It is −log(number of paths × probability of each).",
        hints=(
            "When all symbols are equally likely in all frames, how likely is one path?",
            "Each of `frames` frames gives 1 / vocab; all paths are equally likely, and count_paths says how many there are.",
            "The logarithm of a product is a sum: take it apart before you compute it. No path at all: math.inf.",
        ),
    ),
    "04.5": Exercise(
        title="from a path to a timetable",
        level=2,
        minutes=12,
        purpose="to say when each letter was spoken",
        solve=letter_spans,
        cases=span_cases,
        reader=ListOf(
            Parts(Text(), Number(whole=True), Number(whole=True), wanted="(letter, start, end)"),
            wanted="a list of (letter, start, end)",
        ),
        mistakes=(
            Mistake(
                lambda p: [(c, a, b - 1) for c, a, b in _spans(p)],
                "`end` is the frame after the last: end − start is the length.",
            ),
            Mistake(lambda p: _spans(p, blank=""), "Blanks are no letters: leave their runs out, but count their frames."),
            Mistake(_joined_spans, "A letter that comes back after a blank is a second letter, with a span of its own."),
            Mistake(
                lambda p: [(c, t, t + 1) for t, c in enumerate(p) if c != "_"],
                "Every frame has its own span; merge the neighbours that are equal.",
            ),
            Mistake(lambda p: _spans(p.replace("_", "")), "Blanks take time, too: frame 0 is the first, and theirs count."),
            Mistake(_by_index, "`index` finds the first of them twice; keep your own count of frames."),
            Mistake(_without_the_last, "The last run is missing: nothing comes after it to end it."),
            Mistake(lambda p: [(c, a, b - a) for c, a, b in _spans(p)], "That is how long it lasts; `end` is where it stops."),
            Mistake(lambda p: [(c, a + 1, b + 1) for c, a, b in _spans(p)], "The first frame is 0."),
        ),
        hints=(
            "Walk over the path and remember where the present run began.",
            "itertools.groupby(path) gives runs of equal letters; keep a counter of frames that grows by the run's length.",
            "The counter grows for runs of blanks, too; only letters are written down.",
        ),
    ),
    "04.6": Exercise(
        title="Viterbi",
        level=3,
        minutes=25,
        purpose="to find the one best path of a text, which is what an alignment is",
        solve=viterbi,
        cases=viterbi_cases,
        reader=Ids(),
        mistakes=(
            Mistake(
                lambda p, s: _traced(p, s, end="last blank"),
                "A path may end in its last letter, too: begin with the better one.",
            ),
            Mistake(
                lambda p, s: _traced(p, s, end="anywhere"),
                "The path must spell the whole word: it ends in one of the last two states.",
            ),
            Mistake(lambda p, s: _traced(p, s, skip="never"), "Two letters that differ may follow each other without a blank."),
            Mistake(lambda p, s: _traced(p, s, skip="always"), "A letter was skipped, or the blank between two equal ones."),
            Mistake(
                lambda p, s: _traced(p, s, start_anywhere=True),
                "A path begins in the first blank or in the first letter: all other states start with 0.",
            ),
            Mistake(_greedy_path, "That is the best symbol of each frame, whatever the word is."),
            Mistake(_backwards, "You traced it back, so it is the wrong way round: reverse it."),
            Mistake(_states_walked, "Those are numbers of states; give back the symbols that stand in them."),
        ),
        otherwise="The forward step with max for sum; keep for each state where its best way came from.",
        forbidden=("forced_alignment", "forced_align"),
        hints=(
            "First the scores: your forward step with `max` in place of the sum. Begin with the first two states.",
            "Beside each score keep the number of the state that it came from: s, s − 1 or s − 2.",
            "At the end take the better of the last two states, follow what you kept back to the first frame, and reverse.",
        ),
    ),
    "04.7": Exercise(
        title="prefix beam search",
        level=3,
        minutes=30,
        purpose="to find the likeliest text, where the likeliest path is not enough",
        solve=prefix_beam,
        cases=beam_cases,
        reader=Ids(),
        mistakes=(
            Mistake(
                lambda p, w: collapse(_greedy_path(p, [])),
                "That is the text of the likeliest path. Many paths spell one text, and they add up.",
            ),
            Mistake(
                lambda p, w: _beam(p, w, "free doubles"),
                "A symbol is doubled only after a blank: use the sum that ends in one.",
            ),
            Mistake(
                lambda p, w: _beam(p, w, "one score"), "With one score a prefix no double letter can be written. Keep two sums."
            ),
            Mistake(
                lambda p, w: _beam(p, w, "never stays"), "A symbol that goes on leaves the prefix as it is: add that way, too."
            ),
            Mistake(
                lambda p, w: _beam(p, w, "blank end"), "A text may end in its last symbol: add both sums before you choose."
            ),
            Mistake(lambda p, w: _beam(p, 1000), "The beam is not cut: keep the best `width` prefixes after each frame."),
            Mistake(lambda p, w: _beam(p, 1), "Only one prefix is kept. How many does `width` allow?"),
        ),
        otherwise="Write down the prefixes after each frame, with their two sums.",
        forbidden=("prefix_beam_search", "beam_search", "ctc_beam_search_decoder", "CTCDecoder"),
        hints=(
            "For each prefix keep two sums: of its paths that end in a blank, and of those that end in its last one.",
            "A blank leaves the prefix as it is. So does its last symbol, from the second sum; from the first, it doubles.",
            "Begin with the empty prefix, 1 and 0. After each frame keep the `width` prefixes with the largest totals.",
        ),
    ),
    "04.8": Exercise(
        title="repair: a loss that is infinite for long clips",
        level=2,
        minutes=8,
        purpose="to see why everything here is done with logarithms",
        solve=log_add,
        cases=add_cases,
        reader=Number(),
        broken=log_add_through_powers,
        symptom="Short clips train, long ones have an infinite loss: −800 and −801.5 add up to −∞. What is e⁻⁸⁰⁰ here?",
        mistakes=(
            Mistake(lambda a, b: a + b, "That multiplies the two probabilities."),
            Mistake(max, "That keeps the larger one; the smaller is not always small beside it."),
            Mistake(
                lambda a, b: log_add(a, b) - math.log(2) if max(a, b) > -math.inf else max(a, b), "That is the mean of the two."
            ),
            Mistake(
                lambda a, b: max(a, b) + math.log1p(math.exp(min(a, b) - max(a, b))),
                "Right, until both are −∞: (−∞) − (−∞) is no number.",
            ),
        ),
        otherwise="Take the larger out of the sum: log(eᵃ + eᵇ) = a + log(1 + e^(b − a)).",
        forbidden=("logaddexp", "logsumexp"),
        hints=(
            "e^(b − a) is harmless when a is the larger of the two.",
            "log(eᵃ + eᵇ) = a + log(1 + e^(b − a)); math.log1p(x) is log(1 + x). And −∞ needs a line of its own.",
        ),
    ),
}
