"""Measure recognisers on a split that they never trained on; several are compared on the same clips.

python -m course_lib.evaluate --split test [--system slam] [--json] [--transcripts FILE]
python -m course_lib.evaluate --split people --folder RECORDINGS --system slam letters
python -m course_lib.evaluate --split test --system slam stage_b --output FOLDER
python -m course_lib.evaluate --split test --system slam=data/models/slam-tiny/test_transcripts.json whisper=FILE.json
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from course_lib.config import positive_count
from course_lib.data.checks import describe_texts, fault_of_clip
from course_lib.data.datasets import Example, load_examples, read_people, refuse_unknown_splits, texts_of
from course_lib.data.grammar import load_grammar
from course_lib.errors import run_command
from course_lib.evaluation.breakdown import break_down, show_parts
from course_lib.evaluation.compare import SystemRun, compare, comparison_table, load_run, refuse_names
from course_lib.evaluation.report import recognise_all, report_fields, show, worst_utterances, write_comparison
from course_lib.files import refuse_output, save_json
from course_lib.systems import SYSTEMS, load_system, locate_system


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; leaves the program, with the reason, when it cannot be meant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", default="test", help="dev, test, test-natural …, one of your data's, or people")
    parser.add_argument("--folder", type=Path, help="with --split people: a folder of recordings with an asr.csv, or of such")
    parser.add_argument(
        "--system", nargs="+", metavar="NAME", help=f"{', '.join(SYSTEMS)}, or stored transcripts, NAME=FILE.json; slam if none"
    )
    parser.add_argument("--model", type=Path, nargs="+", default=[], help="run folders of trainings, beside or instead")
    parser.add_argument("--whisper", default="openai/whisper-base", help="folder or Hub id that --system whisper loads")
    parser.add_argument("--data", default="synthetic", help='"synthetic", an asr.csv, or a Common Voice folder')
    parser.add_argument("--clips", type=positive_count, help="only so many clips")
    parser.add_argument("--skip-bad", action="store_true", help="leave out rows that cannot be used, and say how many")
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
    if (found.split == "people") != bool(found.folder):
        parser.error("--split people and --folder go together: the folder holds recordings and an asr.csv")
    if found.transcripts and len(found.system) + len(found.model) > 1:
        parser.error("--transcripts keeps those of one system; --output FOLDER those of all")
    return found


def make_runs(arguments: argparse.Namespace) -> list[SystemRun]:
    """Read or make the transcripts of every system that was asked for, one system in memory at a time."""
    if arguments.output:
        refuse_output(arguments.output, folder=True)
    if arguments.transcripts:
        refuse_output(arguments.transcripts)
    stored = {
        name: load_run(Path(file), given or None, arguments.split)
        for name, given, file in map(_parts, arguments.system)
        if file
    }
    for name, run in stored.items():
        if not run.split:
            print(f"{name} does not say of which split it is; it is taken for {arguments.split}", file=sys.stderr)
    live = [name for name in arguments.system if name not in stored]
    names = [run.system for run in stored.values()] + live + [folder.name for folder in arguments.model]
    refuse_names(names)
    for folder in arguments.model:
        locate_system(folder)
    examples = _examples(arguments) if live or arguments.model else []
    ways: list[Callable[[], SystemRun]] = [partial(_run_named, name, stored, examples, arguments) for name in arguments.system]
    ways += [partial(_run_live, folder.name, partial(load_system, folder), examples) for folder in arguments.model]
    return [way() for way in ways]


def _parts(name: str) -> tuple[str, str, str]:
    """What `--system` was given, the name in it and the file in it, both "" for a system that is to be loaded."""
    given, _, file = name.rpartition("=") if name.endswith(".json") else ("", "", "")
    return name, given, file


def _run_named(name: str, stored: dict[str, SystemRun], examples: list[Example], arguments: argparse.Namespace) -> SystemRun:
    if name in stored:
        return stored[name]
    load = partial(SYSTEMS[name], arguments.whisper) if name == "whisper" else SYSTEMS[name]
    return _run_live(name, load, examples)


def _run_live(name: str, load: Callable, examples: list[Example]) -> SystemRun:
    transcripts, rtf = recognise_all(load(), examples)
    voices = [example.voice for example in examples]
    texts, confidences = map(list, zip(*transcripts, strict=True))
    return SystemRun(name, voices, texts_of(examples), texts, confidences, rtf)


def _examples(arguments: argparse.Namespace) -> list[Example]:
    if arguments.split == "people":
        check = partial(fault_of_clip, max_seconds=None)
        return read_people(arguments.folder, arguments.skip_bad, check)[: arguments.clips]
    refuse_unknown_splits(arguments.data, [arguments.split])
    check = partial(fault_of_clip, max_seconds=None)
    examples = load_examples(arguments.data, arguments.split, arguments.clips, arguments.skip_bad, check)
    for line in describe_texts(examples):
        print(line.strip(), file=sys.stderr)
    return examples


def _command(arguments: Sequence[str]) -> str:
    """The command line as another machine could use it: of a folder of this one only the name is kept."""
    return shlex.join(["python", "-m", "course_lib.evaluate", *map(_without_folders, arguments)])


def _without_folders(argument: str) -> str:
    """An argument, of whose absolute path only the last name is kept: `--data=/home/me/asr.csv`, `slam=/tmp/slam.json`."""
    before, mark, path = argument.rpartition("=")
    return f"{before}{mark}{Path(path).name}" if path.startswith("/") else argument


def main() -> None:
    """Read the command line, transcribe the split, print the report or the comparison."""
    arguments = read_arguments()
    runs = make_runs(arguments)
    reports, differences = compare(runs, arguments.split)
    if arguments.transcripts:
        about = {"system": runs[0].system, "split": arguments.split, "command": _command(sys.argv[1:])}
        save_json(about | {"transcripts": runs[0].rows()}, arguments.transcripts)
    if arguments.output:
        write_comparison(arguments.output, runs, reports, differences, _command(sys.argv[1:]))
    parts = {run.system: break_down(run.references, run.hypotheses, {*load_grammar().words}) for run in runs}
    if arguments.json:
        for report in reports:
            fields = report_fields(report, differences) | {"parts": [vars(part) for part in parts[report.system]]}
            print(json.dumps(fields))
    elif len(runs) > 1:
        print("\n".join([comparison_table(reports, differences), *(f"\n{name}\n{show_parts(parts[name])}" for name in parts)]))
    else:
        worst = worst_utterances(runs[0].references, runs[0].hypotheses)
        shown = show(reports[0]) + "\n" + show_parts(parts[runs[0].system])
        print("\n\n".join([shown, "worst utterances", *worst]))


if __name__ == "__main__":
    sys.exit(run_command(main))
