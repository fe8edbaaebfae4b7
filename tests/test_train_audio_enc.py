"""Stage B's training from clips to a run folder; broken off, or killed, at any moment, and gone on with to the bit."""

import contextlib
import io
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from course_lib.config import load_config, replace, save_config
from course_lib.ctc.recogniser import CONFIG_NAME, SUBWORDS_NAME, StageBConfig, load_stage_b
from course_lib.data.batches import SpeechBatch, SpeechCheck
from course_lib.data.datasets import DataError, load_examples, log_mel_examples, read_asr_csv, texts_of
from course_lib.text.metrics import word_error_rate
from course_lib.train_audio_enc import build_recogniser, count_warmup_steps, describe, main, train
from course_lib.training.checkpoints import CheckpointError, load_state, trainable_weights

TOO_LONG = "denne sætning er alt for lang til et enkelt lille klip og kan ikke skrives med så få rammer som der er her " * 3


@pytest.fixture(scope="module")
def table(tiny_run, tmp_path_factory):
    """Five clips to learn from, one more of them with a text that nobody could say in the time, and five for validation."""
    rows = [row for row in read_asr_csv(tiny_run.csv) if row.split != "test"]
    lines = [f"{row.path},{row.text},{row.split},{row.voice}" for row in rows]
    lines.insert(2, f"{rows[0].path},{TOO_LONG.strip()},train,{rows[0].voice}")
    path = tmp_path_factory.mktemp("stage_b") / "asr.csv"
    path.write_text("\n".join(["audio_path,transcription,split,voice", *lines, ""]), encoding="utf-8")
    return path


@pytest.fixture
def config(table, tmp_path):
    return tiny_config(table, tmp_path / "run")


def tiny_config(table, folder, **changes):
    """Five clips in batches of 2 are 3 updates an epoch."""
    usual = StageBConfig(
        d_model=16,
        n_layers=1,
        n_heads=2,
        d_ff=24,
        dropout=0.1,
        downsample_time=2,
        data_path=str(table),
        batch_size=2,
        num_epochs=8,
        learning_rate=1e-2,
        checkpoint_freq=10,
        validation_interval=6,
        report_interval=5,
        precision="fp32",
        device="cpu",
        num_threads=1,
        run_folder=str(folder),
    )
    return replace(usual, **changes)


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
    """A run that was never broken: its config, and what it printed."""
    config = tiny_config(table, tmp_path_factory.mktemp("finished") / "run")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        train(config)
    return config, printed.getvalue()


def last_weights(folder):
    return load_state(Path(folder) / "training_state.pt")["weights"]


def assert_same_run(folder, expected):
    """The same weights at the end, at the best validation and at every checkpoint, and the same log but for the clock."""
    folder, expected = Path(folder), Path(expected)
    ours, theirs = last_weights(folder), last_weights(expected)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], weight) for name, weight in theirs.items())
    names = {file.name for file in expected.glob("*.safetensors")}
    assert {file.name for file in folder.glob("*.safetensors")} == names
    assert all((folder / name).read_bytes() == (expected / name).read_bytes() for name in names)
    logs = [json.loads((path / "training_log.json").read_text()) for path in (folder, expected)]
    without_time = [[entry | {"seconds": 0} for entry in log] for log in logs]
    assert without_time[0] == without_time[1]


def test_a_run_folder_holds_all_that_was_promised(finished):
    config, _ = finished
    assert {file.name for file in Path(config.run_folder).iterdir()} == {
        CONFIG_NAME,
        "audio_enc_step_10.safetensors",
        "audio_enc_step_20.safetensors",
        "best.safetensors",
        "training_state.pt",
        "training_log.json",
        "impossible_clips.tsv",
        "logs",
        "manifest.json",
    }
    assert load_config(Path(config.run_folder) / CONFIG_NAME, StageBConfig) == config


