"""The command line that turns files into lines of text."""

import pytest

from course_lib import transcribe
from course_lib.sound.audio import load_audio
from course_lib.systems import load_slam


@pytest.fixture
def files(tiny_run):
    return [str(path) for path in sorted((tiny_run.csv.parent / "wav").iterdir())[:3]]


def run_main(monkeypatch, tiny_run, files):
    monkeypatch.setattr("sys.argv", ["transcribe", "--model", str(tiny_run.folder), *files])
    return transcribe.main()


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


class EchoOfFolder:
    """A recogniser that says which folder it came from."""

    def __init__(self, folder):
        self.folder = folder

    def transcribe(self, waveforms):
        return [f"{self.folder} heard {waveform}" for waveform in waveforms]


def test_the_shipped_model_is_the_default_and_a_file_is_needed(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["transcribe"])
    with pytest.raises(SystemExit):
        transcribe.main()
    assert "FILE" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["transcribe", "clip.wav"])
    monkeypatch.setattr(transcribe, "load_system", EchoOfFolder)
    monkeypatch.setattr(transcribe, "load_audio", lambda file: file)
    assert transcribe.main() == 0
    assert capsys.readouterr().out == f"clip.wav\t{transcribe.SHIPPED_SLAM} heard clip.wav\n"
