"""A learner's function and its inputs → what it gave back, whatever the function does on the way.

It runs in a thread of its own, so that a loop without an end is left behind after `SECONDS`. What it prints is kept and cut.
Random numbers, default type and warnings are afterwards as they were.
"""

import copy
import ctypes
import dis
import io
import linecache
import random
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from itertools import islice
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor

SECONDS = 5.0
"""A call may take as long."""

MOST_LINES = 10
"""Lines of a learner's printing that are shown."""

MOST_VALUES = 100_000
"""Values that are taken from a generator."""


class Stopped(Exception):  # noqa: N818 (a stage on the way)
    """The learner's function raised, or did not end; the message says what and where."""


class StillRunning(BaseException):
    """Sent into a thread whose time is up. No Exception, so that `except Exception` does not catch it."""


class NotWritten(Exception):  # noqa: N818
    """The function raises NotImplementedError itself: a stub of another style."""


@dataclass
class Printed(io.TextIOBase):
    """Keeps the first lines that are written to it and counts the others."""

    kept: str = ""
    lines: int = 0

    def write(self, text: str) -> int:
        for line in text.splitlines(keepends=True):
            if self.lines < MOST_LINES:
                self.kept += line[:300] if len(line) <= 300 else line[:300] + ("…\n" if line.endswith("\n") else "…")
            self.lines += line.endswith("\n")
        return len(text)

    def writable(self) -> bool:
        return True

    def show(self) -> None:
        """Print what was kept, and how much was not."""
        if self.kept:
            print(self.kept, end="" if self.kept.endswith("\n") else "\n")
        if self.lines > MOST_LINES:
            print(f"({self.lines - MOST_LINES:,} more lines that your function printed)")


@contextmanager
def kept_state() -> Iterator[Printed]:
    """Everything that a function could leave changed behind it is set back; what it prints goes into the Printed."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    dtype, recursion, threads = torch.get_default_dtype(), sys.getrecursionlimit(), torch.get_num_threads()
    printed = Printed()
    try:
        with warnings.catch_warnings(), redirect_stdout(printed), redirect_stderr(printed), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield printed
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.set_default_dtype(dtype)
        sys.setrecursionlimit(recursion)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def run_guarded(function: Callable[..., Any], cases: list[tuple[Any, ...]]) -> list[Any]:
    """Call the function on each case; a Stopped, with a sentence, stands where it raised or gave nothing back.

    If a call does not end, its Stopped is the last in the list. Raises NotWritten for a stub that says so.
    """
    results: list[Any] = []
    started = time.monotonic()

    def work() -> None:
        nonlocal started
        with suppress(StillRunning):
            for inputs in cases:
                started = time.monotonic()
                results.append(_result(function, inputs))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while thread.is_alive() and (left := started + SECONDS - time.monotonic()) > 0:
            thread.join(left)
    finally:
        finished = list(results)
        late = thread.is_alive()
        if late:
            _end(thread)
    if late:
        finished.append(Stopped(f"was still running after {SECONDS:g} s: does your loop end?"))
    if any(isinstance(result, NotWritten) for result in finished):
        raise NotWritten
    return finished


def _result(function: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
    """One call: what it gave back, or why there is nothing."""
    try:
        with np.errstate(all="ignore"):
            value = settled(function(*inputs))
    except StillRunning:
        raise
    except BaseException as error:  # sys.exit is none of Exception's
        return _as_sentence(error, function)
    return Stopped("gave nothing back. Did you forget the return?") if value is None or value is ... else value


def settled(value: Any) -> Any:
    """Generators and maps run to their end, here where they are watched; what is no iterator stays as it is."""
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(settled(part) for part in value)
    if isinstance(value, Iterator):
        found = [settled(part) for part in islice(value, MOST_VALUES + 1)]
        if len(found) > MOST_VALUES:
            raise ValueError(f"your generator gave more than {MOST_VALUES:,} values")
        return found
    return value


def copied(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inputs of their own, so that nobody can change the check's."""
    return tuple(copy.deepcopy(value) for value in inputs)


def unchanged(value: Any, before: Any) -> bool:
    """Whether an input is as it was given."""
    if isinstance(before, Tensor):
        alike = isinstance(value, Tensor) and value.shape == before.shape and value.dtype == before.dtype
        return alike and torch.equal(value.nan_to_num(), before.nan_to_num())
    if isinstance(before, (list, tuple)):
        return len(value) == len(before) and all(unchanged(a, b) for a, b in zip(value, before, strict=True))
    return callable(before) or value == before


def _end(thread: threading.Thread) -> None:
    """Raise StillRunning in a thread, again and again, for a bare `except` may swallow it."""
    for _ in range(20):
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(StillRunning))
        thread.join(0.05)
        if not thread.is_alive():
            return


def _as_sentence(error: BaseException, function: Callable[..., Any]) -> Exception:
    code = getattr(function, "__code__", None)
    frames = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    if isinstance(error, NotImplementedError) and _raised_by(code, error):
        return NotWritten()
    if isinstance(error, SystemExit):
        what = "left Python (exit)"
    else:
        text = str(error).splitlines()[0] if str(error) else ""
        what = f"stopped with {type(error).__name__}" + (f": {text[:200]}" if text else "")
    own = [(frame, line) for frame, line in frames if code is not None and frame.co_filename == code.co_filename]
    if not own:
        return Stopped(f"{what}.")
    frame, line = own[-1]
    source = linecache.getline(frame.co_filename, line).strip()
    return Stopped(f"{what}, in line {line}" + (f": {source}" if source else "."))


def _raised_by(code: CodeType | None, error: BaseException) -> bool:
    """Whether the function's own `raise` is where the error comes from; torch raises NotImplementedError, too."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is None or place.tb_frame.f_code is not code:
        return False
    return code.co_code[place.tb_lasti] == dis.opmap["RAISE_VARARGS"]
