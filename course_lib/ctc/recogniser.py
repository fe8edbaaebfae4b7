"""Stage B: a log-mel spectrogram → an encoder trained from nothing → CTC's symbols → text.

    log_mel [frames, 128] → enc: features [frames / 4, 192] → head: log-probabilities [frames / 4, 31] → greedy → text

`enc` is what Stage E wants: SLAM-ASR takes it in place of Whisper when its config names this run's folder.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator
from torch import Tensor, nn

from course_lib.compute import Precision
from course_lib.config import PathName, load_config
from course_lib.ctc.paths import collapse, frames_needed, greedy_decode
from course_lib.ctc.spec_augment import SpecAugment
from course_lib.ctc.word_times import align_words
from course_lib.data.batches import SpeechBatch
from course_lib.data.recogniser import Recogniser, Transcript, Word
from course_lib.data.settings import SpeechTrainSettings
from course_lib.encoder.base import Padded
from course_lib.encoder.tiny import StageBEncoder
from course_lib.files import DATA_FOLDER
from course_lib.text.vocabulary import CharVocabulary, SubwordVocabulary, Vocabulary
from course_lib.training.checkpoints import CheckpointError, load_weights, put_weights, read_weights
from course_lib.training.settings import refuse_too_large
from course_lib.training.step import StepOutput

CONFIG_NAME, SUBWORDS_NAME = "audio_enc_tiny.json", "subwords.json"
SHIPPED_STAGE_B = DATA_FOLDER / "models" / "stage-b-tiny"

SHAPES = 16
"""Batches are padded to a multiple of so many mel frames: see `Padded.of`."""


class StageBConfig(SpeechTrainSettings):
    """Everything about a Stage B run. The fields without a default are the document's, and must all be given.

    The document's name for `lr` is `learning_rate`, and so it is in the file. Unless `warmup_steps` are given, the warm-up is
    `warmup_share` of all steps. Nothing ends a training early, unless `patience` is given.
    """

    d_model: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    d_ff: PositiveInt
    dropout: float = Field(ge=0, le=0.9)
    downsample_time: Literal[2, 4, 8]
    data_path: PathName
    batch_size: int = Field(gt=0, le=100_000)
    num_epochs: PositiveInt
    lr: PositiveFloat = Field(alias="learning_rate")
    checkpoint_freq: NonNegativeInt
    units: Literal["characters", "subwords"] = "characters"
    subword_count: int = Field(256, le=100_000)
    length_bucketed: bool = True
    spec_augment: bool = True
    gradient_accumulation_steps: PositiveInt = 1
    warmup_steps: NonNegativeInt = 0
    warmup_share: float = Field(0.1, ge=0, lt=1)
    patience: NonNegativeInt = 0
    min_delta: NonNegativeFloat = 0.0
    validation_interval: PositiveInt = 500
    report_interval: NonNegativeInt = 100
    run_folder: PathName = "checkpoints/audio_enc_tiny"

    @field_validator("n_heads")
    @classmethod
    def _share_the_model(cls, heads: int, info) -> int:
        width = info.data.get("d_model", 0)
        if width % (2 * heads):
            raise ValueError(f"d_model must be a multiple of {2 * heads}, an even number for each head; it is {width}")
        return heads

    @field_validator("d_ff")
    @classmethod
    def _can_be_trained(cls, width: int, info) -> int:
        d_model, n_layers = info.data.get("d_model", 0), info.data.get("n_layers", 0)
        refuse_too_large(n_layers * (4 * d_model**2 + 2 * d_model * width))
        return width

    @field_validator("subword_count")
    @classmethod
    def _hold_the_letters(cls, count: int, info) -> int:
        if info.data.get("units") == "subwords" and count < 40:
            raise ValueError("the letters alone are 30, so 40 at least")
        return count


class StageBRecogniser(nn.Module, Recogniser):
    """Encoder and CTC head. `forward` gives the loss of a batch, `transcribe` the text of clips.

    `decode` turns log-probabilities [frames, vocab] of one clip into symbol ids: greedy unless told otherwise.
    """

    def __init__(
        self,
        enc: StageBEncoder,
        vocabulary: Vocabulary,
        spec_augment: SpecAugment | None = None,
        decode: Callable[[Float[Tensor, "frames vocab"]], list[int]] = greedy_decode,
    ):
        super().__init__()
        self.enc, self.vocabulary, self.spec_augment, self.decode = enc, vocabulary, spec_augment, decode
        self.head = nn.Linear(enc.feature_dim, len(vocabulary))

    def forward(self, batch: SpeechBatch) -> StepOutput:
        """CTC loss as `torch.nn.CTCLoss` averages it: per symbol, then over the clips that can be aligned.

        Clips that cannot (fewer frames than `paths.frames_needed`) cost nothing and count for nothing: `label_tokens` leaves
        them out, and a training leaves them out before it starts. "Correct" are the symbols of clips without a mistake.
        """
        log_probs, counts = self.log_probs(batch.features)
        labels = [self.vocabulary.encode(text) for text in batch.texts]
        clips = [i for i, ids in enumerate(labels) if ids and frames_needed(ids) <= int(counts[i])]
        if not clips:
            return StepOutput(log_probs.new_zeros(()), 0, 0)
        time_first = rearrange(log_probs[clips], "batch frames vocab -> frames batch vocab")
        lengths = torch.tensor([len(labels[i]) for i in clips])
        targets = torch.tensor([symbol for i in clips for symbol in labels[i]], device=log_probs.device)
        loss = F.ctc_loss(time_first, targets, counts[clips], lengths, blank=self.vocabulary.blank_id)
        paths = log_probs.argmax(dim=-1).tolist()
        read = {i: collapse(paths[i][: counts[i]], self.vocabulary.blank_id) for i in clips}
        correct = sum(len(labels[i]) for i in clips if read[i] == labels[i])
        return StepOutput(loss, correct, int(lengths.sum()))

    def log_probs(self, log_mels: Sequence[Float[Tensor, "_frames bins"]]) -> Padded:
        """Log-probability of every symbol at every frame."""
        padded, counts = Padded.of([log_mel.to(self.enc.device) for log_mel in log_mels], multiple=SHAPES)
        if self.training and self.spec_augment:
            padded = self.spec_augment(padded, counts)
        features, counts = self.enc(padded, counts)
        return Padded(self.head(features).log_softmax(dim=-1), counts)

    @torch.no_grad()
    def loss(self, batch: SpeechBatch) -> StepOutput:
        """`forward` without gradients, for measuring."""
        return self(batch)

    def encode(self, waveforms: Sequence[Float[Tensor, "_samples"]]) -> list[Float[Tensor, "_frames bins"]]:
        """Log-mel spectrograms of waveforms: what is trained begins there."""
        return [self.enc.log_mel(waveform) for waveform in waveforms]

    @torch.no_grad()
    def recognise(self, features: Sequence[Float[Tensor, "_frames bins"]]) -> list[Transcript]:
        """Write what is said in log-mel spectrograms, one line a clip."""
        ids = [self.decode(clip) for clip in self.log_probs(features).clips()]
        return [Transcript(" ".join(self.vocabulary.decode(clip).split())) for clip in ids]

    @torch.no_grad()
    def word_times(self, features: Float[Tensor, "frames bins"], text: str) -> list[Word]:
        """When each word was said, by the head's own letters; in steps of 40 ms, or of 80 ms for 8 ×. See `align_words`."""
        [log_probs] = self.log_probs([features]).clips()
        # A subword says itself that a word begins.
        separator = self.vocabulary.encode(" ") if isinstance(self.vocabulary, CharVocabulary) else []
        step = 1 / self.enc.config.frames_per_second
        return align_words(log_probs, text, self.vocabulary.encode, step, separator, self.vocabulary.blank_id)


