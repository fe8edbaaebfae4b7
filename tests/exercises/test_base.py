"""The machinery: verdicts, hints, stubs of every style, and whatever a learner may hand in that is no answer at all."""

import importlib
import itertools
import random
import sys
import time

import numpy as np
import pytest
import torch

from course_lib.exercises import base, check, exercise, hint, progress, run
from course_lib.exercises.base import Exercise, Mistake
from course_lib.exercises.progress import done_so_far
from course_lib.exercises.reading import Number, Numbers

EXERCISE = Exercise(
    title="double",
    level=1,
    minutes=1,
    purpose="to test",
    solve=lambda x: 2 * x,
    cases=lambda: [(3,), (5,), (0,), (-1,)],
    reader=Number(whole=True),
    mistakes=(
        Mistake(lambda x: x + 2, "Did you add instead of doubling?"),
        Mistake(lambda x: 2 * x + 1, "One too many."),
        Mistake(lambda x: 12 // x, "Is it divided?"),
    ),
    otherwise="Look again.",
    forbidden=("polyval",),
    hints=("first", "second"),
)
OF_LISTS = Exercise(
    title="the rest",
    level=1,
    minutes=1,
    purpose="to test",
    solve=lambda numbers: numbers[1:],
    cases=lambda: [([1.0, 2.0, 3.0],), ([4.0],)],
    reader=Numbers(),
    mistakes=(),
    hints=("first", "second"),
)


@pytest.fixture(autouse=True)
def chapter(monkeypatch, tmp_path):
    exercises = {"99.1": EXERCISE, "99.2": OF_LISTS}
    real = exercise.exercises_of
    monkeypatch.setattr(exercise, "exercises_of", lambda chapter: exercises if chapter == "99" else real(chapter))
    monkeypatch.setattr(exercise, "chapters", lambda: ["01", "99"])
    monkeypatch.setattr(base, "HINTS_GIVEN", {})
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))


def test_a_right_answer(verdict):
    assert verdict("99.1", lambda x: 2 * x) == "99.1  right\n"


def stub(x): ...


def stub_with_words(x):
    """Double x."""


def stub_with_pass(x):
    pass


def stub_that_raises(x):
    raise NotImplementedError("later")


@pytest.mark.parametrize("untouched", [None, ..., stub, stub_with_words, stub_with_pass, stub_that_raises, lambda x: None])
def test_an_untouched_stub_was_not_attempted(verdict, untouched):
    assert verdict("99.1", untouched) == '99.1  not attempted yet: hint("99.1") when you want one\n'


def test_a_library_that_raises_not_implemented_is_an_attempt(verdict):
    def looks_up(x):
        return getattr(x, "nothing", None) or torch.Tensor.__torch_function__(None)

    assert "stopped with" in verdict("99.1", looks_up)


def forgets_return(x):
    y = 2 * x  # noqa: F841


def counts_for_ever(x):
    while True:
        x += 1


def swallows_all(x):
    while True:
        try:  # noqa: SIM105
            x += 1
        except:  # noqa: E722
            pass


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda x: x + 2, "for x 3: gave 5, expected 6. Did you add instead of doubling?"),
        (lambda x: 3, "for x 3: gave 3, expected 6. Look again."),
        (lambda x: x + 2 if x > 0 else 2 * x, "gave 5, expected 6. Look again."),  # not the mistake on all cases
        (lambda x: x + 2 if x else 0, "gave 5, expected 6. Look again."),  # all but one
        (lambda x: 12 // x if x else None, "for x 3: gave 4, expected 6. Is it divided?"),
        (lambda x: 1 / 0, "your function stopped with ZeroDivisionError: division by zero, in line"),
        (forgets_return, "gave nothing back. Did you forget the return?"),
        (lambda x: sys.exit(), "left Python"),
        (lambda x: str(2 * x), "right numbers, wrong type. Wanted: a whole number; yours: the string '6'"),
        (lambda x: True, "wanted: a whole number; yours: True, True or False"),
        (lambda x: "six", "wanted: a whole number; yours: the string 'six'"),
        (lambda x: [2 * x], "yours: [6]"),
        (lambda x: lambda: x, "yours: a function: call it"),
        (lambda x: {2 * x}, "yours: a value of type set"),
        (lambda x: 2 * x + 1j, "yours: a value of type complex"),
        (lambda: 6, "cannot be called with 1 inputs: (x)"),
        (lambda a, b: 6, "cannot be called with 1 inputs: (x)"),
        (6, "give the function itself"),
        ("double", "give the function itself"),
        (lambda x: np.polyval([2, 0], x), "without `polyval`"),
    ],
)
def test_a_wrong_answer_hears_why(verdict, wrong, reason):
    said = verdict("99.1", wrong)
    assert said.startswith("99.1  not yet: ")
    assert reason.lower() in said.lower()


