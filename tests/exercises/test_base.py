"""The machinery: three verdicts, hints one at a time, and a stub that is recognised on every Python."""

import pytest

from course_lib.exercises import base, check, hint
from course_lib.exercises.base import Exercise, NotYet, attempt


def examine_double(answer):
    if attempt(answer, 3) != 6:
        raise NotYet("3 should become 6. Did you add instead of doubling?")


@pytest.fixture(autouse=True)
def chapter(monkeypatch):
    module = type("Chapter", (), {"EXERCISES": {"99.1": Exercise(examine_double, ("first", "second"))}})
    real = base.importlib.import_module
    monkeypatch.setattr(base.importlib, "import_module", lambda name: module if name.endswith("chapter_99") else real(name))
    monkeypatch.setattr(base, "HINTS_GIVEN", {})


def verdict(capsys, answer):
    check("99.1", answer)
    return capsys.readouterr().out


def test_a_right_answer(capsys):
    assert verdict(capsys, lambda x: 2 * x) == "99.1  right\n"


def stub(x): ...


def stub_with_words(x):
    """Double x."""


def stub_with_pass(x):
    pass


@pytest.mark.parametrize("untouched", [None, ..., stub, stub_with_words, stub_with_pass])
def test_an_untouched_stub_was_not_attempted(capsys, untouched):
    assert "99.1  not attempted yet" in verdict(capsys, untouched)


def forgets_return(x):
    y = 2 * x  # noqa: F841


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda x: x + 2, "Did you add instead of doubling?"),
        (lambda x: 3, "Did you add instead of doubling?"),
        (lambda x: 1 / 0, "for 3 your function stopped with ZeroDivisionError"),
        (forgets_return, "Did you forget the return?"),
    ],
)
def test_a_wrong_answer_hears_why(capsys, wrong, reason):
    said = verdict(capsys, wrong)
    assert said.startswith("99.1  not yet: ")
    assert reason in said


def test_hints_come_one_at_a_time_and_then_all(capsys):
    said = []
    for _ in range(3):
        hint("99.1")
        said.append(capsys.readouterr().out)
    assert said[0] == "99.1  hint 1 of 2: first\n"
    assert said[1] == "99.1  hint 2 of 2: second\n"
    assert "1. first" in said[2]
    assert "2. second" in said[2]


@pytest.mark.parametrize(("key", "reason"), [("99.7", "chapter 99 has 99.1"), ("98.1", "chapter '98' has none")])
def test_an_unknown_exercise_is_named(key, reason):
    with pytest.raises(KeyError, match=reason):
        check(key, None)
