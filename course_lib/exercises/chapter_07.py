"""Exercises of chapter 07, the projector: the nearest pieces of text, frames side by side, weights, the largest k."""

from collections.abc import Callable
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from course_lib.ctc.paths import frames_needed
from course_lib.exercises.base import Exercise, NotYet, attempt

WORDS = ("otte", "nat", "ø", "bil", "hobby", "tusind tak", "sommer", "blåbær", "jeg vil gerne have en kop kaffe", "æææh")


def examine_nearest(answer: Callable[[Tensor, Tensor, int], Tensor]) -> None:
    """07.1: the indices of the rows with the largest cosine, best first."""
    rng = torch.Generator().manual_seed(64)
    for tokens, vocab, size, count in ((6, 40, 8, 5), (3, 25, 4, 2), (4, 60, 12, 1)):
        table = torch.randn(vocab, size, generator=rng) * (0.2 + 3 * torch.rand(vocab, 1, generator=rng))
        rows = torch.randn(tokens, size, generator=rng) * 2
        cosines = F.normalize(rows, dim=1) @ F.normalize(table, dim=1).T
        start = f"{tokens} audio tokens, a table of {vocab} rows, the best {count}: "
        found = _attempt_tensor(answer, start, rows, table, count)
        expected = cosines.topk(count).indices
        wrong = {
            "long rows win with a plain product, whatever they mean. Make the rows of the table equally long first.": (
                rows @ table.T
            )
            .topk(count)
            .indices,
            "that is by distance, which punishes rows for their length. By direction, please: the cosine.": torch.cdist(
                rows, table
            )
            .topk(count, largest=False)
            .indices,
            "these are the least alike. The largest cosine is the nearest.": cosines.topk(count, largest=False).indices,
            "these are the cosines; give back which rows they belong to.": cosines.topk(count).values,
            "the right rows, but the nearest should come first.": expected.flip(1),
            "you asked each row of the table for its nearest token; ask each token.": cosines.T.topk(
                min(count, tokens)
            ).indices,
        }
        _judge(found, expected, start, wrong)


