"""Log-mel → features: Stage B's encoder, small enough to be trained from nothing, and the parts it is made of.

log_mel [batch, frames, 128] → TimeReduction → [batch, frames / 4, 192] → 4 × PreNormLayer → features [batch, frames / 4, 192]
"""

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_lib.compute import Precision
from course_lib.encoder.base import EncoderConfig, Padded, SpeechEncoder, real_frames
from course_lib.encoder.positions import rotary_angles, rotate
from course_lib.sound.mel import CTC_MEL_RECIPE, ctc_log_mel
from course_lib.sound.shape_table import frames_after


class ByteDropout(nn.Module):
    """Dropout that draws one byte for each value; `probability` is rounded to a 256th (0.1 → 26 / 256 = 0.102).

    On a CPU `torch.nn.Dropout` draws its random numbers one after the other. Eight bytes of every 64-bit draw do the same for
    an eighth of the draws; `python -m course_lib.benchmark ctc --each` says what that saves. What is kept is scaled up, as in
    `nn.Dropout`.
    """

    def __init__(self, probability: float):
        super().__init__()
        self.dropped = round(256 * probability)

    def forward(self, values: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
        """Zero each value with the same chance while training; do nothing in evaluation."""
        if not self.training or not self.dropped:
            return values
        draws = torch.empty(math.ceil(values.numel() / 8), dtype=torch.int64, device=values.device)
        # Without an upper end `random_` fills all 64 bits.
        draws.random_(-(2**63), None)
        kept = draws.view(torch.uint8)[: values.numel()].view(values.shape) >= self.dropped
        return values * kept.to(values.dtype).mul_(256 / (256 - self.dropped))


class TimeReduction(nn.Module):
    """Convolutions of stride 2, each halving the frames: 2 of them make 4 ×, 3 make 8 ×.

    Each sees three frames, and what lies behind a clip's last frame is zeroed before each of them: a convolution would carry
    its bias there, and the next one would carry it back into the clip.
    """

    def __init__(self, bins: int, features: int, factor: int):
        super().__init__()
        inputs = [bins] + [features] * (int(math.log2(factor)) - 1)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, features, kernel_size=3, stride=2, padding=1) for width in inputs)

    def forward(
        self, log_mel: Float[Tensor, "batch frames bins"], counts: Int[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch frames_out features"], Int[Tensor, "batch"]]:
        """Shorten a padded batch; n frames become ⌈n / factor⌉. Returns it with the new counts."""
        sound = rearrange(log_mel, "batch frames bins -> batch bins frames")
        for convolution in self.convolutions:
            sound = sound * real_frames(counts, sound.shape[2])[:, None, :]
            sound = F.gelu(convolution(sound))
            counts = frames_after(counts, 2)
        return rearrange(sound, "batch features frames -> batch frames features"), counts


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions: softmax(Q Kᵀ / √size) V for each head (Vaswani et al. 2017, eq. 1).

    Queries and keys are turned by their position first, so that a head can attend to "the frame before me".
    Equals `torch.nn.functional.scaled_dot_product_attention`, whose backward pass was the slower one on a CPU.
    """

    def __init__(self, features: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(features, 3 * features)
        self.output = nn.Linear(features, features)

    def forward(
        self, hidden: Float[Tensor, "batch frames features"], real: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames features"]:
        """Attend to the real frames of the clip, never to padding."""
        split = "batch frames (three heads size) -> three batch heads frames size"
        projected = rearrange(self.qkv(hidden), split, three=3, heads=self.heads)
        angles = rotary_angles(hidden.shape[1], projected.shape[-1]).to(hidden.device)
        (queries, keys), values = rotate(projected[:2], angles), projected[2]
        scores = einsum(queries, keys, "batch heads query size, batch heads key size -> batch heads query key")
        # Every clip has a real frame, so no row is −∞ throughout and softmax never divides by zero.
        padding = torch.zeros_like(real, dtype=scores.dtype).masked_fill(~real, -torch.inf)
        scores = scores / math.sqrt(queries.shape[-1]) + padding[:, None, None, :]
        mixed = einsum(scores.softmax(dim=-1), values, "batch heads query key, batch heads key size -> batch heads query size")
        return self.output(rearrange(mixed, "batch heads frames size -> batch frames (heads size)"))


class PreNormLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): the norm stands before each half (Xiong et al. 2020)."""

    def __init__(self, features: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.attention_norm = nn.LayerNorm(features)
        self.attention = SelfAttention(features, heads)
        self.feed_forward_norm = nn.LayerNorm(features)
        self.feed_forward = nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, features))
        self.dropout = ByteDropout(dropout)

    def forward(
        self, hidden: Float[Tensor, "batch frames features"], real: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames features"]:
        """Two residual steps: attention across frames, then a feed-forward network on each frame."""
        hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), real))
        return hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))


class StageBEncoder(SpeechEncoder):
    """Stage B's encoder, to be trained from nothing: strided convolutions, then pre-norm transformer layers.

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

    def _encode(self, log_mel: Float[Tensor, "batch frames bins"], frame_counts: Int[Tensor, "batch"]) -> Padded:
        hidden, counts = self.time_reduction(log_mel, frame_counts)
        hidden, real = self.dropout(hidden), real_frames(counts, hidden.shape[1])
        for layer in self.layers:
            hidden = layer(hidden, real)
        return Padded(self.norm(hidden) * real[:, :, None], counts)
