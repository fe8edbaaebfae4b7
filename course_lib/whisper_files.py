"""A folder or a Hub id → the configuration and the weights of a Whisper encoder.

`encoders.py` loads through here, so that what touches the network stands in one place: `_download`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from course_lib.encoder_layers import sinusoidal_positions

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Where the encoder's tensors stand: as the course ships them, in a WhisperModel, in a whole
# WhisperForConditionalGeneration.
_PREFIXES = ("", "encoder.", "model.encoder.")

POSITIONS = "embed_positions.weight"
"""The one table that nobody trained: a formula says its 1.5 MB, so the course does not ship them."""


class EncoderError(ValueError):
    """An encoder that cannot be loaded, or input that it cannot take."""


def locate_whisper(name: str) -> tuple[Path, Path]:
    """Find `config.json` and `model.safetensors` in a folder, or fetch them if the name can only be a Hub id.

    Raises `EncoderError` that names the folder or the id, and what is missing.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        files = folder / "config.json", folder / "model.safetensors"
        for file in files:
            if not file.is_file():
                raise EncoderError(f"{folder}: {file.name} is missing. Name the folder of a Whisper model.")
        return files
    # "data/models" is spelled like a Hub id; an existing folder "data" shows what was meant.
    if not _HUB_ID.fullmatch(name) or folder.parent.is_dir():
        raise EncoderError(f"{name}: no folder seen from {Path.cwd()}, nor a Hub id like openai/whisper-base.")
    return _download(name)


def encoder_tensors(weights_file: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the encoder's tensors, and only those, as fp32 however they are stored.

    `wanted` is the state dict to fill; positions that are not in the file are computed, rounded to fp16 as OpenAI's are.
    Raises `EncoderError` when the file is damaged or does not hold every other tensor of `wanted` in the same shape.
    """
    shapes = {name: tensor.shape for name, tensor in wanted.items()}
    try:
        with safe_open(weights_file, framework="pt") as weights:
            stored = set(weights.keys())
            for prefix in _PREFIXES:
                found = {name: weights.get_tensor(prefix + name).float() for name in wanted if prefix + name in stored}
                if POSITIONS in wanted:
                    found.setdefault(POSITIONS, sinusoidal_positions(*wanted[POSITIONS].shape).half().float())
                if {name: tensor.shape for name, tensor in found.items()} == shapes:
                    return found
    except SafetensorError as error:
        raise EncoderError(f"{weights_file}: damaged ({error}). Copy or download it again.") from error
    raise EncoderError(f"{weights_file}: holds no Whisper encoder that fits the config.json beside it.")


def _download(hub_id: str) -> tuple[Path, Path]:
    """Fetch both files from the Hub, or from its local cache."""
    from huggingface_hub import hf_hub_download

    try:
        config_file, weights_file = (hf_hub_download(hub_id, file) for file in ("config.json", "model.safetensors"))
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise EncoderError(f"{hub_id}: not fetched from the Hub ({reason}). Check the id, or name a folder.") from error
    return Path(config_file), Path(weights_file)