def test_the_lines_are_those_of_the_document(finished):
    config, printed = finished
    reports = re.findall(r"^\[Step (\d+)/24\] ctc_loss=\d+\.\d{3} wer=\d+\.\d% \| \d+\.\d\ds/step$", printed, re.MULTILINE)
    assert reports == ["5", "10", "15", "20"]
    assert re.findall(r"^Saved checkpoint: (.*)$", printed, re.MULTILINE) == [
        "audio_enc_step_10.safetensors",
        "audio_enc_step_20.safetensors",
    ]
    assert "Found 6 audio samples" in printed
    assert "Training with CTC loss on cpu, 3 steps an epoch" in printed
    model = load_stage_b(Path(config.run_folder))
    encoder, head = (sum(p.numel() for p in part.parameters()) for part in (model.enc, model.head))
    assert f"Initialising audio encoder ({encoder:,} parameters) and CTC head ({head:,}, 31 symbols)" in printed


def test_what_cannot_be_aligned_is_said_before_training_named_and_left_out(finished, table):
    config, printed = finished
    feasibility, training = printed.index("Can it be aligned? 6 clips, characters"), printed.index("[Step 5/24]")
    assert feasibility < printed.index("left out of the training: 1 clips, named in") < training
    assert "2 × reduction, 50.0 frames a second:      1 clips impossible (16.7%)" in printed
    assert "8 × reduction, 12.5 frames a second:" in printed
    name = read_asr_csv(table)[2].path.name
    named = (Path(config.run_folder) / "impossible_clips.tsv").read_text(encoding="utf-8")
    assert named == f"{name}\t{TOO_LONG.strip()}\n"


def test_no_batch_of_the_training_has_an_impossible_clip(config, monkeypatch):
    seen, forward = [], SpeechBatch.__init__

    def watch(batch, features, texts):
        seen.extend(texts)
        forward(batch, features, texts)

    monkeypatch.setattr(SpeechBatch, "__init__", watch)
    train(replace(config, num_epochs=2))
    assert set(texts_of(load_examples(config.data_path, "train"))) - set(seen) == {TOO_LONG.strip()}


def test_a_training_whose_clips_are_all_impossible_is_refused_with_advice(config, tmp_path):
    table = tmp_path / "asr.csv"
    rows = [f"{row.path},{TOO_LONG.strip()},{row.split}" for row in read_asr_csv(Path(config.data_path))]
    table.write_text("\n".join(["audio_path,transcription,split", *rows, ""]), encoding="utf-8")
    with pytest.raises(ValueError, match="downsample_time: 2 leaves too few frames for every clip; lower it or use subwords"):
        train(replace(config, data_path=str(table)))


def test_the_log_has_a_row_for_every_validation_and_the_loss_falls(finished):
    config, _ = finished
    log = json.loads((Path(config.run_folder) / "training_log.json").read_text())
    assert [entry["step"] for entry in log] == [6, 12, 18, 24]
    for entry in log:
        assert set(entry) >= {"epoch", "seconds", "lr", "train_loss", "train_token_accuracy", "wer", "cer", "loss"}
    train_set = load_examples(config.data_path, "train")
    store = log_mel_examples(train_set)
    batch = SpeechBatch([store[index] for index in range(6)], texts_of(train_set))
    trained = load_stage_b(Path(config.run_folder))
    trained.load_state_dict(last_weights(config.run_folder))
    untrained = build_recogniser(config, batch.texts).eval()
    assert float(trained.loss(batch).loss) < 0.7 * float(untrained.loss(batch).loss)


def test_training_moved_every_weight(finished, tmp_path):
    config, _ = finished
    fresh = trainable_weights(build_recogniser(replace(config, run_folder=str(tmp_path)), []))
    trained = last_weights(config.run_folder)
    assert all(not torch.equal(trained[name], weight) for name, weight in fresh.items())


def test_the_best_weights_measure_what_the_log_says(finished):
    config, _ = finished
    log = json.loads((Path(config.run_folder) / "training_log.json").read_text())
    best = min(log, key=lambda entry: (entry["wer"], entry["step"]))
    dev_set = load_examples(config.data_path, "dev")
    figures = SpeechCheck(load_stage_b(Path(config.run_folder)), log_mel_examples(dev_set), texts_of(dev_set), 2)()
    assert figures == pytest.approx({name: best[name] for name in figures}, rel=1e-4, abs=2e-6)


