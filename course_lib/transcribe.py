"""Transcribe sound files, one line each: path, tab, text.  python -m course_lib.transcribe data/audio/wav/*"""

import argparse
import sys
from pathlib import Path

from course_lib.sound.audio import AudioError, load_audio
from course_lib.systems import SHIPPED_SLAM, load_system


def main() -> int:
    """Print a line for every file; a file that cannot be read is named on stderr, and the exit status is then 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", metavar="FILE", help="wav, flac, ogg or mp3, at most 30 s")
    parser.add_argument("--model", type=Path, default=SHIPPED_SLAM, help="the run folder of a training")
    arguments = parser.parse_args()
    recogniser, failures = load_system(arguments.model), 0
    for file in arguments.files:
        try:
            print(f"{file}\t{recogniser.transcribe([load_audio(file)])[0]}", flush=True)
        except AudioError as error:
            failures += 1
            print(error, file=sys.stderr)
    if failures:
        print(f"{failures} of {len(arguments.files)} files could not be transcribed", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
