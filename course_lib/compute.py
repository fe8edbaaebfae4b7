"""Where and how exactly to compute: device, fp32 or bf16, and the same random numbers in every run.

bf16 keeps fp32's range and gives up digits. On a GPU, and on a CPU with AMX instructions, large matrices multiply about three
times faster in it; on other CPUs it is slower than fp32. So "auto" looks before it chooses.
"""

import contextlib
import random
from typing import Literal

import numpy as np
import torch

Precision = Literal["auto", "fp32", "bf16"]


def resolve_precision(precision: Precision, device: torch.device | str = "cpu") -> str:
    """Turn "auto" into "bf16" where the hardware multiplies it natively, else "fp32"; other values pass through."""
    if precision != "auto":
        return precision
    kind = torch.device(device).type
    if kind == "cuda":
        # Older cards (a T4, say) emulate bf16: it runs, and is slower than fp32.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if kind == "cpu" and cpu_multiplies_bf16() else "fp32"


def cpu_multiplies_bf16() -> bool:
    """True on x86 CPUs with AMX, the instructions that make bf16 worth its rounding."""
    return torch.cpu._is_amx_tile_supported()


def autocast(precision: Precision, device: torch.device | str = "cpu") -> contextlib.AbstractContextManager:
    """Run what is inside in bf16 where `precision` says so; in fp32 this does nothing."""
    if resolve_precision(precision, device) == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def pick_device(wish: str) -> str:
    """Turn "auto" into a GPU if there is one, else Apple silicon, else the CPU; other wishes pass through."""
    if wish != "auto":
        return wish
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def set_seed(seed: int) -> None:
    """Start all three generators of random numbers anew: Python's, NumPy's, and torch's on every device.

    The same as `accelerate.utils.set_seed`, which would have to import all of Accelerate for these three lines.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
