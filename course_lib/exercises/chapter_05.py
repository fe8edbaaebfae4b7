"""Exercises of chapter 05, Stage B: parameters, a padding mask, can it be aligned, a time mask, padding, a mean."""

import math
import re
from collections.abc import Callable
from functools import lru_cache
from random import Random
from statistics import fmean

import torch
from torch import Tensor

from course_lib.ctc.paths import frames_needed
from course_lib.ctc.recogniser import StageBRecogniser
from course_lib.encoder.tiny import StageBEncoder, TimeReduction
from course_lib.exercises.base import Exercise, Mistake
from course_lib.exercises.reading import Number, Numbers, Truth
from course_lib.sound.shape_table import frames_after
from course_lib.text.vocabulary import CharVocabulary

FORGOTTEN = {
    r"(?<!norm)\.bias$": "Every convolution and every Linear has biases: one number per output.",
    r"norm\.": "The LayerNorms learn too: a scale and a shift per feature, two norms a layer and one at the end.",
    r"enc\.norm\.": "After the last layer stands one more LayerNorm.",
    r"attention\.output": "What the heads found goes through one more Linear, d_model → d_model.",
    r"feed_forward\.2": "The feed-forward goes up to d_ff and comes down again: two matrices.",
    r"^head": "Features are not letters yet: you forgot the head, d_model → vocab.",
    r"convolutions": "The convolutions in front learn, too.",
}


def count_parameters(d_model: int, n_layers: int, d_ff: int, vocab: int, bins: int = 128, downsample_time: int = 4) -> int:
    """Every number that the optimiser may turn, counted in the modules themselves."""
    return _count(_recogniser(d_model, n_layers, d_ff, vocab, bins, downsample_time))


@lru_cache
def _recogniser(d_model: int, n_layers: int, d_ff: int, vocab: int, bins: int, by: int) -> StageBRecogniser:
    """The real thing, on the device that allocates nothing and draws no random numbers."""
    with torch.device("meta"):
        encoder = StageBEncoder(d_model, n_layers, 1, d_ff, 0.1, by)
        encoder.time_reduction = TimeReduction(bins, d_model, by)
        return StageBRecogniser(encoder, CharVocabulary("".join(chr(ord("ա") + i) for i in range(vocab - 1))))


def _count(model: StageBRecogniser, part: str = "") -> int:
    return sum(weights.numel() for name, weights in model.named_parameters() if re.search(part, name))


def _without(part: str, share: float = 1.0) -> Callable[..., int]:
    """The count with a part left out, or with a share of it left out."""

    def miscounted(*sizes: int) -> int:
        model = _recogniser(*sizes)
        return _count(model) - round(_count(model, part) * share)

    return miscounted


def _always_four(d_model: int, n_layers: int, d_ff: int, vocab: int, bins: int, by: int) -> int:
    return count_parameters(d_model, n_layers, d_ff, vocab, bins, 4)


def _always_128(d_model: int, n_layers: int, d_ff: int, vocab: int, bins: int, by: int) -> int:
    return count_parameters(d_model, n_layers, d_ff, vocab, 128, by)


def _one_layer(d_model: int, n_layers: int, d_ff: int, vocab: int, bins: int, by: int) -> int:
    return count_parameters(d_model, 1, d_ff, vocab, bins, by)


def size_cases() -> list[tuple[int, int, int, int, int, int]]:
    """The course's sizes and others, with one to three convolutions and one to six layers."""
    return [
        (192, 4, 768, 31, 128, 4),
        (96, 2, 256, 31, 80, 4),
        (64, 3, 160, 57, 128, 8),
        (48, 6, 96, 40, 40, 2),
        (32, 1, 50, 5, 7, 8),
    ]


def attention_with_mask(scores: Tensor, real: Tensor) -> Tensor:
    """Softmax over the keys, none of it on padding."""
    return _masked_softmax(scores, real, -torch.inf)


def _masked_softmax(scores: Tensor, real: Tensor, value: float, dim: int = 1) -> Tensor:
    return scores.masked_fill(~real, value).softmax(dim=dim)


