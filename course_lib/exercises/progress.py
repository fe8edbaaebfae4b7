"""Which exercises are done, kept in the cache folder so that every notebook knows."""

import json
from pathlib import Path

from course_lib.exercises.exercise import chapters, exercises_of
from course_lib.files import cache_folder, save_json


def remember(key: str) -> None:
    """Note that an exercise is done. The notebooks of solutions do not count: their answers are not yours."""
    done = done_so_far()
    if Path.cwd().name != "solutions" and key not in done:
        save_json(sorted({*done, key}), _file())


def done_so_far() -> set[str]:
    """The keys that were right once, on this machine; a file that cannot be read counts as none."""
    try:
        return {str(key) for key in json.loads(_file().read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError):
        return set()


def progress() -> None:
    """Print a line for each chapter: what is done, and what is left with its title and minutes."""
    done = done_so_far()
    for chapter in chapters():
        exercises = exercises_of(chapter)
        left = [f"{key} {one.title} ({one.minutes} min)" for key, one in exercises.items() if key not in done]
        count = len(exercises) - len(left)
        print(f"{chapter}  {count} of {len(exercises)} done" + (f"; left: {', '.join(left)}" if left else ""))


def _file() -> Path:
    return cache_folder() / "exercises_done.json"
