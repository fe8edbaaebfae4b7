"""Folders and files: what the course ships, the cache of what it can make again, and atomic writing.

Synthetic speech and encoder features are large, so they go to a cache folder of the user's machine (or to `COURSE_CACHE`) and
not into the repository. Everything is written beside its place and renamed, so that no file is ever half there.
"""

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from course_lib.errors import CourseError

DATA_FOLDER = Path(__file__).resolve().parent.parent / "data"
"""The shipped sound and models."""

SHIPPED_CSV = DATA_FOLDER / "audio" / "asr.csv"


COURSE_VERSION = "0.1.0"
"""Noted in whatever the course makes; pyproject.toml has the same."""

MANIFEST_NAME = "manifest.json"
"""Stands in a folder that must stay as it was made: what is in it, with checksums, and which course made it."""


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


def refuse_output(path: Path, folder: bool = False) -> None:
    """Raise CourseError for a place where nothing can be written, before hours of work are lost on it."""
    path = Path(path).absolute()
    if len(os.fsencode(path.name)) > 255 or "\0" in str(path):
        raise CourseError(f"{str(path)[:100]}: no name for a file. Use a shorter one.")
    if path.is_dir() and not folder:
        raise CourseError(f"{path}: is a folder, not a file. Name a file in it.")
    if not folder and path.is_file() and path.suffix != ".json":
        raise CourseError(f"{path}: is there already, and no JSON that could have been written before. Name another file.")
    if folder and path.exists() and not path.is_dir():
        raise CourseError(f"{path}: is a file, not a folder. Name a folder.")
    nearest = next(place for place in (path, *path.parents) if place.exists())
    if not nearest.is_dir() and nearest != path:
        raise CourseError(f"{path}: cannot be written, for {nearest} is a file. Name another place.")
    if not os.access(nearest, os.W_OK):
        raise CourseError(f"{path}: {nearest} may not be written. Name another place.")


def save_json(value: Any, path: Path) -> None:
    """Write JSON a person can read, atomically."""
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write_beside(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def remove_fragments(folder: Path) -> None:
    """Delete what a killed process had begun to write beside its files."""
    for fragment in folder.glob(".*.part"):
        fragment.unlink()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file; one that has not changed since is not read a second time."""
    known = path.stat()
    return _digest(str(path), known.st_size, known.st_mtime_ns)


@lru_cache(maxsize=200_000)
def _digest(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, names: Iterable[str], **about: Any) -> None:
    """Note the checksums of a folder's files, and what else may be asked later, in its manifest."""
    files = {name: file_digest(folder / name) for name in sorted(names)}
    save_json({"course": COURSE_VERSION, **about, "files": files}, folder / MANIFEST_NAME)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder, None for a folder that has none. Raises CourseError for one that cannot be read."""
    path = Path(folder) / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(digest, str) for digest in manifest["files"].values()):
            return manifest
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise CourseError(f"{path}: damaged; it lists the files of its folder. Copy, download or make the folder again.")


def changed_files(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """The files of a manifest that are gone or not what they were."""
    paths = {name: Path(folder) / name for name in manifest["files"]}
    return [name for name, path in paths.items() if not path.is_file() or file_digest(path) != manifest["files"][name]]


def refuse_changed(folder: Path) -> None:
    """Raise CourseError that names the files of a folder that are not those of its manifest; without one, nothing is known."""
    manifest = read_manifest(folder)
    changed = changed_files(folder, manifest) if manifest else []
    if changed:
        raise CourseError(
            f"{folder}: missing or not what it was: {', '.join(changed[:20])} ({MANIFEST_NAME} has the checksums). "
            "Copy, download or make the folder again."
        )