def test_the_warm_up_is_a_share_of_all_steps_and_a_schedule_may_be_constant(config, tmp_path):
    share = replace(config, num_epochs=2, validation_interval=1, warmup_share=0.3, learning_rate=0.01)
    train(share)
    rates = [entry["lr"] for entry in json.loads((Path(config.run_folder) / "training_log.json").read_text())]
    # 6 steps, ⌈1.8⌉ = 2 of them warm-up: what is logged is the rate of the next step
    assert rates == pytest.approx([0.005, 0.01, 0.008536, 0.005, 0.001464, 0.0], abs=1e-6)
    train(replace(share, schedule="constant", run_folder=str(tmp_path / "constant")))
    rates = [entry["lr"] for entry in json.loads((tmp_path / "constant" / "training_log.json").read_text())]
    assert rates == pytest.approx([0.005] + [0.01] * 5)


def test_the_warm_up_follows_the_steps_that_are_planned(config):
    def steps(**changes):
        return count_warmup_steps(replace(config, num_epochs=10, warmup_share=0.25, **changes), batches_per_epoch=20)

    assert steps() == 50
    assert steps(gradient_accumulation_steps=4) == 13
    assert steps(max_steps=40) == 10
    assert steps(max_steps=1_000) == 50
    assert steps(warmup_steps=7, max_steps=40) == 7


def test_every_switch_changes_the_training(config, tmp_path):
    folders = map(str, itertools.count())

    def weights_of(**changes):
        changed = replace(config, num_epochs=2, dropout=0.0, run_folder=str(tmp_path / next(folders)), **changes)
        train(changed)
        return torch.cat([weight.flatten() for weight in last_weights(changed.run_folder).values()])

    usual = weights_of()
    assert torch.equal(weights_of(), usual)
    for switch in (
        {"spec_augment": False},
        {"length_bucketed": False},
        {"seed": 1},
        {"schedule": "constant"},
        {"optimizer": "muon"},
    ):
        assert not torch.equal(weights_of(**switch), usual), switch


def test_a_printed_line_has_the_loss_and_the_wer_of_the_batch_read_without_masks(finished):
    config, _ = finished
    model = load_stage_b(Path(config.run_folder))
    dev_set = load_examples(config.data_path, "dev")
    store = log_mel_examples(dev_set)
    batch = SpeechBatch([store[index] for index in range(5)], texts_of(dev_set))
    wer = word_error_rate(batch.texts, model.transcribe_features(batch.features))
    assert describe(model)(batch) == f"ctc_loss={float(model.loss(batch).loss):.3f} wer={100 * wer:.1f}%"


def test_several_splits_are_trained_on_and_as_few_clips_as_asked_for(config, capsys):
    train(replace(config, num_epochs=1, train_splits=["dev", "train"], train_clips=2, validation_clips=3))
    output = capsys.readouterr().out
    assert "Found 4 audio samples" in output
    assert "2 steps an epoch" in output


def test_8_times_with_subwords_trains(finished, config, capsys):
    eight = replace(config, downsample_time=8, units="subwords", subword_count=60, num_epochs=16)
    train(eight)
    printed = capsys.readouterr().out
    assert "Can it be aligned? 6 clips, subwords" in printed
    log = json.loads((Path(config.run_folder) / "training_log.json").read_text())
    assert min(entry["train_loss"] for entry in log) < 0.8 * log[0]["train_loss"]
    model = load_stage_b(Path(config.run_folder))
    assert (Path(config.run_folder) / SUBWORDS_NAME).is_file()
    assert model.head.out_features == len(model.vocabulary) <= 60
    assert model.enc.config.frames_per_second == 12.5
    assert any(len(symbol) > 2 for symbol in model.vocabulary.symbols)


def run_command(monkeypatch, path, *more):
    monkeypatch.setattr("sys.argv", ["train_audio_enc", "--config", str(path), *more])
    main()


