"""Files of transcribed speech → examples, batches of similar length, and encoder features computed once.

Three sources, one list of `Example`: an `asr.csv` (Stage B's format), a Common Voice folder, or the word "synthetic", which
makes the split on first use. A clip's log-mel spectrogram never changes, nor do its features as long as the encoder is frozen:
`FeatureStore` keeps them on disk.
"""

import dataclasses
import difflib
import hashlib
import json
import random
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from course_lib.data.synth import SPLITS, ensure_split
from course_lib.data.tables import BadRow, DataError, Row, read_table, refuse_bad, text_fault
from course_lib.encoder.base import Padded, SpeechEncoder
from course_lib.files import COURSE_VERSION, DATA_FOLDER, cache_folder, file_digest, make_folder, save_json
from course_lib.sound.audio import load_audio
from course_lib.sound.mel import CTC_MEL_RECIPE, ctc_log_mel
from course_lib.text.normalise import normalise
from course_lib.training.checkpoints import checksum


@dataclass(frozen=True)
class Example:
    """One transcribed clip; `split` and `voice` are empty where the source does not say."""

    path: Path
    text: str
    split: str = ""
    voice: str = ""
    row: int = field(default=0, compare=False)


Check = Callable[[Example], str]
"""Why a clip cannot be used, "" if it can: what `load_examples` asks about every clip before it hands it out."""


def load_examples(
    source: str, split: str, clips: int | None = None, skip_bad: bool = False, check: Check | None = None
) -> list[Example]:
    """Examples of one split from "synthetic", an asr.csv or a Common Voice folder; at most `clips` of them.

    An asr.csv without a `split` column is one split, whatever it is called. `check` looks at each clip of the split (not of
    synthetic speech, which has just been made or verified). Raises DataError that lists every bad row.
    """
    if source == "synthetic":
        return read_asr_csv(ensure_split(split, clips), skip_bad)
    path = next((p for p in (Path(source), DATA_FOLDER.parent / source) if p.exists()), Path(source))
    if path.is_dir():
        table, read = _common_voice_table(path, split), read_common_voice_rows(path, split)
    else:
        table, read = path, read_asr_rows(path)
    here = [(row, example) for row, example in read if row.fault or example.split in ("", split)]
    if not here:
        there = sorted({example.split for _, example in read})
        raise DataError(f"{path}: no clip of split {split!r}; its column `split` has {', '.join(there)[:200]}")
    examples = _usable(here, len(read), table, skip_bad, check, clips)
    if not examples:
        raise DataError(f"{path}: no clip of split {split!r} can be used. Mend the rows, or name other data.")
    return examples


def refuse_unknown_splits(source: str, splits: Sequence[str]) -> None:
    """Raise DataError for a split that synthetic speech does not have, before hours are spent on making another."""
    unknown = [split for split in splits if source == "synthetic" and split not in SPLITS]
    if unknown:
        near = difflib.get_close_matches(unknown[0], SPLITS, 1)
        advice = f"; did you mean {near[0]}?" if near else ""
        raise DataError(f"no split of synthetic speech is called {', '.join(unknown)}{advice} There are {', '.join(SPLITS)}.")


def texts_of(examples: Sequence[Example]) -> list[str]:
    """The transcripts of examples."""
    return [example.text for example in examples]


def read_asr_csv(path: Path, skip_bad: bool = False, check: Check | None = None) -> list[Example]:
    """Read `audio_path,transcription[,split,voice,…]`; paths are looked for beside the file, then from here.

    Raises DataError that lists every row that cannot be used; `skip_bad` leaves them out and says how many.
    """
    rows = read_asr_rows(path)
    return _usable(rows, len(rows), path, skip_bad, check)


def read_asr_rows(path: Path) -> list[tuple[Row, Example]]:
    """Every row of an asr.csv, the bad ones with their faults; a row without a split is bad where other rows have one."""
    rows = read_table(path, ",", {"audio_path", "transcription"})
    splits = any(row.fields.get("split", "").strip() for row in rows)
    return [(_with_fault(row, splits), _example_of(row, path)) for row in rows]


def _example_of(row: Row, table: Path) -> Example:
    split, voice = (row.fields.get(name, "").strip() for name in ("split", "voice"))
    return Example(_find_sound(row.fields["audio_path"], table), row.fields["transcription"], split, voice, row.number)


def _with_fault(row: Row, needs_split: bool) -> Row:
    """The row with what is wrong with its text or its split, if nothing was wrong with its columns."""
    fault = row.fault or text_fault(row.fields["transcription"])
    if not fault and needs_split and not row.fields["split"].strip():
        fault = "the column split is empty"
    return dataclasses.replace(row, fault=fault)


PEOPLE_TABLES = ("asr.csv", "transcripts.csv")


