"""How fast each part of the course is on this machine: python -m course_lib.benchmark"""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from statistics import median

import torch

from course_lib.benchmark.measure import seconds_of
from course_lib.data.batches import SpeechBatch
from course_lib.data.datasets import load_examples
from course_lib.data.synth import make_corpus, read_seconds
from course_lib.slam.model import SlamASR
from course_lib.sound.audio import SAMPLE_RATE, load_audio
from course_lib.sound.mel import whisper_log_mel
from course_lib.systems import load_slam


def cold_start(module: str, repeats: int = 3) -> float:
    """Median seconds until a fresh Python has imported a module; the first time, the disk is read as well."""
    start = partial(subprocess.run, [sys.executable, "-c", f"import {module}"], check=True)
    return median(seconds_of(start, repeats=1) for _ in range(repeats))


def speak_speed(clips: int) -> float:
    """Seconds of augmented speech made in a second, files and workers' start included."""
    with tempfile.TemporaryDirectory() as folder:
        taken = seconds_of(lambda: make_corpus(Path(folder), "train", clips), repeats=1)
        return read_seconds(Path(folder) / "asr.csv") / taken


def forward_and_backward(slam: SlamASR, batch: SpeechBatch) -> None:
    """What a training step computes, without the update."""
    slam.train()
    slam(batch).loss.backward()
    slam.eval()


def measure_parts(speech_clips: int) -> list[tuple[str, str]]:
    """Name and figure of every part."""
    slam = load_slam()
    examples = load_examples("data/audio/asr.csv", "test")
    waveforms = [load_audio(example.path) for example in examples]
    seconds = sum(len(waveform) for waveform in waveforms) / SAMPLE_RATE
    batch = SpeechBatch(slam.encode(waveforms), [example.text for example in examples])
    step = partial(forward_and_backward, slam, batch)
    return [
        ("cold start: import torch", f"{cold_start('torch'):.1f} s"),
        ("cold start: import course_lib.transcribe", f"{cold_start('course_lib.transcribe'):.1f} s"),
        ("synthetic speech, augmented", f"{speak_speed(speech_clips):.0f} × real time"),
        ("log-mel", f"{seconds / seconds_of(lambda: [whisper_log_mel(w) for w in waveforms]):.0f} × real time"),
        ("Whisper encoder, clip by clip", f"{seconds / seconds_of(lambda: slam.encode(waveforms)):.0f} × real time"),
        ("transcribing, sound to text", f"{seconds / seconds_of(lambda: slam.transcribe(waveforms)):.0f} × real time"),
        (f"training step, {len(waveforms)} clips, stored features", f"{seconds_of(step):.2f} s"),
    ]


def print_parts(speech_clips: int) -> None:
    """A table of all parts."""
    rows = measure_parts(speech_clips)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, figure in rows:
        print(f"{name:45} {figure:>18}")
