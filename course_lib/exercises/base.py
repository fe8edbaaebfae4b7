"""A learner's answer → "right", "not attempted yet", or what differs and, if it can be told, why.

The right answers are computed before the learner's function runs, and the function gets copies. All cases are run, and only
then is a mistake named: the one whose own code gives, on all of them, what the learner's gave.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from course_lib.exercises.exercise import Exercise, Mistake, exact_key, find_exercise
from course_lib.exercises.inspecting import forbidden_use, is_stub, parameters, takes
from course_lib.exercises.progress import remember
from course_lib.exercises.reading import OneOf, Unreadable, short
from course_lib.exercises.run import NotWritten, Stopped, copied, kept_state, run_guarded, unchanged


class NotYet(Exception):  # noqa: N818 (a stage on the way, not a failure)
    """The answer is wrong; the message says how, and what is the likely mistake."""


class NotAttempted(Exception):  # noqa: N818
    """The stub is as it was, or the value is still None."""


@dataclass(frozen=True)
class Outcome:
    """What an answer gave on one case: a value that was read, or why there is none."""

    value: Any = None
    stopped: str = ""
    complaint: str = ""
    changed: str = ""


HINTS_GIVEN: dict[str, int] = {}
"""How many hints each exercise has given away in this session."""

NOTHING_GIVEN = object()


def check(key: Any, answer: Any = NOTHING_GIVEN) -> None:
    """Print a line about the answer: right, not attempted yet, or not yet and why."""
    try:
        key = exact_key(key)
        exercise = find_exercise(key)
    except LookupError as error:
        print(error.args[0])
        return
    if answer is NOTHING_GIVEN:
        print(f'{key}  give your answer, too: check("{key}", {"your_value" if exercise.of_values else "your_function"})')
        return
    try:
        with kept_state() as printed:
            judge(exercise, answer)
    except NotAttempted:
        verdict = f'not attempted yet: hint("{key}") when you want one'
    except NotYet as problem:
        verdict = f"not yet: {problem}"
    else:
        verdict = "right"
        remember(key)
    printed.show()
    print(f"{key}  {verdict}")


def hint(key: Any) -> None:
    """Print the next hint of an exercise; after the last one, all of them once more."""
    try:
        key = exact_key(key)
        hints = find_exercise(key).hints
    except LookupError as error:
        print(error.args[0])
        return
    given = HINTS_GIVEN[key] = HINTS_GIVEN.get(key, 0) + 1
    if given <= len(hints):
        print(f"{key}  hint {given} of {len(hints)}: {hints[given - 1]}")
        return
    print(f"{key}  these were all; once more, or see notebooks/solutions:")
    for number, text in enumerate(hints, start=1):
        print(f"  {number}. {text}")


def judge(exercise: Exercise, answer: Any) -> None:
    """Nothing if the answer is right on all cases; raises NotAttempted or NotYet."""
    if is_stub(answer):
        raise NotAttempted
    answer = _as_function(exercise, answer)
    cases = exercise.cases()
    expected = [_truth(exercise, case) for case in cases]
    names = parameters(exercise.solve)
    given = [copied(case) for case in cases]
    try:
        results = run_guarded(answer, given)
    except NotWritten:
        raise NotAttempted from None
    outcomes = [_outcome(exercise, *one, names) for one in zip(results, given, cases, strict=False)]
    rights = [_is_right(exercise, *pair) for pair in zip(outcomes, expected, strict=False)]
    if len(outcomes) == len(cases) and all(rights):
        return
    raise NotYet(_verdict(exercise, cases, expected, outcomes, rights.index(False)))


def _as_function(exercise: Exercise, answer: Any) -> Callable[..., Any]:
    """The answer as something to call; NotYet when it is no answer to this exercise at all."""
    if exercise.of_values:
        if callable(answer):
            raise NotYet(f"the answer itself is wanted, {exercise.reader.wanted}, and no function.")
        return lambda: answer
    if not callable(answer):
        raise NotYet("give the function itself, its name without brackets behind it, and not what it returns.")
    names = parameters(exercise.solve)
    if not takes(answer, len(names)):
        raise NotYet(f"your function cannot be called with {len(names)} inputs: ({', '.join(names)}).")
    used = forbidden_use(answer, exercise.forbidden)
    if used is not None:
        raise NotYet(f"this one is to be written without `{used}`: the point is to do what it does.")
    return answer


def _truth(exercise: Exercise, case: tuple[Any, ...]) -> Any:
    return _of_rule(exercise, exercise.solve, case)


def _of_rule(exercise: Exercise, rule: Callable[..., Any], case: tuple[Any, ...]) -> Any:
    """What the solution, or the code of a mistake, gives on a case, read as a learner's answer is read."""
    found = rule(*copied(case))
    if isinstance(found, OneOf):
        return OneOf(tuple(_seen(exercise, exercise.reader.read(value), case) for value in found.values))
    return _seen(exercise, exercise.reader.read(found), case)


def _seen(exercise: Exercise, value: Any, case: tuple[Any, ...]) -> Any:
    return value if exercise.view is None else exercise.view(value, *copied(case))


