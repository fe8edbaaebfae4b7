"""Several ways to train, in turns → seconds, memory and speed-up of a training step: what `ctc` and `slam` measure with.

Speed is measured and never asserted in a test: a busy machine is slow, not wrong.
"""

import ctypes
import sys
import timeit
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.benchmark import Timer

from course_lib.data.batches import SpeechBatch

BASELINE = "plain"
"""The setup that the others are compared with."""

Figures = dict[str, dict[str, float | list[float] | None]]
"""For every setup: seconds, speedup, speedup_range, peak_mb, memory_ratio; None where memory cannot be measured."""


def seconds_of(work: Callable[[], object], repeats: int = 3) -> float:
    """The shortest of a few runs: the others measure the neighbours."""
    return min(timeit.repeat(work, repeat=repeats, number=1))


@dataclass
class TrainingSetup:
    """One way to train: a model, its batches, its loss and its optimiser. An epoch takes so many steps."""

    model: nn.Module
    batches: Iterator[SpeechBatch]
    loss: Callable[[SpeechBatch], Float[Tensor, ""]]
    optimizer: torch.optim.Optimizer
    max_grad_norm: float
    steps: int = 1

    def step(self) -> None:
        """One update, as `Trainer` does it."""
        self.loss(next(self.batches)).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def epoch(self) -> None:
        """All the steps that are measured."""
        for _ in range(self.steps):
            self.step()


def measure(setups: dict[str, TrainingSetup], rounds: int, device: torch.device) -> Figures:
    """Time and memory of every setup; memory in an epoch of its own, after the timed ones."""
    seconds = interleaved(setups, rounds)
    return summarise(seconds, {name: peak_bytes(setup.epoch, device) for name, setup in setups.items()})


def interleaved(setups: dict[str, TrainingSetup], rounds: int, min_run_time: float = 1.0) -> dict[str, list[float]]:
    """Seconds of a step in each round. Setups take turns, so that a busy minute of the machine slows all of them.

    A turn is a warm-up, then epochs until `min_run_time` is over, of which the median counts.
    """
    threads = torch.get_num_threads()
    timers = {name: Timer("epoch()", globals={"epoch": setup.epoch}, num_threads=threads) for name, setup in setups.items()}
    seconds: dict[str, list[float]] = {name: [] for name in setups}
    for _ in range(rounds):
        for name, timer in timers.items():
            seconds[name].append(timer.blocked_autorange(min_run_time=min_run_time).median / setups[name].steps)
    return seconds


def summarise(seconds: dict[str, list[float]], peaks: dict[str, int | None]) -> Figures:
    """Medians over the rounds; a speed-up is the ratio within a round, so its median and its range are those of ratios."""
    found: Figures = {}
    for name, rounds in seconds.items():
        ratios = [slow / quick for slow, quick in zip(seconds[BASELINE], rounds, strict=True)]
        found[name] = {
            "seconds": median(rounds),
            "speedup": median(ratios),
            "speedup_range": [min(ratios), max(ratios)],
            "peak_mb": quotient(peaks[name], 1_000_000),
            "memory_ratio": quotient(peaks[BASELINE], peaks[name]),
        }
    return found


def quotient(amount: float | int | None, other: float | int | None) -> float | None:
    """amount / other, or None where one was not measured."""
    return amount / other if amount is not None and other else None


def peak_bytes(work: Callable[[], object], device: torch.device) -> int | None:
    """The most memory that some work takes beyond what lay there before it; None where nothing can tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or sys.platform != "linux":
        return None
    # The C library keeps freed memory for later, and work that fits into it would seem to need none.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5: the peak is now (man 5 proc)
    before = _resident_bytes("VmRSS")
    work()
    return _resident_bytes("VmHWM") - before


def _resident_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def table(title: str, found: Figures) -> str:
    """A row for each setup."""
    rows = [(title, "seconds", "peak memory", "less memory", "faster than plain", "in single rounds")]
    for name, figures in found.items():
        peak, less = _or_unknown(figures["peak_mb"], "{:,.0f} MB"), _or_unknown(figures["memory_ratio"], "{:.1f} ×")
        low, high = figures["speedup_range"]
        speed = f"{figures['speedup']:.1f} ×", f"{low:.1f} to {high:.1f} ×"
        rows.append((name, f"{figures['seconds']:.3f}", peak, less, *speed))
    return "\n".join(f"{first:40}" + "".join(f"{cell:>19}" for cell in cells) for first, *cells in rows)


def _or_unknown(value: float | None, form: str) -> str:
    return "not measured" if value is None else form.format(value)
