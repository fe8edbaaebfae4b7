"""The parts of encoders: positions, convolutions that shorten time, layers that look around, a dropout that does not dawdle.

log_mel [batch, frames, 128] → TimeReduction → [batch, frames / 4, 192] → 4 × PreNormLayer → [batch, frames / 4, 192]
"""

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


def real_frames(counts: Int[Tensor, "batch"] | Float[Tensor, "batch"], frames: int) -> Bool[Tensor, "batch frames"]:
    """True where a row still holds sound, False on its padding."""
    return torch.arange(frames, device=counts.device) < counts[:, None]


def sinusoidal_positions(positions: int, features: int) -> Float[Tensor, "positions features"]:
    """A row for every position: sines in the first half of its columns, cosines in the second.

    Wavelengths grow by equal factors from 2π to 20,000π positions. Matches `sinusoids` of openai/whisper, model.py;
    Vaswani et al. 2017 (section 3.5) alternate sine and cosine and stop one factor short of 20,000π.
    Computed in double precision: rounded to fp16, the table of Whisper-base is then OpenAI's to the last bit.
    Raises ValueError for fewer than 4 columns or an odd number of them.

    >>> sinusoidal_positions(3, 4)[:, 0]  # the fastest wave: sin 0, sin 1, sin 2
    tensor([0.0000, 0.8415, 0.9093])
    """
    if features < 4 or features % 2:
        raise ValueError(f"{features} columns: half of them are sines, half cosines, so an even number from 4 on is needed")
    half = features // 2
    rates = torch.exp(-math.log(10_000) / (half - 1) * torch.arange(half, dtype=torch.float64))
    angles = torch.arange(positions)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def rotary_angles(frames: int, size: int) -> Float[Tensor, "frames half"]:
    """By how much to turn each pair of numbers of a query or key at each frame: fast pairs first, slow ones last.

    >>> rotary_angles(3, 4)[:, 0]  # the fastest pair: one radian a frame
    tensor([0., 1., 2.])
    """
    rates = 10_000.0 ** (-torch.arange(0, size, 2) / size)
    return torch.arange(frames)[:, None] * rates


def rotate(
    rows: Float[Tensor, "*dims frames size"], angles: Float[Tensor, "frames half"]
) -> Float[Tensor, "*dims frames size"]:
    """Turn the pairs (i, i + size / 2) of each row by the angles of its frame (RoPE, Su et al. 2021).

    The product of a turned query and a turned key then depends on how far apart the two frames are, and not on where they
    are. Matches `apply_rotary_pos_emb` of transformers' Qwen2, the positions of our language model.
    """
    left, right = rows.chunk(2, dim=-1)
    cosines, sines = angles.cos().to(rows), angles.sin().to(rows)
    return torch.cat([left * cosines - right * sines, right * cosines + left * sines], dim=-1)


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
            counts = (counts + 1) // 2
        return rearrange(sound, "batch features frames -> batch frames features"), counts


class SelfAttention(nn.Module):
    """Every frame asks all frames of its clip: softmax(Q Kᵀ / √size) V for each head (Vaswani et al. 2017, eq. 1).

    Queries and keys are turned by their position first, so that a head can ask for "the frame before me".
    Equals `torch.nn.functional.scaled_dot_product_attention`, whose backward pass was the slower one on a CPU.
    """

    def __init__(self, features: int, heads: int):
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(features, 3 * features)
        self.output = nn.Linear(features, features)

    def forward(
        self, hidden: Float[Tensor, "batch frames features"], real: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames features"]:
        """Look around, but never at padding."""
        split = "batch frames (three heads size) -> three batch heads frames size"
        projected = rearrange(self.queries_keys_values(hidden), split, three=3, heads=self.heads)
        angles = rotary_angles(hidden.shape[1], projected.shape[-1]).to(hidden.device)
        (queries, keys), values = rotate(projected[:2], angles), projected[2]
        scores = einsum(queries, keys, "batch heads query size, batch heads key size -> batch heads query key")
        # Every clip has a real frame, so no row is −∞ throughout and softmax never divides by zero.
        padding = torch.zeros_like(real, dtype=scores.dtype).masked_fill(~real, -torch.inf)
        scores = scores / math.sqrt(queries.shape[-1]) + padding[:, None, None, :]
        found = einsum(scores.softmax(dim=-1), values, "batch heads query key, batch heads key size -> batch heads query size")
        return self.output(rearrange(found, "batch heads frames size -> batch frames (heads size)"))


class PreNormLayer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): the norm stands before each half (Xiong et al. 2020)."""

    def __init__(self, features: int, heads: int, hidden: int, dropout: float):
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(features), SelfAttention(features, heads)
        self.feed_forward_norm = nn.LayerNorm(features)
        self.feed_forward = nn.Sequential(nn.Linear(features, hidden), nn.GELU(), nn.Linear(hidden, features))
        self.dropout = ByteDropout(dropout)

    def forward(
        self, hidden: Float[Tensor, "batch frames features"], real: Bool[Tensor, "batch frames"]
    ) -> Float[Tensor, "batch frames features"]:
        """Look around, add what was found; think it over frame by frame, add what came of it."""
        hidden = hidden + self.dropout(self.attention(self.attention_norm(hidden), real))
        return hidden + self.dropout(self.feed_forward(self.feed_forward_norm(hidden)))
