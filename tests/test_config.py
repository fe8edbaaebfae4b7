"""course_lib.config: what a config file may hold, and what is said when it holds something else."""

import os
import re
from typing import Literal

import pytest
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, field_validator

from course_lib.config import (
    CONFIG_FOLDER,
    Config,
    ConfigError,
    load_config,
    read_training_command,
    replace,
    save_config,
)
from course_lib.language_model.tiny import TinyLMConfig
from course_lib.systems import SlamConfig

CONFIGS = CONFIG_FOLDER


class Example(Config):
    lr: float = Field(gt=0, lt=1)
    num_epochs: PositiveInt
    language: str = "da"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    limit: PositiveInt | None = None
    decay: float = Field(0.5, ge=0, le=1)
    betas: list[float] = Field([0.9, 0.999], min_length=1)
    tags: list[str] = []  # noqa: RUF012
    shuffle: bool = True
    momentum: PositiveFloat | None = Field(None, alias="mass")

    @field_validator("betas")
    @classmethod
    def _none_for_sgd(cls, betas: list[float], info) -> list[float]:
        if info.data.get("optimizer") == "sgd" and len(betas) > 1:
            raise ValueError("sgd takes one")
        return betas


@pytest.fixture
def load(tmp_path):
    def load_text(text: str, name: str = "train.yaml") -> Example:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return load_config(path, Example)

    return load_text


def test_a_full_yaml_file(load):
    text = (
        "lr: 0.001  # per step\nnum_epochs: 3\nlanguage: dansk æøå\noptimizer: sgd\nlimit: 8\ndecay: 1\n"
        "betas: [1]\ntags: [a, b]\nshuffle: false\nmass: 0.25\n"
    )
    values = {"lr": 0.001, "num_epochs": 3, "language": "dansk æøå", "optimizer": "sgd", "limit": 8, "decay": 1.0}
    assert load(text).model_dump() == values | {"betas": [1.0], "tags": ["a", "b"], "shuffle": False, "momentum": 0.25}


def test_left_out_fields_have_their_defaults(load):
    assert load("lr: 0.5\nnum_epochs: 3\nlimit: null") == Example(lr=0.5, num_epochs=3)


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-4", 1e-4), ("1.0e-4", 1e-4), ("1E-2", 0.01), ("2.e-3", 0.002), ("+5e-1", 0.5)],
)
def test_every_way_to_write_a_small_number(load, written, value):
    assert load(f"lr: {written}\nnum_epochs: 1").lr == value


def test_small_numbers_in_a_list(load):
    assert load("lr: 0.5\nnum_epochs: 1\nbetas: [1e-1, 2E-3]").betas == [0.1, 0.002]


def test_a_whole_number_becomes_a_float(load):
    beta = load("lr: 0.5\nnum_epochs: 1\nbetas: [1]").betas[0]
    assert (beta, type(beta)) == (1.0, float)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("lr: yes", "lr .*true .*unquoted.*needs a number"),
        ("lr: '3'", "lr .*'3', needs a number"),
        ("lr: .inf", "lr .*inf, needs a number"),
        ("lr: fast", "lr .*'fast', needs a number"),
        ("lr: .nan", "lr .*nan, needs a number"),
        ("lr:", "lr .*nothing, needs a number"),
        ("num_epochs: true", "num_epochs .*true .*needs a whole number"),
        ("num_epochs: 3.0", "num_epochs .*3.0, needs a whole number"),
        ("num_epochs: 1e3", "num_epochs .*1000.0, needs a whole number"),
        ("language: no", "language .*false .*unquoted.*needs text"),
        ("optimizer: adam", "optimizer .*'adam', needs 'adamw' or 'sgd'"),
        ("limit: ten", "limit .*'ten', needs a whole number or null"),
        ("betas: 0.9", "betas .*0.9, needs a list"),
        ("tags: [a, 3]", r"tags\[1\] .*3, needs text"),
        ("mass: heavy", "mass .*'heavy', needs a number or null"),
        ("momentum: 1.0", "momentum .*no such field"),
        ("shuffle: 1", "shuffle .*1, needs true or false"),
        ("num_epoch: 3", "num_epoch .*no such field; did you mean num_epochs?"),
        ("3: 3", "3 .*no such field"),
    ],
)
def test_a_wrong_field_is_named_with_its_reason(load, lines, expected):
    rest = {"lr": "lr: 0.1\n", "num_epochs": "num_epochs: 1\n"}
    rest.pop(lines.partition(":")[0], None)
    with pytest.raises(ConfigError, match=expected) as refusal:
        load("".join(rest.values()) + lines)
    assert "train.yaml: 1 problem in the fields of Example" in str(refusal.value)