@pytest.mark.parametrize("validation", [1, 2, 3])
def test_a_broken_run_is_resumed_to_the_same_weights(finished, tmp_path, monkeypatch, validation):
    """Dropout and SpecAugment included: breaks in the first epochs, right after a checkpoint, and near the end."""
    config = replace(finished[0], run_folder=str(tmp_path / "run"))
    save_config(config, tmp_path / "config.json")
    measure, calls = SpeechCheck.__call__, []

    def break_off(check):
        calls.append(1)
        if len(calls) == validation + 1:
            raise KeyboardInterrupt
        return measure(check)

    with monkeypatch.context() as patch:
        patch.setattr(SpeechCheck, "__call__", break_off)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    torch.manual_seed(123)
    run_command(monkeypatch, tmp_path / "config.json", "--resume")
    assert_same_run(config.run_folder, finished[0].run_folder)


def test_the_command_line_says_what_came_of_it(config, tmp_path, monkeypatch, capsys):
    save_config(replace(config, num_epochs=1, validation_interval=3), tmp_path / "config.json")
    run_command(monkeypatch, tmp_path / "config.json")
    output = capsys.readouterr().out
    log = json.loads((Path(config.run_folder) / "training_log.json").read_text())
    assert re.search(r"^Training complete. Time: \d+\.\d minutes$", output, re.MULTILINE)
    assert f"Best validation WER: {log[0]['wer']:.1%} at step 3" in output
    assert f"python -m course_lib.evaluate --model {config.run_folder} --split test" in output
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train(replace(config, run_folder=str(tmp_path / "elsewhere")), resume=True)


def test_rows_that_cannot_be_used_stop_a_training_unless_they_are_to_be_skipped(config, tmp_path, monkeypatch, capsys):
    table = tmp_path / "broken.csv"
    table.write_text(Path(config.data_path).read_text(encoding="utf-8") + "wav/gone.wav,hej,train,anna\n", encoding="utf-8")
    save_config(replace(config, num_epochs=1, data_path=str(table)), tmp_path / "config.json")
    with pytest.raises(DataError, match=r"gone.wav   no such file"):
        run_command(monkeypatch, tmp_path / "config.json")
    run_command(monkeypatch, tmp_path / "config.json", "--skip-bad")
    assert "1 of 12 rows left out" in capsys.readouterr().out


def kill_when_it_has_saved(arguments, state, wait):
    """Start the command, let it save once (again), wait a little, and pull the plug."""
    before = state.stat().st_mtime_ns if state.exists() else 0
    with subprocess.Popen(
        [sys.executable, "-m", "course_lib.train_audio_enc", *arguments], stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while not (state.exists() and state.stat().st_mtime_ns > before):
            assert process.poll() is None, "the training ended before it saved anything new"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "too late: the training was over"


def test_a_killed_run_leaves_only_whole_files_and_is_resumed_to_the_same_weights(table, tmp_path, monkeypatch):
    long = {"optimizer": "muon", "num_epochs": 25, "checkpoint_freq": 7, "validation_interval": 10, "report_interval": 0}
    whole, killed = (tiny_config(table, tmp_path / name, **long) for name in ("whole", "killed"))
    train(whole)
    save_config(killed, tmp_path / "config.json")
    folder, arguments, moments = Path(killed.run_folder), ["--config", str(tmp_path / "config.json")], random.Random("kill -9")
    for more in ([], ["--resume"]):
        kill_when_it_has_saved([*arguments, *more], folder / "training_state.pt", moments.uniform(0, 0.15))
        files = [*folder.glob("audio_enc_step_*"), *folder.glob("best.safetensors")]
        assert len(files) >= 1
        for file in files:
            assert (
                load_stage_b(folder, file.name).state_dict().keys() == load_stage_b(Path(whole.run_folder)).state_dict().keys()
            )
        assert load_state(folder / "training_state.pt")["progress"]["step"] < 75
    run_command(monkeypatch, tmp_path / "config.json", "--resume")
    assert_same_run(folder, whole.run_folder)
    assert not list(folder.glob(".*"))
