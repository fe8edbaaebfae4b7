"""What holds of the exercises of every chapter from 04 on; the answers, right and wrong, stand in the chapter's own file."""

import importlib
import runpy
from pathlib import Path

import pytest
import torch

CHAPTERS = ("04", "05", "07", "08", "09", "10")
ANSWERS = [runpy.run_path(str(Path(__file__).with_name(f"test_chapter_{chapter}.py"))) for chapter in CHAPTERS]
SOLUTIONS = {key: solution for answers in ANSWERS for key, solution in answers["SOLUTIONS"].items()}
MISTAKES = {key: mistakes for answers in ANSWERS for key, mistakes in answers["MISTAKES"].items()}
EXERCISES = {
    key: exercise
    for chapter in CHAPTERS
    for key, exercise in importlib.import_module(f"course_lib.exercises.chapter_{chapter}").EXERCISES.items()
}


@pytest.mark.parametrize("key", SOLUTIONS)
def test_the_solution_is_right(verdict, key):
    assert verdict(key, SOLUTIONS[key]) == f"{key}  right\n"


@pytest.mark.parametrize("key", SOLUTIONS)
def test_the_stub_was_not_attempted(verdict, key):
    def stub(*given): ...

    assert "not attempted yet" in verdict(key, stub)


@pytest.mark.parametrize(("key", "wrong", "reason"), [(key, *mistake) for key in MISTAKES for mistake in MISTAKES[key]])
def test_a_mistake_hears_its_reason(verdict, key, wrong, reason):
    said = verdict(key, wrong)
    assert said.startswith(f"{key}  not yet: ")
    assert reason in said


@pytest.mark.parametrize("key", EXERCISES)
def test_three_mistakes_at_least_hear_different_reasons(key):
    assert len({reason for _, reason in MISTAKES[key] if "stopped" not in reason}) >= 3


@pytest.mark.parametrize("key", EXERCISES)
def test_hints_are_graded_and_there_is_an_exercise_for_each_solution(key):
    assert key in SOLUTIONS
    assert 2 <= len(EXERCISES[key].hints) <= 4


@pytest.mark.parametrize("key", SOLUTIONS)
def test_a_check_draws_none_of_the_learners_random_numbers(verdict, key):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    verdict(key, SOLUTIONS[key])
    assert torch.equal(torch.get_rng_state(), before)
