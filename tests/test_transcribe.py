"""The command line that turns files into lines of text."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from course_lib import transcribe
from course_lib.data.long_audio import TimedTranscript
from course_lib.data.recogniser import Recogniser, Transcript
from course_lib.sound.audio import load_audio, save_wav
from course_lib.sound.segments import cut_at_pauses
from course_lib.systems import load_slam


@pytest.fixture
def files(tiny_run):
    return [str(path) for path in sorted((tiny_run.csv.parent / "wav").iterdir())[:3]]


def run_main(monkeypatch, tiny_run, files):
    monkeypatch.setattr("sys.argv", ["transcribe", "--model", str(tiny_run.folder), *files])
    return transcribe.main()


@pytest.fixture
def long_file(tiny_run, tmp_path):
    """Nine seconds and more of speech with pauses."""
    clips = [load_audio(path) for path in sorted((tiny_run.csv.parent / "wav").iterdir())]
    wave = torch.cat([part for clip in clips for part in (clip, torch.zeros(4800))])
    assert len(wave) > 9 * 16_000
    save_wav(tmp_path / "long.wav", wave)
    return str(tmp_path / "long.wav")


def test_every_file_gets_its_line_of_path_tab_text(monkeypatch, capsys, tiny_run, files):
    assert run_main(monkeypatch, tiny_run, files) == 0
    output = capsys.readouterr()
    slam = load_slam(tiny_run.folder)
    expected = [f"{file}\t{slam.transcribe([load_audio(file)])[0]}" for file in files]
    assert output.out == "\n".join(expected) + "\n"
    assert "could not be transcribed" not in output.err


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_transcribed(monkeypatch, capsys, tiny_run, files, tmp_path):
    text = tmp_path / "notes.wav"
    text.write_text("not a sound")
    gone = str(tmp_path / "gone.wav")
    assert run_main(monkeypatch, tiny_run, [files[0], str(text), gone, files[1]]) == 1
    output = capsys.readouterr()
    assert [line.split("\t")[0] for line in output.out.splitlines()] == [files[0], files[1]]
    assert f"{text}: is not an audio file" in output.err
    assert f"{gone}: no such file" in output.err
    assert "2 of 4 files could not be transcribed" in output.err


class EchoOfFolder(Recogniser):
    """A recogniser that says which folder it came from."""

    def __init__(self, folder):
        self.folder = folder

    def encode(self, waveforms):
        return [waveform[:, None] for waveform in waveforms]

    def recognise(self, features):
        return [Transcript(f"{self.folder} heard {len(clip)}") for clip in features]


def test_the_shipped_model_is_the_default_and_a_file_is_needed(monkeypatch, capsys, files):
    monkeypatch.setattr("sys.argv", ["transcribe"])
    with pytest.raises(SystemExit):
        transcribe.main()
    assert "FILE" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["transcribe", files[0]])
    monkeypatch.setattr(transcribe, "load_system", EchoOfFolder)
    assert transcribe.main() == 0
    assert capsys.readouterr().out == f"{files[0]}\t{transcribe.SHIPPED_SLAM} heard {len(load_audio(files[0]))}\n"


def test_a_long_file_is_one_line_of_all_its_pieces(monkeypatch, capsys, tiny_run, long_file):
    assert run_main(monkeypatch, tiny_run, [long_file]) == 0
    pieces = cut_at_pauses([load_audio(long_file, max_seconds=None)])
    texts = load_slam(tiny_run.folder).transcribe([piece.waveform for piece in pieces])
    assert len(texts) > 1
    assert capsys.readouterr().out == f"{long_file}\t{' '.join(text for text in texts if text)}\n"


def test_json_says_what_was_said_when(monkeypatch, capsys, tiny_run, files, long_file):
    assert run_main(monkeypatch, tiny_run, ["--json", files[0], long_file]) == 0
    short, long = map(json.loads, capsys.readouterr().out.splitlines())
    assert list(short) == ["path", "text", "seconds", "segments"]
    assert (short["path"], short["seconds"]) == (files[0], round(len(load_audio(files[0])) / 16_000, 3))
    [segment] = short["segments"]
    assert list(segment) == ["start", "end", "text", "confidence", "words"]
    assert (segment["start"], segment["end"]) == (0.0, short["seconds"])
    assert len(long["segments"]) > 1
    assert long["text"] == " ".join(segment["text"] for segment in long["segments"] if segment["text"])
    assert long["seconds"] == round(len(load_audio(long_file, max_seconds=None)) / 16_000, 3)
    for segment in long["segments"]:
        assert [word["text"] for word in segment["words"]] == segment["text"].split()
        for word in segment["words"]:
            assert list(word) == ["text", "start", "end", "confidence"]
            assert segment["start"] <= word["start"] <= word["end"] <= segment["end"] <= long["seconds"]


def test_json_has_danish_letters_and_null_where_nobody_knows(capsys):
    print(transcribe.as_json({"path": "å.wav", "text": "", "seconds": 1.0, "segments": [TimedTranscript(0.0, 1.0, "")]}))
    line = capsys.readouterr().out
    assert "å.wav" in line
    assert json.loads(line)["segments"] == [{"start": 0.0, "end": 1.0, "text": "", "confidence": None, "words": None}]


def test_subtitles_of_one_file_are_printed_and_of_several_written(monkeypatch, capsys, files, long_file, tmp_path):
    monkeypatch.setattr(transcribe, "load_system", EchoOfFolder)
    monkeypatch.setattr("sys.argv", ["transcribe", "--srt", long_file])
    assert transcribe.main() == 0
    printed = capsys.readouterr().out
    assert printed.startswith("1\n00:00:00,000 --> ")
    assert "\n\n2\n" in printed
    folder = tmp_path / "new" / "subtitles"
    monkeypatch.setattr("sys.argv", ["transcribe", "--srt", "--output", str(folder), long_file, files[0]])
    assert transcribe.main() == 0
    assert capsys.readouterr().out == ""
    assert (folder / "long.srt").read_text(encoding="utf-8") == printed
    assert sorted(path.name for path in folder.iterdir()) == sorted(["long.srt", f"{Path(files[0]).stem}.srt"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--srt", "a.wav", "b.wav"], "give --output FOLDER"),
        (["--srt", "--output", "out", "a/x.wav", "b/x.mp3"], "several files would become x.srt"),
        (["--output", "out", "a.wav"], "--output is for --srt"),
        (["--json", "--srt", "a.wav"], "not allowed with"),
    ],
)
def test_what_cannot_be_meant_is_refused(monkeypatch, capsys, arguments, reason):
    monkeypatch.setattr("sys.argv", ["transcribe", *arguments])
    with pytest.raises(SystemExit):
        transcribe.main()
    assert reason in capsys.readouterr().err


def test_a_file_that_breaks_off_leaves_no_half_transcript(monkeypatch, capsys, tmp_path):
    """An mp3 says only at its end that it breaks off, and by then pieces of it have been read."""
    noise = 0.1 * np.random.default_rng(0).standard_normal(60 * 16_000)
    soundfile.write(tmp_path / "whole.mp3", noise, 16_000, format="MP3")
    content = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(content[: len(content) // 2])
    monkeypatch.setattr(transcribe, "load_system", EchoOfFolder)
    monkeypatch.setattr("sys.argv", ["transcribe", str(tmp_path / "cut.mp3")])
    assert transcribe.main() == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "cut.mp3: truncated" in output.err


HEAVY = "scipy.signal matplotlib accelerate torchaudio espeakng_loader librosa pandas sklearn".split()


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import course_lib.transcribe", ["transformers", "av", *HEAVY]),
        ("import course_lib.ctc.paths", ["transformers", *HEAVY]),
        (
            "from course_lib.systems import load_slam; load_slam()",
            ["scipy.signal", "matplotlib", "torchaudio", "librosa", "av"],
        ),
    ],
)
def test_what_is_not_needed_is_not_imported(statement, unwanted):
    """Each costs a part of the time that passes before the first word appears."""
    loaded = run_alone(f"{statement}; import sys; print(*sys.modules)").split()
    assert "torch" in loaded
    assert set(unwanted).isdisjoint(loaded)


def test_torchaudio_is_there_for_whoever_wants_it_afterwards():
    check = "from importlib.util import find_spec; print(find_spec('torchaudio') is not None)"
    assert run_alone(f"import course_lib.huggingface; {check}") == run_alone(check)


def test_a_torchaudio_that_does_not_fit_takes_nothing_with_it(tmp_path):
    """PyPI's torchaudio beside a CPU build of torch: it is found, and fails at import."""
    (tmp_path / "torchaudio.py").write_text("raise OSError('libcudart.so: cannot open shared object file')")
    load = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from course_lib.systems import load_slam; load_slam()"
    assert run_alone(f"{load}; print(sys.modules['transformers'].audio_utils.is_torchaudio_available())") == "False\n"
    with pytest.raises(subprocess.CalledProcessError) as error:
        run_alone(f"{load}; import torchaudio")
    assert "libcudart.so" in error.value.stderr


def run_alone(program):
    """What a program prints in a Python of its own, which has imported nothing yet."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
