"""Word error rate and memory over the length of a recording: python -m course_lib.benchmark long

Clips of the test split are joined to recordings of each length; what is longer than the recogniser hears at once is cut at its
pauses, as `transcribe` does it. `--longest` and `--piece` try other limits.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from course_lib.benchmark.measure import peak_bytes
from course_lib.config import positive_count
from course_lib.data.checks import fault_of_clip
from course_lib.data.datasets import load_examples, texts_of
from course_lib.data.recogniser import Recogniser
from course_lib.evaluation.length import Joined, join_clips, joined_error_rate
from course_lib.sound.audio import load_audio
from course_lib.systems import SHIPPED_SLAM, load_system

HELP = "word error rate and memory over the length of a recording"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command line may ask for."""
    parser.add_argument("--model", type=Path, default=SHIPPED_SLAM, help="the run folder of a training")
    parser.add_argument("--data", default="data/audio/asr.csv", help='an asr.csv (the shipped one if none), or "synthetic"')
    parser.add_argument("--clips", type=positive_count, default=20, help="so many of test")
    parser.add_argument(
        "--seconds", type=_seconds, nargs="+", default=[0, 1, 2, 4, 8, 15, 30, 600], help="lengths; 0: clip by clip"
    )
    parser.add_argument("--gaps", type=_seconds, nargs="+", default=[0.1, 0.5], help="seconds of silence between two clips")
    parser.add_argument("--longest", type=_seconds, help="leave whole what is no longer than so many seconds")
    parser.add_argument("--piece", type=_seconds, help="cut the rest into pieces of at most so many seconds")
    parser.add_argument("--skip-bad", action="store_true", help="leave out rows that cannot be used, and say how many")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, a line a length")


def _seconds(text: str) -> float:
    """A length for argparse: no recording lasts less than nothing, or for ever."""
    seconds = float(text)
    if not 0 <= seconds <= 100_000:
        raise argparse.ArgumentTypeError(f"{text} is no length in seconds, from 0 to 100,000")
    return seconds


def print_lengths(arguments: argparse.Namespace) -> None:
    """Measure every gap and length, and print each as soon as it is known."""
    check = partial(fault_of_clip, max_seconds=30.0)
    examples = load_examples(arguments.data, "test", arguments.clips, arguments.skip_bad, check)
    recogniser = load_system(arguments.model)
    recogniser.longest_seconds = arguments.longest or recogniser.longest_seconds
    recogniser.piece_seconds = arguments.piece or min(recogniser.piece_seconds, recogniser.longest_seconds)
    waveforms, texts = [load_audio(example.path) for example in examples], texts_of(examples)
    joined_error_rate(recogniser, join_clips(waveforms[:1], texts[:1], 0.1, 0.0))  # the first clip also pays for loading
    if not arguments.json:
        limits = f"up to {recogniser.longest_seconds:g} s whole, else pieces of up to {recogniser.piece_seconds:g} s"
        print(f"{arguments.model.name}, {len(texts)} clips of test, {limits}")
        print(f"{'gap':>6}{'seconds':>10}{'recordings':>12}{'WER':>9}{'peak memory':>14}{'real-time factor':>18}")
    for gap in arguments.gaps:
        for seconds in arguments.seconds:
            found = measure_length(recogniser, join_clips(waveforms, texts, max(seconds, 0.1), gap))
            print(json.dumps({"gap": gap, **found}) if arguments.json else row(gap, found), flush=True)


def measure_length(recogniser: Recogniser, recordings: list[Joined]) -> dict[str, Any]:
    """Mean length, word error rate, peak memory beyond what lay there before (None: unknown), real-time factor."""
    rates, started = [], time.perf_counter()
    peak = peak_bytes(lambda: rates.append(joined_error_rate(recogniser, recordings)), torch.device("cpu"))
    total = sum(recording.seconds for recording in recordings)
    return {
        "seconds": round(total / len(recordings), 2),
        "recordings": len(recordings),
        "wer": round(rates[0], 5),
        "peak_mb": None if peak is None else round(peak / 1e6, 1),
        "rtf": round((time.perf_counter() - started) / total, 4),
    }


def row(gap: float, found: dict[str, Any]) -> str:
    """One line of the table."""
    memory = "not measured" if found["peak_mb"] is None else f"{found['peak_mb']:,.0f} MB"
    return f"{gap:6.1f}{found['seconds']:10.1f}{found['recordings']:12}{found['wer']:9.1%}{memory:>14}{found['rtf']:18.3f}"
