"""How fast each part is on this machine: python -m course_lib.benchmark

Trainings side by side: … benchmark ctc (Stage B), … benchmark slam (SLAM-ASR).
Long recordings, their errors and their memory: … benchmark long.
"""

import argparse
import json
import sys
from types import ModuleType

import torch

from course_lib.benchmark import ctc, long, parts, slam
from course_lib.benchmark.measure import measure, table
from course_lib.compute import cpu_bf16_instructions, pick_device
from course_lib.config import positive_count
from course_lib.errors import run_command

TRAININGS = {"ctc": ctc, "slam": slam}
"""Modules with their HELP, `add_arguments(parser)` and `make_setups(arguments)`."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line; `subcommand` is its name or None."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.benchmark", description=__doc__)
    parser.add_argument("--speech-clips", type=positive_count, default=600, help="how many clips of synthetic speech to make")
    subparsers = parser.add_subparsers(title="subcommands", metavar="", dest="subcommand")
    for name, module in TRAININGS.items():
        command = subparsers.add_parser(name, help=module.HELP, description=module.__doc__)
        module.add_arguments(command)
        command.add_argument("--rounds", type=positive_count, default=5, help="turns that each setup gets; the median counts")
        command.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu")
        command.add_argument("--each", action="store_true", help="also leave out our tricks, one at a time")
        command.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    long.add_arguments(subparsers.add_parser("long", help=long.HELP, description=long.__doc__))
    return parser.parse_args()


def compare_trainings(module: ModuleType, arguments: argparse.Namespace) -> None:
    """Measure the setups of each batch size; print what the figures depend on and tables, or JSON."""
    pick_device(arguments.device)
    torch.manual_seed(0)
    more_facts, setups_of_size = module.make_setups(arguments)
    facts = {
        "torch": torch.__version__,
        "device": arguments.device,
        "threads": torch.get_num_threads(),
        "bf16 on CPU": cpu_bf16_instructions() or "neither AMX nor AVX512_BF16",
    } | more_facts
    if not arguments.json:
        print("\n".join(f"{name:12} {fact}" for name, fact in facts.items()), flush=True)
    found = {}
    for size, setups in setups_of_size.items():
        found[size] = measure(setups, arguments.rounds, torch.device(arguments.device))
        if not arguments.json:
            print("\n" + table(f"training step, {size} clips", found[size]), flush=True)
    if arguments.json:
        print(json.dumps(facts | {"batch_sizes": found}))


def main() -> None:
    """Measure the parts, or what a subcommand names."""
    arguments = parse_arguments()
    if arguments.subcommand == "long":
        long.print_lengths(arguments)
    elif arguments.subcommand:
        compare_trainings(TRAININGS[arguments.subcommand], arguments)
    else:
        parts.print_parts(arguments.speech_clips)


if __name__ == "__main__":
    sys.exit(run_command(main))
