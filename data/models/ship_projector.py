"""Make `slam-tiny/` from a finished training: its best weights in fp16 (half the size), its config, and both of its logs.

python data/models/ship_projector.py runs/slam [TARGET_FOLDER]
"""

import argparse
import hashlib
import shutil
from pathlib import Path

from safetensors.torch import load_file

from course_lib.checkpoints import save_weights

HERE = Path(__file__).parent
FILES = {
    "train_config.yaml": "train_config.yaml",
    "training_log.json": "training_log.json",
    "ctc_warmup/training_log.json": "ctc_warmup_log.json",
}


def make(run_folder: Path, target: Path) -> str:
    """Copy what is shipped; returns the weights' SHA-256."""
    target.mkdir(parents=True, exist_ok=True)
    for source, name in FILES.items():
        shutil.copyfile(run_folder / source, target / name)
    weights = target / "best.safetensors"
    save_weights({name: weight.half() for name, weight in load_file(run_folder / "best.safetensors").items()}, weights)
    weights.chmod(0o644)
    return hashlib.sha256(weights.read_bytes()).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_folder", type=Path, help="what the training left behind")
    parser.add_argument("target", type=Path, nargs="?", default=HERE / "slam-tiny")
    arguments = parser.parse_args()
    print(make(arguments.run_folder, arguments.target), arguments.target)
