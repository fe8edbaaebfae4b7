"""What a trainable model hands to the training loop for one batch."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class StepOutput(NamedTuple):
    """What a trainable model returns for a batch: the mean loss over its label tokens, and how many it got right."""

    loss: Float[Tensor, ""]
    correct_tokens: int
    label_tokens: int
