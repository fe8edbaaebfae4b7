"""Frame-by-frame symbol probabilities ↔ text, when nobody says which frame holds which symbol: CTC.

A *path* names one symbol for every frame; symbol 0 is the *blank*, "nothing new". Many paths read as the same text, and
CTC (Connectionist Temporal Classification, Graves et al. 2006) scores a text by the sum over all of them. The sum is
taken on a *lattice* of frames × states, where the states are the text with a blank around each symbol: `_ n _ a _ t _`.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

IMPOSSIBLE = -1e30
"""Log-probability of what cannot happen. Not −∞, for there the gradient of logsumexp is not a number."""

Score = tuple[float, float]  # log-probability of a prefix's paths that end in a blank, and of those in its last symbol


def collapse(path: Sequence[int], blank_id: int = 0) -> list[int]:
    """Read a path as labels: merge repeats, *then* remove blanks (Graves et al. 2006, the map B).

    >>> collapse([8, 8, 0, 5, 12, 12, 0, 12, 15])       # h h _ e l l _ l o
    [8, 5, 12, 12, 15]
    """
    merged = [symbol for symbol, _ in itertools.groupby(path)]
    return [symbol for symbol in merged if symbol != blank_id]


def read_path(path: str) -> str:
    """Collapse a path that is written in letters, with `_` as the blank.

    >>> read_path("oot_tte"), read_path("__ootte")
    ('otte', 'ote')
    """
    return "".join(map(chr, collapse([ord(letter) for letter in path], blank_id=ord("_"))))


def frames_needed(labels: Sequence[int] | str) -> int:
    """Fewest frames that can spell `labels`: one a symbol, and a blank between equal neighbours.

    >>> frames_needed("hej"), frames_needed("otte"), frames_needed("ææh")
    (3, 5, 4)
    """
    return len(labels) + sum(left == right for left, right in itertools.pairwise(labels))


def count_paths(labels: Sequence[int] | str, frames: int) -> int:
    """How many paths of this length collapse to `labels`; 0 when there are too few frames.

    U symbols with R equal neighbours leave T − U − R frames to hand out among U symbols and U + 1 places for blanks.

    >>> count_paths("nat", 4), count_paths("otte", 5), count_paths("otte", 4)
    (7, 1, 0)
    """
    repeats = frames_needed(labels) - len(labels)
    return math.comb(frames + len(labels) - repeats, 2 * len(labels))


def lattice_states(labels: Sequence[int], blank_id: int = 0) -> Int[Tensor, "states"]:
    """Put a blank around each label: U labels make 2U + 1 states.

    >>> lattice_states([14, 1, 20]).tolist()
    [0, 14, 0, 1, 0, 20, 0]
    """
    states = torch.full((2 * len(labels) + 1,), blank_id)
    states[1::2] = torch.tensor(labels, dtype=states.dtype)
    return states


def may_skip(states: Int[Tensor, "states"], blank_id: int = 0) -> Bool[Tensor, "states"]:
    """Which states can be entered from two before: a symbol that differs from the symbol before it.

    >>> may_skip(lattice_states([15, 20, 20, 5])).tolist()       # _ o _ t _ t _ e _
    [False, False, False, True, False, False, False, True, False]
    """
    skips = torch.zeros_like(states, dtype=torch.bool)
    skips[2:] = (states[2:] != blank_id) & (states[2:] != states[:-2])
    return skips


def forward_scores(
    log_probs: Float[Tensor, "frames vocab"], labels: Sequence[int], blank_id: int = 0
) -> Float[Tensor, "frames states"]:
    """Log-probability of all beginnings of paths that stand in a state at a frame (Graves et al. 2006, eq. 5–8, α).

    A state is reached from itself, from the state before, and by a skip over a blank. Unreachable states are IMPOSSIBLE.
    Raises ValueError for no frames, or for labels that are blank or outside the vocabulary.
    """
    _refuse_labels(log_probs, labels, blank_id)
    states = lattice_states(labels, blank_id).to(log_probs.device)
    emitted = log_probs[:, states]
    skips = may_skip(states, blank_id)
    alphas = [_first_column(emitted[0])]
    for row in emitted[1:]:
        alphas.append(torch.stack(_ways_in(alphas[-1], skips)).logsumexp(dim=0) + row)
    return torch.stack(alphas)


def log_likelihood(log_probs: Float[Tensor, "frames vocab"], labels: Sequence[int], blank_id: int = 0) -> Float[Tensor, ""]:
    """Log-probability of a text: the sum over all its paths, which end in its last symbol or in the blank after it.

    −∞ when no path exists, and then its gradient is 0.
    """
    total = forward_scores(log_probs, labels, blank_id)[-1, -2:].logsumexp(dim=0)
    return total.where(total > IMPOSSIBLE / 2, -torch.inf)


def ctc_loss(
    log_probs: Float[Tensor, "batch frames vocab"],
    labels: Sequence[Sequence[int]],
    frame_counts: Sequence[int],
    blank_id: int = 0,
    reduction: Literal["none", "sum", "mean"] = "mean",
    zero_infinity: bool = False,
) -> Float[Tensor, "..."]:
    """Minus the log-likelihood of each clip's text; "mean" divides each by its number of symbols and averages.

    Equals `torch.nn.functional.ctc_loss` (which takes time first) in value, and in gradient with respect to logits.
    A clip with fewer frames than `frames_needed` costs infinity, or with `zero_infinity` nothing at all.
    """
    clips = zip(log_probs, labels, frame_counts, strict=True)
    losses = -torch.stack([log_likelihood(clip[:count], text, blank_id) for clip, text, count in clips])
    if zero_infinity:
        losses = losses.where(losses.isfinite(), 0.0)
    if reduction == "mean":
        return (losses / torch.tensor([max(1, len(text)) for text in labels], device=losses.device)).mean()
    return losses.sum() if reduction == "sum" else losses


def greedy_decode(log_probs: Float[Tensor, "frames vocab"], blank_id: int = 0) -> list[int]:
    """Collapse the path of the likeliest symbol of each frame: the likeliest path, which need not be the likeliest text."""
    return collapse(log_probs.argmax(dim=-1).tolist(), blank_id)


def prefix_beam_search(
    log_probs: Float[Tensor, "frames vocab"], beam_width: int = 8, blank_id: int = 0
) -> list[tuple[list[int], float]]:
    """Grow texts symbol by symbol, adding up the paths of each, and keep the best few after every frame.

    Returns up to `beam_width` texts with their log-probability, best first. It is the exact one when nothing was dropped,
    and otherwise at most that (Hannun et al. 2014, algorithm 1, without a language model).
    """
    beam: dict[tuple[int, ...], Score] = {(): (0.0, -math.inf)}
    for row in log_probs.tolist():
        grown = {prefix: score for prefix, score in _grow(beam, row, blank_id).items() if max(score) > -math.inf}
        best = sorted(grown, key=lambda prefix: (-log_add(*grown[prefix]), prefix))[:beam_width]
        beam = {prefix: grown[prefix] for prefix in best}
    return [(list(prefix), log_add(*score)) for prefix, score in beam.items()]


def forced_alignment(log_probs: Float[Tensor, "frames vocab"], labels: Sequence[int], blank_id: int = 0) -> list[int]:
    """Find the likeliest path of a text that is known: the forward algorithm with max for sum, then traced back (Viterbi).

    Equals `torchaudio.functional.forced_align`. Raises ValueError when there are too few frames.
    """
    _refuse_labels(log_probs, labels, blank_id)
    if len(log_probs) < frames_needed(labels):
        raise ValueError(f"{len(labels)} symbols need {frames_needed(labels)} frames, there are {len(log_probs)}")
    states = lattice_states(labels, blank_id).to(log_probs.device)
    emitted = log_probs[:, states]
    skips = may_skip(states, blank_id)
    best = _first_column(emitted[0])
    steps_back = []
    for row in emitted[1:]:
        scores, steps = torch.stack(_ways_in(best, skips)).max(dim=0)
        best = scores + row
        steps_back.append(steps.tolist())
    visited = [len(states) - 1 - int(best[-2:].flip(0).argmax())]
    for steps in reversed(steps_back):
        visited.append(visited[-1] - steps[visited[-1]])
    return states[visited[::-1]].tolist()


class Span(NamedTuple):
    """A symbol and its frames: from `start`, up to and without `end`."""

    symbol: int
    start: int
    end: int


def label_spans(path: Sequence[int], blank_id: int = 0) -> list[Span]:
    """Where each symbol of a path starts and ends, in frames; blanks are left out (`torchaudio.functional.merge_tokens`).

    >>> [tuple(span) for span in label_spans([0, 15, 15, 20, 0, 20])]
    [(15, 1, 3), (20, 3, 4), (20, 5, 6)]
    """
    spans = []
    start = 0
    for symbol, run in itertools.groupby(path):
        end = start + len(list(run))
        if symbol != blank_id:
            spans.append(Span(symbol, start, end))
        start = end
    return spans


def _first_column(emitted: Float[Tensor, "states"]) -> Float[Tensor, "states"]:
    """A path begins in the first blank or in the first symbol."""
    return torch.cat([emitted[:2], torch.full_like(emitted[2:], IMPOSSIBLE)])


def _ways_in(alpha: Float[Tensor, "states"], skips: Bool[Tensor, "states"]) -> list[Float[Tensor, "states"]]:
    """Scores of staying, of one state on, and of two: where they come from is how far they step."""
    one_on = F.pad(alpha, (1, 0), value=IMPOSSIBLE)[:-1]
    two_on = F.pad(alpha, (2, 0), value=IMPOSSIBLE)[:-2].where(skips, IMPOSSIBLE)
    return [alpha, one_on, two_on]


def _grow(beam: dict[tuple[int, ...], Score], row: list[float], blank_id: int) -> dict[tuple[int, ...], Score]:
    grown: dict[tuple[int, ...], Score] = defaultdict(lambda: (-math.inf, -math.inf))
    for prefix, (blank, symbol) in beam.items():
        both = log_add(blank, symbol)
        last = prefix[-1] if prefix else blank_id
        for new, score in enumerate(row):
            if new == blank_id:
                grown[prefix] = log_add(grown[prefix][0], both + score), grown[prefix][1]
                continue
            if new == last:
                grown[prefix] = grown[prefix][0], log_add(grown[prefix][1], symbol + score)
            longer = (*prefix, new)
            so_far = blank if new == last else both
            grown[longer] = grown[longer][0], log_add(grown[longer][1], so_far + score)
    return grown


def log_add(a: float, b: float) -> float:
    """log(eᵃ + eᵇ) of two logarithms, either of which may be −∞ (`numpy.logaddexp`).

    >>> log_add(-math.inf, -2.0)
    -2.0
    """
    low, high = sorted((a, b))
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def _refuse_labels(log_probs: Float[Tensor, "frames vocab"], labels: Sequence[int], blank_id: int) -> None:
    frames, vocab = log_probs.shape
    if frames == 0:
        raise ValueError("no frames: even an empty text needs one to be heard in")
    bad = [label for label in labels if label == blank_id or not 0 <= label < vocab]
    if bad:
        raise ValueError(f"labels must be from 0 to {vocab - 1} and not the blank, {blank_id}; got {bad[:5]}")
