"""What several systems wrote for the same clips → which makes fewer errors, and is that luck? A table and a picture.

Two systems that heard the same clips are compared clip by clip, not interval by interval: a hard clip is hard for both, so
their difference is known far better than either rate.
"""

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_lib.errors import CourseError
from course_lib.sound.plots import INK, SOFT
from course_lib.text.metrics import (
    ErrorCounts,
    Unit,
    bootstrap_interval,
    character_error_rate,
    error_counts,
    resample_rates,
    word_error_rate,
)


class TranscriptsError(CourseError):
    """Stored transcripts that cannot be used, or compared."""


@dataclass(frozen=True)
class SystemRun:
    """What one system wrote for the clips of a split, in order.

    `confidences` lie between 0 and 1, None where the system did not say; `rtf` is None for what was read from a file, and
    `split` empty where that does not say it.
    """

    system: str
    voices: list[str]
    references: list[str]
    hypotheses: list[str]
    confidences: list[float | None]
    rtf: float | None = None
    split: str = ""

    def rows(self) -> list[dict[str, Any]]:
        """One row a clip, as it is stored; without `confidence` where there is none."""
        columns = zip(self.voices, self.references, self.hypotheses, self.confidences, strict=True)
        return [
            {"voice": voice, "reference": said, "hypothesis": heard} | ({} if sure is None else {"confidence": round(sure, 5)})
            for voice, said, heard, sure in columns
        ]


@dataclass(frozen=True)
class Report:
    """One system on one split: rates as fractions, intervals at 95 %, `rtf` in seconds of work a second of sound."""

    system: str
    split: str
    clips: int
    wer: float
    wer_low: float
    wer_high: float
    cer: float
    cer_low: float
    cer_high: float
    rtf: float | None


@dataclass(frozen=True)
class Difference:
    """A system's WER minus the first system's, on the same clips: below zero, it is better than the first."""

    difference: float
    low: float
    high: float
    p_value: float


def load_run(path: Path, name: str | None = None, split: str | None = None) -> SystemRun:
    """Read stored transcripts: a JSON list of rows, or an object that has one under "transcripts".

    The run is called `name`, else as the file says, else as the file is called. Raises TranscriptsError for any other content,
    and for transcripts of another split than `split`, where the file says which.
    """
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TranscriptsError(f"{path}: cannot be read ({error.strerror}). Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise TranscriptsError(f"{path}: not JSON ({str(error)[:100]}). evaluate writes it with --transcripts.") from error
    about, rows = (stored, stored.get("transcripts")) if isinstance(stored, dict) else ({}, stored)
    if split and about.get("split", split) != split:
        raise TranscriptsError(f"{path}: transcripts of {about['split']}, not of {split}. Name the --split that they are of.")
    wanted = ("voice", "reference", "hypothesis")
    if not isinstance(rows, list) or not rows:
        raise TranscriptsError(f"{path}: no transcripts in it; evaluate writes them with --transcripts or --output")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in wanted):
            raise TranscriptsError(f"{path}: row {number} needs the texts {', '.join(wanted)}; it is {str(row)[:60]}")
        sure = row.get("confidence")
        if sure is not None and not (isinstance(sure, int | float) and 0 <= sure <= 1):
            raise TranscriptsError(f"{path}: row {number} has the confidence {sure!r:.40}; it lies between 0 and 1")
    columns = [[row[key] for row in rows] for key in wanted]
    called = name or about.get("system") or Path(path).stem
    if not isinstance(called, str):
        raise TranscriptsError(f"{path}: its system is called {called!r:.40}, no text. Name it yourself: NAME=FILE.json")
    return SystemRun(called, *columns, [row.get("confidence") for row in rows], split=str(about.get("split", "")))


RESERVED_NAMES = {"comparison"}
"""`write_comparison` has files of these names of its own."""


def refuse_names(names: Sequence[str]) -> None:
    """Raise TranscriptsError for names of systems that are given twice, or that cannot be the name of a file."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TranscriptsError(f"two systems are called {', '.join(twice)}; name a file yourself: NAME=FILE.json")
    for name in names:
        odd = any(ord(letter) < 32 or letter in '/\\:*?"<>|' for letter in name)
        if odd or not name.strip(". ") or name in RESERVED_NAMES or len(name.encode("utf-8", "replace")) > 200:
            raise TranscriptsError(f"no system can be called {name[:60]!r}, for its transcripts are kept in NAME.json")


def measure(name: str, split: str, references: list[str], hypotheses: list[str], rtf: float | None) -> Report:
    """Corpus WER and CER with bootstrap intervals over utterances."""
    return Report(
        name,
        split,
        len(references),
        word_error_rate(references, hypotheses),
        *bootstrap_interval(references, hypotheses),
        character_error_rate(references, hypotheses),
        *bootstrap_interval(references, hypotheses, unit="char"),
        rtf,
    )


def paired_bootstrap(
    references: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    unit: Unit = "word",
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Rate of the second system minus that of the first, on clips drawn with replacement: the same clips for both.

    `p_value` asks how often the draws contradict the sign that was found, on either side; the 1 that is added above and below
    keeps it from being 0, which no number of draws can show. (Bisani & Ney 2004 call the share of draws in which a system
    wins its probability of improvement.) Raises ValueError as `metrics.bootstrap_interval` does.
    """
    if not references:
        raise ValueError("a comparison needs at least one utterance; the list of references is empty")
    counts = [error_counts(references, hypotheses, unit) for hypotheses in (first, second)]
    more = [theirs.errors - ours.errors for ours, theirs in zip(*counts, strict=True)]
    lengths = [count.reference_length for count in counts[0]]
    drawn, low, high = resample_rates(more, lengths, resamples, confidence, seed)
    against = 1 + min((drawn <= 0).sum(), (drawn >= 0).sum())
    p_value = min(1.0, 2 * float(against) / (resamples + 1))
    return Difference(sum(more) / max(sum(lengths), 1), low, high, p_value)


