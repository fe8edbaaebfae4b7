"""Fill a folder of this one from a finished training: its best weights in fp16 (half the size), its config, its logs.

No training writes into data/ by itself. A language model's folder is copied as it is; `--manifest` notes only the checksums of
what lies in a folder already.

python data/models/ship.py runs/slam data/models/slam-tiny
python data/models/ship.py runs/tiny-danish-lm data/models/tiny-danish-lm
python data/models/ship.py --manifest data/models/whisper-base-encoder
python data/models/ship.py checkpoints/audio_enc_tiny data/models/stage-b-tiny --output output.txt
"""

import argparse
import shutil
from pathlib import Path

from course_lib.ctc.recogniser import CONFIG_NAME as STAGE_B_CONFIG_NAME
from course_lib.ctc.recogniser import SUBWORDS_NAME
from course_lib.files import MANIFEST_NAME, file_digest, write_manifest
from course_lib.systems import CONFIG_NAME as SLAM_CONFIG_NAME
from course_lib.training.checkpoints import read_weights, save_weights

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


MODEL_FILES = ("*.safetensors", "config.json", "preprocessor_config.json", "generation_config.json", "tokenizer*.json")
"""What a manifest covers: all that a model is read from, but no config of ours, which everyone may change in a copy."""


def note_checksums(target: Path) -> None:
    """Write the manifest of a folder: whoever loads from it is told when a file is not what was shipped."""
    write_manifest(target, {path.name for pattern in (*MODEL_FILES, SUBWORDS_NAME) for path in target.glob(pattern)})


def ship_language_model(folder: Path, target: Path) -> str:
    """Copy a language model's folder; returns the SHA-256 of its weights."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.name != MANIFEST_NAME:
            shutil.copyfile(file, target / file.name)
    return file_digest(target / "model.safetensors")


def ship_weights(run_folder: Path, target: Path) -> str:
    """Write the best weights in fp16; returns their SHA-256."""
    weights = target / "best.safetensors"
    save_weights({name: weight.half() for name, weight in read_weights(run_folder / "best.safetensors").items()}, weights)
    weights.chmod(0o644)
    return file_digest(weights)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_folder", type=Path, nargs="?", help="what the training left behind")
    parser.add_argument("target", type=Path)
    parser.add_argument("--output", type=Path, help="a file with what the training printed")
    parser.add_argument("--without-weights", action="store_true", help="for a run that is only compared with")
    parser.add_argument("--manifest", action="store_true", help="only write the manifest of the target")
    arguments = parser.parse_args()
    if not arguments.manifest and not arguments.run_folder:
        parser.error("name the run folder and the target, or --manifest and the target")
    if not arguments.manifest:
        (arguments.target / MANIFEST_NAME).unlink(missing_ok=True)
        if (arguments.run_folder / "model.safetensors").is_file():
            print(ship_language_model(arguments.run_folder, arguments.target), arguments.target)
        else:
            make(arguments.run_folder, arguments.target, arguments.output)
            if not arguments.without_weights:
                print(ship_weights(arguments.run_folder, arguments.target), arguments.target)
    note_checksums(arguments.target)