def build_encoder(config: StageBConfig) -> StageBEncoder:
    """An encoder of the configured size with fresh weights."""
    sizes = (config.d_model, config.n_layers, config.n_heads, config.d_ff, config.dropout, config.downsample_time)
    return StageBEncoder(*sizes, precision=config.precision)


def load_stage_b(folder: Path = SHIPPED_STAGE_B, weights: str = "best.safetensors") -> StageBRecogniser:
    """Load a trained recogniser from a run folder, in evaluation mode, for fp32; without an argument, the shipped one."""
    config = load_run_config(folder)
    subwords = Path(folder) / SUBWORDS_NAME
    vocabulary = SubwordVocabulary.load(subwords) if config.units == "subwords" else CharVocabulary()
    model = StageBRecogniser(build_encoder(config), vocabulary)
    model.enc.precision = "fp32"
    load_weights(model, Path(folder) / weights)
    return model.eval()


def load_stage_b_encoder(folder: Path = SHIPPED_STAGE_B, precision: Precision = "fp32") -> StageBEncoder:
    """Load the encoder alone, frozen: the tensors named `enc.…` (the document's `checkpoint['enc']`)."""
    config = load_run_config(folder)
    stored = read_weights(Path(folder) / "best.safetensors")
    encoder = build_encoder(config)
    put_weights(encoder, {name[4:]: tensor for name, tensor in stored.items() if name.startswith("enc.")}, str(folder))
    encoder.precision = precision
    return encoder.requires_grad_(False).eval()


def load_run_config(folder: Path) -> StageBConfig:
    """The config of a run folder; raises FileNotFoundError that says what is wanted."""
    if not (Path(folder) / CONFIG_NAME).is_file():
        raise CheckpointError(f"{folder}: no {CONFIG_NAME} here; give the run_folder of a Stage B training, or none")
    return load_config(Path(folder) / CONFIG_NAME, StageBConfig)
