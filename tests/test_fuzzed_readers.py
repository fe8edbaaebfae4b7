"""Every reader, given files with bytes that changed, were lost or came twice: a named error, or what was written; nothing else.

Where a format has no checksum (a wav, a table) other numbers or letters may come out, but no other error. The counts are printed.
"""

import io
import random
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soundfile
import torch

from course_lib.config import ConfigError, load_config, save_config
from course_lib.data.datasets import DamagedError, FeatureStore, _write_index, read_asr_csv
from course_lib.data.tables import DataError
from course_lib.errors import CourseError
from course_lib.files import changed_files, read_manifest, write_manifest
from course_lib.sound.audio import AudioError, load_audio
from course_lib.systems import SlamConfig
from course_lib.text.metrics import align, error_counts
from course_lib.text.normalise import normalise
from course_lib.training.checkpoints import CheckpointError, checksum, load_state, read_weights, save_state, save_weights

counts: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def tell(request) -> Iterator[None]:
    yield
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        reporter.write_line(
            f"\nfuzz: {sum(counts.values()):,} cases, " + ", ".join(f"{n:,} {name}" for name, n in counts.items())
        )


def spoilt(content: bytes, cases: int, seed: str) -> Iterator[bytes]:
    """Copies with a bit or a few bytes changed, a piece lost, repeated or zeroed, or the end cut off."""
    rng = random.Random(seed)
    for _ in range(cases):
        changed, place = bytearray(content), rng.randrange(len(content))
        length = rng.choice([1, 1, 2, 4, 16, 100])
        kind = rng.choice("flip flip flip bytes lose repeat zero cut".split())
        if kind == "flip":
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == "bytes":
            changed[place : place + length] = rng.randbytes(length)
        elif kind == "lose":
            del changed[place : place + length]
        elif kind == "repeat":
            changed[place:place] = changed[place : place + length]
        elif kind == "zero":
            changed[place : place + length] = bytes(len(changed[place : place + length]))
        else:
            del changed[place:]
        yield bytes(changed)


def outcome(read: Callable[[], object], error: type[Exception]) -> object | None:
    """What was read; None for the error that may be raised. Any other error fails the test."""
    try:
        found = read()
    except error:
        counts["refused by name"] += 1
        return None
    counts["read"] += 1
    return found


@pytest.mark.parametrize(
    ("kind", "cases"), [("WAV", 1_000), ("FLAC", 600), ("OGG", 600), ("MP3", 600), ("AIFF", 300), ("W64", 300)]
)
def test_sound(kind, cases):
    stream = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal(4_800)
    soundfile.write(stream, noise.astype(np.float32), 16_000, format=kind)
    for content in spoilt(stream.getvalue(), cases, kind):
        wave = outcome(lambda content=content: load_audio(content), AudioError)
        assert wave is None or (torch.isfinite(wave).all() and len(wave) >= 1_600)


def test_tables(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"x")
    table = "audio_path,transcription,split\n" + 'a.wav,"på, ø",train\na.wav,hej,dev\n' * 5
    for content in spoilt(table.encode(), 1_900, "table"):
        (tmp_path / "asr.csv").write_bytes(content)
        examples = outcome(lambda: read_asr_csv(tmp_path / "asr.csv"), DataError)
        assert examples is None or all(example.text.strip() and example.path.is_file() for example in examples)


def test_configs(tmp_path):
    save_config(SlamConfig(encoder_name="a/b", llm_name="c/d", data="synthetic"), tmp_path / "good.yaml")
    for content in spoilt((tmp_path / "good.yaml").read_bytes(), 700, "config"):
        (tmp_path / "c.yaml").write_bytes(content)
        config = outcome(lambda: load_config(tmp_path / "c.yaml", SlamConfig), ConfigError)
        assert config is None or config.num_threads <= 256


def test_weights(tmp_path):
    weights = {"a.weight": torch.arange(40.0).reshape(8, 5), "b.bias": torch.ones(3)}
    save_weights(weights, tmp_path / "good.safetensors")
    for content in spoilt((tmp_path / "good.safetensors").read_bytes(), 1_500, "weights"):
        (tmp_path / "w.safetensors").write_bytes(content)
        found = outcome(lambda: read_weights(tmp_path / "w.safetensors"), CheckpointError)
        assert found is None or checksum(found) == checksum(weights)


def test_states(tmp_path):
    state = {"weights": {"a": torch.arange(20.0)}, "log": [{"step": 1, "wer": 0.5}], "random": (3, tuple(range(50)), None)}
    save_state(state, tmp_path / "good.pt")
    for content in spoilt((tmp_path / "good.pt").read_bytes(), 1_000, "state"):
        (tmp_path / "s.pt").write_bytes(content)
        found = outcome(lambda: load_state(tmp_path / "s.pt"), CheckpointError)
        assert found is None or checksum(found) == checksum(state)


@pytest.mark.parametrize("name", ["index.json", "features.f16"])
def test_stored_features(tmp_path, name):
    values = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float16)
    values.tofile(tmp_path / "features.f16")
    probe = FeatureStore.__new__(FeatureStore)
    probe.blocks, probe.starts, probe.counts, probe.values = [[0, 1], [2]], [0, 5, 9], [5, 4, 3], values
    checksums = [FeatureStore._checksum(probe, block) for block in (0, 1)]
    _write_index(
        tmp_path, {"starts": [0, 5, 9], "counts": [5, 4, 3], "feature_dim": 4, "blocks": [[0, 1], [2]], "checksums": checksums}
    )
    wanted = [torch.from_numpy(values[start:end].astype(np.float32)) for start, end in ((0, 5), (5, 9), (9, 12))]
    for content in spoilt((tmp_path / name).read_bytes(), 1_000, name):
        good = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content)
        found = outcome(lambda: [FeatureStore(tmp_path)[clip] for clip in range(3)], DamagedError)
        assert found is None or all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
        (tmp_path / name).write_bytes(good)


def test_manifests(tmp_path):
    (tmp_path / "a.txt").write_text("hej")
    write_manifest(tmp_path, ["a.txt"], clips=1)
    for content in spoilt((tmp_path / "manifest.json").read_bytes(), 500, "manifest"):
        (tmp_path / "manifest.json").write_bytes(content)
        manifest = outcome(lambda: read_manifest(tmp_path), CourseError)
        assert manifest is None or changed_files(tmp_path, manifest) in ([], [*manifest["files"]])


def test_texts_and_metrics():
    """Any text: normalised once it stays as it is, and the counts of an alignment add up."""
    rng = random.Random("texts")
    letters = "abcæøåé 0123456789.,-'\"!?ÆØÅ\t\u0301ß漢🙂"
    for _ in range(500):
        said, heard = ("".join(rng.choices(letters, k=rng.randrange(30))) for _ in range(2))
        clean = outcome(lambda said=said: normalise(said), CourseError)
        assert clean is None or normalise(clean) == clean
        [words] = error_counts(said, heard)
        assert words.reference_length == len(said.split())
        assert align(said.split(), heard.split()).counts.errors == words.errors <= max(len(said.split()), len(heard.split()))


def test_there_are_ten_thousand_cases():
    assert sum(counts.values()) >= 10_000
