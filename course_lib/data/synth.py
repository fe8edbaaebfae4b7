"""A Danish grammar + synthetic voices → as large a corpus as wanted: `wav` files and an `asr.csv` (`course_lib.synth` runs it).

Every clip follows from the seed, its split and its number alone, so a corpus comes out the same on every machine with the
same espeak-ng, whatever the number of workers. Test sentences are spoken only by voices that train and dev never use.
"""

import csv
import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soxr
import torch
from jaxtyping import Float
from tqdm.auto import tqdm

from course_lib.data.augment import augment, set_level
from course_lib.data.grammar import draw_utterance, load_grammar
from course_lib.data.voices import ESPEAK_RATE, TEST_VOICES, TRAIN_VOICES, espeak
from course_lib.errors import CourseError
from course_lib.files import cache_folder, changed_files, read_manifest, write_beside, write_manifest
from course_lib.sound.audio import SAMPLE_RATE, save_wav

SPLITS = {"train": 24_000, "words": 12_000, "train-clean": 24_000, "dev": 300, "test": 400}
SPLITS |= {"dev-augmented": 300, "test-augmented": 400}
"""Clips a split has unless told otherwise. "words" is more training speech, one word a clip, for that is what people try first.
The augmented splits are dev's and test's sentences and voices once more, through rooms and noise; the clean one is train's
without, for Stage B: an encoder that begins with nothing learns to read a clear hand first."""

TRAINING_SPLITS = ("train", "words")

CLEAN_SHARE = 0.25
"""How much of the training speech is left as espeak-ng made it; the rest is augmented."""

CORPUS_VERSION = "2"
"""Raise when grammar, voices or augmentation change, so that nobody trains on yesterday's cache."""


@dataclass(frozen=True)
class Clip:
    """One row of asr.csv: the Stage B document's two columns, and three more."""

    audio_path: str
    transcription: str
    split: str
    voice: str
    seconds: float


@dataclass(frozen=True)
class Line:
    """One line of the script before it is spoken: who says what."""

    number: int
    text: str
    voice: str


def write_script(split: str, clips: int, seed: int = 0) -> list[Line]:
    """Draw sentences and cast voices for a split; no text occurs twice in dev or in test."""
    if split not in SPLITS:
        raise CourseError(f"no split named {split!r}; there are {', '.join(SPLITS)}")
    base = split.partition("-")[0]
    rng = random.Random(f"{seed} {base} script")
    voices = TEST_VOICES if base == "test" else TRAIN_VOICES
    texts = set()
    lines = []
    while len(lines) < clips:
        text = rng.choice(load_grammar().words) if base == "words" else draw_utterance(rng, base)
        if base in TRAINING_SPLITS or text not in texts:
            texts.add(text)
            lines.append(Line(len(lines), text, rng.choice(voices)))
    return lines


def speak_line(line: Line, split: str, seed: int = 0) -> Float[np.ndarray, " samples"]:
    """Speak one line at 16 kHz, with a tempo and a melody of its own; training and augmented splits go through `augment`."""
    base, _, variant = split.partition("-")
    rng = random.Random(f"{seed} {base} {line.number}")
    slowest, fastest = (80, 140) if " " not in line.text else (95, 160)
    clean = espeak().speak(
        line.text,
        line.voice,
        words_per_minute=rng.randint(slowest, fastest),
        pitch=rng.randint(30, 70),
        pitch_range=rng.randint(20, 85),
        word_gap=rng.choice([0, 0, 0, 1, 3, 8]),
    )
    waveform = soxr.resample(clean, ESPEAK_RATE, SAMPLE_RATE)
    spared = base not in TRAINING_SPLITS or rng.random() < CLEAN_SHARE
    left_clean = variant == "clean" or (spared and variant != "augmented")
    return set_level(waveform, -6.0) if left_clean else augment(waveform, f"{seed} {base} {line.number} augment")


def make_corpus(folder: Path, split: str, clips: int, seed: int = 0, workers: int | None = None) -> Path:
    """Speak a whole split into `folder` (wav/ and asr.csv) and return the path of its asr.csv.

    asr.csv and then the manifest are written last, so a folder that has both is complete.
    """
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    speak = partial(_speak_to_file, folder=folder, split=split, seed=seed)
    script = write_script(split, clips, seed)
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        spoken = pool.map(speak, script, chunksize=25)
        rows = list(tqdm(spoken, total=clips, desc=f"speaking {split}", unit="clip"))
    write_csv(rows, folder / "asr.csv")
    write_manifest(folder, ["asr.csv", *(row.audio_path for row in rows)], clips=clips, seed=seed, corpus=CORPUS_VERSION)
    return folder / "asr.csv"