def test_all_wrong_fields_are_named_at_once(load):
    with pytest.raises(ConfigError) as refusal:
        load("num_epohcs: 3\noptimizer: adam\nshuffle: 1")
    head, *lines, advice = str(refusal.value).splitlines()
    assert head.endswith("train.yaml: 5 problems in the fields of Example")
    assert [line.split()[0] for line in lines] == ["lr", "num_epochs", "optimizer", "shuffle", "num_epohcs"]
    assert "missing, needs a number" in lines[0]
    assert "default" in advice


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("lr: 0.0", "lr .*0.0, must be above 0$"),
        ("lr: 1.0", "lr .*1.0, must be below 1$"),
        ("num_epochs: 0", "num_epochs .*0, must be above 0$"),
        ("limit: -1", "limit .*-1, must be above 0 or null$"),
        ("decay: -0.5", "decay .*-0.5, must be at least 0$"),
        ("decay: 1.5", "decay .*1.5, must be at most 1$"),
        ("betas: []", r"betas .*\[\], must not be empty$"),
        ("mass: 0", "mass .*0, must be above 0 or null$"),
        ("optimizer: sgd\nbetas: [0.5, 0.5]", r"betas .*\[0.5, 0.5\], sgd takes one$"),
        ("optimizer: sgd", r"betas .*\[0.9, 0.999\], sgd takes one$"),
    ],
)
def test_a_value_out_of_its_range_is_named_with_the_range(load, lines, expected):
    rest = {"lr": "lr: 0.1\n", "num_epochs": "num_epochs: 1\n"}
    rest.pop(lines.partition(":")[0], None)
    with pytest.raises(ConfigError) as refusal:
        load("".join(rest.values()) + lines)
    _, line, _ = str(refusal.value).splitlines()
    assert re.match(f"  {expected}", line)


def test_what_two_fields_must_agree_on_is_said_beside_everything_else(load):
    with pytest.raises(ConfigError) as refusal:
        load("lr: 5\nnum_epochs: 0\noptimizer: sgd\nbetas: [0.5, 0.5]\nshuffle: 1")
    rows = str(refusal.value).splitlines()[1:-1]
    assert [row.split()[0] for row in rows] == ["lr", "num_epochs", "betas", "shuffle"]


def test_a_copy_is_checked_like_a_file_and_the_first_stays_as_it_was():
    config = Example(lr=0.5, num_epochs=3, mass=2.0)
    changed = replace(config, num_epochs=4, mass=None)
    assert (changed.num_epochs, changed.momentum, changed.lr) == (4, None, 0.5)
    assert config == Example(lr=0.5, num_epochs=3, mass=2.0)
    with pytest.raises(ConfigError, match=r"2 problems .* Example\n  num_epochs .*must be above 0\n  sead .*no such field"):
        replace(config, num_epochs=0, sead=1)
    with pytest.raises(ValidationError, match="frozen"):
        config.lr = 0.1


def test_json_with_comments(load):
    text = '{\n  // the rate\n  "lr": 1e-4,  // small\n  "num_epochs": 3,\n  "language": "https://x // \\" y"\n}'
    assert load(text, "a.json") == Example(lr=1e-4, num_epochs=3, language='https://x // " y')


