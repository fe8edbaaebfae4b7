"""Exercises of chapter 05, Stage B: how many parameters, a padding mask, can it be aligned, a time mask, what padding costs."""

import re
from collections.abc import Callable, Sequence
from numbers import Real
from random import Random
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from course_lib.ctc.paths import frames_needed
from course_lib.ctc.recogniser import StageBRecogniser
from course_lib.encoder.tiny import StageBEncoder, TimeReduction
from course_lib.exercises.base import Exercise, NotYet, attempt
from course_lib.sound.shape_table import frames_after
from course_lib.text.vocabulary import CharVocabulary

Mistakes = Sequence[tuple[Any, str]]  # what each common mistake would give, and what to say to it


def examine_count_parameters(answer: Callable[..., int]) -> None:
    """05.1: every number that the optimiser may turn, counted in the modules themselves."""
    for sizes in ((192, 4, 768, 31, 128, 4), (96, 2, 256, 31, 80, 4), (64, 3, 160, 57, 128, 8), (48, 2, 96, 40, 40, 2)):
        found = attempt(answer, *sizes)
        _expect(found, _count(_recogniser(*sizes)), f"count_parameters{sizes} gave {found!r}", _miscounts(*sizes))


FORGOTTEN = {
    r"(?<!norm)\.bias$": "Every convolution and every Linear has biases: one number per output.",
    r"norm\.": "The LayerNorms learn too: a scale and a shift per feature, two norms a layer and one at the end.",
    r"enc\.norm\.": "After the last layer stands one more LayerNorm.",
    r"attention\.output": "What the heads found goes through one more Linear, d_model → d_model.",
    r"feed_forward\.2": "The feed-forward goes up to d_ff and comes down again: two matrices.",
    r"^head": "Features are not letters yet: you forgot the head, d_model → vocab.",
}


