"""Speak the synthetic corpus into the cache folder: python -m course_lib.synth [--split train] [--clips 20000]"""

import argparse
import sys
from pathlib import Path

from course_lib.config import positive_count
from course_lib.data.synth import SPLITS, ensure_split, make_corpus, make_shipped_slice
from course_lib.errors import CourseError, run_command


def main() -> None:
    """Read the command line, speak, print where each split's asr.csv is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=[*SPLITS, "shipped"], help="one split (default: all but the shipped slice)")
    parser.add_argument("--clips", type=positive_count, help="how many clips; default " + str(SPLITS))
    parser.add_argument("--output", type=Path, help="a folder of your own instead of the cache")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    splits = [arguments.split] if arguments.split else [*SPLITS]
    if arguments.output:
        folders = [arguments.output] if arguments.split == "shipped" else [arguments.output / split for split in splits]
        _refuse_taken(folders)
    if arguments.split == "shipped":
        print(make_shipped_slice(arguments.output or Path("data/audio"), seed=arguments.seed))
        return
    for split in splits:
        if arguments.output:
            clips = arguments.clips or SPLITS[split]
            print(make_corpus(arguments.output / split, split, clips, arguments.seed))
        else:
            print(ensure_split(split, arguments.clips, arguments.seed))


def _refuse_taken(folders: list[Path]) -> None:
    """Raise CourseError for a folder with a table in it, or where none can be: what lies there may be someone's recordings."""
    for folder in folders:
        if (folder / "asr.csv").exists():
            raise CourseError(f"{folder / 'asr.csv'}: is there already. Name another folder, or move it away.")
        if folder.exists() and not folder.is_dir():
            raise CourseError(f"{folder}: is a file. Name a folder.")


if __name__ == "__main__":
    sys.exit(run_command(main))
