"""What holds of every exercise: its solution in many styles, each mistake it names, and answers that no exercise expects."""

import re

import numpy as np
import pytest
import torch

from course_lib.exercises import base
from course_lib.exercises.exercise import chapters, exercises_of
from course_lib.exercises.reading import Ids, ListOf, Number, Numbers, OneOf, Parts, Text, Truth, Truths, Unreadable


@pytest.fixture(autouse=True)
def nothing_is_forbidden(monkeypatch):
    """The solutions here lean on the course's own functions, as no learner's may."""
    monkeypatch.setattr(base, "forbidden_use", lambda answer, forbidden: None)


EXERCISES = {key: one for chapter in chapters() for key, one in exercises_of(chapter).items()}


def one_answer(rule):
    """A solution or a mistake as a learner's function: where several values are right, the last of them."""

    def answer(*given):
        found = rule(*given)
        return found.values[-1] if isinstance(found, OneOf) else found

    return answer


def handed_in(exercise, rule):
    return rule() if exercise.of_values else one_answer(rule)


def tensor_of(value):
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value)


STYLES = {
    Number: (np.float64, lambda x: torch.tensor(x, dtype=torch.float64), lambda x: np.array([x]), float),
    Numbers: (lambda x: tensor_of(x).numpy(), lambda x: tensor_of(x).tolist(), lambda x: tensor_of(x).double(), list),
    Ids: (lambda x: tensor_of(x).numpy(), lambda x: tensor_of(x).int(), lambda x: tensor_of(x).tolist(), tuple, iter),
    Text: (np.str_, lambda x: "".join(x)),
    Truth: (np.bool_, torch.tensor),
    Truths: (lambda x: x.numpy(), lambda x: x.tolist(), lambda x: (tuple(row) for row in x.tolist())),
    Parts: (list, tuple, lambda x: (part for part in x), lambda x: [np.float64(part) for part in x]),
    ListOf: (tuple, iter, lambda x: (list(part) if isinstance(part, tuple) else part.numpy() for part in x)),
}
RIGHT = [
    (key, style)
    for key, one in EXERCISES.items()
    for style in STYLES[type(one.reader)]
    if not (isinstance(one.reader, Ids) and key == "07.1" and style in (tuple, iter))
]


@pytest.mark.parametrize("key", EXERCISES)
def test_the_solution_is_right(verdict, key):
    assert verdict(key, handed_in(EXERCISES[key], EXERCISES[key].solve)) == f"{key}  right\n"


@pytest.mark.parametrize(("key", "style"), RIGHT)
def test_a_solution_in_another_style_is_right(verdict, key, style):
    exercise = EXERCISES[key]
    solve = one_answer(exercise.solve)
    answer = style(solve()) if exercise.of_values else lambda *given: style(solve(*given))
    assert verdict(key, answer) == f"{key}  right\n"


MISTAKES = [(key, at) for key, one in EXERCISES.items() for at in range(len(one.mistakes))]


@pytest.mark.parametrize(("key", "at"), MISTAKES)
def test_each_named_mistake_can_be_made_and_no_other_is_told(verdict, key, at):
    exercise = EXERCISES[key]
    said = verdict(key, handed_in(exercise, exercise.mistakes[at].rule))
    assert said.startswith(f"{key}  not yet: ")
    assert said.strip().endswith(exercise.mistakes[at].says)


@pytest.mark.parametrize("key", EXERCISES)
def test_every_mistake_has_words_of_its_own(key):
    says = [mistake.says for mistake in EXERCISES[key].mistakes]
    assert len(set(says)) == len(says) >= 3


REPAIRS = [key for key, one in EXERCISES.items() if one.broken is not None]


def test_every_chapter_has_one_repair():
    assert [key.partition(".")[0] for key in REPAIRS] == chapters()


@pytest.mark.parametrize("key", REPAIRS)
def test_what_is_to_be_repaired_is_known_as_it_was(verdict, key):
    assert verdict(key, EXERCISES[key].broken) == f"{key}  not yet: as it was. {EXERCISES[key].symptom}\n"


FUNCTIONS = [key for key, one in EXERCISES.items() if not one.of_values]


def changes(value):
    """Change a tensor or a list where it stands; anything else cannot be changed."""
    if isinstance(value, torch.Tensor) and value.numel():
        value[(0,) * value.ndim] = not value[(0,) * value.ndim] if value.dtype == torch.bool else value[(0,) * value.ndim] + 1
    elif isinstance(value, list):
        value.append(value[0] if value else 1)


@pytest.mark.parametrize("key", FUNCTIONS)
def test_a_changed_input_is_named(verdict, key):
    exercise = EXERCISES[key]

    def untidy(*given):
        found = one_answer(exercise.solve)(*given)
        found = found.clone() if isinstance(found, torch.Tensor) else found
        for value in given:
            changes(value)
        return found

    said = verdict(key, untidy)
    changeable = any(isinstance(value, (torch.Tensor, list)) for value in exercise.cases()[0])
    assert ("your function changed `" in said) == changeable
    assert ("right" in said) or changeable


def as_words(value):
    if isinstance(value, torch.Tensor):
        return as_words(value.tolist())
    return type(value)(as_words(part) for part in value) if isinstance(value, (list, tuple)) else str(value)