def _outcome(exercise: Exercise, found: Any, inputs: tuple[Any, ...], case: tuple[Any, ...], names: list[str]) -> Outcome:
    """What the learner's function gave, read; `inputs` are the copies that it was given of `case`."""
    if isinstance(found, Stopped):
        return Outcome(stopped=str(found))
    changed = next((name for name, value, before in zip(names, inputs, case, strict=True) if not unchanged(value, before)), "")
    complaint = ""
    try:
        value = exercise.reader.read(found)
    except Unreadable as problem:
        value, complaint = problem.meant, str(problem)
        if value is None:
            return Outcome(complaint=complaint, changed=changed)
    except Exception as problem:  # a learner's own class may raise anything when it is walked through
        return Outcome(complaint=f"wanted: {exercise.reader.wanted}; reading yours raised {type(problem).__name__}")
    try:
        value = _seen(exercise, value, case)
    except (ValueError, IndexError, TypeError):
        return Outcome(complaint=complaint or f"wanted: {exercise.reader.wanted}; yours: {short(found)}", changed=changed)
    return Outcome(value=value, complaint=complaint, changed=changed)


def _same(exercise: Exercise, found: Any, expected: Any) -> bool:
    values = expected.values if isinstance(expected, OneOf) else (expected,)
    return found is not None and any(exercise.reader.same(found, value) for value in values)


def _is_right(exercise: Exercise, outcome: Outcome, expected: Any) -> bool:
    return not (outcome.stopped or outcome.complaint or outcome.changed) and _same(exercise, outcome.value, expected)


def _verdict(exercise: Exercise, cases: list[tuple[Any, ...]], expected: list[Any], outcomes: list[Outcome], first: int) -> str:
    """One sentence or two on the first case that is wrong."""
    values_right = len(outcomes) == len(cases) and all(
        _same(exercise, outcome.value, right) for outcome, right in zip(outcomes, expected, strict=True)
    )
    changed = next((at for at, outcome in enumerate(outcomes) if outcome.changed), None)
    if changed is not None:
        more = "What it gives back is right." if values_right else "What it gives back is not right yet, either."
        name = outcomes[changed].changed
        return (
            f"{_inputs(exercise, cases[changed])}: your function changed `{name}`, which it was given. Work on a copy. {more}"
        )
    if values_right:
        return f"{_inputs(exercise, cases[first])}: right numbers, wrong type. {_sentence(outcomes[first].complaint)}"
    if exercise.broken is not None and _explains(exercise, exercise.broken, cases, outcomes):
        return f"as it was. {exercise.symptom}"
    if len(outcomes) < len(cases):
        first = len(outcomes) - 1  # a loop without an end is told first
    told = _told(exercise, cases[first], outcomes[first], expected[first])
    mistake = next((one for one in exercise.mistakes if _explains(exercise, one.rule, cases, outcomes)), None)
    if mistake is not None:
        shown = _first_wrong_value(exercise, outcomes, expected, first)
        return f"{_told(exercise, cases[shown], outcomes[shown], expected[shown])} {mistake.says}"
    if outcomes[first].stopped or outcomes[first].complaint:
        return told
    fact = exercise.otherwise
    return f"{told} {fact if isinstance(fact, str) else fact(outcomes[first].value, _one(expected[first]))}"


def _first_wrong_value(exercise: Exercise, outcomes: list[Outcome], expected: list[Any], first: int) -> int:
    """The first case with a value that is wrong: a mistake explains values, and not where the function stopped."""
    pairs = enumerate(zip(outcomes, expected, strict=True))
    return next((at for at, (one, right) in pairs if not one.stopped and not _same(exercise, one.value, right)), first)


def _one(expected: Any) -> Any:
    return expected.values[0] if isinstance(expected, OneOf) else expected


def _told(exercise: Exercise, case: tuple[Any, ...], outcome: Outcome, expected: Any) -> str:
    shown = _inputs(exercise, case)
    if outcome.stopped:
        return f"{shown}: your function {_sentence(outcome.stopped)}"
    if outcome.complaint:
        return f"{shown}: {_sentence(outcome.complaint)}"
    if exercise.of_values:
        return "that is not it."
    right = _one(expected)
    also = ", or another that is as good" if isinstance(expected, OneOf) and len(expected.values) > 1 else ""
    return f"{shown}: {exercise.reader.apart(outcome.value, right)}{also}."


def _inputs(exercise: Exercise, case: tuple[Any, ...]) -> str:
    if not case:
        return "your answer"
    pairs = zip(parameters(exercise.solve), case, strict=True)
    return "for " + ", ".join(f"{name} {short(value)}" for name, value in pairs)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _explains(exercise: Exercise, rule: Callable[..., Any], cases: list[tuple[Any, ...]], outcomes: list[Outcome]) -> bool:
    """Whether the mistake's code gives what the learner's gave, on every case.

    Where the learner's function stopped, or gave NaN, there is no output to compare; a few such cases are passed over if the
    mistake gives all the others, and one that is wrong among them.
    """
    if len(outcomes) < len(cases) or any(outcome.complaint for outcome in outcomes):
        return False
    silent = wrong = 0
    for case, outcome in zip(cases, outcomes, strict=True):
        try:
            value = _of_rule(exercise, rule, case)
        except Exception:  # the mistake leads to an error here
            if not outcome.stopped:
                return False
            continue
        if not outcome.stopped and _same(exercise, outcome.value, value):
            wrong += not _same(exercise, outcome.value, _truth(exercise, case))
        elif outcome.stopped or _has_nan(outcome.value):
            silent += 1
        else:
            return False
    return silent == 0 or (3 * silent <= len(cases) and wrong > 0)


def _has_nan(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_has_nan(part) for part in value)
    return isinstance(value, (float, np.ndarray)) and bool(np.isnan(value).any())


__all__ = ["Exercise", "Mistake", "NotAttempted", "NotYet", "check", "hint", "judge"]
