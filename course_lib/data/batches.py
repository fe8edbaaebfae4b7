"""Stored features and transcripts → training batches, and the check that every training is judged by.

Features are whatever the model at hand reads: a frozen encoder's for SLAM-ASR, log-mel spectrograms for Stage B.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor
from torch.utils.data import ConcatDataset

from course_lib.data.datasets import FeatureStore, length_batches
from course_lib.data.recogniser import Recogniser
from course_lib.text.metrics import character_error_rate, word_error_rate
from course_lib.training.checkpoints import checksum
from course_lib.training.step import StepOutput


@dataclass
class SpeechBatch:
    """Clips as encoder features (each of its own length) and what is said in them."""

    features: list[Float[Tensor, "_frames features"]]
    texts: list[str]


@runtime_checkable
class TrainedRecogniser(Recogniser, Protocol):
    """What `SpeechCheck` needs of a model."""

    def loss(self, batch: SpeechBatch) -> StepOutput:
        """The loss without gradients."""
        ...


class SpeechBatches:
    """Training batches from stored features, other ones every epoch, the same for the same epoch.

    `by_length` puts clips of similar length together, so that little is padding. `keep` lists the clips to use (None: all).
    """

    def __init__(
        self,
        stores: list[FeatureStore],
        texts: list[str],
        batch_size: int,
        seed: int,
        by_length: bool = True,
        keep: list[int] | None = None,
    ):
        self.features, self.texts = ConcatDataset(stores), texts
        self.counts = [count for store in stores for count in store.counts]
        self.keep = list(range(len(texts))) if keep is None else keep
        self.lengths = [self.counts[index] if by_length else 0 for index in self.keep]
        self.batch_size, self.seed = batch_size, seed

    def __call__(self, epoch: int) -> Iterator[SpeechBatch]:
        """Yield the batches of one epoch."""
        for places in length_batches(self.lengths, self.batch_size, f"{self.seed} {epoch}"):
            indices = [self.keep[place] for place in places]
            yield SpeechBatch([self.features[i] for i in indices], [self.texts[i] for i in indices])

    @property
    def fingerprint(self) -> str:
        """Stands for the clips' lengths, their texts and which of them are used: other data, another fingerprint."""
        return checksum([self.texts, self.counts, self.keep])

    def __len__(self) -> int:
        return -(-len(self.keep) // self.batch_size)


class SpeechCheck:
    """Validation by transcribing: WER and CER of decoded text, and beside them the loss and token accuracy under teacher
    forcing, where the model is shown the right words so far. The last is always the most flattering."""

    def __init__(self, model: TrainedRecogniser, store: FeatureStore, texts: list[str], batch_size: int):
        self.model, self.store, self.texts = model, store, texts
        order = sorted(range(len(texts)), key=lambda index: store.counts[index])
        self.batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def __call__(self) -> dict[str, float]:
        """Rates between 0 and 1 (WER can pass 1), from all clips."""
        transcripts, loss, correct, labels = {}, 0.0, 0, 0
        for indices in self.batches:
            features, texts = [self.store[i] for i in indices], [self.texts[i] for i in indices]
            transcripts.update(zip(indices, self.model.transcribe_features(features), strict=True))
            output = self.model.loss(SpeechBatch(features, texts))
            loss += float(output.loss) * output.label_tokens
            correct, labels = correct + output.correct_tokens, labels + output.label_tokens
        written = [transcripts[index] for index in range(len(self.texts))]
        return {
            "wer": word_error_rate(self.texts, written),
            "cer": character_error_rate(self.texts, written),
            "loss": loss / labels,
            "token_accuracy_teacher_forced": correct / labels,
        }