@pytest.mark.parametrize("endless", [counts_for_ever, swallows_all, lambda x: itertools.count(), lambda x: time.sleep(60)])
def test_a_loop_without_an_end_is_told_of(verdict, monkeypatch, endless):
    monkeypatch.setattr(run, "SECONDS", 0.2)
    said = verdict("99.1", endless)
    assert "was still running after 0.2 s: does your loop end?" in said or "gave more than 100,000 values" in said


@pytest.mark.parametrize(
    "answer", [lambda x: np.int64(2 * x), lambda x: torch.tensor(2 * x), lambda x: 2.0 * x, lambda x: np.array([2 * x])]
)
def test_a_number_of_any_library_is_welcome(verdict, answer):
    assert verdict("99.1", answer) == "99.1  right\n"


@pytest.mark.parametrize(
    "answer",
    [
        lambda numbers: np.array(numbers[1:]),
        lambda numbers: torch.tensor(numbers[1:]),
        lambda numbers: tuple(numbers[1:]),
        lambda numbers: (number for number in numbers[1:]),
        lambda numbers: map(np.float32, numbers[1:]),
        lambda numbers: [torch.tensor(number) for number in numbers[1:]],
    ],
)
def test_a_list_of_any_library_is_welcome(verdict, answer):
    assert verdict("99.2", answer) == "99.2  right\n"


def test_a_changed_input_is_named(verdict):
    def pops(numbers):
        numbers.pop(0)
        return numbers

    assert "your function changed `numbers`" in verdict("99.2", pops)
    assert "What it gives back is right." in verdict("99.2", pops)
    assert "not right yet, either" in verdict("99.2", lambda numbers: numbers.sort() or numbers.append(1.0) or numbers)


def test_a_generator_that_stops_in_the_middle_is_told_of(verdict):
    def breaks(numbers):
        yield numbers[7]

    assert "stopped with IndexError" in verdict("99.2", breaks)


def test_what_a_function_prints_is_shown_and_cut(verdict):
    def chatty(x):
        for line in range(1000):
            print("line", line)
        return 2 * x

    said = verdict("99.1", chatty)
    assert said.startswith("line 0\n")
    assert "(3,990 more lines that your function printed)" in said
    assert said.endswith("99.1  right\n")


def test_a_function_leaves_nothing_behind(verdict):
    def untidy(x):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        sys.setrecursionlimit(5000)
        return 2 * x

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state(), sys.getrecursionlimit()
    assert "right" in verdict("99.1", untidy)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert sys.getrecursionlimit() == before[3]
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()


def test_hints_come_one_at_a_time_and_then_all(capsys):
    said = []
    for _ in range(3):
        hint("99.1")
        said.append(capsys.readouterr().out)
    assert said[0] == "99.1  hint 1 of 2: first\n"
    assert said[1] == "99.1  hint 2 of 2: second\n"
    assert "1. first" in said[2]
    assert "2. second" in said[2]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("99.7", stub), "there is no exercise 99.7: chapter 99 has 99.1, 99.2"),
        (("98.1", stub), "there is no exercise 98.1: the chapters with exercises are 01, 99"),
        ((stub, "99.1"), "the number of the exercise comes first"),
        (("99.1",), "99.1  give your answer, too"),
        ((99.1, lambda x: 2 * x), "99.1  right"),
        ((" 99.1 ", lambda x: 2 * x), "99.1  right"),
        ((None, stub), "the number of the exercise comes first"),
        (("", stub), "there is no exercise"),
    ],
)
def test_a_call_that_is_none_gets_a_sentence(capsys, given, said):
    check(*given)
    assert said in capsys.readouterr().out


def test_an_unknown_hint_gets_a_sentence(capsys):
    hint("99.9")
    hint(stub)
    assert capsys.readouterr().out.count("\n") == 2


def test_a_broken_import_is_not_a_chapter_without_exercises(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "course_lib.ctc.paths", None)
    monkeypatch.delitem(sys.modules, "course_lib.exercises.chapter_07", raising=False)
    with pytest.raises(ImportError, match=r"course_lib\.ctc\.paths"):
        importlib.import_module("course_lib.exercises.exercise").find_exercise("07.1")


def test_progress_tells_what_is_done_in_any_notebook(capsys, monkeypatch, tmp_path):
    assert done_so_far() == set()
    check("99.1", lambda x: 2 * x)
    check("99.2", lambda numbers: numbers)
    assert done_so_far() == {"99.1"}
    capsys.readouterr()
    progress()
    assert "01  0 of 6 done; left: 01.1 what you hear (8 min)" in capsys.readouterr().out
    (tmp_path / "solutions").mkdir()
    monkeypatch.chdir(tmp_path / "solutions")
    check("99.2", lambda numbers: numbers[1:])
    assert done_so_far() == {"99.1"}


def test_a_progress_file_that_is_damaged_counts_as_none(tmp_path):
    (tmp_path / "exercises_done.json").write_text("{", encoding="utf-8")
    assert done_so_far() == set()
