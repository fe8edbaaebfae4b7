"""The figures that are stored and told: README's table is results.jsonl, and that is what the transcripts add up to."""

import json

import pytest

from course_lib.evaluation.compare import load_run
from course_lib.files import DATA_FOLDER
from course_lib.text.metrics import character_error_rate, word_error_rate

MODELS = DATA_FOLDER / "models"
SPLITS = ("dev", "test", "dev-augmented", "test-augmented")
TRANSCRIPTS = {
    "slam": "slam-tiny/test_transcripts.json",
    "whisper": "slam-tiny/whisper_zero_shot.json",
    "stage_b": "stage-b-tiny/test_transcripts.json",
    "stage_b_ngram": "stage-b-tiny/test_transcripts_ngram.json",
}
IN_README = {
    "`--system slam`": "slam",
    "`stage_b`": "stage_b",
    "`stage_b_ngram`": "stage_b_ngram",
    "(`audio_enc_tiny_8x.json`)": "audio_enc_tiny_8x",
    "(`train_config_stage_b.yaml`)": "slam_stage_b",
    "`whisper`": "whisper",
}


@pytest.fixture(scope="module")
def results():
    """System and split → its line in a results.jsonl."""
    lines = [line for path in sorted(MODELS.glob("*/results.jsonl")) for line in path.read_text(encoding="utf-8").splitlines()]
    found = {(row["system"], row["split"]): row for row in map(json.loads, lines)}
    assert len(found) == len(lines), "a system was measured twice on one split: which line holds?"
    return found


def cell(row):
    """A result as README writes it: 3.0 % (1.6–4.5)."""
    if row is None:
        return "–"
    wer, low, high = (100 * row[name] for name in ("wer", "wer_low", "wer_high"))
    return f"{wer:.1f} % ({low:.1f}–{high:.1f})"


@pytest.mark.parametrize("ending", IN_README)
def test_a_row_of_readmes_table_is_what_was_measured(results, ending):
    readme = (DATA_FOLDER.parent / "README.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in readme.splitlines() if line.startswith("|")]
    told = next(cells for first, *cells in rows if first.endswith(ending))
    assert told == [cell(results.get((IN_README[ending], split))) for split in SPLITS]


@pytest.mark.parametrize("system", TRANSCRIPTS)
def test_figures_follow_from_the_stored_transcripts(results, system):
    run = load_run(MODELS / TRANSCRIPTS[system], split="test")
    references, hypotheses = run.references, run.hypotheses
    result = results[system, "test"]
    assert result["clips"] == len(references)
    assert result["wer"] == pytest.approx(word_error_rate(references, hypotheses), abs=1e-5)
    assert result["cer"] == pytest.approx(character_error_rate(references, hypotheses), abs=1e-5)
