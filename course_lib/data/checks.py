"""Clips before a model hears them → which of them cannot be used, and what should be known of all of them.

Whatever a training or a measurement would stumble over is looked for here, in every clip, before anything is encoded.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from course_lib.data.datasets import Example
from course_lib.files import file_digest
from course_lib.sound.audio import SAMPLE_RATE, AudioError, stream_audio
from course_lib.text.normalise import DANISH_CHARACTERS

MOST_CHARACTERS = 1_000
"""A text may be so long in any case, and in a long recording as long as someone could say it."""

FASTEST = 60
"""Characters a second that nobody exceeds: quick Danish has 20."""


def fault_of_clip(example: Example, max_seconds: float | None = 30.0, letters: str | None = None) -> str:
    """Why a clip cannot be used, "" if it can: its letters (where only some have a symbol), its sound, its length."""
    unknown = dict.fromkeys(letter for letter in example.text if letters and letter not in letters)
    if unknown:
        return f"no symbol for {', '.join(map(repr, [*unknown][:5]))}; run normalise() first"
    known = example.path.stat()
    fault, seconds = _hear(str(example.path), known.st_size, known.st_mtime_ns, max_seconds)
    if fault:
        return fault
    most = max(MOST_CHARACTERS, FASTEST * seconds)
    return f"{len(example.text):,} characters in {seconds:.1f} s of sound" if len(example.text) > most else ""


@lru_cache(maxsize=200_000)
def _hear(path: str, size: int, changed: int, max_seconds: float | None) -> tuple[str, float]:
    """What is wrong with a file's sound, and how long it is; a file that has not changed is not read twice."""
    try:
        return "", sum(map(len, stream_audio(Path(path), max_seconds=max_seconds))) / SAMPLE_RATE
    except AudioError as error:
        return error.reason, 0.0


def describe_sets(train_sets: Sequence[Sequence[Example]], validation: Sequence[Example]) -> str:
    """How many clips there are to train and to validate on, how many are in both, how many texts are not normalised."""
    train = [example for examples in train_sets for example in examples]
    lines = [f"{len(train):,} clips to train on, {len(validation):,} to validate on"]
    known = {file_digest(example.path) for example in train}
    same = sum(file_digest(example.path) in known for example in validation)
    if same:
        lines.append(f"  {same:,} of the {len(validation):,} are also trained on: validation does not measure new speech there")
    return "\n".join([*lines, *describe_texts([*train, *validation])])


def describe_texts(examples: Sequence[Example]) -> list[str]:
    """A line if there are letters in the texts that no system of this course ever writes; none if not."""
    odd = Counter(letter for example in examples for letter in {*example.text} - {*DANISH_CHARACTERS})
    texts = sum(not {*example.text} <= {*DANISH_CHARACTERS} for example in examples)
    if not texts:
        return []
    common = " ".join(letter for letter, _ in odd.most_common(8))
    return [
        f"  {texts:,} of {len(examples):,} texts are not normalised (they have {common}); a word that is written "
        "otherwise counts as wrong. See course_lib.text.normalise"
    ]
