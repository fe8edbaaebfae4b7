"""Configs and run folders: what is accepted, what is refused by name, and what comes back from a folder."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from course_lib import systems
from course_lib.compute import pick_device
from course_lib.config import CONFIG_FOLDER, ConfigError, build_config, load_config, replace, save_config
from course_lib.ctc.recogniser import CONFIG_NAME as STAGE_B_CONFIG_NAME
from course_lib.ctc.recogniser import SHIPPED_STAGE_B, StageBConfig, StageBRecogniser, build_encoder
from course_lib.data.batches import SpeechBatch
from course_lib.encoder.tiny import StageBEncoder
from course_lib.encoder.whisper import WhisperEncoder
from course_lib.sound.mel import ctc_log_mel
from course_lib.systems import (
    CONFIG_NAME,
    SHIPPED_SLAM,
    SYSTEMS,
    SlamConfig,
    build_slam,
    load_encoder,
    load_slam,
    load_stage_b_beam,
    load_system,
)
from course_lib.text.vocabulary import CharVocabulary
from course_lib.training.checkpoints import save_weights, trainable_weights

PARTS = {"encoder_name": "some/encoder", "llm_name": "some/llm", "data": "asr.csv"}

GUIDES_YAML = """
# WHAT WE'RE TRAINING
freeze_llm: true        # Don't change LLM weights
freeze_encoder: true    # Don't change Whisper weights
# Only Projector is trained!

# HOW MUCH DATA PER UPDATE
batch_size: 8                    # 8 samples at once
gradient_accumulation_steps: 4   # Accumulate 4 batches
# Effective batch size = 8 × 4 = 32 samples per update

# HOW LONG TO TRAIN
num_epochs: 50         # Go through all data 50 times
warmup_steps: 200      # Start with small learning rate, increase gradually

# LEARNING RATE
lr: 1.0e-4             # How big each update is (0.0001)
weight_decay: 0.01     # Prevent overfitting

# WHEN TO CHECK PROGRESS
validation_interval: 112   # Validate every 112 steps (= 1 epoch)

