"""The inside of Whisper's encoder, written out: log-mel → first rows → six layers → features.

`encoder.whisper` runs transformers' modules. Here the same numbers come from matrix products that you can read (chapter 02),
with every stage handed back, for one clip without padding. The positions' formula is `encoder.positions.sinusoidal_positions`.

    log_mel [frames, 80] → convolve [positions, 512] → + positions → 6 × transformer_layer → layer norm
"""

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.encoder.whisper import WhisperEncoder


def convolve(encoder: WhisperEncoder, log_mel: Float[Tensor, "frames bins"]) -> Float[Tensor, "positions features"]:
    """Both convolutions with their GELU: n frames of 80 bins become ⌈n / 2⌉ rows of 512 features, each from 5 frames."""
    sound = rearrange(log_mel, "frames bins -> 1 bins frames")
    sound = F.gelu(encoder.whisper.conv2(F.gelu(encoder.whisper.conv1(sound))))
    return rearrange(sound, "1 features positions -> positions features")


def attention_weights(hidden: Float[Tensor, "positions features"], attention: nn.Module) -> Float[Tensor, "heads positions _"]:
    """How much each position (row) looks at each other (column), for every head; each row sums to 1.

    softmax(Q Kᵀ / √size), size = features / heads = 64 (Vaswani et al. 2017, eq. 1).
    """
    heads = {"heads": attention.num_heads}
    queries = rearrange(attention.q_proj(hidden), "positions (heads size) -> heads positions size", **heads)
    keys = rearrange(attention.k_proj(hidden), "positions (heads size) -> heads positions size", **heads)
    scores = einsum(queries, keys, "heads query size, heads key size -> heads query key")
    return torch.softmax(scores / math.sqrt(queries.shape[-1]), dim=-1)


def transformer_layer(hidden: Float[Tensor, "positions features"], layer: nn.Module) -> Float[Tensor, "positions features"]:
    """Two residual steps: attention across rows, then a feed-forward network on each row.

    Layer norm stands before each half (pre-norm). Matches transformers' `WhisperEncoderLayer` up to rounding.
    """
    attention = layer.self_attn
    normed = layer.self_attn_layer_norm(hidden)
    weights = attention_weights(normed, attention)
    values = rearrange(attention.v_proj(normed), "key (heads size) -> heads key size", heads=attention.num_heads)
    mixed = einsum(weights, values, "heads query key, heads key size -> heads query size")
    hidden = hidden + attention.out_proj(rearrange(mixed, "heads positions size -> positions (heads size)"))
    return hidden + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(hidden))))


@torch.no_grad()
def hidden_states(encoder: WhisperEncoder, log_mel: Float[Tensor, "frames bins"]) -> list[Float[Tensor, "positions features"]]:
    """Every stage of one clip: before the first layer, after each layer, and last the features (after the final norm).

    Whisper-base: 8 tables. The last equals `encoder(log_mel[None])[0][0]` up to rounding.
    """
    start = convolve(encoder, log_mel)
    stages = [start + encoder.whisper.embed_positions.weight[: len(start)]]
    for layer in encoder.whisper.layers:
        stages.append(transformer_layer(stages[-1], layer))
    return [*stages, encoder.whisper.layer_norm(stages[-1])]


def count_multiplications(
    positions: int, features: int = 512, inner: int = 2048, layers: int = 6, bins: int = 80
) -> dict[str, int]:
    """Multiplications of Whisper-base's encoder for a clip of `positions` rows (2 × `positions` frames), by part.

    Only the matrix products are counted; norms, GELU and softmax are under one in a hundred. "attention" is the part that
    grows with the square of the length.

    >>> count_multiplications(1500)
    {'convolutions': 1548288000, 'linear': 28311552000, 'attention': 13824000000}
    """
    first = 2 * positions * 3 * bins * features
    second = positions * 3 * features * features
    linear = layers * positions * (4 * features * features + 2 * features * inner)
    return {"convolutions": first + second, "linear": linear, "attention": layers * 2 * positions * positions * features}


def self_similarity(rows: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows rows"]:
    """Cosine between every two rows, once the mean row is taken away: 1 for the same direction, about 0 for strangers.

    Without the subtraction every row resembles every other, for what they all share is most of each of them.
    """
    directions = F.normalize(rows - rows.mean(dim=0), dim=1)
    return directions @ directions.T
