"""Whatever is typed or given, a command ends with one clear message and the right exit status, and changes no file.

A table of bad inputs, all run in one process: `pytest tests/test_bad_inputs.py` prints how many there are and how they ended.
"""

import contextlib
import importlib
import json
import os
import re
import signal
import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile
import torch
import yaml
from safetensors.torch import load_file, save_file

from course_lib import transcribe
from course_lib.config import save_config
from course_lib.ctc.recogniser import CONFIG_NAME as STAGE_B_NAME
from course_lib.ctc.recogniser import StageBConfig
from course_lib.data.recogniser import Recogniser, Transcript
from course_lib.errors import run_command
from course_lib.files import DATA_FOLDER
from course_lib.sound import decode
from course_lib.systems import SlamConfig, build_slam
from course_lib.train_audio_enc import train
from course_lib.training.checkpoints import load_state, save_state, save_weights, trainable_weights

SECONDS = 60
"""More, and a case counts as hanging."""

counts: Counter[str] = Counter()


class Case(NamedTuple):
    """A command line that is made in a folder; the status that it must end with, and what it must say."""

    kind: str
    name: str
    command: str
    make: Callable[[Path], list[str]]
    says: str
    status: int = 1


class Ended(NamedTuple):
    status: int
    said: str
    changed: list[str]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, the cache left out: it may be filled at any time."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and "cache" not in path.parts)
    return {str(path): path.read_bytes() for path in files}


