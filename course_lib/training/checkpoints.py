"""Trained weights ↔ safetensors files; the state of a training run ↔ a file to resume from.

A run folder holds `best.safetensors` (the best validation), `training_state.pt` (where to go on), `training_log.json` (one
entry a validation) and `logs/train.log`. Only trainable weights are saved: the frozen models have an owner elsewhere.
"""

import random
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from course_lib.files import write_beside


def trainable_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that training may change, by name."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write safetensors beside the target, then rename: a crash leaves the old file, never half a file."""
    write_beside(path, lambda beside: save_file(weights, beside))


def load_weights(model: nn.Module, path: Path) -> None:
    """Load trained weights into the model; raises ValueError that names what is missing, extra or of another shape."""
    put_weights(model, load_file(path), str(path))


def put_weights(model: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Copy weights into the trainable ones of the model; raises ValueError that opens with `source` if they do not fit."""
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    faults = [f"  {name}: not in the file" for name in wanted.keys() - weights.keys()]
    faults += [f"  {name}: not in the model" for name in weights.keys() - wanted.keys()]
    faults += [
        f"  {name}: {tuple(weights[name].shape)} in the file, {tuple(wanted[name].shape)} in the model"
        for name in weights.keys() & wanted.keys()
        if weights[name].shape != wanted[name].shape
    ]
    if faults:
        raise ValueError("\n".join([f"{source} does not fit the configured model", *sorted(faults)]))
    model.load_state_dict(weights, strict=False)


def save_state(state: dict[str, Any], path: Path) -> None:
    """Save the state of a training run (optimiser, schedule, progress, random numbers), atomically."""
    write_beside(path, lambda beside: torch.save(state, beside))


def load_state(path: Path) -> dict[str, Any]:
    """Load what `save_state` wrote; `weights_only` means that the file can hold numbers and no code."""
    return torch.load(path, map_location="cpu", weights_only=True)


def random_state() -> dict[str, Any]:
    """Where PyTorch's and Python's random numbers stand, so that a resumed run drops out what the broken one would have."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"torch": torch.get_rng_state(), "cuda": cuda, "python": random.getstate()}


def restore_random_state(state: dict[str, Any]) -> None:
    """Go on drawing random numbers where `random_state` looked; GPU streams only if there are as many GPUs as then."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
