"""The command line: every clip its own transcript, one system or several, figures for people and for programs."""

import json
import sys

import pytest
import torch

from course_lib import evaluate
from course_lib.data.datasets import load_examples
from course_lib.data.recogniser import Recogniser, Transcript
from course_lib.evaluate import read_arguments
from course_lib.evaluation import report
from course_lib.evaluation.compare import load_run, measure, paired_bootstrap
from course_lib.evaluation.report import recognise_all, show, worst_utterances
from course_lib.sound.audio import load_audio, save_wav
from course_lib.systems import load_slam
from course_lib.text.metrics import align, character_error_rate, word_error_rate

REFERENCES = ["det er godt", "nej", "hvordan har du det i dag", "ja"]
HYPOTHESES = ["det var godt", "nej", "vordan du det", "ja ja ja ja ja"]


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
    assert "real-time" not in show(measure("slam", "test", REFERENCES, HYPOTHESES, None))


class Listener(Recogniser):
    """Writes how many samples it heard, and notes how many clips came together."""

    def __init__(self, confidence=None):
        self.batch_sizes, self.confidence = [], confidence

    def encode(self, waveforms):
        self.batch_sizes.append(len(waveforms))
        return waveforms

    def recognise(self, features):
        return [Transcript(str(len(clip)), self.confidence) for clip in features]


def test_every_clip_gets_its_own_transcript_in_the_order_of_the_examples(tiny_run):
    examples = load_examples(str(tiny_run.csv), "test")
    expected = [str(len(load_audio(example.path))) for example in examples]
    assert len(set(expected)) == 5
    assert expected != sorted(expected, key=int)
    listener = Listener(confidence=0.25)
    transcripts, rtf = recognise_all(listener, examples, batch_size=2)
    assert transcripts == [Transcript(text, 0.25) for text in expected]
    assert listener.batch_sizes == [2, 2, 1]
    assert rtf > 0


def test_a_clip_that_is_too_long_is_cut_and_its_texts_are_joined(tmp_path):
    pause, tone = torch.zeros(8_000), 0.3 * torch.sin(torch.arange(40_000) / 4)
    save_wav(tmp_path / "long.wav", torch.cat([*[tone, pause] * 7]))
    (tmp_path / "asr.csv").write_text("audio_path,transcription,split\nlong.wav,syv toner,test\n", encoding="utf-8")
    examples = load_examples(str(tmp_path / "asr.csv"), "test")
    listener = Listener()
    [transcript], rtf = recognise_all(listener, examples, batch_size=4)
    assert [int(samples) <= 48_000 for samples in transcript.text.split()] == [True] * 7
    assert listener.batch_sizes == [4, 3]
    assert rtf > 0


def test_the_real_time_factor_is_work_over_sound(tiny_run, monkeypatch):
    examples = load_examples(str(tiny_run.csv), "test")
    seconds = sum(len(load_audio(example.path)) for example in examples) / 16_000
    clock = iter([100.0, 103.0])
    monkeypatch.setattr(report.time, "perf_counter", lambda: next(clock))
    assert recognise_all(Listener(), examples)[1] == pytest.approx(3.0 / seconds)


def run_main(monkeypatch, tiny_run, *more):
    arguments = ["--model", str(tiny_run.folder), "--data", str(tiny_run.csv), "--split", "test", *more]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    evaluate.main()


def test_the_command_line_prints_one_json_object(monkeypatch, capsys, tiny_run):
    run_main(monkeypatch, tiny_run, "--json")
    report = json.loads(capsys.readouterr().out)
    assert list(report) == "system split clips wer wer_low wer_high cer cer_low cer_high rtf parts".split()
    assert sum(part["clips"] for part in report["parts"]) == 5
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
    stored = json.loads((tmp_path / "heard.json").read_text(encoding="utf-8"))
    assert (stored["system"], stored["split"]) == ("run", "test")
    rows = stored["transcripts"]
    examples = load_examples(str(tiny_run.csv), "test")
    assert [(row["voice"], row["reference"]) for row in rows] == [(example.voice, example.text) for example in examples]
    assert [row["hypothesis"] for row in rows] == load_slam(tiny_run.folder).transcribe([load_audio(e.path) for e in examples])
    report = json.loads(capsys.readouterr().out)
    assert report["wer"] == round(word_error_rate(*([row[name] for row in rows] for name in ("reference", "hypothesis"))), 5)


