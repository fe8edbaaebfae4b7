"""Which part of the Stage B recipe earns its place? python -m course_lib.ablate

Short trainings on a slice of the data that differ from the first in one thing each; their logs go into one JSON file.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from course_lib.config import CONFIG_FOLDER, load_config, replace
from course_lib.ctc.recogniser import CONFIG_NAME, StageBConfig
from course_lib.files import save_json
from course_lib.train_audio_enc import train

CHANGES: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "with SpecAugment": {"spec_augment": True},
    "lengths mixed": {"length_bucketed": False},
    "constant rate": {"schedule": "constant"},
    "the document's constant 1e-4": {"schedule": "constant", "warmup_share": 0.0, "learning_rate": 1e-4},
}


def ablate(config: StageBConfig, folder: Path) -> dict[str, list[dict[str, float | int]]]:
    """Train once for each change; the logs by name. A training that is finished already is not run again."""
    logs = {}
    for name, change in CHANGES.items():
        run_folder = folder / name.replace(" ", "-").replace("'", "")
        changed = replace(config, **change, run_folder=str(run_folder))
        print(f"\n{name}")
        train(changed, resume=(run_folder / "training_state.pt").is_file())
        logs[name] = json.loads((run_folder / "training_log.json").read_text(encoding="utf-8"))
    return logs


def main() -> None:
    """Read the command line, train, print the last line of every log, write them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=CONFIG_FOLDER / CONFIG_NAME)
    parser.add_argument("--clips", type=int, default=3_000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--output", type=Path, default=Path("runs/ablations.json"))
    arguments = parser.parse_args()
    config = replace(
        load_config(arguments.config, StageBConfig),
        train_clips=arguments.clips,
        num_epochs=arguments.epochs,
        checkpoint_freq=0,
        report_interval=0,
        validation_interval=max(1, arguments.clips // 32 * 3),
    )
    logs = ablate(config, arguments.folder)
    save_json(logs, arguments.output)
    for name, log in logs.items():
        print(f"{name:32} WER {log[-1]['wer']:6.1%}  CER {log[-1]['cer']:6.1%}  {log[-1]['seconds'] / 60:4.1f} min")


if __name__ == "__main__":
    main()
