"""Trained weights ↔ safetensors files; the state of a training run ↔ a file to resume from.

A run folder holds `best.safetensors` (the best validation), `training_state.pt` (where to go on), `training_log.json` (one
entry a validation) and `logs/train.log`. Only trainable weights are saved: the frozen models have an owner elsewhere.
Both kinds of file carry a checksum of their numbers: a byte that changed on a disk is no longer the weight that was trained.
"""

import errno
import hashlib
import os
import pickle
import random
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from course_lib.errors import CourseError
from course_lib.files import MANIFEST_NAME, refuse_changed, write_beside

CHECKSUM = "sha256"


class CheckpointError(CourseError):
    """Weights, a state or a run folder that cannot be used; the message names the file, the reason and the way out."""


def trainable_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that training may change, by name."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write safetensors beside the target, then rename: a crash leaves the old file, never half a file."""
    about = {CHECKSUM: checksum(weights)}
    _write(path, lambda beside: save_file(weights, beside, metadata=about))


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file; raises CheckpointError for one that is missing, damaged, or holds NaN or Inf."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. Give the run_folder of a training that has validated at least once.")
    if (path.parent / MANIFEST_NAME).is_file():
        refuse_changed(path.parent)
    try:
        with safe_open(path, framework="pt") as file:
            weights, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, ValueError, RuntimeError, OSError) as error:
        raise _damaged(path, str(error)) from error
    if about.get(CHECKSUM, known := checksum(weights)) != known:
        raise _damaged(path, "its numbers are not those that were saved")
    refuse_not_finite(weights, str(path))
    return weights


def refuse_not_finite(weights: dict[str, Tensor], source: str) -> None:
    """Raise CheckpointError that names the first tensor with NaN or Inf in it: whatever it is used for, it spoils."""
    for name, tensor in sorted(weights.items()):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{source}: {name} holds NaN or Inf, so these weights are spoilt. Take others.")


def load_weights(model: nn.Module, path: Path) -> None:
    """Load trained weights into the model; raises CheckpointError that names what is missing, extra or of another shape."""
    put_weights(model, read_weights(path), str(path))


def put_weights(model: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Copy weights into the trainable ones of the model; raises CheckpointError that opens with `source` if they do not fit."""
    wanted = {name: p for name, p in model.named_parameters() if p.requires_grad}
    faults = [f"  {name}: not in the file" for name in wanted.keys() - weights.keys()]
    faults += [f"  {name}: not in the model" for name in weights.keys() - wanted.keys()]
    faults += [
        f"  {name}: {tuple(weights[name].shape)} in the file, {tuple(wanted[name].shape)} in the model"
        for name in weights.keys() & wanted.keys()
        if weights[name].shape != wanted[name].shape
    ]
    if faults:
        more = [f"  … and {len(faults) - 20} more"] if len(faults) > 20 else []
        raise CheckpointError("\n".join([f"{source} does not fit the configured model", *sorted(faults)[:20], *more]))
    model.load_state_dict(weights, strict=False)


def save_state(state: dict[str, Any], path: Path) -> None:
    """Save the state of a training run (optimiser, schedule, progress, random numbers), atomically."""
    whole = {**state, CHECKSUM: checksum(state)}
    _write(path, lambda beside: torch.save(whole, beside))


def load_state(path: Path) -> dict[str, Any]:
    """Load what `save_state` wrote; `weights_only` means that the file can hold numbers and no code.

    Raises CheckpointError for a file that is missing, damaged, or something else.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file. A training writes it when it validates.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        known = state.pop(CHECKSUM, None)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: not a training state, or damaged; nothing in it was run. {_START_AFRESH}") from error
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, TypeError, AttributeError, IndexError, UnicodeError,
            OverflowError, AssertionError, MemoryError, struct.error, zipfile.BadZipFile, ImportError) as error:  # fmt: skip
        # Whatever bytes may bring about in PyTorch's reader.
        raise _damaged(path, f"{type(error).__name__} while it was read") from error
    if known is None or known != checksum(state):
        reason = "its numbers are not those that were saved" if known else "no state of a training, or of an older course"
        raise _damaged(path, reason)
    return state


_START_AFRESH = "Start without --resume, in another run_folder."


def checksum(value: Any) -> str:
    """The SHA-256 of numbers, texts and tensors in dicts and lists, one within the other."""
    digest = hashlib.sha256()
    _feed(value, digest.update)
    return digest.hexdigest()


def _feed(value: Any, update: Callable[[Any], None]) -> None:
    if isinstance(value, Tensor):
        update(f"{value.dtype}{tuple(value.shape)}".encode())
        update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, dict):
        update(b"{")
        for name, inner in sorted(value.items(), key=lambda item: str(item[0])):
            update(repr(name).encode())
            _feed(inner, update)
    elif isinstance(value, list | tuple):
        update(f"[{len(value)}".encode())
        for inner in value:
            _feed(inner, update)
    else:
        update(repr(value).encode())


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: damaged ({reason[:200]}). Copy or download it again, or train anew in another run_folder.")


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Write atomically; what PyTorch and safetensors report of a full disk becomes the system's own error for it."""
    try:
        write_beside(path, write)
    except (RuntimeError, SafetensorError) as error:
        if not _DISK_FULL.search(str(error)):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


_DISK_FULL = re.compile(r"os error (27|28)\b|No space|unexpected pos|failed writing file")
"""Safetensors says the first two, PyTorch's writer the others."""


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
