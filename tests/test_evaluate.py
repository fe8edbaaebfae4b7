"""Figures on a split: those of `metrics`, for the right pairs, in a form for people and one for programs."""

import json
import sys

import pytest

from course_lib import evaluate
from course_lib.audio import load_audio
from course_lib.datasets import load_examples
from course_lib.evaluate import Report, measure, show, transcribe_all, worst_utterances
from course_lib.metrics import align, bootstrap_interval, character_error_rate, word_error_rate
from course_lib.systems import load_slam

REFERENCES = ["det er godt", "nej", "hvordan har du det i dag", "ja"]
HYPOTHESES = ["det var godt", "nej", "vordan du det", "ja ja ja ja ja"]


def test_the_figures_are_those_of_the_metrics():
    report = measure("slam", "test", REFERENCES, HYPOTHESES, 0.25)
    assert report == Report(
        system="slam",
        split="test",
        clips=4,
        wer=word_error_rate(REFERENCES, HYPOTHESES),
        wer_low=bootstrap_interval(REFERENCES, HYPOTHESES)[0],
        wer_high=bootstrap_interval(REFERENCES, HYPOTHESES)[1],
        cer=character_error_rate(REFERENCES, HYPOTHESES),
        cer_low=bootstrap_interval(REFERENCES, HYPOTHESES, unit="char")[0],
        cer_high=bootstrap_interval(REFERENCES, HYPOTHESES, unit="char")[1],
        rtf=0.25,
    )
    assert report.wer == (1 + 0 + 4 + 4) / 11
    assert report.wer_low < report.wer < report.wer_high
    assert report.cer_low < report.cer < report.cer_high
    assert report.cer != report.wer


def test_a_perfect_system_makes_no_errors():
    report = measure("slam", "test", REFERENCES, REFERENCES, 0.1)
    assert (report.wer, report.wer_low, report.wer_high, report.cer) == (0, 0, 0, 0)


def test_the_worst_utterances_come_first_and_right_ones_not_at_all():
    shown = worst_utterances(REFERENCES, HYPOTHESES)
    assert shown == [str(align(REFERENCES[i].split(), HYPOTHESES[i].split())) for i in (2, 3, 0)]
    assert "vordan" in shown[0]
    assert "S" in shown[0].splitlines()[2]
    assert len(worst_utterances(REFERENCES, HYPOTHESES, most=1)) == 1
    assert worst_utterances(REFERENCES, REFERENCES) == []


def test_the_report_for_people_shows_percent():
    text = show(measure("slam", "test", REFERENCES, HYPOTHESES, 0.25))
    assert text.splitlines()[0] == "slam on test: 4 clips"
    assert f"WER {9 / 11:6.1%}" in text
    assert "real-time factor 0.250" in text


class Listener:
    """Writes how many samples it heard, and how many clips came together."""

    def __init__(self):
        self.batch_sizes = []

    def transcribe(self, waveforms):
        self.batch_sizes.append(len(waveforms))
        return [str(len(waveform)) for waveform in waveforms]


def test_every_clip_gets_its_own_transcript_in_the_order_of_the_examples(tiny_run):
    examples = load_examples(str(tiny_run.csv), "test")
    expected = [str(len(load_audio(example.path))) for example in examples]
    assert len(set(expected)) == 5
    assert expected != sorted(expected, key=int)
    listener = Listener()
    transcripts, rtf = transcribe_all(listener, examples, batch_size=2)
    assert transcripts == expected
    assert listener.batch_sizes == [2, 2, 1]
    assert rtf > 0


def test_the_real_time_factor_is_work_over_sound(tiny_run, monkeypatch):
    examples = load_examples(str(tiny_run.csv), "test")
    seconds = sum(len(load_audio(example.path)) for example in examples) / 16_000
    clock = iter([100.0, 103.0])
    monkeypatch.setattr(evaluate.time, "perf_counter", lambda: next(clock))
    assert transcribe_all(Listener(), examples)[1] == pytest.approx(3.0 / seconds)


def run_main(monkeypatch, tiny_run, *more):
    arguments = ["--model", str(tiny_run.folder), "--data", str(tiny_run.csv), "--split", "test", *more]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    evaluate.main()


def test_the_command_line_prints_one_json_object(monkeypatch, capsys, tiny_run):
    run_main(monkeypatch, tiny_run, "--json")
    report = json.loads(capsys.readouterr().out)
    assert list(report) == "system split clips wer wer_low wer_high cer cer_low cer_high rtf".split()
    examples = load_examples(str(tiny_run.csv), "test")
    transcripts = load_slam(tiny_run.folder).transcribe([load_audio(example.path) for example in examples])
    references = [example.text for example in examples]
    assert (report["system"], report["split"], report["clips"]) == ("run", "test", 5)
    assert report["wer"] == round(word_error_rate(references, transcripts), 5)
    assert report["cer"] == round(character_error_rate(references, transcripts), 5)


def test_the_command_line_shows_figures_and_the_worst_utterances(monkeypatch, capsys, tiny_run):
    run_main(monkeypatch, tiny_run, "--clips", "2")
    output = capsys.readouterr().out
    assert output.startswith("run on test: 2 clips\n  WER ")
    assert "worst utterances\n\nreference " in output


def test_all_transcripts_can_be_kept_beside_their_references(monkeypatch, capsys, tiny_run, tmp_path):
    run_main(monkeypatch, tiny_run, "--json", "--transcripts", str(tmp_path / "heard.json"))
    rows = json.loads((tmp_path / "heard.json").read_text(encoding="utf-8"))
    examples = load_examples(str(tiny_run.csv), "test")
    assert [(row["voice"], row["reference"]) for row in rows] == [(example.voice, example.text) for example in examples]
    assert [row["hypothesis"] for row in rows] == load_slam(tiny_run.folder).transcribe([load_audio(e.path) for e in examples])
    report = json.loads(capsys.readouterr().out)
    assert report["wer"] == round(word_error_rate(*([row[name] for row in rows] for name in ("reference", "hypothesis"))), 5)
