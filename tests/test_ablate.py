"""Five trainings that differ from the first in one thing each, and one file with their logs."""

import json
import sys
from pathlib import Path

import pytest

from course_lib import ablate
from course_lib.config import CONFIG_FOLDER, load_config, replace
from course_lib.ctc.recogniser import CONFIG_NAME, StageBConfig
from course_lib.files import save_json

SHIPPED = load_config(CONFIG_FOLDER / CONFIG_NAME, StageBConfig)


@pytest.fixture
def trainings(monkeypatch):
    """What `train` was asked for; instead of training it leaves a log and a state behind."""
    asked = []

    def train(config, resume):
        asked.append((config, resume))
        folder = Path(config.run_folder)
        save_json([{"step": 1, "wer": 0.5, "cer": 0.25, "seconds": 60.0 * len(asked)}], folder / "training_log.json")
        (folder / "training_state.pt").touch()

    monkeypatch.setattr(ablate, "train", train)
    return asked


def differences(config):
    """Fields in which a config is not the shipped one, where its run is stored aside."""
    ours, shipped = written(config), written(SHIPPED)
    return {name: ours[name] for name in shipped if ours[name] != shipped[name] and name != "run_folder"}


def written(config):
    """The fields by the names that they have in a file."""
    return config.model_dump(by_alias=True)


def test_each_training_differs_from_the_first_in_what_its_name_says(trainings, tmp_path):
    logs = ablate.ablate(SHIPPED, tmp_path)
    assert list(logs) == list(ablate.CHANGES)
    assert [differences(config) for config, _ in trainings] == list(ablate.CHANGES.values())
    assert len({config.run_folder for config, _ in trainings}) == len(logs)


def test_every_change_is_one_that_the_shipped_config_does_not_make():
    for name, change in list(ablate.CHANGES.items())[1:]:
        assert change, name
        assert all(written(SHIPPED)[field] != value for field, value in change.items()), name


def test_a_training_that_was_begun_is_gone_on_with(trainings, tmp_path):
    ablate.ablate(SHIPPED, tmp_path)
    ablate.ablate(SHIPPED, tmp_path)
    assert [resume for _, resume in trainings] == [False] * 5 + [True] * 5


def test_another_config_is_another_run(trainings, tmp_path):
    ablate.ablate(SHIPPED, tmp_path)
    ablate.ablate(replace(SHIPPED, num_epochs=2), tmp_path)
    assert [resume for _, resume in trainings] == [False] * 10
    assert len({config.run_folder for config, _ in trainings}) == 10


def test_the_command_writes_all_logs_and_prints_their_ends(trainings, tmp_path, monkeypatch, capsys):
    output = tmp_path / "ablations.json"
    command = ["ablate", "--clips", "320", "--epochs", "2", "--folder", str(tmp_path / "runs"), "--output", str(output)]
    monkeypatch.setattr(sys, "argv", command)
    ablate.main()
    printed = capsys.readouterr().out
    assert [differences(config)["train_clips"] for config, _ in trainings] == [320] * 5
    assert all(config.num_epochs == 2 and config.validation_interval == 30 for config, _ in trainings)
    logs = json.loads(output.read_text(encoding="utf-8"))
    assert [log[-1]["seconds"] for log in logs.values()] == [60.0, 120.0, 180.0, 240.0, 300.0]
    assert all(name in printed for name in logs)