def read_people(folder: Path, skip_bad: bool = False, check: Check | None = None) -> list[Example]:
    """Recordings of people: every asr.csv (or transcripts.csv) in the folder and in the folders in it; texts are normalised.

    A row without a voice gets its folder's name. Raises DataError where there is no table at all.
    """
    tables = [table for name in PEOPLE_TABLES for table in sorted([*folder.glob(name), *folder.glob(f"*/{name}")])]
    if not tables:
        raise DataError(f"{folder}: no asr.csv in it; its first line is audio_path,transcription, then a line a recording")
    found = [(table, example) for table in tables for example in read_asr_csv(table, skip_bad, check)]
    return [
        dataclasses.replace(e, text=normalise(e.text), split="people", voice=e.voice or table.parent.name) for table, e in found
    ]


def read_common_voice(folder: Path, split: str, skip_bad: bool = False) -> list[Example]:
    """Read a split of an unpacked Common Voice folder (`train.tsv` and `clips/`); sentences are normalised."""
    rows = read_common_voice_rows(folder, split)
    return _usable(rows, len(rows), _common_voice_table(folder, split), skip_bad)


def read_common_voice_rows(folder: Path, split: str) -> list[tuple[Row, Example]]:
    """Every row of a split of Common Voice, the bad ones with their faults."""
    pairs = []
    for row in read_table(_common_voice_table(folder, split), "\t", {"path", "sentence"}):
        text, fault = row.fields["sentence"], row.fault or text_fault(row.fields["sentence"])
        try:
            text = normalise(text)
        except ValueError as error:
            fault = fault or str(error)[:100]
        row = dataclasses.replace(row, fault=fault or text_fault(text))
        sound = folder / "clips" / row.fields["path"]
        pairs.append((row, Example(sound, text, split, row.fields.get("client_id") or "", row.number)))
    return pairs


def _common_voice_table(folder: Path, split: str) -> Path:
    path = folder / f"{split}.tsv"
    if "/" in split or "\\" in split or not path.is_file():
        there = sorted(file.name for file in folder.glob("*.tsv"))
        own = " Name the asr.csv in it." if (folder / "asr.csv").is_file() else ""
        has = (
            f"There are {', '.join(there)[:200]}."
            if there
            else f"An unpacked Common Voice folder has train.tsv and clips/.{own}"
        )
        raise DataError(f"{path}: no such file. {has}")
    return path


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


class DamagedError(DataError):
    """A stored thing that is not what was stored."""


class FeatureStore:
    """Encoder features of a list of clips, in one fp16 file on disk; `store[i]` is clip i's `[frames, features]`.

    Features come about in two ways. `encode_examples` encodes clips of similar length together, and they are rounded to fp16
    here; `SpeechEncoder.encode_waveform` takes one clip and rounds nothing. In fp32 the two differ by at most a two
    thousandth of a clip's largest value, nearly all of it rounding: `test_cached_features_are_the_live_ones_rounded_to_fp16`.

    The clips that were encoded together are a block, and a block is compared with its checksum when one of its clips is first
    asked for. A damaged one is named and made again by `encode_block(clips)`; without it, DamagedError is raised.
    """

    def __init__(self, folder: Path, encode_block: Callable[[list[int]], list[Tensor]] | None = None):
        self.folder, self.encode_block = Path(folder), encode_block
        index = _read_index(self.folder)
        self.starts, self.counts, self.feature_dim = index["starts"], index["counts"], index["feature_dim"]
        self.blocks, self.checksums = index["blocks"], index["checksums"]
        self.block_of = {clip: number for number, clips in enumerate(self.blocks) for clip in clips}
        shape, path = (sum(self.counts), self.feature_dim), self.folder / "features.f16"
        if not path.is_file() or path.stat().st_size != 2 * shape[0] * shape[1]:
            raise DamagedError(f"{path}: not as long as {INDEX_NAME} says")
        self.values = np.memmap(path, dtype=np.float16, mode="r", shape=shape)
        self.verified: set[int] = set()

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: int) -> Float[Tensor, "frames features"]:
        block = self.block_of[range(len(self))[index]]
        if block not in self.verified:
            self._verify(block)
        start, count = self.starts[index], self.counts[index]
        return torch.from_numpy(self.values[start : start + count].astype(np.float32))

    def _verify(self, block: int) -> None:
        """Compare a block with its checksum; make it again if it differs."""
        if self._checksum(block) != self.checksums[block]:
            clips = self.blocks[block]
            damage = f"{self.folder / 'features.f16'}: the features of {len(clips)} clips are damaged"
            if self.encode_block is None:
                raise DamagedError(f"{damage}. Delete the folder, and they are made again.")
            print(f"{damage}; they are made again")
            values = np.memmap(self.folder / "features.f16", dtype=np.float16, mode="r+", shape=self.values.shape)
            for clip, features in zip(clips, self.encode_block(clips), strict=True):
                values[self.starts[clip] : self.starts[clip] + self.counts[clip]] = features.numpy().astype(np.float16)
            values.flush()
            if self._checksum(block) != self.checksums[block]:
                # Other threads or another processor round otherwise: whole, but not to the last bit what it was.
                self.checksums[block] = self._checksum(block)
                _write_index(self.folder, {name: getattr(self, name) for name in INDEX_FIELDS})
        self.verified.add(block)

    def _checksum(self, block: int) -> int:
        """The clips of a block lie one after the other."""
        clips = self.blocks[block]
        start, end = self.starts[clips[0]], self.starts[clips[-1]] + self.counts[clips[-1]]
        return zlib.crc32(np.ascontiguousarray(self.values[start:end]).view(np.uint8).reshape(-1))