def store(path, hypotheses, examples):
    rows = [{"voice": e.voice, "reference": e.text, "hypothesis": heard} for e, heard in zip(examples, hypotheses, strict=True)]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_live_and_stored_systems_are_compared_with_the_first(monkeypatch, capsys, tiny_run, tmp_path):
    examples = load_examples(str(tiny_run.csv), "test")
    texts = [example.text for example in examples]
    stored = store(tmp_path / "perfect.json", texts, examples)
    run_main(monkeypatch, tiny_run, "--system", str(stored), f"mute={store(tmp_path / 'm.json', [''] * 5, examples)}", "--json")
    perfect, mute, live = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert [row["system"] for row in (perfect, mute, live)] == ["perfect", "mute", "run"]
    assert (perfect["wer"], mute["wer"], perfect["rtf"]) == (0, 1, None)
    assert live["rtf"] > 0
    assert "p_value" not in perfect
    difference = paired_bootstrap(texts, texts, [""] * 5)
    assert (mute["difference"], mute["difference_low"], mute["difference_high"]) == (1, 1, 1)
    assert mute["p_value"] == round(difference.p_value, 5)


def test_several_systems_are_shown_as_a_table(monkeypatch, capsys, tiny_run, tmp_path):
    examples = load_examples(str(tiny_run.csv), "test")
    stored = store(tmp_path / "perfect.json", [example.text for example in examples], examples)
    run_main(monkeypatch, tiny_run, "--system", str(stored))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| system ")
    assert [line.split()[1] for line in lines[2:4]] == ["perfect", "run"]
    assert [line for line in lines[4:] if line and not line.startswith(" ")] == ["perfect", "run"]
    assert all("exactly right" in line for line in lines[4:] if line.startswith(" "))


def test_a_folder_gets_table_picture_figures_and_transcripts(monkeypatch, capsys, tiny_run, tmp_path):
    examples = load_examples(str(tiny_run.csv), "test")
    stored = store(tmp_path / "perfect.json", [example.text for example in examples], examples)
    run_main(monkeypatch, tiny_run, "--system", str(stored), "--output", str(tmp_path / "out"))
    table = capsys.readouterr().out.partition("\n\n")[0]
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert sorted(names) == ["comparison.json", "comparison.md", "comparison.png", "perfect.json", "run.json"]
    written = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert table.strip() in written
    assert "`python -m course_lib.evaluate --model " in written
    found = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert [row["system"] for row in found["reports"]] == ["perfect", "run"]
    assert (found["split"], str(tmp_path) in found["command"]) == ("test", False)
    assert load_run(tmp_path / "out" / "run.json").system == "run"
    assert load_run(tmp_path / "out" / "perfect.json").hypotheses == [example.text for example in examples]
    assert (tmp_path / "out" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_the_shipped_system_is_the_default_and_a_run_folder_takes_its_place():
    assert read_arguments([]).system == ["slam"]
    given = read_arguments(["--model", "runs/a", "runs/b"])
    assert (given.system, [folder.name for folder in given.model]) == ([], ["a", "b"])
    both = read_arguments(["--system", "stage_b", "--model", "runs/a"])
    assert (both.system, len(both.model)) == (["stage_b"], 1)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--system", "slam", "stageb"], "no system is called stageb; there are slam, letters, stage_b"),
        (["--system", "slam", "stage_b", "--transcripts", "x.json"], "--transcripts keeps those of one system"),
        (["--split", "people"], "--split people and --folder go together"),
        (["--split", "test", "--folder", "recordings"], "--split people and --folder go together"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_loaded(capsys, arguments, reason):
    with pytest.raises(SystemExit):
        read_arguments(arguments)
    assert reason in capsys.readouterr().err


def test_recordings_of_people_are_measured_with_words_and_sentences_apart(monkeypatch, capsys, tiny_run, tmp_path):
    sound = load_examples(str(tiny_run.csv), "test")[0].path
    (tmp_path / "asr.csv").write_text(f"audio_path,transcription\n{sound},Hat!\n{sound},Det er en hat.\n", encoding="utf-8")
    monkeypatch.setitem(evaluate.SYSTEMS, "slam", Says)
    monkeypatch.setattr(sys, "argv", ["evaluate", "--split", "people", "--folder", str(tmp_path)])
    evaluate.main()
    shown = capsys.readouterr().out
    assert "slam on people: 2 clips" in shown
    assert [line.split()[:-7] for line in shown.splitlines() if "exactly right" in line] == [
        ["words", "in", "the", "list", "1", "of"],
        ["sentences", "0", "of"],
    ]


class Says(Listener):
    """Hears a hat in everything."""

    def recognise(self, features):
        return [Transcript("hat") for _ in features]


def test_whisper_is_loaded_from_the_folder_that_is_named(monkeypatch, capsys, tiny_run):
    folders = []
    monkeypatch.setitem(evaluate.SYSTEMS, "whisper", lambda folder: folders.append(folder) or Listener())
    arguments = ["--system", "whisper", "--whisper", "some/folder", "--data", str(tiny_run.csv), "--json"]
    monkeypatch.setattr(sys, "argv", ["evaluate", *arguments])
    evaluate.main()
    assert folders == ["some/folder"]
    assert json.loads(capsys.readouterr().out)["system"] == "whisper"
