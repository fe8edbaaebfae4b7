"""Which part of the Stage B recipe earns its place? python -m course_lib.ablate

Short trainings on a slice of the data that differ from the first in one thing each; their logs go into one JSON file.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from course_lib.config import CONFIG_FOLDER, load_config, positive_count, replace
from course_lib.ctc.recogniser import CONFIG_NAME, StageBConfig
from course_lib.errors import run_command
from course_lib.files import refuse_output, save_json
from course_lib.train_audio_enc import train
from course_lib.training.run_folder import STATE_NAME, run_key

CHANGES: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "with SpecAugment": {"spec_augment": True},
    "lengths mixed": {"length_bucketed": False},
    "constant rate": {"schedule": "constant"},
    "the document's constant 1e-4": {"schedule": "constant", "warmup_share": 0.0, "learning_rate": 1e-4},
}


def ablate(config: StageBConfig, folder: Path) -> dict[str, list[dict[str, float | int]]]:
    """Train once for each change; the logs by name. A training that is finished already is not run again.

    The key of its config is part of a run folder's name, so that no run is taken for one of another config.
    """
    logs = {}
    for name, change in CHANGES.items():
        changed = replace(config, **change)
        plain_name = name.replace(" ", "-").replace("'", "")
        run_folder = folder / f"{plain_name}-{run_key(changed)}"
        print(f"\n{name}")
        train(replace(changed, run_folder=str(run_folder)), resume=(run_folder / STATE_NAME).is_file())
        logs[name] = json.loads((run_folder / "training_log.json").read_text(encoding="utf-8"))
    return logs


def main() -> None:
    """Read the command line, train, print the last line of every log, write them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=CONFIG_FOLDER / CONFIG_NAME)
    parser.add_argument("--clips", type=positive_count, default=3_000)
    parser.add_argument("--epochs", type=positive_count, default=8)
    parser.add_argument("--folder", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--output", type=Path, default=Path("runs/ablations.json"))
    parser.add_argument("--skip-bad", action="store_true", help="leave out rows that cannot be used, and say how many")
    arguments = parser.parse_args()
    refuse_output(arguments.output)
    config = replace(
        load_config(arguments.config, StageBConfig),
        train_clips=arguments.clips,
        num_epochs=arguments.epochs,
        skip_bad=arguments.skip_bad,
        checkpoint_freq=0,
        report_interval=0,
        validation_interval=max(1, arguments.clips // 32 * 3),
    )
    logs = ablate(config, arguments.folder)
    save_json(logs, arguments.output)
    for name, log in logs.items():
        print(f"{name:32} WER {log[-1]['wer']:6.1%}  CER {log[-1]['cer']:6.1%}  {log[-1]['seconds'] / 60:4.1f} min")


if __name__ == "__main__":
    sys.exit(run_command(main))
