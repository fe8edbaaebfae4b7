"""The sweep: equal budgets, one entry a training, and a finished training that is not run again."""

import json
import sys

import pytest

from course_lib import sweep_projector
from course_lib.config import CONFIG_FOLDER, load_config, replace, save_config
from course_lib.slam.projector import PROJECTORS
from course_lib.sweep_projector import CHANGES, count_weights, describe, main, shorten, sweep, widest
from course_lib.systems import CONFIG_NAME, SlamConfig

BUDGET = 1_312_000
CONFIGS = CONFIG_FOLDER


def test_k_is_swept_side_by_side_and_the_variants_are_compared_at_k_2():
    assert sorted(change["k"] for name, change in CHANGES.items() if name.startswith("concat")) == [1, 2, 3, 5, 8]
    assert {change["projector"] for change in CHANGES.values() if change["k"] == 2} == set(PROJECTORS)


def test_the_last_training_differs_from_the_shipped_one_in_its_optimiser_alone():
    shipped = load_config(CONFIGS / CONFIG_NAME, SlamConfig)
    changed = replace(shipped, **CHANGES["with AdamW"])
    assert shipped.optimizer == "muon"
    assert replace(changed, optimizer="muon") == shipped


@pytest.mark.parametrize("name", CHANGES)
def test_every_projector_of_the_sweep_has_nearly_the_shipped_ones_weights(name):
    kind, k = CHANGES[name]["projector"], CHANGES[name]["k"]
    width = widest(kind, k, 512, 256, BUDGET)
    assert 0.97 * BUDGET < count_weights(PROJECTORS[kind](512, 256, k, width)) <= BUDGET
    assert count_weights(PROJECTORS[kind](512, 256, k, width + 8)) > BUDGET


def test_a_budget_that_is_too_small_is_refused_with_what_is_needed():
    with pytest.raises(ValueError, match=r"1,000 weights are too few for concat, k = 2: at least 10,504 are needed"):
        widest("concat", 2, 512, 256, 1000)


def test_the_slice_is_an_epoch_of_each_lesson(tiny_run):
    config = replace(load_config(tiny_run.config, SlamConfig), ctc_warmup_epochs=2, num_beams=8, ctc_weight=0.2)
    short = shorten(config, 4_000, "train-clean")
    assert (short.train_splits, short.train_clips, short.batch_size) == (["train-clean"], 4_000, 16)
    assert (short.ctc_warmup_epochs, short.num_epochs, short.warmup_steps, short.validation_interval) == (1, 1, 25, 125)
    assert (short.num_beams, short.ctc_weight) == (1, 0.0)
    assert shorten(replace(config, ctc_warmup_epochs=0), 1, "dev").ctc_warmup_epochs == 0


@pytest.fixture
def few_changes(monkeypatch):
    names = ("concat, k = 5", "conv, k = 2", "qformer, k = 2")
    monkeypatch.setattr(sweep_projector, "CHANGES", {name: CHANGES[name] for name in names})
    return names


@pytest.fixture
def config(tiny_run):
    changes = {"ctc_warmup_epochs": 1, "num_epochs": 1, "validation_interval": 2, "projector_hidden_dim": 64}
    return replace(load_config(tiny_run.config, SlamConfig), **changes)


def test_each_change_is_trained_and_logged(config, tmp_path, few_changes, monkeypatch):
    results = sweep(config, tmp_path)
    assert tuple(results) == few_changes
    budget = 5 * 512 * 64 + 64 + 64 * 64 + 64
    for name, result in results.items():
        assert 0.85 * budget < result["weights"] <= budget
        assert result["audio_tokens_per_second"] == 50 / result["k"]
        [folder] = tmp_path.glob(f"{name.replace(', k = ', '-k')}-*")
        trained = load_config(folder / CONFIG_NAME, SlamConfig)
        assert (trained.projector, trained.k) == (result["projector"], result["k"])
        assert trained.projector_hidden_dim == result["hidden_dim"]
        assert [entry["step"] for entry in result["training"]] == [2, 3]
        assert [entry["step"] for entry in result["ctc_warmup"]] == [3]
        assert result["training"] == json.loads((folder / "training_log.json").read_text())

    table = describe(results).splitlines()
    assert table[1].startswith("concat, k = 5")
    assert f"{results['conv, k = 2']['weights']:,}" in table[2]
    monkeypatch.setattr("course_lib.training.trainer.Trainer._step", lambda *_: 1 / 0)  # nothing is left to train
    assert sweep(config, tmp_path) == results


def test_the_command_writes_what_the_chapter_reads(config, tmp_path, monkeypatch, capsys):
    asked = []
    result = {
        "weights": 7,
        "audio_tokens_per_second": 25.0,
        "training": [{"loss": 1.5, "cer": 0.25, "wer": 0.5, "seconds": 90}],
    }
    monkeypatch.setattr(sweep_projector, "sweep", lambda *given: asked.append(given) or {"concat, k = 2": result})
    save_config(config, tmp_path / "a.yaml")
    arguments = [
        "--config",
        str(tmp_path / "a.yaml"),
        "--clips",
        "64",
        "--folder",
        str(tmp_path),
        "--output",
        str(tmp_path / "o.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["sweep_projector", *arguments])
    main()
    ((used, folder),) = asked
    assert (used.train_clips, used.train_splits, folder) == (64, ["train-clean"], tmp_path)
    assert json.loads((tmp_path / "o.json").read_text()) == {"concat, k = 2": result}
    assert "concat, k = 2" in capsys.readouterr().out
