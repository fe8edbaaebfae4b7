"""Make `whisper-base-encoder/`: a Whisper model's encoder alone, in fp16, without the table that a formula says.

    python data/models/make_whisper_encoder.py WHISPER_FOLDER [TARGET_FOLDER]

Same source, same bytes. The source is a folder with model.safetensors, config.json, preprocessor_config.json and LICENSE.
"""

import argparse
import hashlib
import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from course_lib.encoder.positions import sinusoidal_positions
from course_lib.encoder.whisper import POSITIONS

HERE = Path(__file__).parent
PREFIX = "model.encoder."
ENCODER_FIELDS = [
    "activation_dropout",
    "activation_function",
    "attention_dropout",
    "d_model",
    "dropout",
    "encoder_attention_heads",
    "encoder_ffn_dim",
    "encoder_layerdrop",
    "encoder_layers",
    "init_std",
    "max_source_positions",
    "model_type",
    "num_mel_bins",
    "scale_embedding",
]


def read_encoder(source: Path) -> dict[str, torch.Tensor]:
    """Read the encoder's tensors as fp16 under their short names, in a fixed order; positions stay behind if computable."""
    with safe_open(source / "model.safetensors", framework="pt") as weights:
        names = sorted(name for name in weights.keys() if name.startswith(PREFIX))  # noqa: SIM118
        tensors = {name.removeprefix(PREFIX): weights.get_tensor(name).half().contiguous() for name in names}
    if torch.equal(tensors[POSITIONS], sinusoidal_positions(*tensors[POSITIONS].shape).half()):
        del tensors[POSITIONS]
    return tensors


def encoder_config(source: Path) -> dict:
    """Keep the fields that an encoder has; the decoder's would describe weights that are not here."""
    whole = json.loads((source / "config.json").read_text(encoding="utf-8"))
    kept = {field: whole[field] for field in ENCODER_FIELDS}
    return dict(sorted({**kept, "architectures": ["WhisperEncoder"], "dtype": "float16"}.items()))


def make(source: Path, target: Path) -> str:
    """Write the folder beside its place, then move it there; return the weights' SHA-256."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    beside.mkdir(parents=True)
    try:
        save_file(read_encoder(source), beside / "model.safetensors", metadata={"format": "pt"})
        config = json.dumps(encoder_config(source), indent=2) + "\n"
        (beside / "config.json").write_text(config, encoding="utf-8")
        for name in ("preprocessor_config.json", "LICENSE"):
            shutil.copyfile(source / name, beside / name)
        target.mkdir(exist_ok=True)
        for file in beside.iterdir():
            # safetensors leaves its file readable by its owner only.
            file.chmod(0o644)
            os.replace(file, target / file.name)
    finally:
        shutil.rmtree(beside)
    return hashlib.sha256((target / "model.safetensors").read_bytes()).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of a whole Whisper model")
    parser.add_argument("target", type=Path, nargs="?", default=HERE / "whisper-base-encoder")
    arguments = parser.parse_args()
    print(make(arguments.source, arguments.target), arguments.target)