def compare(runs: Sequence[SystemRun], split: str) -> tuple[list[Report], dict[str, Difference]]:
    """Measure each run, and its difference to the first one, by the systems' names.

    Raises ValueError for two runs of one name, or when they were not made of the same clips in the same order.
    """
    _refuse_other_clips(runs)
    first = runs[0]
    reports = [measure(run.system, split, run.references, run.hypotheses, run.rtf) for run in runs]
    return reports, {run.system: paired_bootstrap(first.references, first.hypotheses, run.hypotheses) for run in runs[1:]}


def errors_by(keys: Sequence[Hashable], run: SystemRun, unit: Unit = "word") -> dict[Hashable, ErrorCounts]:
    """Add up the errors of the clips that share a key (a voice, a length), sorted by key.

    >>> run = SystemRun("slam", ["Hugo", "linda"], ["ja", "nej tak"], ["ja", "nej"], [None, None])
    >>> {voice: counts.rate for voice, counts in errors_by(run.voices, run).items()}
    {'Hugo': 0.0, 'linda': 0.5}
    """
    totals = {key: ErrorCounts() for key in sorted(set(keys))}
    for key, counts in zip(keys, error_counts(run.references, run.hypotheses, unit), strict=True):
        totals[key] += counts
    return totals


def comparison_table(reports: Sequence[Report], differences: dict[str, Difference]) -> str:
    """The comparison as a Markdown table that also reads well in a terminal; rates in percent, differences in points."""
    header = ["system", "clips", "WER %", "95 % interval", "CER %", f"WER − {reports[0].system}'s", "95 % interval", "p"]
    rows = [header if differences else header[:5]]
    for report in reports:
        cells = [report.system, str(report.clips), f"{100 * report.wer:.1f}"]
        cells += [f"{100 * report.wer_low:.1f} to {100 * report.wer_high:.1f}", f"{100 * report.cer:.1f}"]
        rows.append(cells + (_difference_cells(differences.get(report.system)) if differences else []))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def draw_comparison(reports: Sequence[Report], differences: dict[str, Difference]) -> Figure:
    """WER of each system with its interval, the first on top; beside it how far it is from the first, and with what p.

    The axis is logarithmic when the rates are more than ten times apart: halving the errors is then the same step anywhere.
    """
    figure = Figure(figsize=(7, 0.9 + 0.45 * len(reports)))
    axes = figure.subplots()
    for place, report in enumerate(reports):
        axes.hlines(place, 100 * report.wer_low, 100 * report.wer_high, color=SOFT, linewidth=6)
        axes.plot(100 * report.wer, place, "o", color=INK)
        if report.system in differences:
            said = describe_difference(differences[report.system])
            axes.annotate(said, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.set_yticks(range(len(reports)), [report.system for report in reports], parse_math=False)
    axes.set(xlabel="WER, percent, with its 95 % interval", ylim=(len(reports) - 0.5, -0.5))
    _scale(axes, reports)
    axes.grid(axis="x", color="#e3e8ed")
    axes.set_axisbelow(True)
    return figure


def describe_difference(difference: Difference) -> str:
    """How far a system is from the first, in points of WER, and how surprising that would be if they were equals."""
    return f"{100 * difference.difference:+.1f} points, {_p_text(difference.p_value)}".replace("-", "−")


def _difference_cells(difference: Difference | None) -> list[str]:
    if difference is None:
        return ["", "", ""]
    low, high = (f"{100 * bound:+.1f}".replace("-", "−") for bound in (difference.low, difference.high))
    cells = [f"{100 * difference.difference:+.1f}".replace("-", "−"), f"{low} to {high}"]
    return [*cells, _p_text(difference.p_value).removeprefix("p = ").removeprefix("p ")]


def _p_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _scale(axes: Axes, reports: Sequence[Report]) -> None:
    lowest, highest = (100 * pick for pick in (min(r.wer_low for r in reports), max(r.wer_high for r in reports)))
    if 0 < 10 * lowest < highest:
        axes.set_xscale("log")
        ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if lowest / 2 <= tick <= 2 * highest]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
    else:
        axes.set_xlim(left=0)


def _refuse_other_clips(runs: Sequence[SystemRun]) -> None:
    first = runs[0]
    refuse_names([run.system for run in runs])
    for run in runs[1:]:
        if len(run.references) != len(first.references):
            raise TranscriptsError(
                f"{first.system} has {len(first.references)} clips, {run.system} {len(run.references)}: "
                "only systems that heard the same clips can be compared"
            )
        other = next((i for i, pair in enumerate(zip(first.references, run.references, strict=True)) if len(set(pair)) > 1), -1)
        if other >= 0:
            raise TranscriptsError(
                f"clip {other} is {first.references[other]!r} for {first.system} and {run.references[other]!r} for "
                f"{run.system}: only systems that heard the same clips, in the same order, can be compared"
            )
