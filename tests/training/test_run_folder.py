"""A run folder is one run's: nothing is written over, nothing goes on as something else, one training at a time."""

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from course_lib.config import Config, replace, save_config
from course_lib.files import DATA_FOLDER, read_manifest
from course_lib.training import run_folder
from course_lib.training.checkpoints import CheckpointError, read_weights, save_weights
from course_lib.training.run_folder import claimed, locked, refuse_other_config, run_config, run_key
from course_lib.training.settings import TrainSettings
from course_lib.training.step import StepOutput
from course_lib.training.trainer import Trainer

SETTINGS = TrainSettings(
    batch_size=4,
    gradient_accumulation_steps=1,
    num_epochs=2,
    warmup_steps=0,
    validation_interval=2,
    num_threads=1,
    device="cpu",
)


class OneLayer(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)

    def forward(self, batch):
        return StepOutput(F.mse_loss(self.layer(batch), batch[:, :1]), 0, 1)


class Batches:
    def __init__(self, fingerprint="these clips"):
        self.fingerprint = fingerprint

    def __call__(self, epoch):
        yield from torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(epoch))


def trainer(folder, settings=SETTINGS, wer=lambda: 0.5, batches=None):
    return Trainer(OneLayer(), batches or Batches(), 4, lambda: {"wer": wer()}, settings, folder)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def finished(tmp_path):
    trainer(tmp_path / "run").fit()
    save_config(SETTINGS, tmp_path / "run" / "c.yaml")
    return tmp_path / "run"


def refused(match, settings=SETTINGS, resume=False, folder=None):
    with pytest.raises(CheckpointError, match=match), claimed(folder, "c.yaml", settings, resume):
        pass


def test_a_fresh_start_leaves_a_folder_with_a_run_alone(finished):
    before = contents(finished)
    refused("holds a run already, and a fresh start would write over it", folder=finished)
    with pytest.raises(CheckpointError, match="holds a run already"):
        trainer(finished).fit()
    (finished / "training_state.pt").unlink()
    refused("holds a run already", folder=finished)  # weights alone are a run as well
    assert contents(finished) == {name: content for name, content in before.items() if name != "training_state.pt"}


def test_what_comes_with_the_course_is_no_run_folder():
    folder = DATA_FOLDER / "models" / "slam-tiny"
    before = contents(folder)
    refused("is the course's own", folder=folder)
    refused("is the course's own", folder=folder, resume=True)
    refused("is the course's own", folder=DATA_FOLDER / "models" / "mine")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lr": 0.5}, r"lr: 0.0001 then, 0.5 now"),
        ({"batch_size": 8, "optimizer": "muon"}, r"batch_size: 4 then, 8 now\n  optimizer: 'adamw' then, 'muon' now"),
        ({"num_epochs": 9}, "num_epochs: 2 then, 9 now"),
        ({"seed": 1}, "seed: 0 then, 1 now"),
    ],
)
def test_another_config_is_not_resumed_and_nothing_is_saved(finished, changes, says):
    before, other = contents(finished), replace(SETTINGS, **changes)
    refused(says, other, resume=True, folder=finished)
    with pytest.raises(CheckpointError, match=says):
        trainer(finished, other).resume()
    assert contents(finished) == before


def test_where_and_by_what_it_is_computed_may_change(finished):
    moved = replace(SETTINGS, num_threads=2, report_interval=7, device="auto")
    with claimed(finished, "c.yaml", moved, resume=True):
        resumed = trainer(finished, moved)
        resumed.resume()
        assert resumed.fit().step == 8
    constant = replace(SETTINGS, schedule="constant")
    refuse_other_config(run_config(constant), replace(constant, num_epochs=50), finished)


def test_other_clips_are_not_the_same_run(finished):
    with pytest.raises(CheckpointError, match="begun with other clips or texts"):
        trainer(finished, batches=Batches("other clips")).resume()


def test_a_key_stands_for_what_makes_a_run_the_run_it_is():
    assert run_key(SETTINGS) == run_key(replace(SETTINGS, num_threads=2))
    assert run_key(SETTINGS) != run_key(replace(SETTINGS, lr=0.5))
    constant = replace(SETTINGS, schedule="constant")
    assert run_key(constant) != run_key(replace(constant, num_epochs=9))  # goes on, and has another end


