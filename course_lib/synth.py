"""Speak the synthetic corpus into the cache folder: python -m course_lib.synth [--split train] [--clips 20000]"""

import argparse
from pathlib import Path

from course_lib.data.synth import SPLITS, ensure_split, make_corpus, make_shipped_slice


def main() -> None:
    """Read the command line, speak, print where each split's asr.csv is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=[*SPLITS, "shipped"], help="one split (default: all but the shipped slice)")
    parser.add_argument("--clips", type=int, help="how many clips; default " + str(SPLITS))
    parser.add_argument("--output", type=Path, help="a folder of your own instead of the cache")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.split == "shipped":
        print(make_shipped_slice(arguments.output or Path("data/audio"), seed=arguments.seed))
        return
    for split in [arguments.split] if arguments.split else SPLITS:
        if arguments.output:
            clips = arguments.clips or SPLITS[split]
            print(make_corpus(arguments.output / split, split, clips, arguments.seed))
        else:
            print(ensure_split(split, arguments.clips, arguments.seed))


if __name__ == "__main__":
    main()
