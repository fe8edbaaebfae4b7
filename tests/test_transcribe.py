"""The command line that turns files into lines of text."""

import subprocess
import sys

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


HEAVY = "scipy.signal matplotlib accelerate torchaudio espeakng_loader librosa pandas sklearn".split()


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import course_lib.transcribe", ["transformers", *HEAVY]),
        ("import course_lib.ctc.paths", ["transformers", *HEAVY]),
        ("from course_lib.systems import load_slam; load_slam()", ["scipy.signal", "matplotlib", "torchaudio", "librosa"]),
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
