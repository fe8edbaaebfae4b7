"""What goes wrong in a command → one message for people and an exit status.

`run_command` is the one way out of every `python -m course_lib.…`: 0 done, 1 it could not be done and why, 2 the command line
cannot be meant (argparse says why), 130 stopped with Ctrl-C. An error that nobody foresaw keeps its traceback.
"""

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No room left, the user's share used up, a file larger than is allowed here."""

ADVICE = {
    errno.ENOENT: ("no such file or folder", "Check the spelling."),
    errno.EACCES: ("may not be read or written", "Check who may use it."),
    errno.EPERM: ("may not be read or written", "Check who may use it."),
    errno.EROFS: ("cannot be written, its disk is read-only", "Name another folder."),
    errno.EISDIR: ("is a folder, not a file", "Name a file."),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", "Check the path."),
    errno.EEXIST: ("is there already, as something else", "Move it away, or name another."),
    errno.ENAMETOOLONG: ("the name is longer than this disk allows", "Use a shorter one."),
    errno.ELOOP: ("a link that leads back to itself", "Name what it should lead to."),
}
"""What the operating system reports → in words, and the way out."""

REPORT = """
This error is a fault of the course, not of yours. Please report it as an issue of the repository that the course came from,
with the lines above and the command that you typed."""


class CourseError(ValueError):
    """What cannot be done, for a reason that the user can mend; the message says which file or row, why, and what to do."""


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command's `main` and return its exit status; what it raises becomes a message on stderr."""
    _write_names_as_they_are()
    try:
        status = main() or 0
        sys.stdout.flush()  # a full disk or a closed pipe shows itself here, and not after everything is over
        return status
    except KeyboardInterrupt as stopped:
        _say("\n".join(["Stopped.", *getattr(stopped, "__notes__", [])]))
        return 130
    except BrokenPipeError:
        _let_go_of_stdout()
        _say("The program that read the output has ended, so the rest of the output was not written.")
        return 1
    except Exception as error:
        message = explain(error)
        if isinstance(error, OSError | UnicodeEncodeError):
            _let_go_of_stdout()
        if message is None:
            traceback.print_exception(error)
        _say(REPORT if message is None else message)
        return 1


def explain(error: BaseException) -> str | None:
    """The message for an error that was foreseen, with its notes; None for any other."""
    message = _explain(error)
    return message and "\n".join([message, *getattr(error, "__notes__", [])])


def _explain(error: BaseException) -> str | None:
    if isinstance(error, CourseError):
        return str(error)
    if isinstance(error, UnicodeEncodeError):
        letter = error.object[error.start : error.end]
        return f"{letter!r} cannot be written in {error.encoding}. Set PYTHONIOENCODING=utf-8, or send the output to a file."
    if isinstance(error, OSError):
        return _explain_system(error)
    if isinstance(error, ModuleNotFoundError):
        return str(error) if error.name is None else f"{error.name} is not installed. pip install -r requirements.txt"
    if isinstance(error, MemoryError) or re.search(r"not enough memory|out of memory", str(error)):
        return f"Not enough memory ({_first_line(error)}). Lower batch_size, use a smaller model, or take shorter clips."
    return None


def _explain_system(error: OSError) -> str:
    """A message for what the operating system refused; one that we raised ourselves has its own."""
    if error.errno is None:
        return str(error)
    place = f"{error.filename!s}: " if error.filename is not None else ""
    if error.errno in DISK_FULL:
        return f"{place}the disk is full, nothing more can be written. What was saved before is whole. Make room, and go on."
    reason, advice = ADVICE.get(error.errno, (error.strerror or str(error), "Check the disk and the path."))
    return f"{place}{reason}. {advice}"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _write_names_as_they_are() -> None:
    """A file's name may hold bytes that are no text; printed, they are to be the same bytes."""
    encoding = getattr(sys.stdout, "encoding", None) or ""
    if encoding.lower().replace("-", "") == "utf8" and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="surrogateescape")


def _let_go_of_stdout() -> None:
    """What Python still holds for a stdout that takes no more would raise again when it exits."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def _say(message: str) -> None:
    """To stderr; should that be closed as well, there is nobody left to tell."""
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:
        return
