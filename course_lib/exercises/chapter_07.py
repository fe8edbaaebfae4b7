"""Exercises of chapter 07, the projector: nearest pieces of text, frames side by side, weights, the largest k, a lost clip."""

from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.ctc.paths import frames_needed
from course_lib.exercises.base import Exercise, Mistake
from course_lib.exercises.reading import Ids, Number, Numbers

WORDS = ("otte", "nat", "ø", "bil", "hobby", "tusind tak", "sommer", "blåbær", "jeg vil gerne have en kop kaffe", "æææh", "zzz")


def nearest_pieces(tokens: Tensor, table: Tensor, count: int) -> Tensor:
    """The indices of the rows with the largest cosine, best first."""
    return _cosines(tokens, table).topk(count, dim=1).indices


def _cosines(tokens: Tensor, table: Tensor) -> Tensor:
    return F.normalize(tokens, dim=1) @ F.normalize(table, dim=1).T


def _sorted_by_row(tokens: Tensor, table: Tensor, count: int) -> Tensor:
    """The right rows, in the order of the table."""
    return nearest_pieces(tokens, table, count).sort(dim=1).values


def _by_table(tokens: Tensor, table: Tensor, count: int) -> Tensor:
    return _cosines(tokens, table).T.topk(min(count, len(tokens)), dim=1).indices


def nearest_cases() -> list[tuple[Tensor, Tensor, int]]:
    """One token and several, one neighbour, several and all, rows of very different length and opposite direction."""
    rng = torch.Generator().manual_seed(64)
    cases = []
    for tokens, vocab, size, count in ((6, 40, 8, 5), (3, 25, 4, 2), (4, 60, 12, 1), (1, 7, 5, 7), (7, 4, 3, 3)):
        table = torch.randn(vocab, size, generator=rng) * (0.2 + 3 * torch.rand(vocab, 1, generator=rng))
        cases.append((torch.randn(tokens, size, generator=rng) * 2, table, count))
    return cases


