"""A learner's function or value → "right", "not attempted yet", or what is probably wrong.

One file a chapter (`chapter_03.py`) holds its exercises. An exercise computes the right answer itself, on inputs that it makes
up, and names the mistake that would explain a wrong one. It never looks at what the answer "should" be in the notebook.
"""

import dis
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class NotYet(Exception):  # noqa: N818 (a stage on the way, not a failure)
    """The answer is wrong; the message says how, and what is the likely mistake."""


class NotAttempted(Exception):  # noqa: N818
    """The stub is as it was, or the value is still None."""


@dataclass(frozen=True)
class Exercise:
    """`examine` takes the learner's answer and raises NotYet when it is wrong; hints go from a nudge to nearly all."""

    examine: Callable[[Any], None]
    hints: tuple[str, ...]


HINTS_GIVEN: dict[str, int] = {}
"""How many hints each exercise has given away in this session."""


def find_exercise(key: str) -> Exercise:
    """The exercise "03.2" of `chapter_03.py`; raises KeyError that lists what there is."""
    chapter = key.partition(".")[0]
    try:
        exercises: dict[str, Exercise] = importlib.import_module(f"course_lib.exercises.chapter_{chapter}").EXERCISES
    except ModuleNotFoundError:
        raise KeyError(f"no exercise {key!r}: chapter {chapter!r} has none") from None
    if key not in exercises:
        raise KeyError(f"no exercise {key!r}; chapter {chapter} has {', '.join(exercises)}")
    return exercises[key]


def check(key: str, answer: Any) -> None:
    """Print a line about the answer: right, not attempted yet, or not yet and why."""
    exercise = find_exercise(key)
    try:
        _refuse_stub(answer)
        exercise.examine(answer)
    except NotAttempted:
        print(f'{key}  not attempted yet: hint("{key}") when you want one')
    except NotYet as problem:
        print(f"{key}  not yet: {problem}")
    else:
        print(f"{key}  right")


def hint(key: str) -> None:
    """Print the next hint of an exercise; after the last one, all of them once more."""
    hints = find_exercise(key).hints
    given = HINTS_GIVEN[key] = HINTS_GIVEN.get(key, 0) + 1
    if given <= len(hints):
        print(f"{key}  hint {given} of {len(hints)}: {hints[given - 1]}")
        return
    print(f"{key}  these were all; once more, or see notebooks/solutions:")
    for number, text in enumerate(hints, start=1):
        print(f"  {number}. {text}")


def attempt(function: Callable[..., Any], *inputs: Any) -> Any:
    """Call the learner's function; an exception or a missing return becomes NotYet, with the input that caused it."""
    shown = ", ".join(_short(value) for value in inputs)
    try:
        result = function(*inputs)
    except Exception as error:
        raise NotYet(f"for {shown} your function stopped with {type(error).__name__}: {error}") from error
    if result is None or result is ...:
        raise NotYet(f"for {shown} your function gave nothing back. Did you forget the return?")
    return result


_EMPTY_BODY = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}


def _refuse_stub(answer: Any) -> None:
    """A value that is None or `...`, or a function with an empty body, was not attempted."""
    if answer is None or answer is ...:
        raise NotAttempted
    code = getattr(answer, "__code__", None)
    if (
        code is not None
        and {step.opname for step in dis.get_instructions(code)} <= _EMPTY_BODY
        and not _returns_something(code)
    ):
        raise NotAttempted


def _returns_something(code: Any) -> bool:
    """`return 3` has the same instructions as an empty body, but does not load None."""
    return any(
        step.argval not in (None, ...) for step in dis.get_instructions(code) if step.opname in ("LOAD_CONST", "RETURN_CONST")
    )


def _short(value: Any) -> str:
    text = repr(value)
    if len(text) <= 60:
        return text
    return f"{type(value).__name__} of shape {tuple(value.shape)}" if hasattr(value, "shape") else text[:57] + "..."
