"""A log-mel spectrogram → features: the rows of numbers that say what was spoken.

`WhisperEncoder` is the frozen one: two convolutions halve 100 frames a second to 50, then transformer
layers look at the whole clip. `log_mel [batch, frames, 80]` becomes `features [batch, frames / 2, 512]`.

transformers' own forward insists on 3000 frames, 30 s of mostly silence. The layers do not: here they run
over the frames that exist, so 2 s of speech cost 100 positions instead of 1500.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from course_lib.mel import whisper_log_mel
from course_lib.precision import Precision, autocast, resolve_precision
from course_lib.whisper_files import EncoderError, encoder_tensors, locate_whisper


@dataclass(frozen=True)
class EncoderConfig:
    """What the rest of the pipeline needs to know of an encoder; `max_frames` counts mel frames."""

    feature_dim: int
    mel_bins: int
    max_frames: int
    frames_per_second: int


class WhisperEncoder(nn.Module):
    """Whisper's encoder, frozen: no gradients, no dropout, and a clip's features do not depend on its batch.

    Whisper-base: 20,590,592 parameters, 80 bins in, 512 features out, 50 frames a second, 30 s at most.
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
        self._digest: str | None = None
        self.eval()

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, precision: Precision = "fp32") -> "WhisperEncoder":
        """Load from a folder (the encoder alone or a whole Whisper) or a Hub id like "openai/whisper-base".

        Only a Hub id touches the network. Weights are held in fp32 however they are stored; "bf16" multiplies
        matrices under autocast, faster on a GPU and on CPUs with AMX, and still returns fp32.
        Raises `EncoderError` for a folder that is not there or holds no Whisper encoder.
        """
        # Importing transformers takes seconds, and a learner in Stage B does not need it.
        from transformers import WhisperConfig
        from transformers.models.whisper import modeling_whisper

        config_file, weights_file = locate_whisper(str(name_or_folder))
        config = WhisperConfig.from_dict(json.loads(config_file.read_text(encoding="utf-8")))
        with torch.device("meta"):
            whisper = modeling_whisper.WhisperEncoder(config)
        whisper.load_state_dict(encoder_tensors(weights_file, whisper.state_dict()), assign=True)
        return cls(whisper, precision)

    def train(self, mode: bool = True) -> "WhisperEncoder":
        """Stay in evaluation mode: the `train()` of a model around this one must not wake it up."""
        return super().train(False)

    @property
    def feature_dim(self) -> int:
        """Numbers per output frame: 512 for Whisper-base."""
        return self.config.feature_dim

    @property
    def fingerprint(self) -> str:
        """Name for feature caches: 16 digits of SHA-256 of config and weights, then the precision in use."""
        if self._digest is None:
            digest = hashlib.sha256(json.dumps(asdict(self.config)).encode())
            for name, tensor in sorted(self.whisper.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.cpu().contiguous().numpy())
            self._digest = digest.hexdigest()[:16]
        return f"{self._digest}-{resolve_precision(self.precision, self.whisper.device)}"

    def forward(
        self, log_mel: Float[Tensor, "batch frames bins"], frame_counts: Int[Tensor, "batch"] | None = None
    ) -> tuple[Float[Tensor, "batch frames_out features"], Int[Tensor, "batch"]]:
        """Encode a padded batch; `frame_counts` says how many mel frames of each clip are real (None: all).

        A clip of n frames gives ⌈n / 2⌉ rows, and what follows them is zero. They are the same alone and in a
        batch, but for rounding (under 1e-4 of the largest value in fp32: inside, values reach 350). Over 3000
        frames they equal those of transformers' encoder. Returns the features and how many rows are real.
        Raises `EncoderError` for more than 3000 frames, another number of bins, or impossible counts.
        """
        frame_counts = self._checked_counts(log_mel, frame_counts)
        with autocast(self.precision, log_mel.device):
            features, counts = self._encode(log_mel, frame_counts)
        return features.float(), counts

    @torch.no_grad()
    def encode_waveform(self, waveform: Float[Tensor, "samples"]) -> Float[Tensor, "frames features"]:
        """Encode one clip of 16 kHz sound, without padding: 2 s → [100, 512]."""
        log_mel = whisper_log_mel(waveform, bins=self.config.mel_bins)
        features, _ = self(rearrange(log_mel, "frames bins -> 1 frames bins").to(self.whisper.device))
        return rearrange(features, "1 frames features -> frames features")

    def _encode(
        self, log_mel: Float[Tensor, "batch frames bins"], frame_counts: Int[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch frames_out features"], Int[Tensor, "batch"]]:
        """Run transformers' modules in transformers' order, with padding zeroed before *each* convolution.

        Zeros before the first are not enough: it adds its bias to them, and the second convolution would see
        that behind the last real frame.
        """
        real = _real_frames(frame_counts, log_mel.shape[1])
        sound = rearrange(log_mel * real[:, :, None], "batch frames bins -> batch bins frames")
        sound = F.gelu(self.whisper.conv1(sound)) * real[:, None, :]
        sound = F.gelu(self.whisper.conv2(sound))
        hidden = rearrange(sound, "batch features frames -> batch frames features")
        hidden = hidden + self.whisper.embed_positions.weight[: hidden.shape[1]]
        counts = (frame_counts + 1) // 2
        real = _real_frames(counts, hidden.shape[1])
        # Attention without a mask is faster, and without padding none is needed.
        mask = None if bool(real.all()) else rearrange(real, "batch frames -> batch 1 1 frames")
        for layer in self.whisper.layers:
            hidden = layer(hidden, mask)
        return self.whisper.layer_norm(hidden) * real[:, :, None], counts

    def _checked_counts(
        self, log_mel: Float[Tensor, "batch frames bins"], frame_counts: Int[Tensor, "batch"] | None
    ) -> Int[Tensor, "batch"]:
        """Refuse what the encoder cannot take; fill in counts that were not given."""
        batch, frames, bins = log_mel.shape
        longest = self.config.max_frames
        if bins != self.config.mel_bins:
            raise EncoderError(f"log_mel has {bins} bins, this encoder takes {self.config.mel_bins}.")
        if not 1 <= frames <= longest:
            raise EncoderError(f"{frames} mel frames: 1 to {longest} ({longest // 100} s) fit. Cut the clip.")
        if frame_counts is None:
            return torch.full((batch,), frames, device=log_mel.device)
        if batch and not 1 <= int(frame_counts.min()) <= int(frame_counts.max()) <= frames:
            raise EncoderError(f"frame_counts {frame_counts.tolist()} must lie between 1 and {frames}.")
        return frame_counts.to(log_mel.device)


def pad_log_mels(
    log_mels: list[Float[Tensor, "_frames bins"]],
) -> tuple[Float[Tensor, "batch frames bins"], Int[Tensor, "batch"]]:
    """Stack clips of different lengths, zeros behind the shorter ones; return batch and frame counts."""
    counts = torch.tensor([len(log_mel) for log_mel in log_mels], device=log_mels[0].device)
    return pad_sequence(log_mels, batch_first=True), counts


def _real_frames(counts: Int[Tensor, "batch"], frames: int) -> Bool[Tensor, "batch frames"]:
    """True where a row still holds sound, False on its padding."""
    return torch.arange(frames, device=counts.device) < counts[:, None]