INDEX_NAME, INDEX_FIELDS = "index.json", ("starts", "counts", "feature_dim", "blocks", "checksums")


def _write_index(folder: Path, index: dict[str, Any]) -> None:
    """Where every clip's features are, with the index's own checksum: it is the manifest of the folder."""
    about = {"course": COURSE_VERSION, "clips": len(index["counts"])}
    index = {**about, **index}
    save_json({**index, "checksum": checksum(index)}, folder / INDEX_NAME)


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX_NAME
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        known = index.pop("checksum")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path}: damaged or missing") from error
    if known != checksum(index) or not set(INDEX_FIELDS) <= index.keys():
        raise DamagedError(f"{path}: damaged, its checksum differs")
    return index


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
    """Look the examples up under everything that decides their features; compute them if they are not there, or damaged."""
    digest = hashlib.sha256("\n".join([*key, "blocks"]).encode())
    for example in examples:
        digest.update(bytes.fromhex(file_digest(example.path)))
    folder = cache_folder() / "features" / digest.hexdigest()[:20]
    fill = partial(_write_features, examples=examples, width=width, compute=compute, batch_size=batch_size)

    def encode_block(clips: list[int]) -> list[Tensor]:
        return list(compute([examples[clip] for clip in clips]))

    try:
        return FeatureStore(make_folder(folder, fill), encode_block)
    except DamagedError as damage:
        print(f"{damage}; the features are made again")
        shutil.rmtree(folder)
        return FeatureStore(make_folder(folder, fill), encode_block)


def _write_features(
    folder: Path, examples: Sequence[Example], width: int, compute: Callable[[list[Example]], Features], batch_size: int
) -> None:
    starts, counts, total = [0] * len(examples), [0] * len(examples), 0
    order = sorted(range(len(examples)), key=lambda index: examples[index].path.stat().st_size)
    blocks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    checksums = [0] * len(blocks)
    bar = tqdm(total=len(examples), desc="encoding", unit="clip", disable=len(examples) < 100)
    with (folder / "features.f16").open("wb") as file, bar:
        for number, clips in enumerate(blocks):
            for clip, features in zip(clips, compute([examples[clip] for clip in clips]), strict=True):
                rounded = features.numpy().astype(np.float16)
                if not np.isfinite(rounded).all():
                    raise DataError(f"{examples[clip].path}: its features are too large for fp16, or no numbers")
                starts[clip], counts[clip], total = total, len(features), total + len(features)
                file.write(rounded.tobytes())
                checksums[number] = zlib.crc32(rounded.tobytes(), checksums[number])
            bar.update(len(clips))
    index = {"starts": starts, "counts": counts, "feature_dim": width, "blocks": blocks, "checksums": checksums}
    _write_index(folder, index)


def _find_sound(name: str, table: Path) -> Path:
    candidates = [table.parent / name, Path(name), DATA_FOLDER.parent / name]
    return next((path for path in candidates if _is_file(path)), candidates[0])


def _is_file(path: Path) -> bool:
    """Whether there is a file; no name, however odd, is an error."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _usable(
    read: Sequence[tuple[Row, Example]],
    rows: int,
    table: Path,
    skip_bad: bool,
    check: Check | None = None,
    clips: int | None = None,
) -> list[Example]:
    """The examples without a fault, at most so many; raises DataError that lists the others, unless they are to be skipped."""
    examples: list[Example] = []
    bad: list[BadRow] = []
    for row, example in read:
        if clips is not None and len(examples) == clips:
            break
        fault = row.fault or ("" if _is_file(example.path) else "no such file") or (check(example) if check else "")
        if fault:
            bad.append(BadRow(row.number, example.path.name, fault))
        else:
            examples.append(example)
    refuse_bad(bad, rows, table, skip_bad)
    return examples
