"""Does a recogniser use the sound? Its loss with the right sound, with another clip's, and with silence.

A language model writes likely sentences without listening, and in training the loss falls for as long as it gets better at
that. Where the loss is the same whatever is heard, nothing is heard.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from course_lib.data.batches import SpeechBatch
from course_lib.language_model.prompt import build_row, label_loss, pad_rows
from course_lib.slam.model import SlamASR
from course_lib.training.step import StepOutput

Features = Sequence[Float[Tensor, "_frames features"]]


class AudioUse(NamedTuple):
    """Mean loss of an answer token with three sounds, under teacher forcing."""

    right: float
    another: float
    silent: float

    @property
    def ratio(self) -> float:
        """How many times the right sound's loss another clip's is: 1 if nobody listens.

        >>> AudioUse(right=0.5, another=2.0, silent=1.5).ratio
        4.0
        """
        return self.another / self.right


def audio_use(model: nn.Module, features: Features, texts: Sequence[str], silence: Features, batch_size: int = 32) -> AudioUse:
    """Measure the loss of each text with its own sound, another clip's and `silence`, in evaluation mode.

    `silence` holds the features of as many seconds of zeros as each clip has, so that length, the one thing that silence still
    tells, stays. `model` has a method `loss(batch)`, as `SlamASR` and the other recognisers have. Raises ValueError if lists
    differ in length, or if all texts are the same.
    """
    if not len(features) == len(texts) == len(silence):
        raise ValueError(
            f"{len(features)} clips, {len(texts)} texts and {len(silence)} silences; give one of each for every clip"
        )
    another = [features[index] for index in another_clip(texts)]
    return AudioUse(*(mean_loss(model, sound, texts, batch_size) for sound in (features, another, silence)))


def another_clip(texts: Sequence[str]) -> list[int]:
    """For each clip the next one in which something else is said; after the last comes the first.

    >>> another_clip(["ja", "ja", "nej"])
    [2, 2, 0]
    """
    if len(set(texts)) < 2:
        raise ValueError("every clip says the same; there is no other sound to try")
    following = [[(index + step) % len(texts) for step in range(1, len(texts))] for index in range(len(texts))]
    return [next(other for other in others if texts[other] != text) for text, others in zip(texts, following, strict=True)]


def mean_loss(model: nn.Module, features: Features, texts: Sequence[str], batch_size: int = 32) -> float:
    """The mean loss over all answer tokens of all clips, whatever the batches; the model's mode is put back afterwards."""
    was_training = model.training
    total, labels = 0.0, 0
    model.eval()
    for start in range(0, len(texts), batch_size):
        here = slice(start, start + batch_size)
        output = model.loss(SpeechBatch(list(features[here]), list(texts[here])))
        total += float(output.loss) * output.label_tokens
        labels += output.label_tokens
    model.train(was_training)
    return total / labels


@torch.no_grad()
def deaf_output(slam: SlamASR, texts: Sequence[str]) -> StepOutput:
    """Loss and correct tokens of the frozen language model alone: no sound, no prompt, only a start and the words so far.

    What a recogniser reaches that has learnt everything but to listen.
    """
    embed = slam.llm.get_input_embeddings()
    start = embed(torch.tensor([slam.tokenizer.eos_token_id], device=slam.device))
    answers = [slam.answer_ids(text) for text in texts]
    rows = [build_row(start[:0], start, embed(ids), ids) for ids in answers]
    return label_loss(slam.llm, pad_rows(rows, side="right"))
