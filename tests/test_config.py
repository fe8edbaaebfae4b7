"""course_lib.config: what a config file may hold, and what is said when it holds something else."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from course_lib.config import CONFIG_FOLDER, ConfigError, load_config, read_training_command, save_config
from course_lib.language_model.tiny import TinyLMConfig
from course_lib.systems import SlamConfig

CONFIGS = CONFIG_FOLDER


@dataclass(frozen=True)
class Example:
    lr: float
    num_epochs: int
    language: str = "da"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    limit: int | None = None
    betas: tuple[float, ...] = (0.9, 0.999)
    tags: list[str] = dataclasses.field(default_factory=list)
    output: Path = Path("out")
    shuffle: bool = True

    def problems(self) -> list[str]:
        kept = {"lr": 0 < self.lr < 1, "num_epochs": self.num_epochs > 0}
        return [f"{name}: out of range, is {getattr(self, name)}" for name in kept if not kept[name]]


@pytest.fixture
def load(tmp_path):
    def load_text(text: str, name: str = "train.yaml") -> Example:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return load_config(path, Example)

    return load_text


def test_a_full_yaml_file(load):
    text = (
        "lr: 0.001  # per step\nnum_epochs: 3\nlanguage: dansk æøå\noptimizer: sgd\nlimit: 8\n"
        "betas: [1, 0.5]\ntags: [a, b]\noutput: there/it is\nshuffle: false\n"
    )
    expected = Example(0.001, 3, "dansk æøå", "sgd", 8, (1.0, 0.5), ["a", "b"], Path("there/it is"), False)
    assert load(text) == expected


def test_left_out_fields_have_their_defaults(load):
    assert load("lr: 0.5\nnum_epochs: 3\nlimit: null") == Example(0.5, 3)


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-4", 1e-4), ("1.0e-4", 1e-4), ("1E-2", 0.01), ("2.e-3", 0.002), ("'5e-1'", 0.5)],
)
def test_every_way_to_write_a_small_number(load, written, value):
    assert load(f"lr: {written}\nnum_epochs: 1").lr == value


def test_a_whole_number_becomes_a_float(load):
    beta = load("lr: 0.5\nnum_epochs: 1\nbetas: [1]").betas[0]
    assert (beta, type(beta)) == (1.0, float)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("lr: yes", "lr .*true .*needs a number"),
        ("lr: fast", "lr .*'fast', needs a number"),
        ("lr: .nan", "lr .*nan, needs a number"),
        ("lr:", "lr .*nothing, needs a number"),
        ("num_epochs: true", "num_epochs .*true .*needs a whole number"),
        ("num_epochs: 3.0", "num_epochs .*3.0, needs a whole number"),
        ("num_epochs: 1e3", "num_epochs .*'1e3', needs a whole number"),
        ("language: no", "language .*false .*unquoted.*needs text"),
        ("optimizer: adam", "optimizer .*'adam', needs one of adamw, sgd"),
        ("limit: ten", "limit .*'ten', needs a whole number or null"),
        ("betas: 0.9", "betas .*0.9, needs a list, each item a number"),
        ("tags: [a, 3]", "tags .*needs a list, each item text"),
        ("output: 7", "output .*7, needs a path"),
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
    assert [line.split()[0] for line in lines] == ["num_epohcs", "lr", "num_epochs", "optimizer", "shuffle"]
    assert "missing, needs a number" in lines[1]
    assert "default" in advice


def test_the_dataclass_has_the_last_word_about_ranges(load):
    with pytest.raises(ConfigError, match=r"2 problems.*\n  lr .*is 5\.0\n  num_epochs .*is 0"):
        load("lr: 5\nnum_epochs: 0")


def test_json_with_comments(load):
    text = '{\n  // the rate\n  "lr": 1e-4,  // small\n  "num_epochs": 3,\n  "language": "https://x // \\" y"\n}'
    assert load(text, "a.json") == Example(1e-4, 3, 'https://x // " y')


def test_the_stage_b_documents_json_loads(tmp_path):
    @dataclass(frozen=True)
    class StageB:
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
    expected = StageB(192, 4, 3, 768, 0.1, 8, "data/audio/asr.csv", 8, 20, 1e-4, 1000)
    assert load_config(path, StageB) == expected


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
    config = Example(1e-5, 3, "no", "sgd", None, (0.5,), ["1e-4", "true", "æ"], Path("x/y"), False)
    save_config(config, tmp_path / name)
    assert load_config(tmp_path / name, Example) == config


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.yaml"
    save_config(Example(0.1, 1), path)

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_config(Example(0.2, 2), path)
    assert load_config(path, Example) == Example(0.1, 1)
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
