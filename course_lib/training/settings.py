"""How to train, as fields of a config, and the learning rate that follows from them."""

import math
from dataclasses import dataclass
from typing import Literal

from course_lib.training.optimizers import OptimizerName


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train; the names are those of the SLAM-ASR guide's YAML.

    `validation_interval` counts optimiser steps, `patience` counts validations. A validation resets the patience when it
    takes more than `min_delta` off the best `monitor` so far (a rate: 0.005 is half a percentage point); a smaller gain is
    kept as the new best all the same. `device` "auto" means a GPU if there is one. `checkpoint_freq` counts updates between
    checkpoints that are kept under a name of their own, `report_interval` those between printed lines; 0 means none. With
    `max_steps` above 0 the training ends after so many updates, and the learning rate is planned for them.
    """

    batch_size: int = 8
    gradient_accumulation_steps: int = 4
    num_epochs: int = 50
    max_steps: int = 0
    warmup_steps: int = 200
    lr: float = 1e-4
    weight_decay: float = 0.01
    validation_interval: int = 112
    patience: int = 15
    min_delta: float = 0.005
    max_grad_norm: float = 1.0
    seed: int = 0
    num_threads: int = 2
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    monitor: str = "wer"
    optimizer: OptimizerName = "adamw"
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    checkpoint_freq: int = 0
    report_interval: int = 0
    tracker: Literal["none", "tensorboard", "wandb"] = "none"

    def problems(self) -> list[str]:
        """List every value that cannot be meant."""
        positive = ("batch_size", "gradient_accumulation_steps", "num_epochs", "lr", "validation_interval", "patience")
        found = [f"{name}: {getattr(self, name)}, must be above 0" for name in positive if getattr(self, name) <= 0]
        not_negative = str.split(
            "max_steps warmup_steps weight_decay min_delta max_grad_norm num_threads checkpoint_freq report_interval"
        )
        return found + [f"{n}: {getattr(self, n)}, must not be negative" for n in not_negative if getattr(self, n) < 0]


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