def mend_corpus(folder: Path, split: str, clips: int, seed: int = 0) -> Path:
    """The asr.csv of a corpus that is there; what is not as its manifest says is named, and spoken again.

    One that was made before there were manifests gets its own, if it has as many clips as it should.
    """
    about = {"clips": clips, "seed": seed, "corpus": CORPUS_VERSION}
    try:
        manifest = read_manifest(folder)
    except CourseError:
        manifest = {"clips": 0, "files": {}}
    if manifest is None:
        with (folder / "asr.csv").open(encoding="utf-8", newline="", errors="replace") as file:
            names = [row.get("audio_path") or "" for row in csv.DictReader(file)]
        manifest = {"clips": len(names), "files": {}}
        if len(names) == clips and all((folder / name).is_file() for name in names):
            write_manifest(folder, ["asr.csv", *names], **about)
            return folder / "asr.csv"
    changed = changed_files(folder, manifest)
    if manifest.get("clips") == clips and manifest["files"] and not changed:
        return folder / "asr.csv"
    named = ", ".join(changed[:5]) + (" …" if len(changed) > 5 else "")
    print(f"{folder}: damaged ({named or f'not the {clips:,} clips that it should have'}); spoken again")
    if not changed or "asr.csv" in changed:
        return make_corpus(folder, split, clips, seed)
    for line in write_script(split, clips, seed):
        if f"wav/{split}-{line.number:05d}.wav" in changed:
            _speak_to_file(line, folder, split, seed)
    write_manifest(folder, manifest["files"], **about)
    return folder / "asr.csv"


def ensure_split(split: str, clips: int | None = None, seed: int = 0) -> Path:
    """The asr.csv of a synthetic split, from the cache if it was made before."""
    if split not in SPLITS:
        raise CourseError(f"no split named {split!r}; there are {', '.join(SPLITS)}")
    clips = clips or SPLITS[split]
    folder = cache_folder() / "speech" / f"v{CORPUS_VERSION}-seed{seed}" / f"{split}-{clips}"
    if not (folder / "asr.csv").is_file():
        return make_corpus(folder, split, clips, seed)
    return mend_corpus(folder, split, clips, seed)


def write_csv(rows: list[Clip], path: Path) -> None:
    """Write asr.csv, whole or not at all."""

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(field.name for field in fields(Clip))
            writer.writerows(astuple(row) for row in rows)

    write_beside(path, write)


def read_seconds(path: Path) -> float:
    """How many seconds of speech an asr.csv of ours lists."""
    with path.open(encoding="utf-8", newline="") as file:
        return sum(float(row["seconds"]) for row in csv.DictReader(file))


def _speak_to_file(line: Line, folder: Path, split: str, seed: int) -> Clip:
    waveform = speak_line(line, split, seed)
    name = f"wav/{split}-{line.number:05d}.wav"
    save_wav(folder / name, torch.from_numpy(waveform))
    return Clip(name, line.text, split, line.voice, round(len(waveform) / SAMPLE_RATE, 3))


def _slice(per_split: int, most_seconds: float, seed: int) -> Iterator[tuple[str, Line]]:
    """A few lines of each split that are short when spoken, for shipping with the course."""
    for split in ("train", "dev", "test"):
        fit = (line for line in write_script(split, SPLITS[split] // 2, seed) if 4 <= len(line.text) <= most_seconds * 11)
        yield from ((split, line) for line, _ in zip(fit, range(per_split), strict=False))


def make_shipped_slice(folder: Path, per_split: int = 20, most_seconds: float = 2.4, seed: int = 0) -> Path:
    """Speak the small mixed corpus that stands in `data/audio`: 20 clips of each of train, dev and test."""
    (folder / "wav").mkdir(parents=True, exist_ok=True)
    rows = [_speak_to_file(line, folder, split, seed) for split, line in _slice(per_split, most_seconds, seed)]
    write_csv(rows, folder / "asr.csv")
    return folder / "asr.csv"