def _by_hand(scores: Tensor, real: Tensor) -> Tensor:
    """e to the score without taking the largest away first: 0 / 0 where all are very low."""
    powers = scores.exp() * real
    return powers / powers.sum(dim=1, keepdim=True)


def _real_rows(scores: Tensor, real: Tensor) -> Tensor:
    rows = torch.arange(len(scores)) % len(real)
    return real[rows][:, None]


def _first_ones(scores: Tensor, real: Tensor) -> Tensor:
    """As if padding always stood at the end."""
    return _masked_softmax(scores, torch.arange(len(real)) < int(real.sum()), -torch.inf)


def mask_cases() -> list[tuple[Tensor, Tensor]]:
    """Padding behind, in front and in between, none, all but one, and scores around 0, −200, −500 and 300."""
    rng = torch.Generator().manual_seed(2017)
    shown = (("xxx..", 5, 0), ("..xxxx", 3, 0), ("x.x.xx", 4, 0), ("x.....", 4, 0), ("xxxxx", 2, 0), ("xxx..", 3, -200))
    cases = []
    for marks, queries, level in (*shown, (".xx.x", 6, -500), ("xx.x", 3, 300), ("x", 1, 0)):
        scores = torch.randn(queries, len(marks), generator=rng) + level
        cases.append((scores, torch.tensor([mark == "x" for mark in marks])))
    return cases


def can_be_aligned(text: str, mel_frames: int, downsample_time: int) -> bool:
    """⌈mel_frames / downsample_time⌉ ≥ letters + equal neighbours."""
    return frames_after(mel_frames, downsample_time) >= frames_needed(text)


def _left(frames: int, by: int) -> int:
    return frames_after(frames, by)


def _doubled_runs(text: str) -> int:
    """Letters, and one more for each run, however long it is."""
    return len(text) + len(re.findall(r"(.)\1+", text))


def fit_cases() -> list[tuple[str, int, int]]:
    """Doubles, triples, spaces and returning letters, at four reductions, on both sides of the border."""
    cases = []
    for text in ("otte", "hobby", "tusind tak", "en blå sommer", "ja", "zzz", "ææh nej", "ø", "anden", "tt ss"):
        for by in (4, 8, 2, 1):
            fewest = by * (frames_needed(text) - 1) + 1
            cases += [
                (text, frames, by) for frames in (fewest - by, fewest - 1, fewest, fewest + by - 1, 3 * fewest) if frames > 0
            ]
    return cases


def mask_stretch(log_mel: Tensor, start: int, width: int) -> Tensor:
    """A copy with `width` frames from `start` set to 0, or as many as there are."""
    return _masked(log_mel, start, start + width)


def _masked(log_mel: Tensor, start: int, end: int, value: float = 0.0) -> Tensor:
    return log_mel.index_fill(0, torch.arange(len(log_mel))[start:end], value)


def stretch_cases() -> list[tuple[Tensor, int, int]]:
    """A hole at the start, in the middle, at the end, over the end, of width 0, of everything."""
    rng = torch.Generator().manual_seed(2019)
    places = (
        (12, 10, 2, 5),
        (9, 16, 0, 3),
        (7, 4, 4, 3),
        (8, 5, 3, 0),
        (6, 3, 4, 5),
        (5, 6, 0, 5),
        (1, 4, 0, 1),
        (10, 10, 3, 2),
    )
    return [(torch.randn(frames, bins, generator=rng) + 0.5, start, width) for frames, bins, start, width in places]


def padding_share(lengths: list[int], batch_size: int) -> float:
    """Padding over everything, over all batches together."""
    return _share(_cut(lengths, batch_size))


def _cut(lengths: list[int], size: int) -> list[list[int]]:
    return [lengths[start : start + size] for start in range(0, len(lengths), size)]


def _share(batches: list[list[int]]) -> float:
    return 1 - sum(map(sum, batches)) / sum(len(batch) * max(batch) for batch in batches)


def _full_only(lengths: list[int], size: int) -> float:
    batches = [batch for batch in _cut(lengths, size) if len(batch) == size]
    return _share(batches) if batches else 0.0


