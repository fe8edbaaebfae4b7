"""How fast each part is on this machine: python -m course_lib.benchmark

Trainings side by side: … benchmark ctc (Stage B), … benchmark slam (SLAM-ASR).
"""

import argparse

from course_lib.benchmark import ctc, slam
from course_lib.benchmark.measure import measure_parts

SUBCOMMANDS = {"ctc": ctc, "slam": slam}
"""Modules with their HELP, `add_arguments(parser)` and `run(arguments)`."""


def main() -> None:
    """Read the command line, measure, print a table."""
    parser = argparse.ArgumentParser(prog="python -m course_lib.benchmark", description=__doc__)
    parser.add_argument("--speech-clips", type=int, default=600, help="how many clips to speak for the first line")
    parser.set_defaults(run=measure_parts)
    subparsers = parser.add_subparsers(title="subcommands", metavar="")
    for name, module in SUBCOMMANDS.items():
        command = subparsers.add_parser(name, help=module.HELP, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
