"""The command that says how errors and memory grow with the length of a recording."""

import json
import sys

import pytest

from course_lib.benchmark import __main__ as benchmark
from course_lib.benchmark import long


def run(monkeypatch, capsys, tiny_run, *more):
    sizes = ["--clips", "2", "--seconds", "0", "7", "--gaps", "0.5"]
    arguments = ["long", "--model", str(tiny_run.folder), "--data", str(tiny_run.csv), *sizes, *more]
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    benchmark.main()
    return capsys.readouterr().out


def test_a_line_for_each_length(monkeypatch, capsys, tiny_run):
    lines = [json.loads(line) for line in run(monkeypatch, capsys, tiny_run, "--json").splitlines()]
    assert [list(line) for line in lines] == [["gap", "seconds", "recordings", "wer", "peak_mb", "rtf"]] * 2
    assert lines[0]["recordings"] == 2
    assert lines[0]["seconds"] < 2.5
    assert lines[1]["recordings"] == 1
    assert lines[1]["seconds"] >= 7.0
    assert all(line["wer"] > 0 and line["rtf"] > 0 for line in lines)


def test_the_table_says_what_was_measured(monkeypatch, capsys, tiny_run):
    lines = run(monkeypatch, capsys, tiny_run, "--longest", "2", "--piece", "1.5").splitlines()
    assert lines[0] == "run, 2 clips of test, up to 2 s whole, else pieces of up to 1.5 s"
    assert lines[1].split()[:4] == ["gap", "seconds", "recordings", "WER"]
    assert len(lines) == 4


@pytest.mark.parametrize(("peak", "shown"), [(None, "not measured"), (12.3, "12 MB")])
def test_memory_that_cannot_be_measured_is_said(peak, shown):
    found = {"seconds": 1.0, "recordings": 1, "wer": 0.5, "peak_mb": peak, "rtf": 0.1}
    assert shown in long.row(0.1, found)
    assert "50.0%" in long.row(0.1, found)
