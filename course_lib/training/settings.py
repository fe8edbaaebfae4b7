"""How to train, as fields of a config, and the learning rate that follows from them."""

import math
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from course_lib.config import Config
from course_lib.training.optimizers import OptimizerName

MOST_WEIGHTS = 300_000_000
"""A model with more cannot be trained here: its weights, gradients and moments would take 16 bytes each, 5 GB."""


def refuse_too_large(weights: int) -> None:
    """Raise ValueError for more weights than a training can hold, before any memory is taken for them."""
    if weights > MOST_WEIGHTS:
        raise ValueError(f"makes a model of about {weights:,} weights; at most {MOST_WEIGHTS:,} can be trained here")


class TrainSettings(Config):
    """How to train; the names are those of the SLAM-ASR guide's YAML.

    `validation_interval` counts optimiser steps, `patience` counts validations; a `patience` of 0 never runs out. A validation
    resets it when it takes more than `min_delta` off the best `monitor` so far (a rate: 0.005 is half a percentage point); a
    smaller gain is kept as the new best all the same. `device` "auto" means a GPU if there is one. `checkpoint_freq` counts
    updates between checkpoints that are kept under a name of their own, `report_interval` those between printed lines; 0 means
    none. With `max_steps` above 0 the training ends after so many updates, and the learning rate is planned for them.
    """

    batch_size: int = Field(8, gt=0, le=100_000)
    gradient_accumulation_steps: PositiveInt = 4
    num_epochs: PositiveInt = 50
    max_steps: NonNegativeInt = 0
    warmup_steps: NonNegativeInt = 200
    lr: PositiveFloat = 1e-4
    weight_decay: NonNegativeFloat = 0.01
    validation_interval: PositiveInt = 112
    patience: NonNegativeInt = 15
    min_delta: NonNegativeFloat = 0.005
    max_grad_norm: NonNegativeFloat = 1.0
    seed: int = Field(0, ge=0, lt=2**32)
    num_threads: int = Field(2, ge=0, le=256)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    monitor: str = "wer"
    optimizer: OptimizerName = "adamw"
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    checkpoint_freq: NonNegativeInt = 0
    report_interval: NonNegativeInt = 0
    tracker: Literal["none", "tensorboard", "wandb"] = "none"


def learning_rate_factor(step: int, warmup_steps: int, total_steps: int, schedule: str = "one-cycle") -> float:
    """Linear warm-up from 0 to 1; then half a cosine down to 0 at `total_steps` ("one-cycle", Smith & Topin 2018), or 1.

    >>> [round(learning_rate_factor(step, 2, 10), 2) for step in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if step < warmup_steps:
        return step / warmup_steps
    if schedule == "constant":
        return 1.0
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