@pytest.mark.parametrize("key", [key for key in FUNCTIONS if not isinstance(EXERCISES[key].reader, Text)])
def test_right_numbers_as_strings_are_of_the_wrong_type(verdict, key):
    solve = one_answer(EXERCISES[key].solve)
    said = verdict(key, lambda *given: as_words(solve(*given)))
    assert said.startswith(f"{key}  not yet: ")


@pytest.mark.parametrize("key", [key for key, one in EXERCISES.items() if isinstance(one.reader, Ids)])
def test_ids_are_no_floats_and_no_truths(verdict, key):
    exercise = EXERCISES[key]
    solve = one_answer(exercise.solve)
    for change in (lambda x: tensor_of(x).double(), lambda x: tensor_of(x).bool()):
        found = change(solve()) if exercise.of_values else lambda *given, change=change: change(solve(*given))
        assert verdict(key, found).startswith(f"{key}  not yet: ")


def nearly(value, at):
    """The value, a little wrong."""
    if isinstance(value, str):
        return value + "x" if at == 0 else value[::-1] + "_"
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + (1, -1, 0.01, 1000)[at % 4]
    if isinstance(value, torch.Tensor) and value.ndim:
        if not value.numel():
            return value
        wrong = value.clone()
        place = (0,) * value.ndim if at % 2 else tuple(size - 1 for size in value.shape)
        wrong[place] = ~wrong[place] if value.dtype == torch.bool else wrong[place] + (1 if value.dtype == torch.long else 0.01)
        return wrong
    if isinstance(value, (list, tuple)):
        parts = list(value)
        if at == 0:
            parts.append(parts[-1] if parts else 1)
        elif at == 1 and parts:
            parts.pop()
        elif parts:
            parts[-1] = nearly(parts[-1], at)
        return type(value)(parts)
    return None


def seen(exercise, value, case):
    """What the check sees of a value: a view may leave out what is free."""
    try:
        return str(value if exercise.view is None else exercise.view(exercise.reader.read(value), *case))
    except (ValueError, IndexError, Unreadable):
        return "unreadable"


@pytest.mark.parametrize("key", FUNCTIONS)
def test_one_wrong_case_is_enough_whichever_it_is(verdict, key):
    """Right everywhere but in one case: each case counts."""
    exercise = EXERCISES[key]
    cases = exercise.cases()
    for place in {0, len(cases) // 2, len(cases) - 1}:
        for at in range(4):
            calls = iter(range(len(cases)))

            def slips(*given, calls=calls, place=place, at=at):
                found = one_answer(exercise.solve)(*given)
                return nearly(found, at) if next(calls) == place else found

            right = one_answer(exercise.solve)(*cases[place])
            if seen(exercise, nearly(right, at), cases[place]) == seen(exercise, right, cases[place]):
                continue
            said = verdict(key, slips)
            assert said.startswith(f"{key}  not yet: "), (place, at)
            assert not any(mistake.says in said for mistake in exercise.mistakes), said


STRANGE = (
    lambda *given: object(),
    lambda *given: given[99],
    lambda *given: [],
    lambda *given: "",
    lambda *given: float("nan"),
    lambda *given: [[], [1]],
    lambda *given: [None],
    lambda *given: {},
    lambda *given: torch.zeros(0),
    lambda *given: np.array(["a"]),
    lambda *given: (x for x in [object()]),
    lambda *given: exit(),
    lambda *given: [[[[1.0]]]],
    lambda *given: -1,
    print,
    dict,
    type,
)


@pytest.mark.parametrize("strange", range(len(STRANGE)))
@pytest.mark.parametrize("key", EXERCISES)
def test_nothing_that_is_handed_in_crashes_or_passes(verdict, key, strange):
    said = verdict(key, STRANGE[strange])
    assert said.splitlines()[-1].startswith(f"{key}  not yet: ")


@pytest.mark.parametrize("key", EXERCISES)
def test_no_verdict_shows_two_equal_numbers(verdict, key):
    exercise = EXERCISES[key]
    for mistake in exercise.mistakes:
        pair = re.search(r"gave (\S+?)(?: at [^,]*)?, expected (\S+?)\.?( |$)", verdict(key, handed_in(exercise, mistake.rule)))
        assert pair is None or pair[1] != pair[2]


@pytest.mark.parametrize("key", EXERCISES)
def test_hints_are_graded_and_the_last_is_not_the_answer(key):
    hints = EXERCISES[key].hints
    assert 2 <= len(hints) <= 4
    assert not hints[-1].startswith("return")


@pytest.mark.parametrize("key", EXERCISES)
def test_level_minutes_and_purpose_stand_on_each(key):
    exercise = EXERCISES[key]
    assert exercise.level in (1, 2, 3)
    assert 2 <= exercise.minutes <= 40
    assert exercise.purpose.startswith("to ")


@pytest.mark.parametrize("key", EXERCISES)
def test_inputs_take_two_values_at_least(key):
    cases = EXERCISES[key].cases()
    if cases == [()]:
        return
    for values in zip(*cases, strict=True):
        assert len({str(value) for value in values}) >= 2
