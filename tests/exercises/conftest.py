"""What all exercise tests ask: what does `check` say of this answer?"""

from collections.abc import Callable
from typing import Any

import pytest

from course_lib.exercises import check


@pytest.fixture
def verdict(capsys: pytest.CaptureFixture[str]) -> Callable[[str, Any], str]:
    """Give an exercise's key and an answer, get the line that the learner would read."""

    def ask(key: str, answer: Any) -> str:
        capsys.readouterr()
        check(key, answer)
        return capsys.readouterr().out

    return ask
