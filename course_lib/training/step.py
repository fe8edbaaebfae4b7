"""A batch → what a trainable model hands to the training loop and to every check: `StepOutput`."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class StepOutput(NamedTuple):
    """The mean loss over the label tokens of a batch, how many of them were predicted right, and how many there are."""

    loss: Float[Tensor, ""]
    correct_tokens: int
    label_tokens: int
