"""The trained Stage B that comes with the course: it spells, in whatever company, and its stored figures are its own."""

import json

import pytest
import torch

from course_lib.config import CONFIG_FOLDER, load_config
from course_lib.ctc.recogniser import CONFIG_NAME, SHIPPED_STAGE_B, StageBConfig, load_stage_b, load_stage_b_encoder
from course_lib.data.datasets import load_examples
from course_lib.evaluation.compare import load_run
from course_lib.files import DATA_FOLDER, SHIPPED_CSV
from course_lib.sound.audio import load_audio
from course_lib.text.metrics import word_error_rate

CONFIGS = CONFIG_FOLDER
EIGHT_TIMES = DATA_FOLDER / "models" / "stage-b-tiny-8x"


@pytest.fixture(scope="module")
def recogniser():
    return load_stage_b()


@pytest.fixture(scope="module")
def test_clips():
    """Texts and waveforms of the 20 shipped clips by voices it never heard."""
    examples = load_examples(str(SHIPPED_CSV), "test")
    return [example.text for example in examples], [load_audio(example.path) for example in examples]


def test_sentences_and_voices_it_never_heard_are_spelled(recogniser, test_clips):
    texts, waveforms = test_clips
    assert word_error_rate(texts, recogniser.transcribe(waveforms)) <= 0.2


def test_a_clip_is_spelled_the_same_alone_and_in_company(recogniser, test_clips):
    _, waveforms = test_clips
    assert recogniser.transcribe(waveforms) == [recogniser.transcribe([waveform])[0] for waveform in waveforms]


def test_its_encoder_loads_alone_with_the_same_weights(recogniser):
    alone, together = load_stage_b_encoder().state_dict(), recogniser.enc.state_dict()
    assert list(alone) == list(together)
    assert all(torch.equal(alone[name], together[name]) for name in alone)


@pytest.mark.parametrize("folder", [SHIPPED_STAGE_B, EIGHT_TIMES])
def test_the_stored_config_is_the_one_in_configs(folder):
    shipped = {SHIPPED_STAGE_B: "audio_enc_tiny.json", EIGHT_TIMES: "audio_enc_tiny_8x.json"}[folder]
    assert load_config(folder / CONFIG_NAME, StageBConfig) == load_config(CONFIGS / shipped, StageBConfig)


@pytest.mark.parametrize("folder", [SHIPPED_STAGE_B, EIGHT_TIMES])
def test_log_and_output_are_of_one_run(folder):
    log = json.loads((folder / "training_log.json").read_text(encoding="utf-8"))
    output = (folder / "output.txt").read_text(encoding="utf-8")
    assert f"Time: {log[-1]['seconds'] / 60:.1f} minutes" in output
    best = min(log, key=lambda entry: entry["wer"])
    assert f"Best validation WER: {best['wer']:.1%} at step {best['step']}" in output


def test_the_log_belongs_to_the_weights():
    log = json.loads((SHIPPED_STAGE_B / "training_log.json").read_text(encoding="utf-8"))
    results = map(json.loads, (SHIPPED_STAGE_B / "results.jsonl").read_text(encoding="utf-8").splitlines())
    measured = next(row["wer"] for row in results if (row["system"], row["split"]) == ("stage_b", "dev"))
    assert abs(min(entry["wer"] for entry in log) - measured) <= 0.01  # fp16 weights, fp32 sums


def test_the_stored_transcripts_are_what_these_weights_write(recogniser, test_clips):
    texts, waveforms = test_clips
    rows = load_run(SHIPPED_STAGE_B / "test_transcripts.json").rows()
    written = {}
    for row in rows:
        written.setdefault(row["reference"], []).append(row["hypothesis"])
    heard = recogniser.transcribe(waveforms)
    agree = sum(hypothesis in written[text] for text, hypothesis in zip(texts, heard, strict=True))
    assert agree >= len(texts) - 1  # a sum in another order may tip one letter on another machine
