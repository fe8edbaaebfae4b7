"""A log-mel spectrogram → features: what all encoders share, so that either can stand in front of SLAM-ASR.

    encoder.whisper  WhisperEncoder, frozen               log_mel [batch, frames, 80]  → features [batch, frames / 2, 512]
    encoder.tiny     StageBEncoder, trained from nothing  log_mel [batch, frames, 128] → features [batch, frames / 4, 192]

A batch is padded with zeros, and its frame counts go with it through every step: what follows the last real frame of a clip
must change nothing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from course_lib.compute import Precision, autocast, resolve_precision
from course_lib.errors import CourseError
from course_lib.sound.mel import MelRecipe


class EncoderError(CourseError):
    """An encoder that cannot be loaded, or input that it cannot take."""


@dataclass(frozen=True)
class EncoderConfig:
    """What the rest of the pipeline needs to know of an encoder; `max_frames` counts mel frames."""

    feature_dim: int
    mel_bins: int
    max_frames: int
    frames_per_second: int | float


def real_frames(counts: Int[Tensor, "batch"] | Float[Tensor, "batch"], frames: int) -> Bool[Tensor, "batch frames"]:
    """True where a row still holds sound, False on its padding."""
    return torch.arange(frames, device=counts.device) < counts[:, None]


class Padded(NamedTuple):
    """Clips of different lengths in one tensor, zeros behind the shorter ones, and how many rows of each are real."""

    values: Float[Tensor, "batch frames features"]
    counts: Int[Tensor, "batch"]

    @classmethod
    def of(cls, clips: Sequence[Float[Tensor, "_frames features"]], multiple: int = 1) -> "Padded":
        """Stack clips; with a `multiple`, the batch is as long as the next multiple of it.

        A CPU's matrix library prepares itself for every new shape, and with few shapes it is soon done.
        """
        counts = torch.tensor([len(clip) for clip in clips], device=clips[0].device)
        values = pad_sequence(list(clips), batch_first=True)
        return cls(F.pad(values, (0, 0, 0, -values.shape[1] % multiple)), counts)

    def clips(self) -> list[Float[Tensor, "_frames features"]]:
        """The clips again, each of its own length."""
        return [clip[:count] for clip, count in zip(self.values, self.counts.tolist(), strict=True)]

    def to(self, device: torch.device | str) -> "Padded":
        """The same on another device."""
        return Padded(self.values.to(device), self.counts.to(device))


class SpeechEncoder(nn.Module):
    """What all encoders share: they check their input, compute in their precision, and hand back fp32.

    A subclass has `_encode`, `log_mel` and the `mel_recipe` that goes with it, and sets `config` and `precision`.
    """

    config: EncoderConfig
    mel_recipe: MelRecipe
    precision: Precision
    _digest: str | None = None

    @property
    def feature_dim(self) -> int:
        """Numbers per output frame: 512 for Whisper-base."""
        return self.config.feature_dim

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def fingerprint(self) -> str:
        """Name for feature caches: 16 digits of SHA-256 of config and weights, then the precision in use.

        Taken once: ask a training encoder and you get the name of the weights it began with.
        """
        if self._digest is None:
            digest = hashlib.sha256(json.dumps(asdict(self.config)).encode())
            for name, tensor in sorted(self._weights().items()):
                digest.update(name.encode())
                digest.update(tensor.cpu().contiguous().numpy())
            self._digest = digest.hexdigest()[:16]
        return f"{self._digest}-{resolve_precision(self.precision, self.device)}"

    def forward(self, log_mel: Float[Tensor, "batch frames bins"], frame_counts: Int[Tensor, "batch"] | None = None) -> Padded:
        """Encode a padded batch; `frame_counts` says how many mel frames of each clip are real (None: all).

        The rows of a clip are the same alone and in a batch, but for rounding (under 1e-4 of the largest value in fp32),
        and what follows them is zero. Returns the features and how many rows are real.
        Raises `EncoderError` for more frames than `max_frames`, another number of bins, or impossible counts.
        """
        frame_counts = self._checked_counts(log_mel, frame_counts)
        with autocast(self.precision, log_mel.device):
            features, counts = self._encode(log_mel, frame_counts)
        return Padded(features.float(), counts)

    def log_mel(self, waveform: Float[Tensor, "samples"]) -> Float[Tensor, "frames bins"]:
        """The log-mel spectrogram that this encoder reads, of one clip."""
        raise NotImplementedError

    @torch.no_grad()
    def encode_waveform(self, waveform: Float[Tensor, "samples"]) -> Float[Tensor, "frames features"]:
        """Encode one clip of 16 kHz sound, without padding: Whisper makes [100, 512] of 2 s."""
        log_mel = rearrange(self.log_mel(waveform), "frames bins -> 1 frames bins")
        features, _ = self(log_mel.to(self.device))
        return rearrange(features, "1 frames features -> frames features")

    def _encode(self, log_mel: Float[Tensor, "batch frames bins"], frame_counts: Int[Tensor, "batch"]) -> Padded:
        raise NotImplementedError

    def _weights(self) -> dict[str, Tensor]:
        return self.state_dict()

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