def test_a_run_is_not_resumed_under_a_config_that_ends_before_it_is(tmp_path):
    constant = replace(SETTINGS, schedule="constant")
    trainer(tmp_path / "run", constant).fit()
    with pytest.raises(CheckpointError, match="at update 8 already, and this config ends at 4"):
        trainer(tmp_path / "run", replace(constant, num_epochs=1)).resume()


def test_two_trainings_do_not_share_a_folder(tmp_path):
    program = f"""
import time
from pathlib import Path
from course_lib.training.run_folder import locked
with locked(Path({str(tmp_path / "run")!r})):
    print("in", flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        refused("another training is writing here", folder=tmp_path / "run")
        other.communicate("\n", timeout=60)
    with locked(tmp_path / "run"):  # and one may come after another, or be within itself
        trainer(tmp_path / "run").fit()
    assert ".lock" not in contents(tmp_path / "run")


def test_a_refused_start_leaves_no_empty_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "run", "c.yaml", SETTINGS, resume=False):
        raise KeyboardInterrupt
    assert [*tmp_path.iterdir()] == []


def test_a_stop_says_what_is_saved(tmp_path):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        trainer(tmp_path / "early", wer=stop).fit()
    assert stopped.value.__notes__ == [f"No checkpoint was written yet, {tmp_path / 'early'} can be used again."]
    figures = iter([0.5])
    with pytest.raises(KeyboardInterrupt) as stopped:
        trainer(tmp_path / "late", wer=lambda: next(figures, None) or stop()).fit()
    assert stopped.value.__notes__ == [f"{tmp_path / 'late'} holds the run up to update 2; go on with --resume."]


@pytest.mark.parametrize("damage", ["gone", "cut", "older"])
def test_the_best_weights_are_written_again_from_the_state(finished, damage):
    best = finished / "best.safetensors"
    whole = best.read_bytes()
    if damage == "gone":
        best.unlink()
    elif damage == "cut":
        best.write_bytes(whole[:50])
    else:
        save_weights({name: weight + 1 for name, weight in load_file(best).items()}, best)
    resumed = trainer(finished)
    resumed.resume()
    resumed.fit()
    assert best.read_bytes() == whole


def test_a_finished_run_has_a_manifest(finished):
    manifest = read_manifest(finished)
    assert [*manifest["files"]] == ["best.safetensors"]
    assert (manifest["updates"], manifest["config"], manifest["data"]) == (8, run_config(SETTINGS), "these clips")
    read_weights(finished / "best.safetensors")
    os.truncate(finished / "best.safetensors", 20)
    with pytest.raises(ValueError, match=r"not what it was: best.safetensors"):
        read_weights(finished / "best.safetensors")


def test_a_rate_that_is_never_a_number_is_said(tmp_path):
    with pytest.raises(FloatingPointError, match="wer was never a number"):
        trainer(tmp_path / "run", wer=lambda: float("nan")).fit()


def test_a_full_disk_leaves_the_last_state(finished):
    """A file may not grow beyond some bytes: what a full disk does to a training."""
    program = f"""
import resource, sys
from pathlib import Path
import torch
from course_lib.errors import run_command
from course_lib.training.checkpoints import save_state
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
state = {{"weights": torch.zeros(9_000)}}
sys.exit(run_command(lambda: save_state(state, Path({str(finished / "training_state.pt")!r}))))
"""
    before = contents(finished)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "training_state.pt: the disk is full, nothing more can be written" in done.stderr
    assert contents(finished) == before


def test_of_several_processes_the_first_holds_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with locked(tmp_path / "run"):
        assert not (tmp_path / "run").exists()


def test_every_free_field_is_a_field():
    fields = {name for config in (TrainSettings, *_all_configs()) for name in config.model_fields}
    assert fields >= run_folder.FREE_FIELDS | run_folder.LENGTH_FIELDS


def _all_configs() -> list[type[Config]]:
    from course_lib.ctc.recogniser import StageBConfig
    from course_lib.language_model.tiny import TinyLMConfig
    from course_lib.systems import SlamConfig

    return [StageBConfig, TinyLMConfig, SlamConfig]
