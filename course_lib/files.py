"""Where things live: what the course ships, and what it makes on first use.

Synthetic speech and encoder features are large and can be made again, so they go to a cache folder of the user's machine
(or of `COURSE_CACHE`) and not into the repository.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"
"""The shipped sound and models."""

SHIPPED_CSV = DATA_FOLDER / "audio" / "asr.csv"


def cache_folder() -> Path:
    """The folder for everything that can be made again; made if missing. Set COURSE_CACHE to put it elsewhere."""
    folder = Path(os.environ.get("COURSE_CACHE") or user_cache_path("danish-asr-by-hand"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def find_model(name: str) -> str:
    """A model's folder, looked for from here and from the course's root; any other name is taken for a Hub id."""
    for folder in (Path(name).expanduser(), DATA_FOLDER.parent / name):
        if folder.is_dir():
            return str(folder)
    return name


def keep_first(beside: Path, target: Path) -> None:
    """Rename a finished folder to its place; if another process was faster, keep that one, for they are the same."""
    try:
        beside.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        shutil.rmtree(beside)


def write_beside(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside its place, then rename it: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The dot in front keeps a fragment out of every `audio_enc_step_*` that somebody may ask for; the number is for a training
    # on several GPUs, where each process writes the config.
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def save_json(value: Any, path: Path) -> None:
    """Write JSON a person can read, atomically."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_beside(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def remove_fragments(folder: Path) -> None:
    """Delete what a killed process had begun to write beside its files."""
    for fragment in folder.glob(".*.part"):
        fragment.unlink()
