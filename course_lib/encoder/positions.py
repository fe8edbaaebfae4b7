"""Where a frame stands in a clip, told to layers that cannot tell: sines that are added, or an angle by which to turn.

Whisper adds a table of sines and cosines to its first rows; Stage B's encoder, as Qwen2, turns queries and keys.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


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
