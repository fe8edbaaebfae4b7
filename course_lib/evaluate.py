"""Measure recognisers on a split that they never trained on; several are compared on the same clips.

python -m course_lib.evaluate --split test [--system slam] [--json] [--transcripts FILE]
python -m course_lib.evaluate --split test --system slam stage_b --output FOLDER
python -m course_lib.evaluate --split test --system slam=data/models/slam-tiny/test_transcripts.json whisper=FILE.json
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from course_lib.data.datasets import Example, load_examples, texts_of
from course_lib.evaluation.calibration import n_best_share
from course_lib.evaluation.compare import Difference, Report, SystemRun, compare, comparison_table, draw_comparison, load_run
from course_lib.files import save_json
from course_lib.sound.audio import SAMPLE_RATE, load_audio
from course_lib.systems import SYSTEMS, load_system
from course_lib.text.metrics import align, error_counts


def transcribe_all(system, examples: list[Example], batch_size: int = 16) -> tuple[list[str], float]:
    """Transcribe all examples; also the real-time factor, loading and encoding included."""
    heard, rtf = hear_all(system, examples, batch_size)
    return [text for text, _ in heard], rtf


def hear_all(system, examples: list[Example], batch_size: int = 16) -> tuple[list[tuple[str, float | None]], float]:
    """Transcribe all examples, each with the system's confidence if it has one; also the real-time factor."""
    order = sorted(range(len(examples)), key=lambda index: examples[index].path.stat().st_size)
    started, seconds, heard = time.perf_counter(), 0.0, {}
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        waveforms = [load_audio(examples[index].path) for index in indices]
        seconds += sum(len(waveform) for waveform in waveforms) / SAMPLE_RATE
        heard.update(zip(indices, _hear(system, waveforms), strict=True))
    rtf = (time.perf_counter() - started) / seconds
    return [heard[index] for index in range(len(examples))], rtf


def _hear(system, waveforms: list) -> list[tuple[str, float | None]]:
    """Texts, and how much of what a system believes of its candidates lies on the one that it chose."""
    if getattr(system, "num_beams", 1) == 1:
        return [(text, None) for text in system.transcribe(waveforms)]
    clips = system.hypotheses(system.encode(waveforms))
    return [(candidates[0].text, n_best_share(candidates, system.ctc_weight)) for candidates in clips]


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


def write_comparison(
    folder: Path, runs: Sequence[SystemRun], reports: Sequence[Report], differences: dict[str, Difference], command: str
) -> None:
    """Write comparison.md, comparison.json and comparison.png, and each system's transcripts as NAME.json, into a folder."""
    split = reports[0].split
    folder.mkdir(parents=True, exist_ok=True)
    table = comparison_table(reports, differences)
    (folder / "comparison.md").write_text(f"`{command}`\n\n{table}\n", encoding="utf-8")
    rows = [report_fields(report, differences) for report in reports]
    save_json({"command": command, "split": split, "reports": rows}, folder / "comparison.json")
    draw_comparison(reports, differences).savefig(folder / "comparison.png", dpi=100, bbox_inches="tight")
    for run in runs:
        about = {"system": run.system, "split": split, "command": command}
        save_json(about | {"transcripts": run.rows()}, folder / f"{run.system}.json")


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; leaves the program, with the reason, when it cannot be meant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="test", help="dev, test, dev-augmented, test-augmented, or one of your data's")
    parser.add_argument(
        "--system", nargs="+", metavar="NAME", help=f"{', '.join(SYSTEMS)}, or stored transcripts, NAME=FILE.json; slam if none"
    )
    parser.add_argument("--model", type=Path, nargs="+", default=[], help="run folders of trainings, beside or instead")
    parser.add_argument("--whisper", default="openai/whisper-base", help="folder or Hub id that --system whisper loads")
    parser.add_argument("--data", default="synthetic", help='"synthetic", an asr.csv, or a Common Voice folder')
    parser.add_argument("--clips", type=int, help="only so many clips")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, a line a system")
    parser.add_argument(
        "--transcripts", type=Path, help="also write voice, reference and hypothesis of every clip to this JSON file"
    )
    parser.add_argument("--output", type=Path, help="a folder for the table, the picture and every system's transcripts")
    found = parser.parse_args(arguments)
    found.system = found.system or ([] if found.model else ["slam"])
    unknown = [name for name in found.system if name not in SYSTEMS and not name.endswith(".json")]
    if unknown:
        parser.error(f"no system is called {', '.join(unknown)}; there are {', '.join(SYSTEMS)}, and NAME=FILE.json")
    if found.transcripts and len(found.system) + len(found.model) > 1:
        parser.error("--transcripts keeps those of one system; --output FOLDER those of all")
    return found


def make_runs(arguments: argparse.Namespace) -> list[SystemRun]:
    """Read or make the transcripts of every system that was asked for, one system in memory at a time."""
    ways: list[Callable[[], SystemRun]] = [partial(_run_named, name, arguments) for name in arguments.system]
    ways += [partial(_run_live, folder.name, partial(load_system, folder), arguments) for folder in arguments.model]
    return [way() for way in ways]


def _run_named(name: str, arguments: argparse.Namespace) -> SystemRun:
    if name.endswith(".json"):
        given, _, file = name.rpartition("=")
        return load_run(Path(file), given or None)
    load = partial(SYSTEMS[name], arguments.whisper) if name == "whisper" else SYSTEMS[name]
    return _run_live(name, load, arguments)


def _run_live(name: str, load: Callable, arguments: argparse.Namespace) -> SystemRun:
    examples = load_examples(arguments.data, arguments.split, arguments.clips)
    heard, rtf = hear_all(load(), examples)
    voices = [example.voice for example in examples]
    return SystemRun(name, voices, texts_of(examples), *map(list, zip(*heard, strict=True)), rtf)


def _command(arguments: Sequence[str]) -> str:
    """The command line as another machine could use it: of a folder of this one only the name is kept."""
    return shlex.join(["python", "-m", "course_lib.evaluate", *(Path(a).name if a.startswith("/") else a for a in arguments)])


def main() -> None:
    """Read the command line, transcribe the split, print the report or the comparison."""
    arguments = read_arguments()
    runs = make_runs(arguments)
    reports, differences = compare(runs, arguments.split)
    if arguments.transcripts:
        save_json(runs[0].rows(), arguments.transcripts)
    if arguments.output:
        write_comparison(arguments.output, runs, reports, differences, _command(sys.argv[1:]))
    if arguments.json:
        for report in reports:
            print(json.dumps(report_fields(report, differences)))
    elif len(runs) > 1:
        print(comparison_table(reports, differences))
    else:
        worst = worst_utterances(runs[0].references, runs[0].hypotheses)
        print("\n\n".join([show(reports[0]), "worst utterances", *worst]))


if __name__ == "__main__":
    main()
