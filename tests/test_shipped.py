"""The files that come with the course are the ones that its README describes, and all of them work."""

import csv
import hashlib
import re

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM

from course_lib.data.datasets import read_asr_csv
from course_lib.data.grammar import load_grammar, split_of
from course_lib.data.synth import write_script
from course_lib.data.voices import TEST_VOICES, TRAIN_VOICES
from course_lib.files import DATA_FOLDER, SHIPPED_CSV, find_model
from course_lib.language_model.denoising import SILENCE
from course_lib.language_model.prompt import PROMPT
from course_lib.language_model.tiny import END_OF_TEXT, PAD
from course_lib.sound.audio import SAMPLE_RATE, load_audio
from course_lib.text.normalise import normalise

WEIGHTS = sorted(str(path.relative_to(DATA_FOLDER)) for path in DATA_FOLDER.rglob("*.safetensors"))


def stated_digests():
    """Weights file → its SHA-256, from the table in data/README.md."""
    text = (DATA_FOLDER / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\|\s*`?([^|`\s]+\.safetensors)`?\s*\|.*`?\b([0-9a-f]{64})\b`?\s*\|\s*$", text, re.MULTILINE))


def rows():
    with SHIPPED_CSV.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_readme_lists_exactly_the_weights_that_are_here():
    assert WEIGHTS
    assert sorted(stated_digests()) == WEIGHTS


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_have_the_sha_256_that_the_readme_states(name):
    digest = hashlib.sha256((DATA_FOLDER / name).read_bytes()).hexdigest()
    assert digest == stated_digests().get(name), f"data/README.md should say `{digest}` for {name}"


def test_nothing_that_is_shipped_can_run_code_or_is_large():
    endings = {path.suffix for path in DATA_FOLDER.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert endings <= {".safetensors", ".json", ".jsonl", ".txt", ".wav", ".csv", ".md", ".yaml", ".py", ""}, endings
    assert sum(path.stat().st_size for path in DATA_FOLDER.rglob("*") if path.is_file()) < 64 * 2**20


@pytest.fixture(scope="module")
def shipped_lm():
    folder = find_model("data/models/tiny-danish-lm")
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), AutoTokenizer.from_pretrained(folder)


def test_the_language_model_is_a_qwen2_that_transformers_loads(shipped_lm):
    model, tokenizer = shipped_lm
    assert isinstance(model, Qwen2ForCausalLM)
    assert 2_500_000 < model.num_parameters() < 3_500_000
    assert len(tokenizer) == model.config.vocab_size
    assert tokenizer.convert_tokens_to_ids([END_OF_TEXT, PAD, SILENCE]) == [0, 1, 2]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (model.config.eos_token_id, model.config.pad_token_id)
    assert (model.generation_config.eos_token_id, model.generation_config.pad_token_id) == (0, 1)
    assert len(tokenizer(PROMPT).input_ids) == 6
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_the_language_model_writes_danish_letters_back(shipped_lm):
    _, tokenizer = shipped_lm
    for text in ["rødgrød med fløde på æbleøen", *load_grammar().words]:
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_the_language_model_prefers_danish_to_the_same_words_shuffled(shipped_lm):
    model, tokenizer = shipped_lm

    @torch.no_grad()
    def loss(text):
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text).input_ids, tokenizer.eos_token_id]])
        return float(model(input_ids=ids, labels=ids).loss)

    for sentence, shuffled in [
        ("hvor er min hat", "min hat er hvor"),
        ("klokken er halv otte", "otte klokken halv er"),
    ]:
        assert loss(sentence) < loss(shuffled) - 1


def test_the_small_corpus_is_sixty_clips_of_three_splits_below_three_megabytes():
    clips = rows()
    assert [*clips[0]] == ["audio_path", "transcription", "split", "voice", "seconds"]
    assert {split: sum(clip["split"] == split for clip in clips) for split in ("train", "dev", "test")} == {
        "train": 20,
        "dev": 20,
        "test": 20,
    }
    files = {path.name for path in (SHIPPED_CSV.parent / "wav").iterdir()}
    assert files == {clip["audio_path"].removeprefix("wav/") for clip in clips}
    assert sum(path.stat().st_size for path in (SHIPPED_CSV.parent / "wav").iterdir()) <= 3_000_000


def test_every_row_of_the_small_corpus_loads_and_says_what_is_true():
    for example, row in zip(read_asr_csv(SHIPPED_CSV), rows(), strict=True):
        waveform = load_audio(example.path)
        assert float(row["seconds"]) == pytest.approx(len(waveform) / SAMPLE_RATE, abs=0.00051)
        assert 0.3 < len(waveform) / SAMPLE_RATE < 6
        assert row["transcription"] == normalise(row["transcription"])
        assert split_of(row["transcription"]) in (row["split"], "any")
        assert row["voice"] in (TEST_VOICES if row["split"] == "test" else TRAIN_VOICES)
        assert {*row["transcription"].split()} <= {*load_grammar().words}


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_the_small_corpus_is_the_one_that_its_command_makes(split):
    numbered = {int(row["audio_path"][-9:-4]): row for row in rows() if row["split"] == split}
    script = write_script(split, max(numbered) + 1)
    assert all((script[n].text, script[n].voice) == (row["transcription"], row["voice"]) for n, row in numbered.items())
