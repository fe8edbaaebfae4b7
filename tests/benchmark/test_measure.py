"""The benchmark's arithmetic, on invented seconds; how fast is never asked."""

import itertools
import json
import sys

import pytest
import torch
from torch import nn

from course_lib.benchmark import __main__ as command
from course_lib.benchmark import measure as measure_module
from course_lib.benchmark import parts
from course_lib.benchmark.measure import TrainingSetup, interleaved, peak_bytes, summarise, table
from course_lib.data.batches import SpeechBatch

CPU = torch.device("cpu")


def linear_setup(steps: int = 1) -> TrainingSetup:
    """A model of four weights whose loss is the square of what it says to ones."""
    model = nn.Linear(4, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = itertools.repeat(SpeechBatch([], []))
    return TrainingSetup(model, batches, lambda _: model(torch.ones(4)).square().sum(), optimizer, 1e9, steps)


def test_a_step_is_an_ordinary_update_and_an_epoch_is_its_steps():
    setup, twice = linear_setup(), linear_setup(steps=2)
    weight = setup.model.weight.detach().clone()
    twice.model.load_state_dict(setup.model.state_dict())
    setup.step()
    torch.testing.assert_close(setup.model.weight, weight - 0.1 * 2 * weight.sum())
    assert setup.model.weight.grad is None
    setup.step()
    twice.epoch()
    assert torch.equal(setup.model.weight, twice.model.weight)


def test_setups_take_turns_and_a_step_is_its_share_of_an_epoch(monkeypatch):
    setups, order = {"plain": linear_setup(), "ours": linear_setup(steps=4)}, []
    for name, setup in setups.items():
        monkeypatch.setattr(setup, "epoch", lambda name=name: order.append(name))
    monkeypatch.setattr(measure_module.Timer, "blocked_autorange", lambda timer, **_: timer.timeit(1))
    seconds = interleaved(setups, rounds=3)
    turns = [name for name, _ in itertools.groupby(order)]
    assert turns == ["plain", "ours"] * 3
    assert [len(rounds) for rounds in seconds.values()] == [3, 3]


def test_figures_are_medians_over_the_rounds():
    seconds = {"plain": [8.0, 20.0, 12.0], "ours": [2.0, 1.0, 4.0]}
    found = summarise(seconds, {"plain": 400_000_000, "ours": 50_000_000})
    assert found["ours"] == {
        "seconds": 2.0,
        "speedup": 4.0,  # of 4, 20 and 3
        "speedup_range": [3.0, 20.0],
        "peak_mb": 50.0,
        "memory_ratio": 8.0,
    }
    assert (found["plain"]["seconds"], found["plain"]["speedup"], found["plain"]["memory_ratio"]) == (12.0, 1.0, 1.0)


def test_the_table_says_which_figure_is_missing():
    rows = table("training step", summarise({"plain": [8.0], "ours": [2.0]}, {"plain": None, "ours": None})).splitlines()
    assert [len(row) for row in rows] == [len(rows[0])] * 3
    assert "4.0 ×" in rows[2]
    assert rows[2].count("not measured") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory a process needed at most")
def test_peak_memory_is_that_of_the_largest_moment():
    megabyte, pins = 2**20, []

    def work():
        for size in (1, 50, 20):
            # Small pieces, freed below one that stays: the C library keeps them, and the next work must not profit.
            pieces = [torch.ones(megabyte // 40) for _ in range(10 * size)]
            pins.append(torch.ones(64))
            del pieces

    # Twice: the second time finds the memory of the first.
    for _ in range(2):
        assert 48 * megabyte < peak_bytes(work, CPU) < 60 * megabyte


def test_where_nothing_can_tell_the_peak_is_unknown():
    assert peak_bytes(lambda: None, torch.device("mps")) is None


def test_without_a_subcommand_the_parts_are_measured(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(parts, "measure_parts", lambda clips: asked.append(clips) or [("log-mel", "7 × real time")])
    for line in ("benchmark", "benchmark --speech-clips 5"):
        monkeypatch.setattr(sys, "argv", line.split())
        command.main()
    assert asked == [600, 5]
    assert "7 × real time" in capsys.readouterr().out


def test_a_cold_start_is_that_of_a_fresh_python():
    assert parts.cold_start("json", repeats=1) > 0
    with pytest.raises(parts.subprocess.CalledProcessError):
        parts.cold_start("no_such_module", repeats=1)


def test_a_subcommand_prints_one_json_object_or_tables(monkeypatch, capsys):
    """The training is invented; its own tests run the real ones."""
    monkeypatch.setattr(command.ctc, "make_setups", lambda arguments: ({"clips": "3"}, {8: {"plain": linear_setup()}}))
    figures = summarise({"plain": [1.0]}, {"plain": None})
    monkeypatch.setattr(command, "measure", lambda setups, rounds, device: figures)
    monkeypatch.setattr(sys, "argv", "benchmark ctc --json --rounds 2".split())
    command.main()
    found = json.loads(capsys.readouterr().out)
    assert (found["device"], found["threads"], found["clips"]) == ("cpu", torch.get_num_threads(), "3")
    assert found["batch_sizes"]["8"]["plain"]["seconds"] == 1.0
    monkeypatch.setattr(sys, "argv", "benchmark ctc".split())
    command.main()
    assert "training step, 8 clips" in capsys.readouterr().out
