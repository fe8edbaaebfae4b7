"""Log-mel → features: Whisper's encoder, frozen, from a folder or a Hub id.

    log_mel [batch, frames, 80] → 2 convolutions → [batch, frames / 2, 512] → 6 transformer layers → features, the same shape

transformers' own forward insists on 3000 frames, 30 s of mostly silence. The layers do not: here they run over the frames that
exist, so 2 s of speech cost 100 positions instead of 1500. What touches the network stands in one place: `_download`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from course_lib.compute import Precision
from course_lib.encoder.base import EncoderConfig, EncoderError, Padded, SpeechEncoder, real_frames
from course_lib.encoder.positions import sinusoidal_positions
from course_lib.files import refuse_changed
from course_lib.sound.mel import WHISPER_MEL_RECIPE, whisper_log_mel
from course_lib.sound.shape_table import frames_after

if TYPE_CHECKING:  # an annotation needs its name only; course_lib.huggingface says why that matters
    import transformers

POSITIONS = "embed_positions.weight"
"""The one table that nobody trained: a formula says its 1.5 MB, so the course does not ship them."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_PREFIXES = ("", "encoder.", "model.encoder.")
"""Before the encoder's tensors in a file: the course's, a WhisperModel's, a WhisperForConditionalGeneration's."""


class WhisperEncoder(SpeechEncoder):
    """Whisper's encoder, frozen: no gradients, no dropout, and a clip's features do not depend on its batch.

    Whisper-base: 20,590,592 parameters, 80 bins in, 512 features out, 50 frames a second, 30 s at most. A clip of n frames
    gives ⌈n / 2⌉ rows; inside, values reach 350. Over 3000 frames they equal those of transformers' encoder.
    """

    def __init__(self, whisper: nn.Module, precision: Precision = "fp32"):
        """Wrap the `WhisperEncoder` of `transformers.models.whisper.modeling_whisper`."""
        super().__init__()
        # The mask of `_encode` says True for "look here"; eager attention would add it to the scores as 1.
        whisper.config._attn_implementation = "sdpa"
        self.whisper = whisper.requires_grad_(False)
        self.precision = precision
        self.config = EncoderConfig(
            feature_dim=whisper.config.d_model,
            mel_bins=whisper.config.num_mel_bins,
            max_frames=2 * whisper.config.max_source_positions,
            frames_per_second=50,
        )
        self.mel_recipe = WHISPER_MEL_RECIPE
        self.eval()

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, precision: Precision = "fp32") -> "WhisperEncoder":
        """Load from a folder (the encoder alone or a whole Whisper) or a Hub id like "openai/whisper-base".

        Only a Hub id touches the network. Weights are held in fp32 however they are stored; "bf16" multiplies
        matrices under autocast, faster on a GPU and on CPUs with AMX or AVX512_BF16, and still returns fp32.
        Raises `EncoderError` for a folder that is not there or holds no Whisper encoder.
        """
        from course_lib.huggingface import transformers

        config_file, weights_file = locate_whisper(str(name_or_folder))
        refuse_changed(config_file.parent)
        try:
            config = transformers.WhisperConfig.from_dict(json.loads(config_file.read_text(encoding="utf-8")))
            _refuse_impossible(config)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise EncoderError(f"{config_file}: no config of a Whisper ({error}). Copy or download it again.") from error
        with torch.device("meta"):
            whisper = transformers.models.whisper.modeling_whisper.WhisperEncoder(config)
        whisper.load_state_dict(encoder_tensors(weights_file, whisper.state_dict()), assign=True)
        return cls(whisper, precision)

    def train(self, mode: bool = True) -> "WhisperEncoder":
        """Stay in evaluation mode: the `train()` of a model around this one must not wake it up."""
        return super().train(False)

    def log_mel(self, waveform: Float[Tensor, "samples"]) -> Float[Tensor, "frames bins"]:
        """Whisper's own recipe."""
        return whisper_log_mel(waveform, bins=self.config.mel_bins)

    def _weights(self) -> dict[str, Tensor]:
        return self.whisper.state_dict()

    def _encode(self, log_mel: Float[Tensor, "batch frames bins"], frame_counts: Int[Tensor, "batch"]) -> Padded:
        """Run transformers' modules in transformers' order, with padding zeroed before *each* convolution.

        Zeros before the first are not enough: it adds its bias to them, and the second convolution would see
        that behind the last real frame.
        """
        real = real_frames(frame_counts, log_mel.shape[1])
        sound = rearrange(log_mel * real[:, :, None], "batch frames bins -> batch bins frames")
        sound = F.gelu(self.whisper.conv1(sound)) * real[:, None, :]
        sound = F.gelu(self.whisper.conv2(sound))
        hidden = rearrange(sound, "batch features frames -> batch frames features")
        hidden = hidden + self.whisper.embed_positions.weight[: hidden.shape[1]]
        counts = frames_after(frame_counts, 2)
        real = real_frames(counts, hidden.shape[1])
        # Attention without a mask is faster, and without padding none is needed.
        mask = None if bool(real.all()) else rearrange(real, "batch frames -> batch 1 1 frames")
        for layer in self.whisper.layers:
            hidden = layer(hidden, mask)
        return Padded(self.whisper.layer_norm(hidden) * real[:, :, None], counts)


def locate_whisper(name: str, fetch: bool = True) -> tuple[Path, Path] | None:
    """Find `config.json` and `model.safetensors` in a folder, or fetch them if the name can only be a Hub id.

    Without `fetch`, a Hub id is believed, and None.

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
    return _download(name) if fetch else None


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
                    break
            else:
                raise EncoderError(f"{weights_file}: holds no Whisper encoder that fits the config.json beside it.")
    except (SafetensorError, OSError, RuntimeError) as error:
        raise EncoderError(f"{weights_file}: damaged ({error}). Copy or download it again.") from error
    for name, tensor in found.items():
        if not torch.isfinite(tensor).all():
            raise EncoderError(f"{weights_file}: {name} holds NaN or Inf. Copy or download it again.")
    return found


def _refuse_impossible(config: "transformers.WhisperConfig") -> None:
    """Raise ValueError for sizes that no Whisper has, before any memory is taken for them."""
    sizes = {name: getattr(config, name) for name in ("d_model", "encoder_layers", "encoder_attention_heads", "num_mel_bins",
             "max_source_positions", "encoder_ffn_dim")}  # fmt: skip
    wrong = [name for name, size in sizes.items() if type(size) is not int or not 1 <= size <= 20_000]
    if wrong or sizes["d_model"] % sizes["encoder_attention_heads"]:
        raise ValueError(f"impossible sizes: {', '.join(wrong or ['encoder_attention_heads'])}")


def _download(hub_id: str) -> tuple[Path, Path]:
    """Fetch both files from the Hub, or from its local cache."""
    from huggingface_hub import hf_hub_download

    try:
        config_file, weights_file = (hf_hub_download(hub_id, file) for file in ("config.json", "model.safetensors"))
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise EncoderError(f"{hub_id}: not fetched from the Hub ({reason}). Check the id, or name a folder.") from error
    return Path(config_file), Path(weights_file)
