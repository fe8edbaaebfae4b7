"""Fill a folder of this one from a finished training: its best weights in fp16 (half the size), its config, its logs.

python data/models/ship.py runs/slam data/models/slam-tiny
python data/models/ship.py checkpoints/audio_enc_tiny data/models/stage-b-tiny --output output.txt
"""

import argparse
import hashlib
import shutil
from pathlib import Path

from safetensors.torch import load_file

from course_lib.ctc.recogniser import CONFIG_NAME as STAGE_B_CONFIG_NAME
from course_lib.systems import CONFIG_NAME as SLAM_CONFIG_NAME
from course_lib.training.checkpoints import save_weights

FILES = {
    SLAM_CONFIG_NAME: SLAM_CONFIG_NAME,
    STAGE_B_CONFIG_NAME: STAGE_B_CONFIG_NAME,
    "training_log.json": "training_log.json",
    "ctc_warmup/training_log.json": "ctc_warmup_log.json",
}
"""File of a run folder → its name here; a run has either of the configs, and a log of the warm-up if there was one."""


def make(run_folder: Path, target: Path, output: Path | None = None) -> None:
    """Copy what is read, and what the training printed if that was kept."""
    target.mkdir(parents=True, exist_ok=True)
    for source, name in FILES.items():
        if (run_folder / source).is_file():
            shutil.copyfile(run_folder / source, target / name)
    if output:
        shutil.copyfile(output, target / "output.txt")


def ship_weights(run_folder: Path, target: Path) -> str:
    """Write the best weights in fp16; returns their SHA-256."""
    weights = target / "best.safetensors"
    save_weights({name: weight.half() for name, weight in load_file(run_folder / "best.safetensors").items()}, weights)
    weights.chmod(0o644)
    return hashlib.sha256(weights.read_bytes()).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_folder", type=Path, help="what the training left behind")
    parser.add_argument("target", type=Path)
    parser.add_argument("--output", type=Path, help="a file with what the training printed")
    parser.add_argument("--without-weights", action="store_true", help="for a run that is only compared with")
    arguments = parser.parse_args()
    make(arguments.run_folder, arguments.target, arguments.output)
    if not arguments.without_weights:
        print(ship_weights(arguments.run_folder, arguments.target), arguments.target)
