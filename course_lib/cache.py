"""Where things live: what the course ships, and what it makes on first use.

Synthetic speech and encoder features are large and can be made again, so they go to a cache folder of the user's machine
(or of `COURSE_CACHE`) and not into the repository.
"""

import os
import shutil
from pathlib import Path

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
