"""One way out of every command: a message and a status for what was foreseen, a traceback for what was not."""

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import course_lib
from course_lib.errors import CourseError, run_command

PACKAGE = Path(course_lib.__file__).parent


def fails(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (CourseError("a.csv: row 3 is empty. Fill it."), 1, "a.csv: row 3 is empty. Fill it.\n"),
        (FileNotFoundError(errno.ENOENT, "x", "gone.txt"), 1, "gone.txt: no such file or folder. Check the spelling.\n"),
        (PermissionError(errno.EACCES, "x", "mine.txt"), 1, "mine.txt: may not be read or written. Check who may use it.\n"),
        (OSError(errno.ENOSPC, "x", "big.pt"), 1, "big.pt: the disk is full, nothing more can be written."),
        (FileNotFoundError("runs/a: nothing here"), 1, "runs/a: nothing here\n"),
        (BrokenPipeError(), 1, "The program that read the output has ended"),
        (MemoryError("32 GB"), 1, "Not enough memory (32 GB)"),
        (ModuleNotFoundError("x", name="av"), 1, "av is not installed"),
        (UnicodeEncodeError("ascii", "på", 1, 2, "x"), 1, "'å' cannot be written in ascii. Set PYTHONIOENCODING=utf-8"),
        (KeyboardInterrupt(), 130, "Stopped.\n"),
    ],
)
def test_what_was_foreseen_is_a_message(capsys, error, status, says):
    assert run_command(fails(error)) == status
    output = capsys.readouterr()
    assert output.err.startswith(says)
    assert "Traceback" not in output.err
    assert output.out == ""


def test_what_was_not_foreseen_keeps_its_traceback_and_says_where_to_report(capsys):
    assert run_command(fails(KeyError("wre"))) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "KeyError: 'wre'" in told
    assert "Please report it as an issue" in told


def test_a_note_is_told_with_the_message(capsys):
    stopped = KeyboardInterrupt()
    stopped.add_note("runs/a holds the run up to update 5.")
    assert run_command(fails(stopped)) == 130
    assert capsys.readouterr().err == "Stopped.\nruns/a holds the run up to update 5.\n"


def test_success_is_0_and_a_status_is_passed_on():
    assert (run_command(lambda: None), run_command(lambda: 1)) == (0, 1)


def commands():
    return sorted(path for path in PACKAGE.rglob("*.py") if "__name__ ==" in path.read_text(encoding="utf-8"))


def test_every_command_goes_through_it():
    assert len(commands()) >= 9
    for path in commands():
        last = ast.parse(path.read_text(encoding="utf-8")).body[-1]
        assert isinstance(last, ast.If), path
        assert ast.unparse(last.body[0]) == "sys.exit(run_command(main))", path


def test_no_model_may_bring_code():
    loads = 0
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called.startswith("transformers.") and called.endswith(".from_pretrained"):
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("trust_remote_code") == "False", f"{path}:{node.lineno}"
                loads += 1
    assert loads >= 3


def shell(program, **more):
    return subprocess.run(
        [sys.executable, "-c", f"import sys\nfrom course_lib.errors import run_command\n{program}"], capture_output=True, **more
    )


def test_a_full_disk_and_a_terminal_without_danish_letters_are_messages():
    wide = "sys.exit(run_command(lambda: print('på' * 99_999)))"
    done = shell(wide, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, b"cannot be written in ascii" in done.stderr, b"Traceback" in done.stderr) == (1, True, False)
    if Path("/dev/full").exists():
        program = f"import sys\nfrom course_lib.errors import run_command\n{wide}"
        with open("/dev/full", "wb") as full:
            done = subprocess.run([sys.executable, "-c", program], stdout=full, stderr=subprocess.PIPE)
        assert (done.returncode, b"the disk is full" in done.stderr, b"Traceback" in done.stderr) == (1, True, False)


def test_a_reader_that_goes_away_is_a_message():
    program = "import sys\nfrom course_lib.errors import run_command\nsys.exit(run_command(lambda: print('x' * 9_999_999)))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as writer:
        writer.stdout.read(10)
        writer.stdout.close()
        told = writer.stderr.read()
    assert (writer.returncode, b"has ended" in told, b"Traceback" in told, b"ignored" in told) == (1, True, False, False)


@pytest.mark.skipif(sys.platform == "win32", reason="names are text there")
def test_a_name_that_is_no_text_is_printed_as_it_is():
    done = shell("sys.exit(run_command(lambda: print(chr(0xdcf8))))", env=os.environ | {"PYTHONIOENCODING": "utf-8"})
    assert (done.returncode, done.stdout) == (0, b"\xf8\n")