# WHEN TO STOP EARLY
patience: 15           # Stop if no improvement for 15 epochs
min_delta: 0.005       # Improvement must be at least 0.5% WER
"""


def test_every_field_of_the_guides_yaml_is_accepted_by_its_name():
    values = yaml.safe_load(GUIDES_YAML)
    config = build_config(values | PARTS, SlamConfig, "the guide")
    assert len(values) == 11
    assert {name: getattr(config, name) for name in values} == values


def test_what_the_guides_yaml_says_is_also_the_default():
    assert SlamConfig(**PARTS) == SlamConfig(**PARTS, **yaml.safe_load(GUIDES_YAML))


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("freeze_llm", False, "false, not supported; this course trains the projector alone"),
        ("freeze_encoder", False, "false, not supported; this course trains the projector alone"),
        ("max_audio_length", 31.0, "31.0, Whisper's encoder hears 30 s at most"),
        ("max_audio_length", 0.0, "0.0, must be above 0"),
        ("projector_dropout", 1.0, "1.0, must be below 1"),
        ("ctc_warmup_epochs", -1, "-1, must be at least 0"),
        ("ctc_warmup_lr", 0.0, "0.0, must be above 0"),
        ("num_beams", 0, "0, must be above 0"),
        ("ctc_weight", -0.1, "-0.1, must be at least 0"),
        ("ctc_weight", 0.2, "0.2, chooses among num_beams sentences, and there is only one; raise num_beams or set it to 0"),
        ("k", 0, "0, must be above 0"),
        ("projector_hidden_dim", -1, "-1, must be above 0"),
        ("train_clips", 0, "0, must be above 0 or null"),
        ("train_splits", [], "[], must not be empty"),
        ("max_new_tokens", 0, "0, must be above 0"),
        ("batch_size", 0, "0, must be above 0"),
        ("lr", 0.0, "0.0, must be above 0"),
        ("warmup_steps", -1, "-1, must be at least 0"),
        ("precision", "fp16", "'fp16', needs 'auto', 'fp32' or 'bf16'"),
        ("tracker", "mlflow", "'mlflow', needs 'none', 'tensorboard' or 'wandb'"),
        ("device", "gpu", "'gpu', needs 'auto', 'cpu', 'cuda' or 'mps'"),
    ],
)
def test_a_value_that_cannot_be_meant_is_named_with_its_reason(field, value, reason):
    with pytest.raises(ConfigError) as refusal:
        build_config(PARTS | {field: value}, SlamConfig, "a.yaml")
    line = str(refusal.value).splitlines()[1]
    assert line.split() == f"{field} {reason}".split()


def test_all_impossible_values_are_named_at_once():
    wrong = {"freeze_llm": False, "freeze_encoder": False, "max_audio_length": 60.0, "patience": -1, "ctc_weight": 0.2}
    with pytest.raises(ConfigError) as refusal:
        build_config(PARTS | wrong, SlamConfig, "a.yaml")
    assert {line.split()[0] for line in str(refusal.value).splitlines()[1:-1]} == set(wrong)


def test_the_shipped_configs_are_accepted():
    files = sorted(CONFIG_FOLDER.glob("train_config*.yaml"))
    assert files
    for file in files:
        assert load_config(file, SlamConfig).freeze_llm


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, False, "cuda"), (False, True, "mps"), (False, False, "cpu"), (True, True, "cuda")]
)
def test_auto_takes_a_gpu_then_apple_silicon_then_the_cpu(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto") == expected
    assert pick_device("cpu") == "cpu"


def test_a_folder_without_a_config_is_refused_with_advice(tmp_path):
    with pytest.raises(ValueError, match=rf"no {CONFIG_NAME} here; give the run_folder of a training, or none"):
        load_slam(tmp_path)


def test_a_run_folder_comes_back_with_its_best_weights(tiny_run):
    slam = load_slam(tiny_run.folder)
    saved = load_file(tiny_run.folder / "best.safetensors")
    weights = trainable_weights(slam)
    assert set(weights) == set(saved) == {f"projector.layers.{n}.{kind}" for n in (1, 3) for kind in ("weight", "bias")}
    assert all(torch.equal(weights[name], tensor) for name, tensor in saved.items())
    assert not slam.training


def test_on_a_cpu_a_recogniser_is_loaded_in_fp32_whatever_it_was_trained_in(tiny_run, tmp_path):
    config = load_config(tiny_run.config, SlamConfig)
    save_config(replace(config, precision="bf16"), tmp_path / CONFIG_NAME)
    save_file(load_file(tiny_run.folder / "best.safetensors"), tmp_path / "best.safetensors")
    slam = load_slam(tmp_path)
    assert (slam.precision, slam.encoder.precision) == ("fp32", "fp32")
    assert {parameter.dtype for parameter in slam.parameters()} == {torch.float32}


def test_weights_of_another_projector_are_refused_by_name(tiny_run, tmp_path):
    config = load_config(tiny_run.config, SlamConfig)
    save_config(replace(config, projector_hidden_dim=100), tmp_path / CONFIG_NAME)
    save_file(load_file(tiny_run.folder / "best.safetensors"), tmp_path / "best.safetensors")
    with pytest.raises(ValueError, match=r"layers.1.weight: \(512, 2560\) in the file, \(100, 2560\) in the model"):
        load_slam(tmp_path)


def test_a_config_builds_what_it_says(tiny_run):
    config = load_config(tiny_run.config, SlamConfig)
    config = replace(config, k=4, projector_hidden_dim=16, projector_dropout=0.3, prompt="Skriv: ")
    slam = build_slam(config)
    assert slam.projector.k == 4
    assert [tuple(p.shape) for p in slam.projector.parameters()] == [(16, 2048), (16,), (64, 16), (64,)]
    assert slam.projector.layers[0].p == 0.3
    assert slam.tokenizer.decode(slam.prompt_ids) == "Skriv: "
    assert (slam.precision, slam.encoder.precision) == ("fp32", "fp32")


def test_a_fresh_projector_follows_from_the_seed(tiny_run):
    config = load_config(tiny_run.config, SlamConfig)
    first, again = (build_slam(config).projector.layers[1].weight for _ in range(2))
    other = build_slam(replace(config, seed=1)).projector.layers[1].weight
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_system_that_ships_is_the_one_loaded_by_default(monkeypatch):
    asked_for = []
    monkeypatch.setattr(systems, "load_config", lambda path, config_class: asked_for.append(path) or 1 / 0)
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    with pytest.raises(ZeroDivisionError):
        SYSTEMS["slam"]()
    assert asked_for == [SHIPPED_SLAM / CONFIG_NAME]


@pytest.fixture(scope="module")
def stage_b_folder(tmp_path_factory):
    """The run folder of a Stage B training, with weights that were never trained."""
    folder = tmp_path_factory.mktemp("stage_b")
    config = StageBConfig(
        d_model=16,
        n_layers=1,
        n_heads=2,
        d_ff=24,
        dropout=0.5,
        downsample_time=4,
        data_path="synthetic",
        batch_size=2,
        num_epochs=1,
        learning_rate=1e-3,
        checkpoint_freq=0,
        precision="fp32",
    )
    save_config(config, folder / STAGE_B_CONFIG_NAME)
    save_weights(trainable_weights(StageBRecogniser(build_encoder(config), CharVocabulary())), folder / "best.safetensors")
    return folder


def test_an_encoder_is_a_stage_b_run_or_a_whisper(stage_b_folder):
    tiny = load_encoder(str(stage_b_folder), "bf16")
    assert isinstance(tiny, StageBEncoder)
    assert (tiny.precision, tiny.training) == ("bf16", False)
    assert isinstance(load_encoder("data/models/whisper-base-encoder"), WhisperEncoder)


def test_one_config_line_puts_the_learners_own_encoder_under_the_same_language_model(tiny_run, stage_b_folder):
    config = replace(load_config(tiny_run.config, SlamConfig), encoder_name=str(stage_b_folder), k=2)
    slam = build_slam(config)
    assert slam.projector.layers[1].in_features == 2 * 16
    stored = load_file(stage_b_folder / "best.safetensors")
    assert all(torch.equal(weight, stored[f"enc.{name}"]) for name, weight in slam.encoder.state_dict().items())
    waveform = 0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))
    features = slam.encode([waveform])
    assert features[0].shape == (-(-len(ctc_log_mel(waveform)) // 4), 16)
    assert len(slam.transcribe([waveform])) == 1
    slam.train()
    slam(SpeechBatch(features, ["hej"])).loss.backward()
    # trained is the projector only, and the encoder does not begin to drop units
    assert set(trainable_weights(slam)) == {f"projector.layers.{n}.{kind}" for n in (1, 3) for kind in ("weight", "bias")}
    torch.testing.assert_close(slam.encode([waveform])[0], features[0], atol=1e-4, rtol=0)


def test_a_folder_holds_the_system_that_its_config_names(tiny_run, stage_b_folder):
    assert isinstance(load_system(stage_b_folder), StageBRecogniser)
    assert load_system(tiny_run.folder).projector.k == 5


def test_stage_b_ships_under_its_name(monkeypatch):
    asked_for = []
    monkeypatch.setattr("course_lib.ctc.recogniser.load_run_config", lambda folder: asked_for.append(folder) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        SYSTEMS["stage_b"]()
    assert asked_for == [SHIPPED_STAGE_B]


def test_stage_b_can_be_read_with_a_beam_that_an_n_gram_helps(stage_b_folder):
    alone, helped = load_stage_b_beam(0, stage_b_folder), load_stage_b_beam(200, stage_b_folder)
    assert isinstance(SYSTEMS["stage_b_ngram"](folder=stage_b_folder), StageBRecogniser)
    vocabulary = alone.vocabulary
    # "hej" or "hez", nearly alike by ear: only somebody who reads Danish can tell
    letters = [vocabulary.encode(letter)[0] for letter in "hejz"]
    probabilities = torch.full((3, len(vocabulary)), 1e-6)
    for frame, (sure, other) in enumerate([(0, 0), (1, 1), (3, 2)]):
        probabilities[frame, letters[other]], probabilities[frame, letters[sure]] = 0.45, 0.55
    log_probs = (probabilities / probabilities.sum(dim=1, keepdim=True)).log()
    assert vocabulary.decode(alone.decode(log_probs)) == "hez"
    assert vocabulary.decode(helped.decode(log_probs)) == "hej"


def test_words_of_the_list_cannot_be_chosen_without_the_letters_vote():
    chosen = {"num_beams": 4, "ctc_weight": 0.4, "listed_candidates": 8}
    assert build_config(PARTS | chosen, SlamConfig, "x.yaml").listed_candidates == 8
    with pytest.raises(ConfigError, match=r"listed_candidates.*set ctc_weight, or this to 0"):
        build_config(PARTS | chosen | {"ctc_weight": 0.0}, SlamConfig, "x.yaml")


def test_the_word_list_stands_ready_only_where_it_is_wanted():
    config = load_config(SHIPPED_SLAM / CONFIG_NAME, SlamConfig)
    assert build_slam(config).word_list == []
    assert len(build_slam(replace(config, listed_candidates=3)).word_list) > 1_000