def _last_as_full(lengths: list[int], size: int) -> float:
    return 1 - sum(lengths) / sum(size * max(batch) for batch in _cut(lengths, size))


def padding_cases() -> list[tuple[list[int], int]]:
    """Last batches that are full and that are not, a batch larger than all, batches of one, clips of one length."""
    rng = Random("05.5")
    cases = [([203, 148, 97, 310, 122, 181, 250], 3), ([120] * 4, 2), ([90, 300], 8), ([50], 1), ([10, 90, 40], 2)]
    return cases + [([rng.randrange(80, 400) for _ in range(9)], size) for size in (1, 2, 3, 4, 9)]


def mean_over_time(features: Tensor, real: Tensor) -> Tensor:
    """The mean of the frames that are real."""
    return features[real].mean(dim=0)


def mean_over_all(features: Tensor, real: Tensor) -> Tensor:
    """The broken one: padding adds nothing to the sum, but is counted."""
    return (features * real[:, None]).mean(dim=0)


def mean_cases() -> list[tuple[Tensor, Tensor]]:
    """Padding behind, in front, none, much, and padding that is not 0."""
    rng = torch.Generator().manual_seed(56)
    cases = []
    for marks, size in (("xxx...", 4), ("xxxx", 3), ("..xx", 5), ("x.......", 2), ("xx.x", 6)):
        cases.append((torch.randn(len(marks), size, generator=rng) + 1, torch.tensor([mark == "x" for mark in marks])))
    return cases