def examine_stack(answer: Callable[[Tensor, int], Tensor]) -> None:
    """07.2: [frames, d] → [frames // k, k · d], neighbours side by side, the tail dropped."""
    rng = torch.Generator().manual_seed(61)
    for frames, size, k in ((12, 4, 3), (10, 3, 5), (11, 4, 3), (7, 2, 2), (6, 3, 1)):
        features = torch.randn(frames, size, generator=rng)
        whole = features[: frames // k * k]
        tokens = len(whole) // k
        expected = whole.reshape(tokens, k * size)
        start = f"{frames} frames of {size} numbers, k = {k}: "
        found = _attempt_tensor(answer, start, features, k)
        wrong = {
            "the numbers are there, but mixed: first all of the first frame, then all of the second.": whole.reshape(
                tokens, k, size
            ).mT.reshape(tokens, k * size),
            "you put frames together that lie far apart. Neighbours are wanted: (tokens k), not (k tokens).": whole.reshape(
                k, tokens, size
            )
            .transpose(0, 1)
            .reshape(tokens, k * size),
            "every k-th frame is kept and the others are lost. Side by side, nothing is lost.": whole[::k],
            "that is the mean of the neighbours. Side by side, each keeps its own numbers.": whole.reshape(
                tokens, k, size
            ).mean(dim=1),
        }
        _judge(found, expected, start, wrong)


def examine_count(answer: Callable[[int, int, int, int], int]) -> None:
    """07.3: (k · features + 1) · hidden + (hidden + 1) · llm_dim."""
    rng = Random("07.3")
    sizes = [
        (512, 5, 512, 2048),
        *((rng.randrange(50, 999), rng.randrange(2, 9), rng.randrange(99, 999), 77) for _ in range(3)),
    ]
    for size, k, hidden, llm_dim in sizes:
        found = attempt(answer, size, k, hidden, llm_dim)
        first, second = k * size * hidden, hidden * llm_dim
        expected = first + hidden + second + llm_dim
        wrong = {
            "that is the two matrices. Each layer also adds a bias, one number for each of its outputs.": first + second,
            "the first layer reads k frames side by side, not one.": size * hidden + hidden + second + llm_dim,
            "that is the first layer. A second one leads to the language model.": first + hidden,
            "one layer straight into the language model? There is a hidden one of another width between.": k * size * llm_dim
            + llm_dim,
            "the ReLU has no weights, and the input no bias: two biases, of the widths of the two outputs.": expected
            + k * size,
        }
        start = f"features {size}, k = {k}, hidden {hidden}, llm_dim {llm_dim}: you say {found!r}. "
        if found != expected:
            said = next((say for say, result in wrong.items() if result == found), "What feeds what? Draw the two matrices.")
            raise NotYet(start + said[0].upper() + said[1:])


def examine_largest_k(answer: Callable[[str, int], int]) -> None:
    """07.4: ⌊features / frames that CTC needs⌋."""
    rng = Random("07.4")
    needs = [(word, frames_needed(word)) for word in WORDS]
    cases = [(word, rows) for word, need in needs for rows in (need * 2, need * 4 - 1, rng.randrange(need, 9 * need))]
    found = [attempt(answer, *case) for case in cases]
    expected = [rows // frames_needed(word) for word, rows in cases]
    if found == expected:
        return
    wrong: dict[str, Callable[[str, int], int | float]] = {
        "Equal neighbours need a token between them: see frames_needed in chapter 04.": lambda word, rows: rows // len(word),
        "Half a frame is no frame: k is a whole number, so round down.": lambda word, rows: rows / frames_needed(word),
        "Rounded up, one letter has no token. Round down.": lambda word, rows: -(-rows // frames_needed(word)),
        "That is how many audio tokens the text needs. How many rows may each of them have?": lambda word, rows: frames_needed(
            word
        ),
        "The spaces are letters, too, for who spells.": lambda word, rows: rows // frames_needed(word.replace(" ", "")),
        "One less would do, but a larger k fits as well.": lambda word, rows: rows // frames_needed(word) - 1,
    }
    (word, rows), said, best = next((c, f, e) for c, f, e in zip(cases, found, expected, strict=True) if f != e)
    start = f'"{word}" over {rows} rows of features: you say {said!r}. '
    otherwise = f"With k = {best} there are {rows // best} audio tokens for the {frames_needed(word)} that it takes."
    raise NotYet(start + next((why for why, rule in wrong.items() if [rule(*case) for case in cases] == found), otherwise))


def _attempt_tensor(answer: Callable[..., Tensor], start: str, *inputs: Any) -> Tensor:
    found = attempt(answer, *(value.clone() if isinstance(value, Tensor) else value for value in inputs))
    if not isinstance(found, Tensor):
        raise NotYet(start + f"give back a tensor, not {type(found).__name__}.")
    return found


def _same(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(found.double(), expected.double(), atol=1e-5)


def _judge(found: Tensor, expected: Tensor, start: str, wrong: dict[str, Tensor]) -> None:
    """Nothing if `found` is right, else NotYet with what `wrong` says of it, or with what differs."""
    if _same(found, expected):
        return
    for say, result in wrong.items():
        if _same(found, result):
            raise NotYet(start + say)
    if found.shape != expected.shape:
        raise NotYet(start + f"the shape is {tuple(found.shape)}, expected {tuple(expected.shape)}.")
    row = int((found.double() - expected.double()).abs().flatten(1).amax(dim=1).argmax())
    raise NotYet(start + f"the shape is right, but row {row} is not; expected it to begin with {expected[row, 0]:.4g}.")


EXERCISES = {
    "07.1": Exercise(
        examine_nearest,
        (
            "The cosine is the product of two rows that have been made one long.",
            "torch.nn.functional.normalize(rows, dim=1) makes every row one long; one product then gives all cosines.",
            "scores.topk(count) gives values and indices, the largest first; you want .indices.",
        ),
    ),
    "07.2": Exercise(
        examine_stack,
        (
            "How many whole groups of k are there? What is left over goes.",
            "frames = len(features) // k * k; then features[:frames] has a length that k divides.",
            'rearrange(…, "(tokens k) d -> tokens (k d)", k=k): read it aloud, left to right.',
        ),
    ),
    "07.3": Exercise(
        examine_count,
        (
            "A linear layer from a to b numbers has a matrix and a bias. How many numbers is each?",
            "Linear(a, b) has a · b + b. The first one reads k · feature_dim numbers.",
            "(k * feature_dim + 1) * hidden_dim + (hidden_dim + 1) * llm_dim",
        ),
    ),
    "07.4": Exercise(
        examine_largest_k,
        (
            "How many audio tokens does the text need at least, if each spells one letter?",
            "course_lib.ctc.paths.frames_needed(text) is the letters plus one for each pair of equal neighbours.",
            "features // k must be at least that. Which is the largest k?",
            "features // frames_needed(text)",
        ),
    ),
}
