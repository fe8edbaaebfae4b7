"""Audio features → audio tokens that a language model can read.

A projector is the only trained part of SLAM-ASR. It puts `k` neighbouring feature frames side by side and maps them
into the space of the language model's token embeddings (Ma et al. 2024, section 3).
"""

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn


class ConcatProjector(nn.Module):
    """Concatenate `k` frames, then Linear → ReLU → Linear.

    Whisper-base into Qwen2.5-3B, k = 5: 2560 → 512 → 2048, which is 2,361,856 parameters. Into our tiny model, k = 2:
    1024 → 1024 → 256, which is 1,312,000. `dropout` blanks that share of the features while training, so that no single one
    is relied upon.
    """

    def __init__(self, feature_dim: int, llm_dim: int, k: int = 5, hidden_dim: int = 512, dropout: float = 0.0):
        super().__init__()
        self.k = k
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(k * feature_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, llm_dim)
        )

    def forward(self, features: Float[Tensor, "batch frames features"]) -> Float[Tensor, "batch tokens llm_dim"]:
        """Project; a tail of fewer than `k` frames (under k × 20 ms) is dropped, as in SLAM-LLM."""
        frames = features.shape[1] // self.k * self.k
        stacked = rearrange(features[:, :frames], "batch (tokens k) d -> batch tokens (k d)", k=self.k)
        return self.layers(stacked)
