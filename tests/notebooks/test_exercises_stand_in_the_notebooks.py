"""Every exercise has its stub, its heading and its purpose in the notebook, and its solution beside it."""

import json
from pathlib import Path

import pytest

from course_lib.exercises.exercise import chapters, exercises_of

FOLDER = Path(__file__).parents[2] / "notebooks"
EXERCISES = [(chapter, key) for chapter in chapters() for key in exercises_of(chapter)]


def source_of(path: Path) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def notebook_of(chapter: str) -> str:
    (path,) = FOLDER.glob(f"{chapter}_*.ipynb")
    return source_of(path)


@pytest.mark.parametrize(("chapter", "key"), EXERCISES)
def test_level_minutes_and_purpose_stand_above_each_stub(chapter, key):
    exercise, source = exercises_of(chapter)[key], notebook_of(chapter)
    heading = f"### Exercise {key} · {exercise.heading}\n\n*What it is for: {exercise.purpose}.*"
    assert heading in source
    assert source.index(heading) < source.index(f'check("{key}"')


@pytest.mark.parametrize(("chapter", "key"), EXERCISES)
def test_each_has_its_solution(chapter, key):
    assert f'check("{key}"' in source_of(FOLDER / "solutions" / f"{chapter}_solutions.ipynb")
