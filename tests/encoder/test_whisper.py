"""A folder is read from disk, only a Hub id reaches for the network, and errors say what to do."""

import hashlib
import importlib.util
import json
import re

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperModel

from course_lib.encoder.base import EncoderError
from course_lib.encoder.positions import sinusoidal_positions
from course_lib.encoder.whisper import POSITIONS, WhisperEncoder, encoder_tensors, locate_whisper
from course_lib.files import DATA_FOLDER

MODELS = DATA_FOLDER / "models"
SMALL = {
    "d_model": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "vocab_size": 60,
}
SMALL |= {
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 32,
    "max_source_positions": 50,
}
SMALL |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}


@pytest.fixture
def whole_whisper(tmp_path):
    """A small random Whisper as `save_pretrained` leaves it, decoder and all."""
    torch.manual_seed(0)
    folder = tmp_path / "whisper"
    WhisperForConditionalGeneration(WhisperConfig(**SMALL)).half().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text("{}")
    (folder / "LICENSE").write_text("MIT")
    return folder


@pytest.fixture
def no_network(monkeypatch):
    """Record what would be downloaded, and fail there."""
    asked = []

    def refuse(hub_id, file):
        asked.append((hub_id, file))
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    return asked


@pytest.fixture(scope="module")
def maker():
    """The script beside the shipped weights."""
    spec = importlib.util.spec_from_file_location("maker", MODELS / "make_whisper_encoder.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_encoder_of_a_whole_whisper(whole_whisper, tmp_path, no_network):
    whole = WhisperEncoder.from_pretrained(whole_whisper)
    WhisperModel.from_pretrained(whole_whisper).save_pretrained(tmp_path / "without_head")
    assert whole.config.max_frames == 100
    assert WhisperEncoder.from_pretrained(tmp_path / "without_head").fingerprint == whole.fingerprint
    assert no_network == []


def test_the_script_makes_the_same_encoder_twice(whole_whisper, tmp_path, maker):
    hashes = [maker.make(whole_whisper, tmp_path / "new" / name) for name in ("one", "two", "one")]
    assert len(set(hashes)) == 1
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["one", "two"]
    made = WhisperEncoder.from_pretrained(tmp_path / "new" / "one")
    assert made.fingerprint == WhisperEncoder.from_pretrained(whole_whisper).fingerprint
    assert all(tensor.dtype == torch.float16 for tensor in load_file(tmp_path / "new/one/model.safetensors").values())


@pytest.mark.parametrize("changed", [False, True], ids=["the formula's", "others"])
def test_positions_stay_behind_if_the_formula_says_them_and_are_kept_if_not(whole_whisper, tmp_path, maker, changed):
    """A Whisper whose positions were trained must not come back with OpenAI's."""
    weights = load_file(whole_whisper / "model.safetensors")
    positions = sinusoidal_positions(50, 16).half()
    positions[7, 3] += 0.5 * changed
    save_file(weights | {f"model.encoder.{POSITIONS}": positions}, whole_whisper / "model.safetensors", {"format": "pt"})
    maker.make(whole_whisper, tmp_path / "made")
    assert (POSITIONS in load_file(tmp_path / "made" / "model.safetensors")) == changed
    whole, made = (WhisperEncoder.from_pretrained(folder) for folder in (whole_whisper, tmp_path / "made"))
    assert torch.equal(made.whisper.embed_positions.weight, positions.float())
    assert made.fingerprint == whole.fingerprint


def test_rounded_to_fp16_the_positions_are_openais_to_the_last_bit(encoder):
    """They are not shipped; this is the digest of the table in openai/whisper-base."""
    positions = sinusoidal_positions(1500, 512).half()
    digest = hashlib.sha256(positions.numpy().tobytes()).hexdigest()
    assert digest == "9a2eb6deed8e9048ab1c45d24f31681f3b6970ab57ae6e951d7a3586a8d96bbc"
    assert torch.equal(encoder.whisper.embed_positions.weight, positions.float())


def test_no_other_tensor_is_made_up(whole_whisper):
    weights = load_file(whole_whisper / "model.safetensors")
    del weights["model.encoder.layer_norm.bias"]
    save_file(weights, whole_whisper / "model.safetensors")
    with pytest.raises(EncoderError, match="holds no Whisper encoder"):
        WhisperEncoder.from_pretrained(whole_whisper)


def test_fingerprint_sees_one_changed_weight_and_the_precision(whole_whisper, tmp_path):
    before = WhisperEncoder.from_pretrained(whole_whisper)
    weights = load_file(whole_whisper / "model.safetensors")
    weights["model.encoder.layers.1.fc2.bias"][3] += 0.5
    save_file(weights, whole_whisper / "model.safetensors")
    assert WhisperEncoder.from_pretrained(whole_whisper).fingerprint != before.fingerprint
    assert re.fullmatch(r"[0-9a-f]{16}-fp32", before.fingerprint)
    before.precision = "bf16"
    assert before.fingerprint.endswith("-bf16")


def test_a_hub_id_and_only_a_hub_id_is_fetched(no_network):
    with pytest.raises(EncoderError, match=r"openai/whisper-base: not fetched from the Hub \(no route to host\)"):
        locate_whisper("openai/whisper-base")
    assert no_network == [("openai/whisper-base", "config.json")]


def test_what_the_hub_delivers_is_loaded(whole_whisper, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda hub_id, file: str(whole_whisper / file))
    assert WhisperEncoder.from_pretrained("someone/whisper").feature_dim == 16


@pytest.mark.parametrize("name", ["whisper-base", "/nowhere/whisper", "./models/whisper", "a/b/c", "data/typo"])
def test_a_missing_folder_is_not_looked_for_on_the_hub(name, no_network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    with pytest.raises(EncoderError, match=re.escape(name)):
        locate_whisper(name)
    assert no_network == []


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_an_incomplete_folder(whole_whisper, file):
    (whole_whisper / file).unlink()
    with pytest.raises(EncoderError, match=rf"{re.escape(str(whole_whisper))}: {re.escape(file)} is missing"):
        locate_whisper(str(whole_whisper))


def test_damaged_and_foreign_weights(whole_whisper):
    weights = whole_whisper / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-100])
    with pytest.raises(EncoderError, match=r"model\.safetensors: damaged"):
        WhisperEncoder.from_pretrained(whole_whisper)
    save_file({"projector.weight": torch.zeros(2)}, weights)
    with pytest.raises(EncoderError, match=r"model\.safetensors: holds no Whisper encoder"):
        WhisperEncoder.from_pretrained(whole_whisper)


def test_a_config_of_another_size(whole_whisper):
    config = json.loads((whole_whisper / "config.json").read_text())
    (whole_whisper / "config.json").write_text(json.dumps(config | {"d_model": 32}))
    with pytest.raises(EncoderError, match="fits the config"):
        WhisperEncoder.from_pretrained(whole_whisper)


def test_tensors_come_as_fp32(whole_whisper):
    tensors = encoder_tensors(whole_whisper / "model.safetensors", {"layer_norm.bias": torch.empty(16)})
    assert {name: tensor.dtype for name, tensor in tensors.items()} == dict.fromkeys(tensors, torch.float32)