def test_the_stage_b_documents_json_loads(tmp_path):
    class StageB(Config):
        d_model: int
        n_layers: int
        n_heads: int
        d_ff: int
        dropout: float
        downsample_time: int
        data_path: str
        batch_size: int
        num_epochs: int
        learning_rate: float
        checkpoint_freq: int

    path = tmp_path / "audio_enc_tiny.json"
    path.write_text("""{
  // MODEL ARCHITECTURE
  "d_model": 192,           // Encoder dimension (smaller than Thinker's 256)
  "n_layers": 4,            // Transformer encoder layers
  "n_heads": 3,             // Attention heads (3 for 192-dim)
  "d_ff": 768,              // Feedforward size (4x d_model)
  "dropout": 0.1,           // Regularization
  "downsample_time": 8,     // Temporal compression (8x)
                            // 100 frames → 12 frames
                            // Reduces computation!

  // DATA
  "data_path": "data/audio/asr.csv",  // Audio files + transcriptions
  "batch_size": 8,          // Smaller than text (audio = memory-intensive)
  "num_epochs": 20,         // More epochs than Stage A
                            // ASR is harder to learn!

  // OPTIMIZATION
  "learning_rate": 1e-4,    // 0.0001 (lower than Stage A)
                            // Audio training needs stability

  "checkpoint_freq": 1000  // Checkpoint frequency (every 1000 steps)
}
""")
    loaded = list(load_config(path, StageB).model_dump().values())
    assert loaded == [192, 4, 3, 768, 0.1, 8, "data/audio/asr.csv", 8, 20, 1e-4, 1000]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", '{"lr": 1,\n "num_epochs": }', "a.json: not readable\n.*line 2"),
        ("a.json", '{"lr": 1, "lr": 2}', "given twice: lr"),
        ("a.yaml", "lr: 1\nlr: 2", "given twice: lr"),
        ("a.yml", "lr: [1", "a.yml: not readable"),
        ("a.yaml", "- lr", "field: value"),
        ("a.yaml", "", "field: value.*nothing"),
        ("a.toml", "lr = 1", "ends in .yaml, .yml or .json"),
    ],
)
def test_an_unreadable_file_is_refused_by_name(load, name, text, expected):
    with pytest.raises(ConfigError, match=expected) as refusal:
        load(text, name)
    assert name in str(refusal.value)


def test_a_byte_order_mark_does_no_harm(load):
    assert load("\ufefflr: 0.5\nnum_epochs: 3") == load('\ufeff{"lr": 0.5, "num_epochs": 3}', "a.json")


def test_a_missing_file_suggests_its_neighbour(load, tmp_path):
    load("lr: 0.5\nnum_epochs: 3")
    with pytest.raises(ConfigError, match=r"tran\.yaml: no such file; did you mean train\.yaml\?"):
        load_config(tmp_path / "tran.yaml", Example)


@pytest.mark.parametrize("name", ["new/folder/a.yaml", "a.yml", "a.json"])
def test_save_and_load_is_the_identity(tmp_path, name):
    words = ["1e-4", "-2.E+3", "0.5", "true", "æ"]
    config = Example(lr=1e-5, num_epochs=3, language="no", optimizer="sgd", betas=[0.5], tags=words, mass=0.25)
    save_config(config, tmp_path / name)
    assert load_config(tmp_path / name, Example) == config


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.yaml"
    save_config(Example(lr=0.1, num_epochs=1), path)

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_config(Example(lr=0.2, num_epochs=2), path)
    assert load_config(path, Example) == Example(lr=0.1, num_epochs=1)
    assert list(tmp_path.iterdir()) == [path]


def test_a_training_command_begins_with_the_config_that_is_shipped(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train"])
    shipped = load_config(CONFIGS / "train_config.yaml", SlamConfig)
    assert read_training_command("", "train_config.yaml", SlamConfig) == (shipped, False)
    monkeypatch.setattr("sys.argv", ["train", "--config", str(CONFIGS / "train_config_qwen.yaml"), "--resume", "--skip-bad"])
    config, resume = read_training_command("", "train_config.yaml", SlamConfig)
    assert (config.k, config.skip_bad, resume) == (5, True, True)


def test_only_a_training_that_can_skip_rows_takes_skip_bad(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["tiny_lm", "--skip-bad"])
    with pytest.raises(SystemExit):
        read_training_command("", "tiny_lm.yaml", TinyLMConfig)
    assert "unrecognized arguments: --skip-bad" in capsys.readouterr().err
