"""Which speech to train and validate on, as fields of a config: what the trainings that hear something have in common."""

from typing import Literal

from pydantic import Field, PositiveInt

from course_lib.compute import Precision
from course_lib.config import PathName
from course_lib.training.settings import TrainSettings


class SpeechTrainSettings(TrainSettings):
    """`train_clips` and `validation_clips` take only so many clips of each split; null takes all.

    `skip_bad` leaves out rows that cannot be used, and says how many.
    """

    train_splits: list[PathName] = Field(["train"], min_length=1)
    monitor: Literal["wer", "cer", "loss"] = "wer"
    validation_split: PathName = "dev"
    train_clips: PositiveInt | None = None
    validation_clips: PositiveInt | None = None
    skip_bad: bool = False
    precision: Precision = "auto"
