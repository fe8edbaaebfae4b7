"""Files of transcribed speech → examples, batches of similar length, and encoder features computed once.

Three sources, one list of `Example`: an `asr.csv` (Stage B's format), a Common Voice folder, or the word "synthetic", which
makes the split on first use. A clip's log-mel spectrogram never changes, nor do its features as long as the encoder is frozen:
`FeatureStore` keeps them on disk.
"""

import csv
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from course_lib.data.synth import ensure_split
from course_lib.encoder.base import Padded, SpeechEncoder
from course_lib.files import DATA_FOLDER, cache_folder, make_folder
from course_lib.sound.audio import load_audio
from course_lib.sound.mel import CTC_MEL_RECIPE, ctc_log_mel
from course_lib.text.normalise import normalise


class DataError(ValueError):
    """Rows or files of a data set that cannot be used; the message lists all of them."""


@dataclass(frozen=True)
class Example:
    """One transcribed clip; `split` and `voice` are empty where the source does not say."""

    path: Path
    text: str
    split: str = ""
    voice: str = ""


def load_examples(source: str, split: str, clips: int | None = None, skip_bad: bool = False) -> list[Example]:
    """Examples of one split from "synthetic", an asr.csv or a Common Voice folder; at most `clips` of them.

    An asr.csv without a `split` column is one split, whatever it is called. Raises DataError.
    """
    if source == "synthetic":
        return read_asr_csv(ensure_split(split, clips), skip_bad)
    path = next((p for p in (Path(source), DATA_FOLDER.parent / source) if p.exists()), Path(source))
    if path.is_dir():
        examples = read_common_voice(path, split, skip_bad)
    else:
        examples = [e for e in read_asr_csv(path, skip_bad) if e.split in ("", split)]
    if not examples:
        raise DataError(f"{path}: no clip of split {split!r}; see the column `split`")
    return examples[:clips]


def texts_of(examples: Sequence[Example]) -> list[str]:
    """The transcripts of examples."""
    return [example.text for example in examples]


def read_asr_csv(path: Path, skip_bad: bool = False) -> list[Example]:
    """Read `audio_path,transcription[,split,voice,…]`; paths are looked for beside the file, then from here.

    Raises DataError that lists every row without a file or a text; `skip_bad` leaves them out and says how many.
    """
    rows = _read_table(path, ",", {"audio_path", "transcription"})
    examples = [
        Example(_find_sound(row["audio_path"], path), row["transcription"], row.get("split") or "", row.get("voice") or "")
        for row in rows
    ]
    return _usable(examples, path, skip_bad)


PEOPLE_TABLES = ("asr.csv", "transcripts.csv")


def read_people(folder: Path, skip_bad: bool = False) -> list[Example]:
    """Recordings of people: every asr.csv (or transcripts.csv) in the folder and in the folders in it; texts are normalised.

    A row without a voice gets its folder's name. Raises DataError where there is no table at all.
    """
    tables = [table for name in PEOPLE_TABLES for table in sorted([*folder.glob(name), *folder.glob(f"*/{name}")])]
    if not tables:
        raise DataError(f"{folder}: no asr.csv in it; its first line is audio_path,transcription, then a line a recording")
    found = [(table, example) for table in tables for example in read_asr_csv(table, skip_bad)]
    return [replace(e, text=normalise(e.text), split="people", voice=e.voice or table.parent.name) for table, e in found]


def read_common_voice(folder: Path, split: str, skip_bad: bool = False) -> list[Example]:
    """Read a split of an unpacked Common Voice folder (`train.tsv` and `clips/`); sentences are normalised."""
    path = folder / f"{split}.tsv"
    rows = _read_table(path, "\t", {"path", "sentence"})
    examples = [
        Example(folder / "clips" / row["path"], normalise(row["sentence"]), split, row.get("client_id") or "") for row in rows
    ]
    return _usable(examples, path, skip_bad)


def length_batches(lengths: Sequence[int], batch_size: int, seed: str) -> list[list[int]]:
    """Indices in batches of similar length, in random order; the same seed gives the same batches.

    Clips are shuffled, sorted within pools of 50 batches, cut, and the batches are shuffled: little padding, and still other
    company for every clip in every epoch.
    """
    rng = random.Random(seed)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    pool = batch_size * 50
    batches = []
    for start in range(0, len(order), pool):
        chunk = sorted(order[start : start + pool], key=lambda index: lengths[index])
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    rng.shuffle(batches)
    return batches


class FeatureStore:
    """Encoder features of a list of clips, in one fp16 file on disk; `store[i]` is clip i's `[frames, features]`.

    Features come about in two ways. `encode_examples` encodes clips of similar length together, and they are rounded to fp16
    here; `SpeechEncoder.encode_waveform` takes one clip and rounds nothing. In fp32 the two differ by at most a two
    thousandth of a clip's largest value, nearly all of it rounding: `test_cached_features_are_the_live_ones_rounded_to_fp16`.
    """

    def __init__(self, folder: Path):
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.starts, self.counts, self.feature_dim = index["starts"], index["counts"], index["feature_dim"]
        shape = (sum(self.counts), self.feature_dim)
        self.values = np.memmap(folder / "features.f16", dtype=np.float16, mode="r", shape=shape)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: int) -> Float[Tensor, "frames features"]:
        start, count = self.starts[index], self.counts[index]
        return torch.from_numpy(self.values[start : start + count].astype(np.float32))


