"""How fast each part is on this machine: python -m course_lib.benchmark

Speed is measured here and never asserted in a test: a busy machine is slow, not wrong.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from course_lib.audio import SAMPLE_RATE, load_audio
from course_lib.datasets import load_examples
from course_lib.mel import whisper_log_mel
from course_lib.slam import SlamASR, SpeechBatch
from course_lib.synth import make_corpus, read_seconds
from course_lib.systems import load_slam


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


def main() -> None:
    """Read the command line, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech-clips", type=int, default=600, help="how many clips to speak for the first line")
    rows = measure(parser.parse_args().speech_clips)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, figure in rows:
        print(f"{name:45} {figure:>18}")


if __name__ == "__main__":
    main()
