"""A log-mel spectrogram → features: the rows of numbers that say what was spoken.

`WhisperEncoder` is the frozen one: two convolutions halve 100 frames a second to 50, then transformer
layers look at the whole clip. `log_mel [batch, frames, 80]` becomes `features [batch, frames / 2, 512]`.

transformers' own forward insists on 3000 frames, 30 s of mostly silence. The layers do not: here they run
over the frames that exist, so 2 s of speech cost 100 positions instead of 1500.
`TinyEncoder` is Stage B's (`encoder_layers.py`), trained from nothing: `[batch, frames, 128]` becomes
`[batch, frames / 4, 192]`. Both are a `SpeechEncoder`, so either can be the ear of SLAM-ASR.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from course_lib.encoder_layers import ByteDropout, PreNormLayer, TimeReduction, real_frames
from course_lib.mel import CTC_MEL_RECIPE, WHISPER_MEL_RECIPE, MelRecipe, ctc_log_mel, whisper_log_mel
from course_lib.precision import Precision, autocast, resolve_precision
from course_lib.whisper_files import EncoderError, encoder_tensors, locate_whisper


@dataclass(frozen=True)
class EncoderConfig:
    """What the rest of the pipeline needs to know of an encoder; `max_frames` counts mel frames."""

    feature_dim: int
    mel_bins: int
    max_frames: int
    frames_per_second: int | float


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

    def forward(
        self, log_mel: Float[Tensor, "batch frames bins"], frame_counts: Int[Tensor, "batch"] | None = None
    ) -> tuple[Float[Tensor, "batch frames_out features"], Int[Tensor, "batch"]]:
        """Encode a padded batch; `frame_counts` says how many mel frames of each clip are real (None: all).

        The rows of a clip are the same alone and in a batch, but for rounding (under 1e-4 of the largest value in fp32),
        and what follows them is zero. Returns the features and how many rows are real.
        Raises `EncoderError` for more frames than `max_frames`, another number of bins, or impossible counts.
        """
        frame_counts = self._checked_counts(log_mel, frame_counts)
        with autocast(self.precision, log_mel.device):
            features, counts = self._encode(log_mel, frame_counts)
        return features.float(), counts

    def log_mel(self, waveform: Float[Tensor, "samples"]) -> Float[Tensor, "frames bins"]:
        """The log-mel spectrogram that this encoder reads, of one clip."""
        raise NotImplementedError

    @torch.no_grad()
    def encode_waveform(self, waveform: Float[Tensor, "samples"]) -> Float[Tensor, "frames features"]:
        """Encode one clip of 16 kHz sound, without padding: Whisper makes [100, 512] of 2 s."""
        log_mel = rearrange(self.log_mel(waveform), "frames bins -> 1 frames bins")
        features, _ = self(log_mel.to(self.device))
        return rearrange(features, "1 frames features -> frames features")

    def _encode(
        self, log_mel: Float[Tensor, "batch frames bins"], frame_counts: Int[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch frames_out features"], Int[Tensor, "batch"]]:
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

    def log_mel(self, waveform: Float[Tensor, "samples"]) -> Float[Tensor, "frames bins"]:
        """Whisper's own recipe."""
        return whisper_log_mel(waveform, bins=self.config.mel_bins)

    def _weights(self) -> dict[str, Tensor]:
        return self.whisper.state_dict()

    def _encode(
        self, log_mel: Float[Tensor, "batch frames bins"], frame_counts: Int[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch frames_out features"], Int[Tensor, "batch"]]:
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
        counts = (frame_counts + 1) // 2
        real = real_frames(counts, hidden.shape[1])
        # Attention without a mask is faster, and without padding none is needed.
        mask = None if bool(real.all()) else rearrange(real, "batch frames -> batch 1 1 frames")
        for layer in self.whisper.layers:
            hidden = layer(hidden, mask)
        return self.whisper.layer_norm(hidden) * real[:, :, None], counts


class TinyEncoder(SpeechEncoder):
    """Stage B's encoder, to be trained from nothing: convolutions that shorten time, then pre-norm transformer layers.

    With the document's sizes and 4 × it has 1,964,544 parameters: 128 bins in, 192 features out, 25 frames a second.
    A clip of n frames gives ⌈n / downsample_time⌉ rows.
    """

    def __init__(
        self,
        d_model: int = 192,
        n_layers: int = 4,
        n_heads: int = 3,
        d_ff: int = 768,
        dropout: float = 0.1,
        downsample_time: int = 4,
        precision: Precision = "fp32",
    ):
        super().__init__()
        self.precision, self.mel_recipe = precision, CTC_MEL_RECIPE
        self.config = EncoderConfig(d_model, CTC_MEL_RECIPE.bins, max_frames=3000, frames_per_second=100 / downsample_time)
        self.time_reduction = TimeReduction(CTC_MEL_RECIPE.bins, d_model, downsample_time)
        self.dropout = ByteDropout(dropout)
        self.layers = nn.ModuleList(PreNormLayer(d_model, n_heads, d_ff, dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(d_model)

    def log_mel(self, waveform: Float[Tensor, "samples"]) -> Float[Tensor, "frames bins"]:
        """The course's own recipe, 128 bins, each clip scaled to mean 0 and deviation 1."""
        return ctc_log_mel(waveform)

    def _encode(
        self, log_mel: Float[Tensor, "batch frames bins"], frame_counts: Int[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch frames_out features"], Int[Tensor, "batch"]]:
        hidden, counts = self.time_reduction(log_mel, frame_counts)
        hidden, real = self.dropout(hidden), real_frames(counts, hidden.shape[1])
        for layer in self.layers:
            hidden = layer(hidden, real)
        return self.norm(hidden) * real[:, :, None], counts


def pad_log_mels(
    log_mels: list[Float[Tensor, "_frames bins"]], multiple: int = 1
) -> tuple[Float[Tensor, "batch frames bins"], Int[Tensor, "batch"]]:
    """Stack clips of different lengths, zeros behind the shorter ones; return batch and frame counts.

    With a `multiple` the batch is as long as the next multiple of it: a CPU's matrix library prepares itself for every new
    shape, and with few shapes it is soon done.
    """
    counts = torch.tensor([len(log_mel) for log_mel in log_mels], device=log_mels[0].device)
    padded = pad_sequence(log_mels, batch_first=True)
    return F.pad(padded, (0, 0, 0, -padded.shape[1] % multiple)), counts
