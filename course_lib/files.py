"""Folders and files: what the course ships, the cache of what it can make again, and atomic writing.

Synthetic speech and encoder features are large, so they go to a cache folder of the user's machine (or to `COURSE_CACHE`) and
not into the repository. Everything is written beside its place and renamed, so that no file is ever half there.
"""

import json
import os
import random
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


def write_beside(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` make a file beside its place, then rename it: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _name_beside(path)
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def make_folder(target: Path, fill: Callable[[Path], Any]) -> Path:
    """Let `fill` make a folder beside its place, then rename it; a folder that is there already is left as it is.

    If another process was faster, its folder is kept, for the two are the same.
    """
    if target.is_dir():
        return target
    beside = _name_beside(target)
    beside.mkdir(parents=True)
    try:
        fill(beside)
        beside.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return target


def _name_beside(path: Path) -> Path:
    """A name that no two writers share; the dot keeps it out of every `audio_enc_step_*` that somebody may ask for."""
    return path.with_name(f".{path.name}.{random.SystemRandom().getrandbits(32):08x}.part")


def save_json(value: Any, path: Path) -> None:
    """Write JSON a person can read, atomically."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_beside(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def remove_fragments(folder: Path) -> None:
    """Delete what a killed process had begun to write beside its files."""
    for fragment in folder.glob(".*.part"):
        fragment.unlink()