Features = Iterator[Float[Tensor, "_frames features"]]


def encode_examples(
    examples: Sequence[Example], encoder: SpeechEncoder, max_seconds: float | None = 30.0, batch_size: int = 32
) -> FeatureStore:
    """Features of all examples, from the cache if sound, encoder, precision and mel recipe are those of last time."""

    @torch.no_grad()
    def encode(batch: list[Example]) -> Features:
        log_mels = [encoder.log_mel(load_audio(example.path, max_seconds=max_seconds)) for example in batch]
        features = encoder(*Padded.of(log_mels).to(encoder.device))
        return iter(features.to("cpu").clips())

    key = [encoder.fingerprint, encoder.mel_recipe.key, str(max_seconds)]
    return _stored(examples, key, encoder.feature_dim, encode, batch_size)


def log_mel_examples(examples: Sequence[Example], max_seconds: float | None = 30.0, batch_size: int = 32) -> FeatureStore:
    """Log-mel spectrograms of all examples for Stage B, from the cache if sound and recipe are those of last time."""

    def compute(batch: list[Example]) -> Features:
        return (ctc_log_mel(load_audio(example.path, max_seconds=max_seconds)) for example in batch)

    return _stored(examples, ["log-mel", CTC_MEL_RECIPE.key, str(max_seconds)], CTC_MEL_RECIPE.bins, compute, batch_size)


def _stored(
    examples: Sequence[Example], key: list[str], width: int, compute: Callable[[list[Example]], Features], batch_size: int
) -> FeatureStore:
    """Look the examples up under everything that decides their features; compute them if they are not there."""
    digest = hashlib.sha256("\n".join(key).encode())
    for example in examples:
        digest.update(hashlib.sha256(example.path.read_bytes()).digest())
    folder = cache_folder() / "features" / digest.hexdigest()[:20]
    fill = partial(_write_features, examples=examples, width=width, compute=compute, batch_size=batch_size)
    return FeatureStore(make_folder(folder, fill))


def _write_features(
    folder: Path, examples: Sequence[Example], width: int, compute: Callable[[list[Example]], Features], batch_size: int
) -> None:
    starts, counts, total = [0] * len(examples), [0] * len(examples), 0
    order = sorted(range(len(examples)), key=lambda index: examples[index].path.stat().st_size)
    bar = tqdm(total=len(examples), desc="encoding", unit="clip", disable=len(examples) < 100)
    with (folder / "features.f16").open("wb") as file, bar:
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            for index, features in zip(indices, compute([examples[index] for index in indices]), strict=True):
                starts[index], counts[index], total = total, len(features), total + len(features)
                file.write(features.numpy().astype(np.float16).tobytes())
            bar.update(len(indices))
    index = {"starts": starts, "counts": counts, "feature_dim": width}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def _read_table(path: Path, delimiter: str, wanted: set[str]) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file; make synthetic speech with: python -m course_lib.synth")
    quoting = csv.QUOTE_MINIMAL if delimiter == "," else csv.QUOTE_NONE
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting, restval="")
        missing = wanted - set(reader.fieldnames or [])
        if missing:
            raise DataError(f"{path}: no column {', '.join(sorted(missing))}; the first line is {reader.fieldnames}")
        return list(reader)


def _find_sound(name: str, table: Path) -> Path:
    candidates = [table.parent / name, Path(name), DATA_FOLDER.parent / name]
    return next((path for path in candidates if path.is_file()), candidates[0])


def _usable(examples: list[Example], table: Path, skip_bad: bool) -> list[Example]:
    faults = {number: fault for number, example in enumerate(examples, 2) if (fault := _fault(example))}
    if faults and not skip_bad:
        raise DataError(_describe_faults(faults, examples, table))
    if faults:
        print(f"{table}: {len(faults)} of {len(examples)} rows left out: no file or no text")
    return [example for number, example in enumerate(examples, 2) if number not in faults]


def _fault(example: Example) -> str:
    if not example.path.is_file():
        return "no such file"
    return "" if example.text.strip() else "transcription is empty"


def _describe_faults(faults: dict[int, str], examples: list[Example], table: Path) -> str:
    lines = [f"{table}: {len(faults):,} of {len(examples):,} rows cannot be used"]
    for number, fault in list(faults.items())[:20]:
        lines.append(f"  row {number:<5} {examples[number - 2].path.name}   {fault}")
    if len(faults) > 20:
        lines.append(f"  … and {len(faults) - 20:,} more")
    return "\n".join([*lines, "Fix or remove these rows, or pass --skip-bad to leave them out."])
