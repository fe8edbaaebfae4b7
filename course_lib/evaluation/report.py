"""A recogniser and a split → transcripts; transcripts → a report for people, and files that keep it."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from course_lib.data.datasets import Example
from course_lib.data.long_audio import transcribe_clips
from course_lib.data.recogniser import Recogniser, Transcript
from course_lib.errors import CourseError
from course_lib.evaluation.compare import Difference, Report, SystemRun, comparison_table, draw_comparison
from course_lib.files import save_json
from course_lib.sound.audio import SAMPLE_RATE, load_audio
from course_lib.text.metrics import align, error_counts


def recognise_all(recogniser: Recogniser, examples: Sequence[Example], batch_size: int = 16) -> tuple[list[Transcript], float]:
    """Transcribe all examples; also the real-time factor (seconds of work a second of sound), loading and encoding included.

    Clips that are too long for the recogniser are cut at their pauses.
    """
    order = sorted(range(len(examples)), key=lambda index: examples[index].path.stat().st_size)
    started, seconds = time.perf_counter(), 0.0
    transcripts: dict[int, Transcript] = {}
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        waveforms = [load_audio(examples[index].path, max_seconds=None) for index in indices]
        seconds += sum(len(waveform) for waveform in waveforms) / SAMPLE_RATE
        transcripts.update(zip(indices, transcribe_clips(recogniser, waveforms, batch_size), strict=True))
    rtf = (time.perf_counter() - started) / seconds
    return [transcripts[index] for index in range(len(examples))], rtf


def worst_utterances(references: list[str], hypotheses: list[str], most: int = 5) -> list[str]:
    """The alignments with most word errors, as text."""
    errors = [counts.errors for counts in error_counts(references, hypotheses)]
    worst = sorted(range(len(errors)), key=lambda index: -errors[index])[:most]
    return [str(align(references[i].split(), hypotheses[i].split())) for i in worst if errors[i]]


def show(report: Report) -> str:
    """The report as lines for people."""
    lines = [
        f"{report.system} on {report.split}: {report.clips} clips",
        f"  WER {report.wer:6.1%}   95 % interval {report.wer_low:.1%} to {report.wer_high:.1%}",
        f"  CER {report.cer:6.1%}   95 % interval {report.cer_low:.1%} to {report.cer_high:.1%}",
    ]
    return "\n".join(lines if report.rtf is None else [*lines, f"  real-time factor {report.rtf:.3f}"])


def report_fields(report: Report, differences: dict[str, Difference]) -> dict[str, Any]:
    """A report as it goes into JSON, rounded; with its difference to the first system, if it is not the first."""
    fields = dict(vars(report))
    if difference := differences.get(report.system):
        fields |= {"difference": difference.difference, "p_value": difference.p_value}
        fields |= {"difference_low": difference.low, "difference_high": difference.high}
    return {name: round(value, 5) if isinstance(value, float) else value for name, value in fields.items()}


def _refuse_other_split(folder: Path, names: Sequence[str], split: str) -> None:
    """Raise CourseError if a comparison of another split, or a file that is none of ours, would be written over."""
    there = [name for name in names if (folder / name).exists()]
    if not there:
        return
    try:
        known = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["split"]
    except (OSError, ValueError, KeyError, TypeError):
        known = None
    if known != split:
        what = f"the comparison of {known}" if known else "files that evaluate did not write"
        raise CourseError(f"{folder}: holds {what} ({', '.join(there)}). Name another --output.")


def write_comparison(
    folder: Path, runs: Sequence[SystemRun], reports: Sequence[Report], differences: dict[str, Difference], command: str
) -> None:
    """Write comparison.md, comparison.json and comparison.png, and each system's transcripts as NAME.json, into a folder."""
    split = reports[0].split
    names = ["comparison.md", "comparison.json", "comparison.png", *(f"{run.system}.json" for run in runs)]
    _refuse_other_split(folder, names, split)
    folder.mkdir(parents=True, exist_ok=True)
    table = comparison_table(reports, differences)
    (folder / "comparison.md").write_text(f"`{command}`\n\n{table}\n", encoding="utf-8")
    rows = [report_fields(report, differences) for report in reports]
    save_json({"command": command, "split": split, "reports": rows}, folder / "comparison.json")
    draw_comparison(reports, differences).savefig(folder / "comparison.png", dpi=100, bbox_inches="tight")
    for run in runs:
        about = {"system": run.system, "split": split, "command": command}
        save_json(about | {"transcripts": run.rows()}, folder / f"{run.system}.json")
