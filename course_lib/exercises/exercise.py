"""What an exercise is, and where it is found: a solution, cases, the usual mistakes as code, and hints."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_lib.exercises.reading import Reader


@dataclass(frozen=True)
class Mistake:
    """A slip that people make, as the function that they would write, and what to say to it."""

    rule: Callable[..., Any]
    says: str


@dataclass(frozen=True)
class Exercise:
    """One exercise. `check` runs `solve` and the learner's answer on every case and compares what `reader` makes of both.

    A mistake is told only if its rule gives what the learner's answer gave, on all cases; if none does, the first case that
    differs is shown, with `otherwise` behind it, or what that says of the value and the right one: a fact, and no guess.
    `forbidden` names what the text asks the learner to do without. `broken` is the function that a repair exercise hands out,
    and `symptom` what it does wrong. `of_values` says that a value is asked for and no function; then the right one is never
    printed. `view` picks out of an answer what counts.
    """

    title: str
    level: int
    minutes: int
    purpose: str
    solve: Callable[..., Any]
    cases: Callable[[], list[tuple[Any, ...]]]
    reader: Reader
    mistakes: tuple[Mistake, ...]
    hints: tuple[str, ...]
    otherwise: str | Callable[[Any, Any], str] = "Try the smallest case by hand."
    forbidden: tuple[str, ...] = ()
    broken: Callable[..., Any] | None = None
    symptom: str = ""
    of_values: bool = False
    view: Callable[..., Any] | None = None

    @property
    def heading(self) -> str:
        """What stands behind the exercise's number in the notebook.

        >>> from course_lib.exercises.chapter_01 import EXERCISES
        >>> EXERCISES["01.1"].heading
        'what you hear · ●○○ · 8 minutes'
        """
        return f"{self.title} · {'●' * self.level}{'○' * (3 - self.level)} · {self.minutes} minutes"


def chapters() -> list[str]:
    """The chapters that have exercises: "01", "02", …"""
    return sorted(path.stem.removeprefix("chapter_") for path in Path(__file__).parent.glob("chapter_*.py"))


def exercises_of(chapter: str) -> dict[str, Exercise]:
    """All exercises of a chapter by their keys, in the order of the notebook."""
    return importlib.import_module(f"course_lib.exercises.chapter_{chapter}").EXERCISES


def exact_key(key: Any) -> str:
    """The key as it is written: 3.2 and "3.2" mean "03.2"; raises LookupError, with a sentence, for what is no key.

    >>> exact_key(3.2), exact_key(" 10.1 ")
    ('03.2', '10.1')
    """
    if not isinstance(key, (str, int, float)) or isinstance(key, bool):
        raise LookupError('the number of the exercise comes first, then your answer: check("03.2", my_function)')
    chapter, _, number = str(key).strip().partition(".")
    return f"{chapter.zfill(2)}.{number}"


def find_exercise(key: str) -> Exercise:
    """The exercise "03.2" of `chapter_03.py`; raises LookupError with a sentence that lists what there is."""
    chapter = key.partition(".")[0]
    if chapter not in chapters():
        raise LookupError(f"there is no exercise {key}: the chapters with exercises are {', '.join(chapters())}")
    found = exercises_of(chapter)
    if key not in found:
        raise LookupError(f"there is no exercise {key}: chapter {chapter} has {', '.join(found)}")
    return found[key]
