"""Audio features → audio tokens that a language model can read.

A projector is the only trained part of SLAM-ASR. It makes one audio token of `k` neighbouring feature frames and maps them into
the space of the language model's token embeddings (Ma et al. 2024, section 3). Three kinds behind one interface: neighbouring
frames concatenated (`concat`), a strided convolution over them (`conv`), and learned queries that attend to them (`qformer`).
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_lib.encoder.base import real_frames
from course_lib.sound.shape_table import audio_tokens_of

ProjectorName = Literal["concat", "conv", "qformer"]


class Projector(nn.Module):
    """What all projectors share: `k` frames become one audio token, and a clip's tokens do not depend on its batch."""

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def tokens_of(self, frames: int | Int[Tensor, "batch"]) -> int | Int[Tensor, "batch"]:
        """How many audio tokens clips of so many frames give."""
        return audio_tokens_of(frames, self.k)

    def forward(
        self, features: Float[Tensor, "batch frames features"], frame_counts: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch tokens llm_dim"]:
        """Project a padded batch; `frame_counts` says how many frames of each clip are real (None: all).

        The first `tokens_of(count)` tokens of a clip are its own; what follows them means nothing.
        """
        raise NotImplementedError


def mlp(inputs: int, hidden_dim: int, llm_dim: int, dropout: float) -> nn.Sequential:
    """Linear → ReLU → Linear; while training, `dropout` blanks that share of the inputs, lest any single one be relied upon."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(inputs, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, llm_dim))


class ConcatProjector(Projector):
    """Concatenate `k` frames, then Linear → ReLU → Linear.

    Whisper-base into Qwen2.5-3B, k = 5: 2560 → 512 → 2048, which is 2,361,856 parameters. Into our tiny model, k = 2:
    1024 → 1024 → 256, which is 1,312,000.
    """

    def __init__(self, feature_dim: int, llm_dim: int, k: int = 5, hidden_dim: int = 512, dropout: float = 0.0):
        super().__init__(k)
        self.layers = mlp(k * feature_dim, hidden_dim, llm_dim, dropout)

    def forward(
        self, features: Float[Tensor, "batch frames features"], frame_counts: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch tokens llm_dim"]:
        """Project, and drop the tail, as in SLAM-LLM. A token sees its own `k` frames and no others: counts change nothing."""
        frames = self.tokens_of(features.shape[1]) * self.k
        stacked = rearrange(features[:, :frames], "batch (tokens k) d -> batch tokens (k d)", k=self.k)
        return self.layers(stacked)


class ConvProjector(Projector):
    """A convolution of stride `k` that sees `overlap` more frames on either side, then ReLU → Linear.

    It is written as what it is: the frames of each window side by side, times one matrix. Without overlap it
    is `ConcatProjector`. With it, a sound on the border between two tokens is seen whole by one of them. Whisper's own first
    layers shorten time so (width 3, stride 2). Matches `torch.nn.Conv1d`.
    """

    def __init__(
        self, feature_dim: int, llm_dim: int, k: int = 5, hidden_dim: int = 512, dropout: float = 0.0, overlap: int = 1
    ):
        super().__init__(k)
        self.overlap = overlap
        self.width = k + 2 * overlap
        self.layers = mlp(self.width * feature_dim, hidden_dim, llm_dim, dropout)

    def forward(
        self, features: Float[Tensor, "batch frames features"], frame_counts: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch tokens llm_dim"]:
        """Project; what lies behind a clip's last frame is zeroed, because the last window looks past it."""
        frames = features.shape[1]
        if frame_counts is not None:
            features = features * real_frames(frame_counts, frames)[:, :, None]
        padded = F.pad(features, (0, 0, self.overlap, self.width))
        windows = padded.unfold(1, self.width, self.k)[:, : self.tokens_of(frames)]
        return self.layers(rearrange(windows, "batch tokens d width -> batch tokens (width d)"))


class QFormerProjector(Projector):
    """Learned queries attend to every window of `queries` × k frames; each query's output becomes an audio token.

    One layer of a Q-Former (Li et al. 2023, "BLIP-2") window by window, as in SALMONN (Tang et al. 2024) and in transformers'
    `GraniteSpeechEncoderProjector`: cross-attention whose keys and values are frames, then a feed-forward network. Attention
    cannot tell which frame came first, so each place in a window has a position.
    """

    def __init__(
        self,
        feature_dim: int,
        llm_dim: int,
        k: int = 5,
        hidden_dim: int = 512,
        dropout: float = 0.0,
        queries: int = 5,
        heads: int = 4,
    ):
        super().__init__(k)
        if hidden_dim % heads:
            raise ValueError(
                f"projector_hidden_dim: {hidden_dim} cannot be shared by {heads} heads; take a multiple of {heads}"
            )
        self.heads = heads
        # Each query starts as the position of its own k frames, so it begins by attending to them and learns the rest.
        start = 0.5 * torch.randn(queries, hidden_dim)
        self.queries = nn.Parameter(start)
        self.positions = nn.Parameter(start.repeat_interleave(k, dim=0))
        self.input = nn.Sequential(nn.Dropout(dropout), nn.LayerNorm(feature_dim))
        self.keys = nn.Linear(feature_dim, hidden_dim)
        self.values = nn.Linear(feature_dim, hidden_dim)
        self.attention_output = nn.Linear(hidden_dim, hidden_dim)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, 2 * hidden_dim), nn.ReLU(), nn.Linear(2 * hidden_dim, hidden_dim)
        )
        self.output = nn.Sequential(nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, llm_dim))

    def forward(
        self, features: Float[Tensor, "batch frames features"], frame_counts: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch tokens llm_dim"]:
        """Project; the last window may be part padding, which no query attends to."""
        batch, frames, _ = features.shape
        window = len(self.positions)
        counts = torch.full((batch,), frames, device=features.device) if frame_counts is None else frame_counts
        padded = F.pad(features, (0, 0, 0, -frames % window))
        windows = rearrange(padded, "batch (windows frames) d -> batch windows frames d", frames=window)
        real = real_frames(counts, padded.shape[1])
        real = rearrange(real, "batch (windows frames) -> batch windows 1 1 frames", frames=window)
        hidden = self.queries + self.attention_output(self.attend(windows, real))
        tokens = self.output(hidden + self.feed_forward(hidden))
        tokens = rearrange(tokens, "batch windows queries llm_dim -> batch (windows queries) llm_dim")
        return tokens[:, : self.tokens_of(frames)]

    def attend(
        self, windows: Float[Tensor, "batch windows frames features"], real: Bool[Tensor, "batch windows 1 1 frames"]
    ) -> Float[Tensor, "batch windows queries hidden"]:
        """softmax(Q Kᵀ / √size) V for each head: each query's mixture of the values in its window."""
        frames = self.input(windows)
        weights = self.attention_weights(self.keys(frames) + self.positions, real)
        values = rearrange(self.values(frames), "... frame (heads size) -> ... heads frame size", heads=self.heads)
        mixed = einsum(weights, values, "... heads query frame, ... heads frame size -> ... heads query size")
        return rearrange(mixed, "... heads query size -> ... query (heads size)")

    def attention_weights(
        self, keys: Float[Tensor, "batch windows frames hidden"], real: Bool[Tensor, "batch windows 1 1 frames"]
    ) -> Float[Tensor, "batch windows heads queries frames"]:
        """How much each query attends to each frame of its window; a query's weights sum to 1."""
        queries = rearrange(self.queries, "query (heads size) -> heads query size", heads=self.heads)
        keys = rearrange(keys, "... frame (heads size) -> ... heads frame size", heads=self.heads)
        scores = einsum(queries, keys, "heads query size, ... heads frame size -> ... heads query frame")
        # Not −inf: a window of nothing but padding would be 0 / 0, and its NaN would reach every gradient.
        return (scores / math.sqrt(keys.shape[-1])).masked_fill(~real, -1e4).softmax(dim=-1)


PROJECTORS: dict[ProjectorName, type[Projector]] = {
    "concat": ConcatProjector,
    "conv": ConvProjector,
    "qformer": QFormerProjector,
}
"""Projectors by the name that a config gives them; all take feature_dim, llm_dim, k, hidden_dim and dropout."""