@contextlib.contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    def stop(*_):
        raise TimeoutError(f"hangs: more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(command: str, arguments: list[str], folder: Path, monkeypatch, capsys) -> Ended:
    """Run a command in this process, as a shell would see it."""
    module = importlib.import_module(f"course_lib.{command}")
    before = snapshot(folder)
    monkeypatch.setattr(sys, "argv", [command, *arguments])
    capsys.readouterr()
    with no_longer_than(SECONDS):
        try:
            status = run_command(module.main)
        except SystemExit as left:
            status = left.code
    after = snapshot(folder)
    changed = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    output = capsys.readouterr()
    return Ended(status, output.err + output.out * (status == 0), sorted(changed))


class Silent(Recogniser):
    """Stands for a trained model where only the sound matters."""

    def __init__(self, folder):
        assert Path(folder).is_dir()

    def encode(self, waveforms):
        return [waveform[:, None] for waveform in waveforms]

    def recognise(self, features):
        return [Transcript("hej") for _ in features]


RNG = np.random.default_rng(0)
NOISE = (0.1 * RNG.standard_normal(16_000)).astype(np.float32)


def sound(kind="WAV", samples=NOISE, rate=16_000, subtype=None) -> bytes:
    path = Path(f"/dev/shm/bad_inputs_{os.getpid()}") if Path("/dev/shm").is_dir() else Path(f"bad_inputs_{os.getpid()}")
    soundfile.write(path, samples, rate, format=kind, subtype=subtype)
    try:
        return path.read_bytes()
    finally:
        path.unlink()


def damaged(content: bytes, at: float = 0.5, length: int = 600) -> bytes:
    start = int(len(content) * at)
    return content[:start] + bytes(length) + content[start + length :]


def wav_of(content: bytes | Callable[[], bytes], name="a.wav", *options: str) -> Callable[[Path], list[str]]:
    def make(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content())
        return [*options, str(folder / name)]

    return make


def path_of(make_it: Callable[[Path], object], name="a.wav") -> Callable[[Path], list[str]]:
    def make(folder):
        make_it(folder / name)
        return [str(folder / name)]

    return make


def typed(*arguments: str) -> Callable[[Path], list[str]]:
    return lambda folder: [argument.replace("{}", str(folder)) for argument in arguments]


def a_socket(path):
    os.chdir(path.parent)  # a socket's name may only be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)


def m4a_without_index() -> bytes:
    return struct.pack(">I4s4sI", 16, b"ftyp", b"M4A ", 0) + struct.pack(">I4s", 3008, b"mdat") + bytes(3000)


def wav_header(channels=1, rate=16_000, data=bytes(32_000)) -> bytes:
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    body = b"WAVE" + head + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


TRUNCATED = "truncated"
NO_AUDIO = "is not an audio file"
SOUND = [
    ("no such file", typed("{}/gone.wav"), "gone.wav: no such file. Check the spelling"),
    ("an empty name", typed(""), "is a folder, not a file|no such file"),
    ("a zero byte in the name", typed("{}/a\0b.wav"), "no such file"),
    ("a name of 300 letters", typed("{}/" + 300 * "a" + ".wav"), "cannot be opened"),
    ("a folder", typed("{}"), "is a folder, not a file"),
    ("a file as a folder", lambda f: wav_of(b"x")(f) and [f"{f}/a.wav/b.wav"], "cannot be opened"),
    ("a tab in the name", wav_of(sound(), "a\tb.wav"), "its name has a tab or a line break. Use --json"),
    ("a line break in the name", wav_of(sound(), "a\nb.wav"), "its name has a tab or a line break"),
    ("a pipe without a writer", path_of(os.mkfifo), "is a pipe into which nothing came"),
    ("a device", typed("/dev/zero"), "is a device or a socket"),
    ("a socket", path_of(a_socket), "is a device or a socket"),
    ("a link to nothing", path_of(lambda path: path.symlink_to("nowhere")), "no such file"),
    ("a link to itself", path_of(lambda path: path.symlink_to(path)), "cannot be opened"),
    ("0 bytes", wav_of(b""), "empty, 0 bytes"),
    ("one byte", wav_of(b"R"), NO_AUDIO),
    ("text", wav_of(b"not a sound\n" * 100), NO_AUDIO),
    ("random bytes", wav_of(RNG.bytes(5_000)), NO_AUDIO),
    ("a picture", wav_of(b"\x89PNG\r\n\x1a\n" + bytes(500), "a.png"), NO_AUDIO),
    ("a page", wav_of(b"<html><body>404</body></html>", "a.mp3"), NO_AUDIO),
    ("an archive", wav_of(b"PK\x03\x04" + bytes(500), "a.zip"), NO_AUDIO),
    ("a playlist", wav_of(b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "a.m3u8"), NO_AUDIO),
    ("a wav that ends in its header", wav_of(sound()[:30]), f"{TRUNCATED}: it ends inside its header"),
    ("half a wav", wav_of(sound()[:20_000]), f"{TRUNCATED}: its header promises 32,000 bytes of sound, 19,956 are there"),
    ("a wav without a sample", wav_of(wav_header(data=b"")), "empty, it holds no samples"),
    ("a wav of 0 Hz", wav_of(wav_header(rate=0)), f"impossible|{NO_AUDIO}"),
    ("a wav without channels", wav_of(wav_header(channels=0)), f"{TRUNCATED}|{NO_AUDIO}"),
    ("two wavs in one", wav_of(sound() + sound()), "several recordings in one file: a second recording begins at byte 32,044"),
    ("silence", wav_of(sound(samples=np.zeros(16_000, np.float32))), "silent: no sample reaches"),
    ("50 ms", wav_of(sound(samples=NOISE[:800])), "too short: 0.05 s of sound, at least 0.10 s needed"),
    ("NaN", wav_of(sound(samples=NOISE * np.nan, subtype="FLOAT")), "contains NaN or Inf"),
    ("Inf", wav_of(sound(samples=NOISE * np.inf, subtype="FLOAT")), "contains NaN or Inf"),
    ("floats that are not scaled", wav_of(sound(samples=NOISE * 30_000, subtype="FLOAT")), "expected −1…1"),
    ("half a flac", wav_of(sound("FLAC")[:9_000], "a.flac"), TRUNCATED),
    ("a flac damaged inside", wav_of(damaged(sound("FLAC")), "a.flac"), f"{TRUNCATED}: the sound breaks off or is damaged"),
    ("two flacs in one", wav_of(2 * sound("FLAC"), "a.flac"), "several recordings in one file"),
    ("half an ogg", wav_of(sound("OGG")[:5_000], "a.ogg"), f"{TRUNCATED}: its last Ogg page is not complete"),
    ("an ogg damaged inside", wav_of(damaged(sound("OGG"), 0.7), "a.ogg"), TRUNCATED),
    ("two oggs in one", wav_of(2 * sound("OGG"), "a.ogg"), "several recordings in one file"),
    ("an opus damaged inside", wav_of(damaged(sound("OGG", subtype="OPUS")), "a.opus"), f"{TRUNCATED}|{NO_AUDIO}"),
    ("half an mp3", wav_of(lambda: sound("MP3")[:2_000], "a.mp3"), TRUNCATED),
    ("an mp3 damaged inside", wav_of(damaged(sound("MP3")), "a.mp3"), "no frame of sound begins at byte"),
    ("two mp3s in one", wav_of(2 * sound("MP3"), "a.mp3"), "two recordings in one file"),
    ("half an aiff", wav_of(sound("AIFF")[:9_000], "a.aiff"), f"{TRUNCATED}: it should have 32,054 bytes, 9,000 are there"),
    ("half an au", wav_of(sound("AU")[:9_000], "a.au"), TRUNCATED),
    ("half a w64", wav_of(sound("W64")[:9_000], "a.w64"), TRUNCATED),
    ("half an rf64", wav_of(sound("RF64")[:9_000], "a.wav"), TRUNCATED),
    ("a caf", wav_of(sound("CAF"), "a.caf"), NO_AUDIO),
    ("an m4a without its index", wav_of(m4a_without_index(), "a.m4a"), "the index of an mp4 or m4a file"),
    ("a model that is not there", wav_of(sound(), "a.wav", "--model", "gone"), "no train_config.yaml here"),
    ("subtitles into a file", lambda f: ["--srt", "--output", f"{f}/a.wav", *wav_of(sound())(f)], "is a file, not a folder"),
]

USAGE = [
    ("no file", "transcribe", typed(), "FILE"),
    ("an unknown option", "transcribe", typed("--fast", "a.wav"), "--fast"),
    ("subtitles of two files", "transcribe", typed("--srt", "a.wav", "b.wav"), "--output FOLDER"),
    ("an unknown system", "evaluate", typed("--system", "slem"), "no system is called slem"),
    ("minus five clips", "evaluate", typed("--clips", "-5"), "is not a whole number above 0"),
    ("no clips", "evaluate", typed("--clips", "0"), "is not a whole number above 0"),
    ("clips in words", "evaluate", typed("--clips", "ten"), "is not a whole number above 0"),
    ("a folder without people", "evaluate", typed("--split", "people"), "go together"),
    ("minus one clip to speak", "synth", typed("--clips", "-1"), "is not a whole number above 0"),
    ("a split that cannot be spoken", "synth", typed("--split", "tset"), "invalid choice"),
    ("minus one epoch", "ablate", typed("--epochs", "-1"), "is not a whole number above 0"),
    ("no clips to sweep", "sweep_projector", typed("--clips", "0"), "is not a whole number above 0"),
    ("a config without a name", "train", typed("--config"), "expected one argument"),
]

HEADER = "audio_path,transcription,split\n"


def table(*rows: str | bytes, header: str | bytes = HEADER, name="asr.csv", **changes) -> Callable[[Path], list[str]]:
    """A training on a table whose last rows are bad; its first two are good."""

    def make(folder):
        good = [b"a.wav,hej,train\n", b"b.wav,ja,dev\n"] if header == HEADER else []
        (folder / "a.wav").write_bytes(sound())
        (folder / "b.wav").write_bytes(sound(samples=NOISE[::-1].copy()))
        parts = [header, *good, *rows]
        (folder / name).write_bytes(b"".join(part if isinstance(part, bytes) else part.encode() for part in parts))
        return stage_b(data_path=str(folder / name), **changes)(folder)

    return make


def with_sound(content: bytes, row: str) -> Callable[[Path], list[str]]:
    def make(folder):
        (folder / "bad.wav").write_bytes(content)
        return table(row)(folder)

    return make


SMALL = {
    "d_model": 16,
    "n_layers": 1,
    "n_heads": 2,
    "d_ff": 24,
    "dropout": 0.0,
    "downsample_time": 2,
    "data_path": "{}/asr.csv",
    "batch_size": 1,
    "num_epochs": 2,
    "learning_rate": 1e-3,
    "checkpoint_freq": 0,
    "device": "cpu",
    "num_threads": 1,
    "run_folder": "{}/run",
}


def stage_b(*more: str, **changes) -> Callable[[Path], list[str]]:
    """`--config` of a Stage B training with some fields changed; None leaves one out."""

    def make(folder):
        fields = {name: value for name, value in (SMALL | changes).items() if value is not None}
        (folder / "config.json").write_text(json.dumps(fields).replace("{}", str(folder)), encoding="utf-8")
        return ["--config", str(folder / "config.json"), *more]

    return make


TABLES = [
    ("no table", stage_b(), "asr.csv: no such file; make synthetic speech"),
    ("a folder without a table", stage_b(data_path="{}"), "train.tsv: no such file. An unpacked Common Voice folder has"),
    ("an empty table", table(header=""), "asr.csv: empty. Its first line must have the columns"),
    ("only a first line", table(header=HEADER[:-1]), "asr.csv: no clip of split|has a first line and no rows"),
    ("only a first line of another kind", table(header="audio_path,transcription\n"), "has a first line and no rows"),
    ("no columns", table("a.wav,hej\n", header="file,text\n"), r"no column audio_path, transcription; the first line is"),
    ("semicolons", table("a.wav;hej\n", header="audio_path;transcription\n"), "Semicolons part its columns"),
    ("tabs", table("a.wav\thej\n", header="path\tsentence\n"), "Tabs part its columns"),
    ("a column twice", table("a.wav,a,b\n", header="audio_path,transcription,transcription\n"), "comes twice"),
    ("UTF-16", table((HEADER + "a.wav,hej,train\n").encode("utf-16"), header=b""), "UTF-16"),
    ("a spreadsheet", table(b"PK\x03\x04" + bytes(300), header=b""), "a spreadsheet or archive"),
    ("Latin-1", table("a.wav,på,train\n".encode("latin-1")), "row 4     a.wav   not UTF-8; save the table as UTF-8"),
    ("a zero byte", table("a.wav,h\0ej,train\n"), r"row 4 .*control character U\+0000"),
    ("an escape", table("a.wav,h\x1bej,train\n"), r"row 4 .*control character U\+001B"),
    ("a comma without quotes", table("a.wav,ja, tak,train\n"), "row 4 .*has 4 of 3 columns; put quotes"),
    ("a column too few", table("a.wav,hej\n"), "row 4 .*has 2 of 3 columns"),
    (
        "an open quote",
        table('a.wav,"hej,train\n', "a.wav,ja,train\n"),
        "1 of 4 rows cannot be used\n  row 4 .*quote is not closed",
    ),
    ("two stray quotes", table('a.wav,"hej,train\n', 'a.wav,ja",train\n'), "row 4 .*quote"),
    ("text behind a quote", table('a.wav,"hej" sagde hun,train\n'), "row 4 .*quote"),
    ("no split in a row", table("a.wav,hej, \n"), "row 4 .*the column split is empty"),
    ("no text", table("a.wav,  ,train\n"), "row 4 .*transcription is empty"),
    ("no file", table("gone.wav,hej,train\n"), "row 4     gone.wav   no such file"),
    ("no path", table(",hej,train\n"), "row 4 .*no such file"),
    ("a path of 5,000 letters", table(f"{5_000 * 'a'},hej,train\n"), "row 4 .*no such file"),
    ("a folder as sound", table(".,hej,train\n"), "row 4 .*no such file"),
    ("a field of 200,000 letters", table(f"a.wav,{200_000 * 'a'},train\n"), "row 4 .*200,000 characters in 1.0 s of sound"),
    ("capitals and digits", table("a.wav,Hej 7,train\n"), "row 4 .*no symbol for 'H', '7'; run normalise"),
    ("letters of another tongue", table("a.wav,привет,train\n"), "row 4 .*no symbol for 'п'"),
    ("31 s", with_sound(sound(samples=np.tile(NOISE, 31)), "bad.wav,hej,train\n"), "row 4     bad.wav   too long: 31.00 s"),
    ("50 ms", with_sound(sound(samples=NOISE[:800]), "bad.wav,hej,train\n"), "row 4     bad.wav   too short"),
    ("silence", with_sound(sound(samples=0 * NOISE), "bad.wav,hej,train\n"), "row 4     bad.wav   silent"),
    ("half a clip", with_sound(sound()[:9_000], "bad.wav,hej,dev\n"), "row 4     bad.wav   truncated"),
    ("text as a clip", with_sound(b"hej" * 99, "bad.wav,hej,train\n"), "row 4     bad.wav   is not an audio file"),
    ("a split that is not there", table(validation_split="test"), "no clip of split 'test'; its column `split` has dev, train"),
    ("a split that leads elsewhere", table(validation_split="../x"), "no clip of split"),
    ("a synthetic split with a typo", stage_b(data_path="synthetic", train_splits=["tran-clean"]), "did you mean train-clean"),
    (
        "30 bad rows",
        table(*(f"x{n}.wav,hej,train\n" for n in range(30))),
        r"30 of 32 rows.*\n(.*\n){20}  … and 10 more; all are in",
    ),
]


def text(content: str | bytes, name="config.yaml", command_more=()) -> Callable[[Path], list[str]]:
    def make(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["--config", str(folder / name), *command_more]

    return make


SLAM = "encoder_name: data/models/whisper-base-encoder\nllm_name: data/models/tiny-danish-lm\ndata: synthetic\n"
CONFIGS = [
    ("no config", "train", typed("--config", "{}/gone.yaml"), "gone.yaml: no such file. Name a config file"),
    ("a folder", "train", typed("--config", "{}"), "is a folder; name a file in it"),
    ("another ending", "train", text("a: 1", "config.txt"), r"a config file ends in .yaml, .yml or .json"),
    ("an empty config", "train", text(""), 'a config holds "field: value" lines; this holds nothing'),
    ("a list", "train", text("- a\n- b\n"), 'a config holds "field: value" lines'),
    ("no YAML", "train", text("a: [1, 2\nb: }"), "not readable"),
    ("no JSON", "train_audio_enc", text('{"a": 1,}', "config.json"), "not readable"),
    ("Latin-1", "train", text("data: på".encode("latin-1")), "not UTF-8 text"),
    ("bytes", "train", text(RNG.bytes(2_000)), "not UTF-8 text|not readable"),
    ("two megabytes", "train", text("# " + 2_000_000 * "a"), "2,000,002 bytes are no config"),
    ("10,000 brackets", "train", text(10_000 * "[" + 10_000 * "]"), "nested too deeply"),
    ("10,000 brackets of JSON", "train_audio_enc", text(10_000 * "[" + 10_000 * "]", "c.json"), "nested too deeply|this holds"),
    ("a list as a name", "train", text("? [a, b]\n: 1\n"), "a list or a table cannot be a field's name"),
    ("a bomb of references", "train", text("a: &a [1]\nb: [*a, *a]\n"), "references .* are not read"),
    ("a tag that runs code", "train", text('a: !!python/object/apply:os.system ["true"]\n'), "not readable"),
    ("a field twice", "train", text(SLAM + "k: 2\nk: 3\n"), "given twice: k"),
    ("a typo", "train", text(SLAM + "bach_size: 2\n"), "bach_size .*no such field; did you mean batch_size"),
    ("no fields", "train", text("k: 2\n"), "encoder_name +missing, needs text"),
    ("text for a number", "train", text(SLAM + 'lr: "fast"\n'), "lr +'fast', needs a number"),
    ("minus one seed", "train", text(SLAM + "seed: -1\n"), "seed +-1, must be at least 0"),
    ("a seed of 2^64", "train", text(SLAM + f"seed: {2**64}\n"), "seed +18446744073709551616, must be below"),
    ("a number of 5,000 digits", "train", text(SLAM + f"seed: {5_000 * '9'}\n"), "not readable|must be below"),
    ("NaN", "train", text(SLAM + "lr: .nan\n"), "lr +nan, needs a number|lr +nan"),
    ("100,000 threads", "train", text(SLAM + "num_threads: 100000\n"), "num_threads +100000, must be at most 256"),
    ("no run folder", "train", text(SLAM + 'run_folder: ""\n'), "run_folder +'', must not be empty"),
    ("a zero byte in a path", "train", text(SLAM + 'run_folder: "a\\0b"\n'), "holds a control character"),
    ("a run folder that is a file", "train", lambda f: text(SLAM + f"run_folder: {f}/config.yaml\n")(f), "is a file. Name a folder"),
    ("the folder that one is in", "train", text(SLAM + "run_folder: .\n"), "holds the folder that you are in"),
    ("a shipped model's folder", "train", text(SLAM + f"run_folder: {transcribe.SHIPPED_SLAM}\n"), "is the course's own"),
    ("a device that is not there", "train", text(SLAM + "device: mps\n"), "device: mps is not there"),
    ("a tracker that is not there", "train", text(SLAM + "tracker: wandb\n"), "wandb is not installed; pip install wandb"),
    ("a monitor with a typo", "train", text(SLAM + "monitor: wre\n"), "monitor +'wre', needs 'wer', 'cer' or 'loss'"),
    ("a validation split with a typo", "train", text(SLAM + "validation_split: dve\n"), "did you mean dev"),
    ("an encoder with a typo", "train", text(SLAM.replace("whisper-base-encoder", "wisper")), "no folder seen from"),
    ("a language model with a typo", "train", text(SLAM.replace("tiny-danish-lm", "nope")), "data/models/nope: no folder seen from"),
    ("ten billion weights", "train_audio_enc", stage_b(d_model=100_000), "at most 300,000,000 can be trained here"),
    ("ten billion weights of text", "tiny_lm", text("hidden_size: 80000\n"), "at most 300,000,000 can be trained here"),
    ("a language model into data/", "tiny_lm", text(f"output_folder: {DATA_FOLDER}/models/tiny-danish-lm\n"), "is the course's own model"),
    ("heads that do not fit", "train_audio_enc", stage_b(n_heads=3), "d_model must be a multiple of 6"),
    ("nothing to resume", "train_audio_enc", stage_b("--resume"), "nothing to resume; start without --resume"),
    ("nothing to resume of a projector", "train", lambda f: text(SLAM + f"run_folder: {f}/run\n", command_more=["--resume"])(f),
     "nothing to resume"),
]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_llm) -> Path:
    """A finished Stage B run, a small language model, and a recogniser that has both, as small as they can be."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "a.wav").write_bytes(sound())
    (folder / "b.wav").write_bytes(sound(samples=NOISE[::-1].copy()))
    (folder / "asr.csv").write_text(f"{HEADER}a.wav,hej,train\nb.wav,ja,dev\n", encoding="utf-8")
    fields = json.loads(json.dumps(SMALL).replace("{}", str(folder)))
    train(StageBConfig(**fields))
    tiny_llm.model.save_pretrained(folder / "llm")
    tiny_llm.tokenizer.save_pretrained(folder / "llm")
    config = SlamConfig(
        encoder_name=str(folder / "run"),
        llm_name=str(folder / "llm"),
        data="x",
        precision="fp32",
        device="cpu",
        max_new_tokens=4,
    )
    save_config(config, folder / "slam" / "train_config.yaml")
    save_weights(trainable_weights(build_slam(config)), folder / "slam" / "best.safetensors")
    return folder


Spoil = Callable[[Path], object]


def cut(name: str, share: float = 0.5) -> Spoil:
    return lambda f: (f / name).write_bytes((f / name).read_bytes()[: int(share * (f / name).stat().st_size)])


def flip(name: str, place: int = -20) -> Spoil:
    def spoil(folder):
        content = bytearray((folder / name).read_bytes())
        content[place] ^= 0x40
        (folder / name).write_bytes(content)

    return spoil


def tensors(name: str, change: Callable[[dict], object]) -> Spoil:
    def spoil(folder):
        weights = load_file(folder / name)
        change(weights)
        save_file(weights, folder / name, metadata={"format": "pt"})

    return spoil


def fields(name: str, **changes) -> Spoil:
    def spoil(folder):
        read = json.loads if name.endswith("json") else yaml.safe_load
        stored = read((folder / name).read_text(encoding="utf-8")) | changes
        (folder / name).write_text(json.dumps(stored) if name.endswith("json") else yaml.safe_dump(stored), encoding="utf-8")

    return spoil


def state(change: Callable[[dict], object]) -> Spoil:
    def spoil(folder):
        stored = load_state(folder / "run" / "training_state.pt")
        change(stored)
        save_state(stored, folder / "run" / "training_state.pt")

    return spoil


def write(name: str, content: bytes) -> Spoil:
    return lambda folder: (folder / name).write_bytes(content)


def both(*spoils: Spoil) -> Spoil:
    return lambda folder: [spoil(folder) for spoil in spoils]


def first_nan(weights: dict) -> None:
    name = min(name for name in weights if weights[name].is_floating_point())
    weights[name] = weights[name].clone()
    weights[name].reshape(-1)[0] = torch.nan


def drop_last(weights: dict) -> None:
    weights.pop(max(weights))


def moved(folder: Path) -> None:
    """As if the run had been begun with this very table."""
    state(lambda stored: stored["config"].update(data_path=f"{folder}/asr.csv"))(folder)


OTHER_CLIPS = both(moved, write("asr.csv", f"{HEADER}b.wav,nej,train\nb.wav,ja,dev\n".encode()))
B_BEST, S_BEST, LLM, STATE = "run/best.safetensors", "slam/best.safetensors", "llm/model.safetensors", "run/training_state.pt"
NO_MANIFEST: Spoil = lambda folder: (folder / "run" / "manifest.json").unlink()  # noqa: E731
HEAR_B, HEAR_S = ["--model", "{}/run", "{}/a.wav"], ["--model", "{}/slam", "{}/a.wav"]
RESUME = ["--config", "{}/config.json", "--resume"]
AFRESH = ["--config", "{}/config.json"]
MODELS = [
    ("weights gone", "transcribe", lambda f: (f / B_BEST).unlink(), HEAR_B, "best.safetensors: no such file"),
    ("half the weights", "transcribe", cut(B_BEST), HEAR_B, r"missing or not what it was: best.safetensors \(manifest.json"),
    ("half the weights, no manifest", "transcribe", both(NO_MANIFEST, cut(B_BEST)), HEAR_B, r"best.safetensors: damaged"),
    ("no weights in it", "transcribe", both(NO_MANIFEST, write(B_BEST, b"")), HEAR_B, "best.safetensors: damaged"),
    ("text as weights", "transcribe", both(NO_MANIFEST, write(B_BEST, b"hej" * 99)), HEAR_B, "best.safetensors: damaged"),
    ("a pickle as weights", "transcribe", both(NO_MANIFEST, write(B_BEST, b"\x80\x04cos\nsystem\n")), HEAR_B, "damaged"),
    ("a flipped bit", "transcribe", flip(B_BEST), HEAR_B, "not what it was: best.safetensors"),
    ("a flipped bit, no manifest", "transcribe", both(NO_MANIFEST, flip(B_BEST)), HEAR_B, "its numbers are not those that were saved"),
    ("NaN in the weights", "transcribe", both(NO_MANIFEST, tensors(B_BEST, first_nan)), HEAR_B, "holds NaN or Inf"),
    ("a tensor gone", "transcribe", both(NO_MANIFEST, tensors(B_BEST, drop_last)), HEAR_B, "not in the file"),
    ("another size", "transcribe", fields(f"run/{STAGE_B_NAME}", d_ff=32), HEAR_B, "does not fit the configured model"),
    ("no config", "transcribe", lambda f: (f / "run" / STAGE_B_NAME).unlink(), HEAR_B, "no train_config.yaml here"),
    ("a damaged manifest", "transcribe", write("run/manifest.json", b"{"), HEAR_B, "manifest.json: damaged"),
    ("a flipped bit in a projector", "transcribe", flip(S_BEST), HEAR_S, "its numbers are not those that were saved"),
    ("NaN in a projector", "transcribe", tensors(S_BEST, first_nan), HEAR_S, "holds NaN or Inf"),
    ("another k", "transcribe", fields("slam/train_config.yaml", k=3), HEAR_S, "does not fit the configured model"),
    ("a language model gone", "transcribe", fields("slam/train_config.yaml", llm_name="x/y/z"), HEAR_S, "nor a Hub id"),
    ("no tokenizer", "transcribe", lambda f: (f / "llm" / "tokenizer.json").unlink(), HEAR_S, "no tokenizer.json in it"),
    ("no weights of text", "transcribe", lambda f: (f / LLM).unlink(), HEAR_S, "no safetensors weights in it"),
    ("a config that is no JSON", "transcribe", write("llm/config.json", b"{"), HEAR_S, "config.json: not JSON"),
    ("half a language model", "transcribe", cut(LLM), HEAR_S, "llm: not loaded"),
    ("NaN in a language model", "transcribe", tensors(LLM, first_nan), HEAR_S, "holds NaN or Inf"),
    ("a language model with a tensor gone", "transcribe", tensors(LLM, drop_last), HEAR_S, "1 weights are missing"),
    ("a language model that asks for code", "transcribe", fields("llm/config.json", auto_map={"AutoModel": "evil.Model"}), HEAR_S,
     "asks to run code"),
    ("another model's end of text", "transcribe", fields("llm/config.json", eos_token_id=7), HEAR_S, "another model's tokenizer"),
    ("a fresh start over a run", "train_audio_enc", None, AFRESH, "holds a run already, and a fresh start would write over it"),
    ("half a state", "train_audio_enc", cut(STATE), RESUME, "training_state.pt: damaged"),
    ("an empty state", "train_audio_enc", write(STATE, b""), RESUME, "training_state.pt: damaged"),
    ("a flipped bit in a state", "train_audio_enc", flip(STATE, 2_000), RESUME, "training_state.pt: (damaged|not a training state)"),
    ("a pickle as a state", "train_audio_enc", write(STATE, b"\x80\x04cos\nsystem\n(S'true'\ntR."), RESUME, "nothing in it was run"),
    ("another training's state", "train_audio_enc", state(lambda s: s.pop("schedule")), RESUME, "it has no schedule"),
    ("a state of another config", "train_audio_enc", state(lambda s: s["config"].update(dropout=0.5)), RESUME,
     r"dropout: 0.5 then, 0.0 now"),
    ("another rate", "train_audio_enc", fields("config.json", learning_rate=0.5), RESUME, r"learning_rate: 0.001 then, 0.5 now"),
    ("another optimiser", "train_audio_enc", fields("config.json", optimizer="muon"), RESUME, "optimizer: 'adamw' then, 'muon' now"),
    ("more epochs of one cycle", "train_audio_enc", fields("config.json", num_epochs=9), RESUME, "num_epochs: 2 then, 9 now"),
    ("other clips", "train_audio_enc", OTHER_CLIPS, RESUME,
     "begun with other clips or texts"),
    ("stored transcripts gone", "evaluate", None, ["--system", "{}/gone.json"], "gone.json: cannot be read"),
    ("transcripts that are no JSON", "evaluate", write("a.json", b"{"), ["--system", "{}/a.json"], "a.json: not JSON"),
    ("transcripts of nothing", "evaluate", write("a.json", b"[]"), ["--system", "{}/a.json"], "no transcripts in it"),
    ("transcripts of another split", "evaluate", write("a.json", b'{"split": "dev", "transcripts": [1]}'),
     ["--split", "test", "--system", "{}/a.json"], "transcripts of dev, not of test"),
    ("rows without a text", "evaluate", write("a.json", b'[{"voice": "a"}]'), ["--system", "{}/a.json"], "row 0 needs the texts"),
    ("a name that leads elsewhere", "evaluate", write("a.json", b'[{"voice": "", "reference": "a", "hypothesis": "a"}]'),
     ["--system", "../../x={}/a.json", "--output", "{}/out"], "no system can be called '../../x'"),
    ("a name that is taken", "evaluate", write("a.json", b'[{"voice": "", "reference": "a", "hypothesis": "a"}]'),
     ["--system", "comparison={}/a.json", "--output", "{}/out"], "no system can be called 'comparison'"),
    ("one name twice", "evaluate", write("a.json", b'[{"voice": "", "reference": "a", "hypothesis": "a"}]'),
     ["--system", "x={}/a.json", "{}/a.json", "x={}/a.json"], "two systems are called x"),
    ("a split with a typo", "evaluate", None, ["--split", "tset", "--model", "{}/run"], "did you mean test"),
    ("no people", "evaluate", None, ["--split", "people", "--folder", "{}/llm"], "no asr.csv in it"),
    ("an output that is a file", "evaluate", None, ["--model", "{}/run", "--output", "{}/a.wav"], "is a file, not a folder"),
]  # fmt: skip

CASES = [Case("sound", name, "transcribe", make, says) for name, make, says in SOUND]
CASES += [Case("usage", name, command, make, says, 2) for name, command, make, says in USAGE]
CASES += [Case("tables", name, "train_audio_enc", make, says) for name, make, says in TABLES]
CASES += [Case("configs", name, command, make, says) for name, command, make, says in CONFIGS]


def copy_of(models: Path, folder: Path) -> None:
    """A copy to be spoilt; configs name it instead of the original."""
    for path in sorted(models.rglob("*")):
        if path.is_file():
            place = folder / path.relative_to(models)
            place.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes()
            if path.suffix in (".yaml", ".json") and path.parent.name != "llm" and path.name != "manifest.json":
                content = content.replace(str(models).encode(), str(folder).encode())
            place.write_bytes(content)
    stage_b()(folder)


def judge(case: Case, folder: Path, monkeypatch, capsys) -> None:
    arguments = case.make(folder)
    counts["cases"] += 1
    ended = run(case.command, arguments, folder, monkeypatch, capsys)
    counts["tracebacks"] += "Traceback" in ended.said
    counts["files changed"] += bool(ended.changed)
    assert "Traceback" not in ended.said
    assert re.search(case.says, ended.said), ended.said
    assert ended.status == case.status
    assert ended.changed == []
    counts["clear errors"] += 1


@pytest.fixture(scope="module", autouse=True)
def tell(request) -> Iterator[None]:
    """At the end, how many cases there were and how they ended."""
    yield
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    hangs = counts["cases"] - counts["clear errors"] - counts["tracebacks"]
    shown = {name: counts[name] for name in ("cases", "clear errors", "tracebacks", "files changed")} | {
        "hangs or other": hangs
    }
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        reporter.write_line("\nbad inputs: " + ", ".join(f"{count} {name}" for name, count in shown.items()))


@pytest.mark.parametrize("case", CASES, ids=[f"{case.kind}: {case.name}" for case in CASES])
def test_a_bad_input_is_refused_in_a_sentence(case, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        transcribe, "load_system", Silent if case.kind == "sound" and "model" not in case.name else transcribe.load_system
    )
    monkeypatch.setattr(decode, "_PIPE_SECONDS", 0.2)
    monkeypatch.chdir(tmp_path)
    judge(case, tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize(("name", "command", "spoil", "arguments", "says"), MODELS, ids=[row[0] for row in MODELS])
def test_a_bad_model_is_refused_in_a_sentence(models, tmp_path, monkeypatch, capsys, name, command, spoil, arguments, says):
    copy_of(models, tmp_path)
    if spoil:
        spoil(tmp_path)
    judge(Case("models", name, command, typed(*arguments), says), tmp_path, monkeypatch, capsys)


def test_the_table_is_as_long_as_it_should_be():
    kinds = Counter(case.kind for case in CASES)
    assert kinds["sound"] >= 40
    assert kinds["tables"] >= 30
    assert kinds["configs"] >= 25
    assert len(MODELS) >= 25
