"""A run folder belongs to one run: claimed before anything is loaded, locked while it trains, and never another run's.

What was trained so far is worth hours. So a fresh start never writes into a folder that holds a run, `--resume` goes on with
the very config that the run began with, and two trainings cannot share a folder.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from course_lib.compute import pick_device
from course_lib.config import load_config
from course_lib.files import DATA_FOLDER
from course_lib.training.checkpoints import CheckpointError
from course_lib.training.settings import TrainSettings

STATE_NAME, BEST_NAME = "training_state.pt", "best.safetensors"

FREE_FIELDS = {
    "run_folder",
    "num_threads",
    "device",
    "tracker",
    "report_interval",
    "checkpoint_freq",
    "skip_bad",
    "output_folder",
}
"""What may differ when a run goes on: where and by what it is computed and watched, not what is computed."""

LENGTH_FIELDS = {"num_epochs", "max_steps"}
"""May differ as well where the learning rate is constant; any other rate is planned for the end from the first update on."""


def run_config(settings: TrainSettings) -> dict[str, Any]:
    """The fields, by their names in the file, that make a run the run it is."""
    fields = settings.model_dump(mode="json", by_alias=True)
    free = FREE_FIELDS | (LENGTH_FIELDS if settings.schedule == "constant" else set())
    return {name: value for name, value in fields.items() if name not in free}


def run_key(settings: TrainSettings) -> str:
    """Eight digits that stand for all settings but the free ones: other settings, other digits."""
    fields = settings.model_dump(mode="json", by_alias=True).items()
    text = json.dumps({name: value for name, value in fields if name not in FREE_FIELDS}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def refuse_other_config(stored: Mapping[str, Any], settings: TrainSettings, source: Path) -> None:
    """Raise CheckpointError that lists the fields in which a run's config and this one differ."""
    given = run_config(settings)
    names = [name for name in [*given, *(stored.keys() - given.keys())] if stored.get(name) != given.get(name)]
    if names:
        lines = [f"  {name}: {stored.get(name)!r} then, {given.get(name)!r} now" for name in names]
        advice = "Resume with the config of the run folder, or start afresh in another run_folder."
        raise CheckpointError("\n".join([f"{source}: begun with another config, so --resume cannot go on", *lines, advice]))


def holds_run(folder: Path) -> bool:
    """Whether there are weights or a state of a run in a folder, or in one of its folders (the warm-up's)."""
    patterns = ("*.safetensors", f"*/{BEST_NAME}", STATE_NAME, f"*/{STATE_NAME}")
    return any(any(folder.glob(pattern)) for pattern in patterns)


def is_shipped(folder: Path) -> bool:
    """Whether a folder is one of those that come with the course, or in one of them."""
    return Path(folder).resolve().is_relative_to(DATA_FOLDER.resolve())


def refuse_run_folder(folder: Path, config_name: str, settings: TrainSettings, resume: bool) -> None:
    """Raise CheckpointError for a folder that this run must not write into; writes and loads nothing."""
    if is_shipped(folder):
        raise CheckpointError(
            f"run_folder: {folder} is the course's own, and a training may spoil it. Name another, such as runs/mine; "
            "python data/models/ship.py copies a finished training there."
        )
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"run_folder: {folder} is a file. Name a folder.")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise CheckpointError(f"run_folder: {folder} holds the folder that you are in. Name one for this run alone: runs/mine.")
    nearest = next(place for place in [folder.absolute(), *folder.absolute().parents] if place.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise CheckpointError(f"run_folder: {folder} cannot be made or written. Check {nearest}, or name another.")
    if not resume and holds_run(folder):
        raise CheckpointError(
            f"{folder}: holds a run already, and a fresh start would write over it. Go on with it by --resume, "
            "name another run_folder, or move it away."
        )
    if resume and not (any(folder.glob(STATE_NAME)) or any(folder.glob(f"*/{STATE_NAME}"))):
        raise CheckpointError(f"{folder / STATE_NAME}: nothing to resume; start without --resume")
    if resume and (folder / config_name).is_file():
        refuse_other_config(run_config(load_config(folder / config_name, type(settings))), settings, folder / config_name)


def refuse_settings(settings: TrainSettings) -> None:
    """Raise CourseError for a device that is not there, ModuleNotFoundError for a tracker that is not installed."""
    pick_device(settings.device)
    if settings.tracker != "none" and importlib.util.find_spec(settings.tracker) is None:
        raise ModuleNotFoundError(
            f"tracker: {settings.tracker} is not installed; pip install {settings.tracker}, or set tracker: none "
            "(logs/train.log and training_log.json are written in any case)"
        )


@contextlib.contextmanager
def claimed(folder: Path, config_name: str, settings: TrainSettings, resume: bool) -> Iterator[None]:
    """Hold a run folder for one training; raises CheckpointError, before anything is loaded, if it may not be had."""
    refuse_settings(settings)
    refuse_run_folder(folder, config_name, settings, resume)
    with locked(folder):
        refuse_run_folder(folder, config_name, settings, resume)  # what another did while we were waiting for the disk
        yield


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other trainings out; raises CheckpointError if one is in it. Of several GPUs' processes, the first holds it."""
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", is_singleton=True)  # so that a loop inside a claimed folder may claim it again
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise CheckpointError(
            f"{folder}: another training is writing here. Wait for its end, or name another run_folder."
        ) from None
    try:
        yield
    finally:
        if lock.lock_counter == 1:
            with contextlib.suppress(OSError):  # Windows removes it itself
                (folder / ".lock").unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if nothing was written