def stack_frames(features: Tensor, k: int) -> Tensor:
    """[frames, d] → [frames // k, k · d], neighbours side by side, the tail dropped."""
    whole = _whole(features, k)
    return whole.reshape(len(whole) // k, k * features.shape[1])


def _whole(features: Tensor, k: int) -> Tensor:
    return features[: len(features) // k * k]


def _grouped(features: Tensor, k: int) -> Tensor:
    return _whole(features, k).reshape(-1, k, features.shape[1])


def _far_apart(features: Tensor, k: int) -> Tensor:
    tokens, size = len(features) // k, features.shape[1]
    return _whole(features, k).reshape(k, tokens, size).transpose(0, 1).reshape(tokens, k * size)


def _from_the_end(features: Tensor, k: int) -> Tensor:
    """The tail kept and the beginning dropped."""
    return stack_frames(features[len(features) % k :], k)


def _padded(features: Tensor, k: int) -> Tensor:
    return stack_frames(F.pad(features, (0, 0, 0, -len(features) % k)), k)


def _overlapping(features: Tensor, k: int) -> Tensor:
    return torch.stack([features[at : at + k].flatten() for at in range(len(features) - k + 1)])


def stack_cases() -> list[tuple[Tensor, int]]:
    """With a tail and without, k of 1, as many frames as k, fewer frames than k, one feature."""
    rng = torch.Generator().manual_seed(61)
    sizes = ((12, 4, 3), (10, 3, 5), (11, 4, 3), (7, 2, 2), (6, 3, 1), (5, 3, 5), (9, 1, 4), (3, 4, 5), (14, 5, 5))
    return [(torch.randn(frames, size, generator=rng), k) for frames, size, k in sizes]


def weights_of(feature_dim: int, k: int, hidden_dim: int, llm_dim: int) -> int:
    """(k · features + 1) · hidden + (hidden + 1) · llm_dim."""
    return (k * feature_dim + 1) * hidden_dim + (hidden_dim + 1) * llm_dim


def weight_cases() -> list[tuple[int, int, int, int]]:
    """The guide's sizes, k of 1, and others in which no two numbers are equal."""
    rng = Random("07.3")
    drawn = [(rng.randrange(50, 999), rng.randrange(2, 9), rng.randrange(99, 999), rng.randrange(60, 400)) for _ in range(5)]
    return [(512, 5, 512, 2048), (512, 2, 256, 256), (192, 1, 77, 13), (1, 1, 1, 1), *drawn]


def largest_k(text: str, features: int) -> int:
    """⌊features / frames that CTC needs⌋."""
    return features // frames_needed(text)


def k_cases() -> list[tuple[str, int]]:
    """Words with doubles, triples and spaces, over rows that are many, just enough, and too few (0)."""
    rng = Random("07.4")
    needs = [(word, frames_needed(word)) for word in WORDS]
    cases = [(word, rows) for word, need in needs for rows in (need * 2, need * 4 - 1, need, rng.randrange(need, 9 * need))]
    return [*cases, ("otte", 4), ("ja", 0), ("ø", 1)]


def drop_tail(features: Tensor, k: int) -> Tensor:
    """As many frames as k divides, from the beginning."""
    return _whole(features, k)


def drop_tail_by_minus(features: Tensor, k: int) -> Tensor:
    """The broken one: −0 is 0, and a slice up to 0 is empty."""
    return features[: -(len(features) % k)]


def tail_cases() -> list[tuple[Tensor, int]]:
    """A tail, none, only a tail, k of 1."""
    rng = torch.Generator().manual_seed(75)
    return [(torch.randn(frames, 3, generator=rng), k) for frames, k in ((11, 3), (12, 3), (2, 5), (6, 1), (5, 5), (9, 4))]


EXERCISES: dict[str, Exercise] = {
    "07.1": Exercise(
        title="the nearest rows",
        level=2,
        minutes=10,
        purpose="to ask what an audio token means to a language model",
        solve=nearest_pieces,
        cases=nearest_cases,
        reader=Ids(wanted="for each token a row of indices (int)", ndim=2),
        mistakes=(
            Mistake(
                lambda x, t, n: (x @ t.T).topk(n, dim=1).indices,
                "Long rows win with a plain product, whatever they mean. Make the rows of the table equally long first.",
            ),
            Mistake(
                lambda x, t, n: torch.cdist(x, t).topk(n, largest=False, dim=1).indices,
                "That is by distance, which punishes rows for their length. By direction, please: the cosine.",
            ),
            Mistake(lambda x, t, n: _cosines(x, t).topk(n, largest=False, dim=1).indices, "These are the least alike."),
            Mistake(
                lambda x, t, n: _cosines(x, t).abs().topk(n, dim=1).indices, "The opposite direction is far, not near: no abs."
            ),
            Mistake(lambda x, t, n: nearest_pieces(x, t, n).flip(1), "The right rows, but the nearest should come first."),
            Mistake(_sorted_by_row, "The right rows, but in the order of the table; the nearest should come first."),
            Mistake(_by_table, "You asked each row of the table for its nearest token; ask each token."),
            Mistake(lambda x, t, n: nearest_pieces(x, t, 1), "Only the nearest one; `count` of them are wanted."),
            Mistake(
                lambda x, t, n: (F.normalize(x, dim=0) @ F.normalize(t, dim=0).T).topk(n, dim=1).indices,
                "You made the columns one long; each *row* should be.",
            ),
        ),
        hints=(
            "The cosine is the product of two rows that have been made one long.",
            "torch.nn.functional.normalize(rows, dim=1) makes every row one long; one product then gives all cosines.",
            "topk gives values and places, the largest first. Which of the two is wanted?",
        ),
    ),
    "07.2": Exercise(
        title="put frames side by side",
        level=2,
        minutes=10,
        purpose="to shorten a sequence without losing a number of it",
        solve=stack_frames,
        cases=stack_cases,
        reader=Numbers(),
        mistakes=(
            Mistake(
                lambda x, k: _grouped(x, k).mT.reshape(len(x) // k, k * x.shape[1]),
                "The numbers are there, but mixed: first all of the first frame, then all of the second.",
            ),
            Mistake(_far_apart, "You put frames together that lie far apart. Neighbours are wanted."),
            Mistake(lambda x, k: _whole(x, k)[::k], "Every k-th frame is kept and the others are lost."),
            Mistake(lambda x, k: _grouped(x, k).mean(dim=1), "That is the mean of the neighbours; each keeps its own numbers."),
            Mistake(_from_the_end, "The beginning was dropped; drop the tail."),
            Mistake(_padded, "The tail was filled up with zeros; here it is dropped."),
            Mistake(_overlapping, "Your groups overlap: each frame belongs to one."),
            Mistake(lambda x, k: stack_frames(x, 5), "k is not always 5."),
        ),
        hints=(
            "How many whole groups of k are there? What is left over goes.",
            "frames = len(features) // k * k; then features[:frames] has a length that k divides.",
            'rearrange(…, "(tokens k) d -> tokens …", k=k): which of the two comes first in the new row, k or d?',
        ),
    ),
    "07.3": Exercise(
        title="count before you build",
        level=1,
        minutes=6,
        purpose="to check a size that somebody claims",
        solve=weights_of,
        cases=weight_cases,
        reader=Number(whole=True),
        mistakes=(
            Mistake(lambda f, k, h, d: k * f * h + h * d, "That is the two matrices. Each layer also adds a bias."),
            Mistake(lambda f, k, h, d: (f + 1) * h + (h + 1) * d, "The first layer reads k frames side by side, not one."),
            Mistake(lambda f, k, h, d: (k * f + 1) * h, "That is the first layer. A second one leads to the language model."),
            Mistake(lambda f, k, h, d: (h + 1) * d, "That is the second layer. A first one leads there."),
            Mistake(lambda f, k, h, d: (k * f + 1) * d, "One layer straight into the language model? A hidden one is between."),
            Mistake(
                lambda f, k, h, d: weights_of(f, k, h, d) + k * f, "The input has no bias: two biases, of the two outputs."
            ),
            Mistake(lambda f, k, h, d: weights_of(f, k, h, d) + h, "The ReLU between has no weights."),
            Mistake(lambda f, k, h, d: k * weights_of(f, 1, h, d), "The k frames go in together, once."),
            Mistake(
                lambda f, k, h, d: k * (f + 1) * h + (h + 1) * d, "One bias for the whole first layer, not one for each frame."
            ),
        ),
        otherwise="What feeds what? Draw the two matrices.",
        hints=(
            "A linear layer from a to b numbers has a matrix and a bias. How many numbers is each?",
            "Linear(a, b) has a · b + b. The first one reads k · feature_dim numbers.",
        ),
    ),
    "07.4": Exercise(
        title="the largest k",
        level=2,
        minutes=10,
        purpose="to choose k from what has to be spelled",
        solve=largest_k,
        cases=k_cases,
        reader=Number(whole=True),
        mistakes=(
            Mistake(lambda t, n: n // len(t), "Equal neighbours need a token between them."),
            Mistake(lambda t, n: n / frames_needed(t), "Half a frame is no frame: k is a whole number, so round down."),
            Mistake(lambda t, n: -(-n // frames_needed(t)), "Rounded up, one letter has no token. Round down."),
            Mistake(lambda t, n: frames_needed(t), "That is how many audio tokens the text needs. How many rows for each?"),
            Mistake(lambda t, n: n // frames_needed(t.replace(" ", "")), "The spaces are letters, too, for who spells."),
            Mistake(lambda t, n: max(n // frames_needed(t) - 1, 0), "One less would do, but a larger k fits as well."),
            Mistake(lambda t, n: max(n // frames_needed(t), 1), "If even k = 1 leaves too few, the answer is 0."),
            Mistake(lambda t, n: n // (2 * len(t) + 1), "Blanks are needed only between equal neighbours."),
        ),
        otherwise="With that k, are there as many audio tokens as the text takes? And with one more?",
        hints=(
            "How many audio tokens does the text need at least, if each spells one letter (exercise 04.2)?",
            "features // k must be at least that. Which is the largest k?",
        ),
    ),
    "07.5": Exercise(
        title="repair: clips that vanish",
        level=1,
        minutes=6,
        purpose="to recognise a slice that works for four lengths of five",
        solve=drop_tail,
        cases=tail_cases,
        reader=Numbers(),
        broken=drop_tail_by_minus,
        symptom="Every clip whose length k divides comes out empty, the others are fine. What is a slice up to −0?",
        mistakes=(
            Mistake(lambda x, k: x, "The tail is still there."),
            Mistake(lambda x, k: x[: len(x) // k], "That is as many frames as there are groups; each group has k."),
            Mistake(lambda x, k: x[: (len(x) - 1) // k * k], "A last group that is whole stays."),
            Mistake(lambda x, k: x[len(x) % k :], "That drops the beginning."),
        ),
        hints=("len(features) % k is 0 exactly for the clips that vanish.", "Say how many frames stay, and not how many go."),
    ),
}
