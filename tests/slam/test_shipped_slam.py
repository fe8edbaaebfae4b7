"""The trained recogniser that comes with the course: it understands, it listens, and its figures can be checked."""

import json
import subprocess
import sys

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from course_lib.config import load_config
from course_lib.data.batches import SpeechBatch
from course_lib.data.datasets import load_examples
from course_lib.evaluation.compare import load_run
from course_lib.files import DATA_FOLDER, SHIPPED_CSV, find_model
from course_lib.language_model.prompt import PROMPT
from course_lib.sound.audio import load_audio
from course_lib.systems import CONFIG_NAME, SHIPPED_SLAM, SlamConfig, load_slam
from course_lib.text.metrics import word_error_rate

ROOT = DATA_FOLDER.parent


@pytest.fixture(scope="module")
def slam():
    return load_slam()


@pytest.fixture(scope="module")
def heard(slam):
    """For dev and test: texts, features, transcripts."""
    splits = {}
    for split in ("dev", "test"):
        examples = load_examples(str(SHIPPED_CSV), split)
        features = slam.encode([load_audio(example.path) for example in examples])
        splits[split] = [example.text for example in examples], features, slam.transcribe_features(features)
    return splits


def test_sentences_and_voices_it_never_heard_are_understood(heard):
    texts, _, transcripts = heard["test"]
    assert len(texts) == 20
    assert word_error_rate(texts, transcripts) <= 0.10


def mean_loss(slam, features, texts):
    with torch.no_grad():
        return float(slam.loss(SpeechBatch(features, texts)).loss)


def test_another_clips_sound_costs_at_least_three_times_the_loss(slam, heard):
    texts, features, _ = heard["test"]
    right = mean_loss(slam, features, texts)
    others = features[1:] + features[:1]
    assert mean_loss(slam, others, texts) >= 3 * right


def test_silence_costs_at_least_three_times_the_loss(slam, heard):
    texts, features, _ = heard["test"]
    silent = slam.encode([torch.zeros(320 * len(clip)) for clip in features])
    assert [len(clip) for clip in silent] == [len(clip) for clip in features]
    assert mean_loss(slam, silent, texts) >= 3 * mean_loss(slam, features, texts)


def test_transcripts_are_the_same_in_a_batch_and_alone(slam, heard):
    _, features, _ = heard["test"]
    slam.precision, before = "fp32", slam.precision
    together = slam.transcribe_features(features[:6])
    alone = [slam.transcribe_features([clip])[0] for clip in features[:6]]
    slam.precision = before
    assert together == alone


def test_its_log_belongs_to_its_weights(heard):
    """The dev clips that ship are the shortest of those it was validated on, so their rate is close to the logged one."""
    log = json.loads((SHIPPED_SLAM / "training_log.json").read_text(encoding="utf-8"))
    assert [entry["step"] for entry in log] == sorted({entry["step"] for entry in log})
    config = load_config(SHIPPED_SLAM / CONFIG_NAME, SlamConfig)
    best = min(entry[config.monitor] for entry in log)
    assert 0 < best < log[0][config.monitor]
    texts, _, transcripts = heard["dev"]
    assert abs(word_error_rate(texts, transcripts) - min(entry["wer"] for entry in log)) <= 0.10


def test_the_stored_transcripts_are_what_these_weights_write(heard):
    """The shipped test clips are among the 400; two of them may say the same, by different voices."""
    written = {}
    for row in load_run(SHIPPED_SLAM / "test_transcripts.json").rows():
        written.setdefault(row["reference"], []).append(row["hypothesis"])
    texts, _, transcripts = heard["test"]
    agree = sum(hypothesis in written[text] for text, hypothesis in zip(texts, transcripts, strict=True))
    assert agree >= len(texts) - 1  # a sum in another order may tip one sentence on another machine


def test_its_config_names_only_what_ships():
    config = load_config(SHIPPED_SLAM / CONFIG_NAME, SlamConfig)
    for name in (config.encoder_name, config.llm_name):
        assert not name.startswith("/")
        assert (ROOT / name).is_dir()
    assert config.tracker == "none"


def test_the_shipped_tokenizer_cuts_text_as_it_did_in_training(slam, heard):
    folder = find_model(load_config(SHIPPED_SLAM / CONFIG_NAME, SlamConfig).llm_name)
    trained_with = PreTrainedTokenizerFast.from_pretrained(folder)
    assert len(slam.prompt_ids) == 6
    for text in [PROMPT, *heard["dev"][0], *heard["test"][0]]:
        assert slam.tokenizer(text).input_ids == trained_with(text).input_ids


def run_module(*arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True
    ).stdout


def test_the_command_line_transcribes_all_shipped_clips(heard):
    files = sorted(str(path.relative_to(ROOT)) for path in (DATA_FOLDER / "audio" / "wav").iterdir())
    lines = run_module("course_lib.transcribe", *files).splitlines()
    assert [line.split("\t")[0] for line in lines] == files
    assert all(len(line.split("\t")) == 2 and line.split("\t")[1] for line in lines)


def test_the_command_line_measures_as_json():
    output = run_module("course_lib.evaluate", "--data", str(SHIPPED_CSV), "--split", "test", "--json")
    report = json.loads(output)
    assert list(report) == "system split clips wer wer_low wer_high cer cer_low cer_high rtf parts".split()
    assert (report["system"], report["split"], report["clips"]) == ("slam", "test", 20)
    assert report["wer_low"] <= report["wer"] <= min(report["wer_high"], 0.10)