EXERCISES: dict[str, Exercise] = {
    "05.1": Exercise(
        title="count before you build",
        level=3,
        minutes=20,
        purpose="to know a network's size, and where it lies, before it exists",
        solve=count_parameters,
        cases=size_cases,
        reader=Number(whole=True),
        mistakes=(
            *(Mistake(_without(part), says) for part, says in FORGOTTEN.items()),
            Mistake(_without(r"convolutions.*weight", 2 / 3), "Kernel size 3: a matrix for each of the three frames."),
            Mistake(_without(r"qkv", 2 / 3), "Queries, keys and values have a matrix each; you counted one."),
            Mistake(_always_four, "4 × takes two convolutions, 8 × three, 2 × one."),
            Mistake(_always_128, "The first convolution reads `bins`, which is not always 128."),
            Mistake(_one_layer, "All layers have weights of their own."),
        ),
        otherwise="Print the parts of a small one with named_parameters, and compare.",
        hints=(
            "Write down the four kinds of part: convolutions, layers, norms, head. `print(model)` shows them all.",
            "A Linear a → b has a · b + b numbers, a convolution of kernel size 3 has 3 · a · b + b, a LayerNorm 2 · d_model.",
            "log2(downsample_time) convolutions: the first takes `bins` to d_model, each further one d_model to d_model.",
            "A layer: d → 3d, d → d, d → d_ff, d_ff → d, and two norms. After all layers one norm, then the head d → vocab.",
        ),
    ),
    "05.2": Exercise(
        title="a softmax that does not look at padding",
        level=2,
        minutes=12,
        purpose="to make a clip come out the same whoever shares its batch",
        solve=attention_with_mask,
        cases=mask_cases,
        reader=Numbers(atol=1e-5),
        mistakes=(
            Mistake(lambda s, r: s.softmax(dim=1), "Padding gets its share as if it were sound. Where do you use `real`?"),
            Mistake(
                lambda s, r: s.softmax(dim=1) * r,
                "A query's shares no longer add up to 1: the mask belongs before the softmax.",
            ),
            *(
                Mistake(
                    lambda s, r, n=n: _masked_softmax(s, r, n),
                    f"{n} is low beside scores around 0, and not beside scores that are lower still: −inf is lower than all.",
                )
                for n in (-10.0, -100.0, -300.0)
            ),
            Mistake(lambda s, r: (s * r).softmax(dim=1), "You set the scores of padding to 0, and e⁰ is 1."),
            Mistake(
                lambda s, r: _masked_softmax(s, r, -torch.inf, 0), "The shares of a *query* should add up to 1: over the keys."
            ),
            Mistake(
                lambda s, r: s.masked_fill(~_real_rows(s, r), -torch.inf).softmax(dim=1),
                "You masked queries, the rows. Who asks does not matter; who is asked does.",
            ),
            Mistake(
                lambda s, r: s.softmax(dim=1) * _real_rows(s, r), "You emptied rows after the softmax; the keys are meant."
            ),
            Mistake(
                lambda s, r: s.masked_fill(r, -torch.inf).softmax(dim=1),
                "`real` is True where sound is; you listen to padding.",
            ),
            Mistake(
                lambda s, r: (s + (~r) * -torch.inf).softmax(dim=1),
                "All is NaN. Was something multiplied by −inf? 0 × −inf is NaN.",
            ),
            Mistake(_by_hand, "e⁻²⁰⁰ is 0 in float32, and you divide by it. torch.softmax takes the largest score away first."),
            Mistake(_first_ones, "Padding need not stand at the end: use `real` itself, not how many are real."),
        ),
        otherwise="Only one real key: it gets all of every query.",
        hints=(
            "What must a score be, so that softmax makes exactly 0 of it? e to the what is 0?",
            "scores.masked_fill(mask, value) writes `value` where the mask is True. `real` is True where you want no change.",
            "The softmax comes afterwards, over the keys, the last dimension.",
        ),
    ),
    "05.3": Exercise(
        title="will it fit?",
        level=2,
        minutes=10,
        purpose="to find the clips that CTC cannot learn from, before it silently skips them",
        solve=can_be_aligned,
        cases=fit_cases,
        reader=Truth(),
        mistakes=(
            Mistake(
                lambda t, f, by: _left(f, by) >= len(t), "Equal neighbours need a blank between them, and it needs a frame."
            ),
            Mistake(
                lambda t, f, by: f // by >= frames_needed(t), "A halving rounds an odd number of frames up: at 4 ×, 13 leave 4."
            ),
            Mistake(
                lambda t, f, by: f >= frames_needed(t),
                "CTC does not see mel frames: it sees what the convolutions leave of them.",
            ),
            Mistake(
                lambda t, f, by: _left(f, by) > frames_needed(t), "Exactly enough is enough: one path is left, and one will do."
            ),
            Mistake(
                lambda t, f, by: _left(f, by) >= 2 * len(t) - len(set(t)),
                "You counted letters that come back anywhere; only neighbours merge.",
            ),
            Mistake(
                lambda t, f, by: _left(f, by) >= frames_needed(t.replace(" ", "")),
                "The space is a symbol like any other, and needs a frame too.",
            ),
            Mistake(lambda t, f, by: _left(f, by) >= _doubled_runs(t), "Three in a row need two blanks, one in each gap."),
            Mistake(lambda t, f, by: _left(f, by) < frames_needed(t), "The wrong way round: True means that it can."),
            Mistake(lambda t, f, by: _left(f, 4) >= frames_needed(t), "4 × is only one of the reductions."),
            Mistake(
                lambda t, f, by: _left(f, by) >= 2 * len(t) + 1,
                "Blanks are allowed everywhere, but needed only between equals.",
            ),
        ),
        otherwise="Print both sides: the frames that are left, and the fewest that spell the text.",
        hints=(
            "Two numbers to compare: the frames that are left, and the fewest frames that spell the text (exercise 04.2).",
            "Each halving rounds an odd number of frames up: 13 → 7 → 4. Rounding up once, after dividing, comes to the same.",
            "Letters, and one more for each pair of equal neighbours; zip(text, text[1:]) gives the pairs.",
        ),
    ),
    "05.4": Exercise(
        title="a moment of nothing",
        level=1,
        minutes=6,
        purpose="to write half of SpecAugment, and not to spoil the data with it",
        solve=mask_stretch,
        cases=stretch_cases,
        reader=Numbers(),
        mistakes=(
            Mistake(lambda x, a, w: x, "Nothing was masked."),
            Mistake(lambda x, a, w: _masked(x.T, a, a + w).T, "You masked bins. Time runs down the rows, the first dimension."),
            Mistake(lambda x, a, w: _masked(x, a, a + w + 1), "One frame too many: a slice leaves its end out."),
            Mistake(lambda x, a, w: _masked(x, a, a + max(w - 1, 0)), "One frame too few: a slice leaves its end out."),
            Mistake(lambda x, a, w: _masked(x, a, w), "A slice wants where it ends, not how long it is."),
            Mistake(lambda x, a, w: _masked(x, a, a + w, float(x.min())), "You filled in the quietest value; 0 is the mean."),
            Mistake(
                lambda x, a, w: _masked(x, a, a + w, float(x.mean())), "You filled in the mean of this block; 0 is asked for."
            ),
            Mistake(lambda x, a, w: _masked(x, a, a + w, 1.0), "You filled in ones; 0 is asked for."),
            Mistake(lambda x, a, w: torch.cat([x[:a], x[a + w :]]), "You cut the frames out; the clip must keep its length."),
            Mistake(lambda x, a, w: x[a : a + w], "That is the stretch itself; the rest of the clip is wanted, too."),
        ),
        hints=(
            "Frames are the rows. Take a copy before you touch anything.",
            "A slice may be assigned to. Over the end of the clip it simply stops.",
        ),
    ),
    "05.5": Exercise(
        title="what share is padding?",
        level=2,
        minutes=12,
        purpose="to see what sorting clips by length is worth",
        solve=padding_share,
        cases=padding_cases,
        reader=Number(),
        mistakes=(
            Mistake(lambda n, s: _share([n]), "Each batch is padded to its own longest clip, not to the longest of all."),
            Mistake(
                lambda n, s: fmean(_share([b]) for b in _cut(n, s)),
                "A mean of shares, but batches differ in size: divide once.",
            ),
            Mistake(
                lambda n, s: padding_share(n, s) / (1 - padding_share(n, s)),
                "You divided by what is real. The share is of everything, padding included.",
            ),
            Mistake(_full_only, "The last batch may be smaller. It is a batch all the same."),
            Mistake(_last_as_full, "A smaller last batch has only as many rows as it has clips."),
            Mistake(
                lambda n, s: _share(_cut(sorted(n), s)), "You sorted the clips. A good idea, but here they keep their order."
            ),
            Mistake(lambda n, s: 1 - padding_share(n, s), "That is the share of sound. Asked is the rest."),
            Mistake(lambda n, s: 100 * padding_share(n, s), "That is percent; a share lies between 0 and 1."),
        ),
        hints=(
            "Per batch: as many rows as clips, each as long as the longest of them. How many numbers are that?",
            "range(0, len(lengths), batch_size) gives the starts; lengths[start : start + batch_size] is a batch.",
            "Add up the numbers of all blocks. What is not sum(lengths) of that is padding.",
        ),
    ),
    "05.6": Exercise(
        title="repair: a voice that fades in long batches",
        level=2,
        minutes=8,
        purpose="to find padding where no error shows it",
        solve=mean_over_time,
        cases=mean_cases,
        reader=Numbers(),
        broken=mean_over_all,
        symptom="The same clip has a mean half as large in a batch where it is padded to twice its length. What is counted?",
        mistakes=(
            Mistake(lambda x, r: x.mean(dim=0), "Now padding is in the sum as well."),
            Mistake(lambda x, r: (x * r[:, None]).sum(dim=0), "That is the sum; divide by how many frames are real."),
            Mistake(lambda x, r: x.sum(dim=0) / r.sum(), "The count is right; the sum still holds the padding."),
            Mistake(lambda x, r: x[: int(r.sum())].mean(dim=0), "Padding need not stand at the end."),
            Mistake(lambda x, r: (x * r[:, None]).sum(dim=0) / r.sum() / math.sqrt(len(x)), "Where does the root come from?"),
        ),
        otherwise="Sum of the real frames over the number of real frames.",
        hints=(
            "The sum is right: padding was multiplied by 0. By how many frames is it divided?",
            "real.sum() is the number of frames that are real.",
        ),
    ),
}