def _miscounts(d_model: int, n_layers: int, d_ff: int, vocab: int, bins: int, by: int) -> Mistakes:
    model = _recogniser(d_model, n_layers, d_ff, vocab, bins, by)
    total, kernels, thirds = (_count(model, part) for part in ("", r"convolutions.*weight", r"qkv"))
    return [
        *((total - _count(model, part), reason) for part, reason in FORGOTTEN.items()),
        (total - kernels * 2 // 3, "Kernel size 3: a convolution has a matrix for each of the three frames that it sees."),
        (total - thirds * 2 // 3, "Queries, keys and values have a matrix each; you counted one."),
        (_count(_recogniser(d_model, n_layers, d_ff, vocab, bins, 4)), f"4 × takes two convolutions. And {by} ×?"),
    ]


def _recogniser(d_model: int, n_layers: int, d_ff: int, vocab: int, bins: int, by: int) -> StageBRecogniser:
    """The real thing, on the device that allocates nothing and draws no random numbers."""
    with torch.device("meta"):
        encoder = StageBEncoder(d_model, n_layers, 1, d_ff, 0.1, by)
        encoder.time_reduction = TimeReduction(bins, d_model, by)
        return StageBRecogniser(encoder, CharVocabulary("".join(chr(ord("ա") + i) for i in range(vocab - 1))))


def _count(model: StageBRecogniser, part: str = "") -> int:
    return sum(weights.numel() for name, weights in model.named_parameters() if re.search(part, name))


def examine_attention_with_mask(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """05.2: softmax over the keys, none of it on padding."""
    rng = torch.Generator().manual_seed(2017)
    for queries, keys, heard, level in ((5, 5, 3, 0), (3, 6, 4, 0), (4, 6, 1, 0), (2, 5, 5, 0), (3, 5, 3, -200)):
        scores = torch.randn(queries, keys, generator=rng) + level
        real = torch.arange(keys) < heard
        found = attempt(answer, scores.clone(), real.clone())
        told = f"{queries} queries, {keys} keys of which {heard} real, scores around {level}"
        _expect(found, scores.masked_fill(~real, -torch.inf).softmax(dim=1), told, _misattended(scores, real, level))


def _misattended(scores: Tensor, real: Tensor, level: int) -> Mistakes:
    masked = scores.masked_fill(~real, -torch.inf)
    rows = real[: len(scores), None]
    row_wise = "You masked queries, the rows. Who asks does not matter; who is asked does."
    nan = "0 × −inf is NaN: choose with masked_fill or torch.where, do not multiply."
    if level:
        nan = "All is NaN: e⁻²⁰⁰ is 0 in float32, and you divide by it. torch.softmax takes the largest score away first."
    low = "A score is low only beside lower ones; nothing is lower than −inf."
    return [
        (scores.softmax(dim=1), "Padding gets its share as if it were sound. Where do you use `real`?"),
        (scores.softmax(dim=1) * real, "A query's shares no longer add up to 1: the mask belongs before the softmax."),
        *((scores.masked_fill(~real, n).softmax(dim=1), f"A finite score leaves padding a share. {low}") for n in (-10, -100)),
        ((scores * real).softmax(dim=1), f"You set the scores of padding to 0, and e⁰ is 1. {low}"),
        (masked.softmax(dim=0), "The shares of a *query* should add up to 1: softmax over the keys, dim=1."),
        (scores.masked_fill(~rows, -torch.inf).softmax(dim=1), row_wise),
        (scores.softmax(dim=1) * rows, row_wise),
        (scores.masked_fill(real, -torch.inf).softmax(dim=1), "That listens to padding alone: `real` is True where sound is."),
        (torch.full_like(scores, torch.nan), nan),
    ]


def examine_can_be_aligned(answer: Callable[[str, int, int], bool]) -> None:
    """05.3: ⌈mel_frames / downsample_time⌉ ≥ letters + equal neighbours."""
    cases = []
    for text in ("otte", "hobby", "tusind tak", "en blå sommer", "ja"):
        for by in (4, 8, 2):
            fewest = by * (frames_needed(text) - 1) + 1
            cases += [(text, frames, by) for frames in (fewest - by, fewest - 1, fewest, fewest + by - 1)]
    found = [attempt(answer, *case) for case in cases]
    misfits = [_misfits(*case) for case in cases]
    for (text, frames, by), said in zip(cases, found, strict=True):
        told = f'"{text}" in {frames} mel frames at {by} ×'
        right = frames_after(frames, by) >= frames_needed(text)
        if str(said) not in ("True", "False"):
            raise NotYet(f"{told}: give back True or False, not {said!r}.")
        if said != right:
            # One case fits several mistakes; all cases together fit only one.
            reasons = (reason for reason in misfits[0] if [misfit[reason] for misfit in misfits] == found)
            otherwise = "Print both sides: the frames that are left, and the fewest that spell the text."
            raise NotYet(f"{told}: you say {said}, expected {right}. {next(reasons, otherwise)}")


def _misfits(text: str, frames: int, by: int) -> dict[str, bool]:
    left = frames_after(frames, by)
    needed = frames_needed(text)
    return {
        "Equal neighbours need a blank between them, and the blank a frame of its own.": left >= len(text),
        "Did you round down, or not at all? A halving rounds an odd frame up: at 4 ×, 13 leave 4.": frames // by >= needed,
        "CTC does not see mel frames: it sees what the convolutions leave of them.": frames >= needed,
        "Exactly enough is enough: one path is left then, and one will do.": left > needed,
        "You counted letters that come back anywhere; only neighbours merge.": left >= 2 * len(text) - len(set(text)),
        "The space is a symbol like any other, and needs a frame too.": left >= frames_needed(text.replace(" ", "")),
        "Everything is the wrong way round: True means that it can.": left < needed,
    }


def examine_mask_stretch(answer: Callable[[Tensor, int, int], Tensor]) -> None:
    """05.4: a copy with `width` frames from `start` set to 0."""
    rng = torch.Generator().manual_seed(2019)
    for frames, bins, start, width in ((12, 10, 2, 5), (9, 16, 0, 3), (7, 4, 4, 3), (8, 5, 3, 0)):
        log_mel = torch.randn(frames, bins, generator=rng) + 0.5
        given = log_mel.clone()
        found = attempt(answer, given, start, width)
        told = f"{frames} frames of {bins} bins, start {start}, width {width}"
        _expect(found, _masked(log_mel, start, start + width), told, _mismasks(log_mel, start, start + width, width))
        if not torch.equal(given, log_mel):
            raise NotYet(f"{told}. Right, but the clip that you were given now has the hole too, for ever. Copy first.")


def _mismasks(log_mel: Tensor, start: int, end: int, width: int) -> Mistakes:
    one_off = "A slice leaves its end out: start : start + width is `width` frames."
    fill = "The hole should be 0, the mean that ctc_log_mel gives every clip, so that nothing there is loud or quiet."
    return [
        (log_mel, "Nothing was masked."),
        (_masked(log_mel.T, start, end).T, "You masked bins. Time runs down the rows, the first dimension."),
        (_masked(log_mel, start, end + 1), f"One frame too many. {one_off}"),
        (_masked(log_mel, start, end - 1), f"One frame too few. {one_off}"),
        (_masked(log_mel, start, width), "A slice wants where it ends, not how long it is: start : start + width."),
        (_masked(log_mel, start, end, float(log_mel.min())), f"You filled in the quietest value of the clip. {fill}"),
        (_masked(log_mel, start, end, 1.0), f"You filled in ones. {fill}"),
        (log_mel[_masked(log_mel, start, end).any(dim=1)], "You cut the frames out; the clip must keep its length."),
    ]


def _masked(log_mel: Tensor, start: int, end: int, value: float = 0.0) -> Tensor:
    return log_mel.index_fill(0, torch.arange(len(log_mel))[start:end], value)


def examine_padding_share(answer: Callable[[list[int], int], float]) -> None:
    """05.5: padding / everything, over all batches together."""
    rng = Random("05.5")
    cases = [([203, 148, 97, 310, 122, 181, 250], 3), ([120] * 4, 2), ([90, 300], 8)]
    cases += [([rng.randrange(80, 400) for _ in range(9)], size) for size in (1, 2, 4)]
    for lengths, size in cases:
        found = attempt(answer, list(lengths), size)
        told = f"clips of {lengths} frames in batches of {size}: you say {found!r}"
        _expect(found, _share(_cut(lengths, size)), told, _missed_shares(lengths, size))


def _missed_shares(lengths: list[int], size: int) -> Mistakes:
    batches = _cut(lengths, size)
    share = _share(_cut(lengths, size))
    full = [batch for batch in batches if len(batch) == size] or batches
    return [
        (_share([lengths]), "Each batch is padded to its own longest clip, not to the longest of all."),
        (fmean(_share([batch]) for batch in batches), "A mean of shares, but batches differ in size: divide once, at the end."),
        (share / (1 - share), "You divided by what is real. The share is of everything, padding included."),
        (_share(full), "The last batch may be smaller. It is a batch all the same."),
        (_share(_cut(sorted(lengths), size)), "You sorted the clips. A good idea, but here they keep their order."),
        (1 - share, "That is the share of sound. Asked is the rest."),
    ]


def _cut(lengths: list[int], size: int) -> list[list[int]]:
    return [lengths[start : start + size] for start in range(0, len(lengths), size)]


def _share(batches: list[list[int]]) -> float:
    return 1 - sum(map(sum, batches)) / sum(len(batch) * max(batch) for batch in batches)


def _expect(found: Any, expected: Any, told: str, mistakes: Mistakes) -> None:
    """Pass, or raise NotYet with the first mistake that gives exactly what was found."""
    if _same(found, expected):
        return
    reason = next((text for value, text in mistakes if _same(found, value)), None)
    if reason is None and isinstance(expected, Tensor):
        reason = f"Expected: other numbers, of shape {tuple(expected.shape)}; yours: {tuple(getattr(found, 'shape', ()))}."
    raise NotYet(f"{told}. {reason or f'Expected {expected:.7g}. Try the smallest case by hand.'}")


def _same(found: Any, expected: Any) -> bool:
    """Equal up to rounding; of another kind or shape is not equal."""
    if isinstance(expected, Tensor):
        alike = isinstance(found, Tensor) and found.shape == expected.shape
        return alike and torch.allclose(found.detach().to(expected.dtype), expected, atol=1e-5, equal_nan=True)
    one_number = isinstance(found, Real) or getattr(found, "ndim", None) == 0
    return one_number and abs(float(found) - expected) < 1e-6


EXERCISES = {
    "05.1": Exercise(
        examine_count_parameters,
        (
            "Write down the four kinds of part: convolutions, layers, norms, head. `print(model)` shows them all.",
            "A Linear a → b has a · b + b numbers, a convolution of kernel size 3 has 3 · a · b + b, a LayerNorm 2 · d_model.",
            "log2(downsample_time) convolutions: the first takes `bins` to d_model, each further one d_model to d_model.",
            "A layer: d → 3d, d → d, d → d_ff, d_ff → d, and two norms. After all layers one norm, then the head d → vocab.",
        ),
    ),
    "05.2": Exercise(
        examine_attention_with_mask,
        (
            "What must a score be, so that softmax makes exactly 0 of it? e to the what is 0?",
            "scores.masked_fill(mask, value) writes `value` where the mask is True. `real` is True where you want no change.",
            "scores.masked_fill(~real, -torch.inf), and softmax over the keys, the last dimension.",
        ),
    ),
    "05.3": Exercise(
        examine_can_be_aligned,
        (
            "Two numbers to compare: the frames that are left, and the fewest frames that spell the text (exercise 04.2).",
            "Each halving rounds an odd number of frames up: 13 → 7 → 4. math.ceil(frames / downsample_time) does all at once.",
            "math.ceil(mel_frames / downsample_time) >= len(text) + the pairs (a, b) of zip(text, text[1:]) with a == b.",
        ),
    ),
    "05.4": Exercise(
        examine_mask_stretch,
        (
            "Frames are the rows. Take a copy before you touch anything: log_mel.clone().",
            "A slice may be assigned to: masked[start : start + width] = 0.",
        ),
    ),
    "05.5": Exercise(
        examine_padding_share,
        (
            "Per batch: as many rows as clips, each as long as the longest of them. How many numbers are that?",
            "range(0, len(lengths), batch_size) gives the starts; lengths[start : start + batch_size] is a batch.",
            "Add up len(batch) * max(batch) over the batches. What is not sum(lengths) of that is padding.",
        ),
    ),
}
