"""Transcribe sound files of any length, one line each: path, tab, text.  python -m course_lib.transcribe data/audio/wav/*

Sound longer than 6 s is cut at its pauses into pieces of at most 3 s, and the pieces' texts are joined.
"""

import argparse
import json
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from course_lib.data.long_audio import TimedTranscript, join_transcripts, transcribe_long
from course_lib.data.recogniser import Recogniser
from course_lib.data.subtitles import subrip
from course_lib.errors import run_command
from course_lib.files import refuse_output, write_beside
from course_lib.sound.audio import SAMPLE_RATE, AudioError, stream_audio
from course_lib.sound.decode import KINDS, open_recording
from course_lib.systems import SHIPPED_SLAM, load_system


def read_arguments() -> argparse.Namespace:
    """Read the command line; leaves the program, with the reason, when it cannot be meant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="FILE", help=f"{KINDS}; as long as you like")
    parser.add_argument("--model", type=Path, default=SHIPPED_SLAM, help="the run folder of a training")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help="a line of JSON for each file: its pieces with times, words and confidence"
    )
    form.add_argument(
        "--srt", action="store_true", help="subtitles (SubRip), a caption for each piece; several files: --output"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="with --srt: write NAME.srt into this folder")
    found = parser.parse_args()
    if found.output and not found.srt:
        parser.error("--output is for --srt; send anything else into a file with >")
    if found.srt and not found.output and len(found.files) > 1:
        parser.error("subtitles of several files need a file each: give --output FOLDER")
    twice = [name for name, times in Counter(Path(file).stem for file in found.files).items() if times > 1]
    if found.output and twice:
        parser.error(f"several files would become {twice[0]}.srt; give them different folders")
    return found


def transcribe_file(recogniser: Recogniser, file: str, word_times: bool) -> dict[str, Any]:
    """All that is known of a file: path, text, seconds, segments. Raises AudioError for one that cannot be read to its end."""
    samples = [0]
    blocks = _counted(stream_audio(file), samples)
    pieces = list(transcribe_long(recogniser, blocks, word_times))
    return {"path": file, "text": join_transcripts(pieces).text, "seconds": samples[0] / SAMPLE_RATE, "segments": pieces}


def _counted(blocks: Iterable[Float[Tensor, "_samples"]], count: list[int]) -> Iterator[Float[Tensor, "_samples"]]:
    for block in blocks:
        count[0] += len(block)
        yield block


def as_json(found: dict[str, Any]) -> str:
    """One line; times in thousandths of a second. A confidence that no one can tell is null, and so are words without times."""
    segments = [_fields(piece) for piece in found["segments"]]
    return json.dumps({**found, "seconds": round(found["seconds"], 3), "segments": segments}, ensure_ascii=False)


def _fields(piece: TimedTranscript) -> dict[str, Any]:
    words = piece.words and [_rounded(word._asdict()) for word in piece.words]
    return {**_rounded(piece._asdict()), "words": words}


def _rounded(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in fields.items()}


def writer_of(arguments: argparse.Namespace) -> Callable[[dict[str, Any]], None]:
    """What to do with a file's transcript: print it in the form that was asked for, or write it beside others."""

    def write_subtitles(found: dict[str, Any]) -> None:
        text = subrip(found["segments"])
        path = arguments.output / f"{Path(found['path']).stem}.srt"
        write_beside(path, lambda beside: beside.write_text(text, encoding="utf-8"))

    if arguments.output:
        return write_subtitles
    if arguments.srt:
        return lambda found: print(subrip(found["segments"]), end="", flush=True)
    if arguments.json:
        return lambda found: print(as_json(found), flush=True)
    return lambda found: print(f"{found['path']}\t{found['text']}", flush=True)


def _kind(file: str) -> int:
    try:
        return Path(file).stat().st_mode
    except (OSError, ValueError):
        return 0


def _refuse_at_once(file: str, arguments: argparse.Namespace) -> AudioError | None:
    """What is wrong with a file that can be known from its name and its first bytes, before a model is loaded."""
    if not arguments.json and any(mark in file for mark in "\t\n\r") and not arguments.srt:
        return AudioError(file.encode("unicode_escape").decode(), "its name has a tab or a line break", "Use --json.")
    if stat.S_ISFIFO(_kind(file)):
        return None  # a pipe can be read only once
    try:
        with open_recording(file, file):
            return None
    except AudioError as error:
        return error


def main() -> int:
    """Write out every file; one that cannot be read is named on stderr, and the exit status is then 1."""
    arguments = read_arguments()
    if arguments.output:
        refuse_output(arguments.output, folder=True)
    refused = {file: str(error) for file in arguments.files if (error := _refuse_at_once(file, arguments))}
    if len(refused) == len({*arguments.files}):
        print("\n".join(refused[file] for file in arguments.files), file=sys.stderr)
        print(f"{len(arguments.files)} of {len(arguments.files)} files could not be transcribed", file=sys.stderr)
        return 1
    recogniser, write, failures = load_system(arguments.model), writer_of(arguments), 0
    for file in arguments.files:
        if file in refused:
            failures += 1
            print(refused[file], file=sys.stderr)
            continue
        try:
            write(transcribe_file(recogniser, file, word_times=arguments.json))
        except AudioError as error:
            failures += 1
            print(error, file=sys.stderr)
    if failures:
        print(f"{failures} of {len(arguments.files)} files could not be transcribed", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
