"""From clips to a run folder: the validation that counts, and the command line from end to end."""

import json

import pytest
import torch

from course_lib.config import load_config, replace, save_config
from course_lib.data.batches import SpeechBatch, SpeechCheck
from course_lib.data.datasets import DataError, encode_examples, load_examples
from course_lib.systems import CONFIG_NAME, SlamConfig, build_slam, load_slam
from course_lib.text.metrics import character_error_rate, word_error_rate
from course_lib.train import main, train
from course_lib.training.checkpoints import load_state, trainable_weights


@pytest.fixture(scope="module")
def slam(tiny_run):
    return load_slam(tiny_run.folder)


def test_the_check_measures_transcripts_and_the_mean_loss_over_all_tokens(slam, tiny_run):
    examples = load_examples(str(tiny_run.csv), "dev")
    store, texts = encode_examples(examples, slam.encoder), [example.text for example in examples]
    figures = SpeechCheck(slam, store, texts, batch_size=2)()
    features = [store[index] for index in range(len(store))]
    transcripts = slam.transcribe_features(features)
    output = slam.loss(SpeechBatch(features, texts))
    assert list(figures) == ["wer", "cer", "loss", "token_accuracy_teacher_forced"]
    assert figures["wer"] == word_error_rate(texts, transcripts)
    assert figures["cer"] == character_error_rate(texts, transcripts)
    assert figures["loss"] == pytest.approx(float(output.loss), rel=1e-4)
    assert figures["token_accuracy_teacher_forced"] == output.correct_tokens / output.label_tokens


def test_a_run_folder_holds_all_that_was_promised(tiny_run):
    assert {file.name for file in tiny_run.folder.iterdir()} == {
        CONFIG_NAME,
        "best.safetensors",
        "training_state.pt",
        "training_log.json",
        "logs",
        "manifest.json",
    }
    assert load_config(tiny_run.folder / CONFIG_NAME, SlamConfig) == load_config(tiny_run.config, SlamConfig)


def test_the_log_of_a_run_has_a_row_for_every_validation(tiny_run):
    log = json.loads((tiny_run.folder / "training_log.json").read_text())
    # 5 clips in batches of 2 are 3 updates an epoch
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5, 6]
    assert [entry["epoch"] for entry in log] == [0, 0, 0, 1, 1, 1]
    for entry in log:
        assert set(entry) >= {"seconds", "lr", "train_loss", "train_token_accuracy", "wer", "cer", "loss"}
    assert log[-1]["loss"] < log[0]["loss"]


def test_the_best_weights_measure_what_the_log_says(tiny_run, slam):
    log = json.loads((tiny_run.folder / "training_log.json").read_text())
    best = min(log, key=lambda entry: (entry["wer"], entry["step"]))
    examples = load_examples(str(tiny_run.csv), "dev")
    store = encode_examples(examples, slam.encoder)
    figures = SpeechCheck(slam, store, [example.text for example in examples], 2)()
    assert figures == pytest.approx({name: best[name] for name in figures}, rel=1e-4, abs=2e-6)


def test_training_moved_every_weight_of_the_projector(tiny_run):
    fresh = trainable_weights(build_slam(load_config(tiny_run.config, SlamConfig)))
    trained = load_state(tiny_run.folder / "training_state.pt")["weights"]
    assert all(not torch.equal(trained[name], weight) for name, weight in fresh.items())


def config_in(folder, tiny_run, **changes):
    config = replace(load_config(tiny_run.config, SlamConfig), run_folder=str(folder / "run"), **changes)
    save_config(config, folder / "config.yaml")
    return config


def test_a_broken_run_is_resumed_to_the_same_weights(tiny_run, tmp_path, monkeypatch):
    """Dropout and the random start of every clip included."""
    config = config_in(tmp_path, tiny_run)
    measure, calls = SpeechCheck.__call__, []

    def break_at_the_fourth(check):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure(check)

    monkeypatch.setattr(SpeechCheck, "__call__", break_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    torch.manual_seed(123)
    monkeypatch.setattr("sys.argv", ["train", "--config", str(tmp_path / "config.yaml"), "--resume"])
    main()
    last, expected = (load_state(folder / "training_state.pt")["weights"] for folder in (tmp_path / "run", tiny_run.folder))
    assert all(torch.equal(last[name], weight) for name, weight in expected.items())
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == (tiny_run.folder / "best.safetensors").read_bytes()


def test_the_command_line_trains_and_says_where_the_result_is(tiny_run, tmp_path, monkeypatch, capsys):
    # 10 clips in batches of 2 are 5 updates
    config_in(tmp_path, tiny_run, num_epochs=1, validation_interval=5, train_splits=["train", "test"])
    monkeypatch.setattr("sys.argv", ["train", "--config", str(tmp_path / "config.yaml")])
    main()
    output = capsys.readouterr().out
    log = json.loads((tmp_path / "run" / "training_log.json").read_text())
    assert f"best wer {log[0]['wer']:.4f} at step 5" in output
    assert f"python -m course_lib.transcribe --model {tmp_path / 'run'}" in output
    assert load_slam(tmp_path / "run").projector.k == 5


def test_max_steps_are_those_with_the_language_model(tiny_run, tmp_path):
    """10 clips in batches of 2 are 5 updates an epoch; the spelling lessons are not cut short."""
    changes = {"ctc_warmup_epochs": 2, "num_epochs": 1, "max_steps": 3, "validation_interval": 5}
    assert train(config_in(tmp_path, tiny_run, train_splits=["train", "test"], **changes)).step == 3
    logs = (tmp_path / "run" / folder / "training_log.json" for folder in ("ctc_warmup", "."))
    assert [json.loads(log.read_text(encoding="utf-8"))[-1]["step"] for log in logs] == [10, 3]


def test_rows_that_cannot_be_used_stop_a_training_unless_they_are_to_be_skipped(tiny_run, tmp_path, monkeypatch, capsys):
    table = tiny_run.csv.with_name("broken.csv")
    table.write_text(tiny_run.csv.read_text(encoding="utf-8") + "wav/gone.wav,hej,train,voice,1.0\n", encoding="utf-8")
    config_in(tmp_path, tiny_run, num_epochs=1, validation_interval=3, data=str(table))
    arguments = ["train", "--config", str(tmp_path / "config.yaml")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(DataError, match=r"gone.wav   no such file"):
        main()
    monkeypatch.setattr("sys.argv", [*arguments, "--skip-bad"])
    main()
    assert "1 of 16 rows left out" in capsys.readouterr().out
