"""Seconds and bytes: what every benchmark measures with, and how fast each part of the course is on this machine.

Speed is measured here and never asserted in a test: a busy machine is slow, not wrong.
"""

import argparse
import ctypes
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from course_lib.data.batches import SpeechBatch
from course_lib.data.datasets import load_examples
from course_lib.data.synth import make_corpus, read_seconds
from course_lib.slam.model import SlamASR
from course_lib.sound.audio import SAMPLE_RATE, load_audio
from course_lib.sound.mel import whisper_log_mel
from course_lib.systems import load_slam

Seconds = dict[str, float]
"""How long each stage of a step took."""


def seconds_of(work: Callable[[], object], repeats: int = 3) -> float:
    """The shortest of a few runs: the others measure the neighbours."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def speak_speed(clips: int) -> float:
    """Seconds of augmented speech made in a second, files and workers' start included."""
    with tempfile.TemporaryDirectory() as folder:
        taken = seconds_of(lambda: make_corpus(Path(folder), "train", clips), repeats=1)
        return read_seconds(Path(folder) / "asr.csv") / taken


def training_step(slam: SlamASR, batch: SpeechBatch) -> None:
    """Forward and backward, as the training loop does it."""
    slam.train()
    slam(batch).loss.backward()
    slam.eval()


def measure(speech_clips: int) -> list[tuple[str, str]]:
    """Name and figure of every part."""
    slam = load_slam()
    examples = load_examples("data/audio/asr.csv", "test")
    waveforms = [load_audio(example.path) for example in examples]
    seconds = sum(len(waveform) for waveform in waveforms) / SAMPLE_RATE
    batch = SpeechBatch(slam.encode(waveforms), [example.text for example in examples])
    return [
        ("synthetic speech, augmented", f"{speak_speed(speech_clips):.0f} × real time"),
        ("log-mel", f"{seconds / seconds_of(lambda: [whisper_log_mel(w) for w in waveforms]):.0f} × real time"),
        ("Whisper encoder, clip by clip", f"{seconds / seconds_of(lambda: slam.encode(waveforms)):.0f} × real time"),
        ("transcribing, sound to text", f"{seconds / seconds_of(lambda: slam.transcribe(waveforms)):.0f} × real time"),
        (f"training step, {len(waveforms)} clips, stored features", f"{seconds_of(lambda: training_step(slam, batch)):.2f} s"),
    ]


class StopWatch:
    """Seconds by stage; `lap` books the time since the last one."""

    def __init__(self, stages: Sequence[str], device: torch.device):
        self.device, self.seconds = device, dict.fromkeys(stages, 0.0)
        self.last = self._now()

    def lap(self, stage: str) -> None:
        """Book on `stage` what has passed since the last lap."""
        now = self._now()
        self.seconds[stage] += now - self.last
        self.last = now

    def _now(self) -> float:
        # A GPU is handed its work and does it later.
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()


def total(seconds: Seconds) -> float:
    """Seconds of all stages together."""
    return sum(seconds.values())


def take_turns(ways: dict[str, Callable[[], Iterator[Seconds]]], rounds: int) -> dict[str, list[Seconds]]:
    """Run every way for so many rounds, a step of one, then a step of the next; mean seconds of a step, in each round.

    A round more is run first and not counted: a CPU's matrix library prepares itself for every shape it has not seen yet, so
    a way must bring the same steps in every round, and as many as the others.
    """
    found: dict[str, list[Seconds]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        turns = list(zip(*(way() for way in ways.values()), strict=True))
        for name, steps in zip(ways, zip(*turns, strict=True), strict=True):
            found[name].append({stage: sum(step[stage] for step in steps) / len(steps) for stage in steps[0]})
    return {name: seconds[1:] for name, seconds in found.items()}


def best_round(rounds: list[Seconds]) -> Seconds:
    """The fastest round: the others measure the neighbours."""
    return min(rounds, key=total)


def peak_bytes(steps: Iterator[object], device: torch.device) -> int | None:
    """The most memory that one of the steps takes beyond what lay there before it; None where nothing can tell."""
    if device.type == "mps" or (device.type == "cpu" and sys.platform != "linux"):
        return None
    peaks, before = [], _reset_peak(device)
    for _ in steps:
        peaks.append(_peak(device) - before)
        before = _reset_peak(device)
    return max(peaks)


def _reset_peak(device: torch.device) -> int:
    """Forget the peak so far; bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    # The C library keeps freed memory for later, and a step that fits into it would seem to need none.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5: the peak is now (man 5 proc)
    return _resident_bytes("VmRSS")


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident_bytes("VmHWM")


def _resident_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def measure_parts(arguments: argparse.Namespace) -> None:
    """Without a subcommand: a table of all parts."""
    rows = measure(arguments.speech_clips)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, figure in rows:
        print(f"{name:45} {figure:>18}")
