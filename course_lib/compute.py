"""Where and how exactly to compute: device, fp32 or bf16, and the same random numbers in every run.

bf16 keeps fp32's range and gives up digits. Large matrices multiply about three times faster in it on a GPU and on a CPU with
AMX instructions, 1.7 times faster with AVX512_BF16, and slower on other CPUs. So "auto" looks before it chooses.
"""

import contextlib
import random
from typing import Literal

import numpy as np
import torch

from course_lib.errors import CourseError

Precision = Literal["auto", "fp32", "bf16"]

BF16_INSTRUCTIONS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512_BF16"}
"""What a CPU may multiply bf16 with, the faster first: PyTorch's name, everyone's name."""


def resolve_precision(precision: Precision, device: torch.device | str = "cpu") -> str:
    """Turn "auto" into "bf16" where the hardware multiplies it natively, else "fp32"; other values pass through."""
    if precision != "auto":
        return precision
    kind = torch.device(device).type
    if kind == "cuda":
        # Older cards (a T4, say) emulate bf16: it runs, and is slower than fp32.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if kind == "cpu" and cpu_bf16_instructions() else "fp32"


def cpu_bf16_instructions() -> str | None:
    """The instructions that make bf16 worth its rounding on this CPU: "AMX", "AVX512_BF16" or None."""
    capabilities = torch.cpu.get_capabilities()
    return next((name for key, name in BF16_INSTRUCTIONS.items() if capabilities.get(key)), None)


def autocast(precision: Precision, device: torch.device | str = "cpu") -> contextlib.AbstractContextManager:
    """Run what is inside in bf16 where `precision` says so; in fp32 this does nothing."""
    if resolve_precision(precision, device) == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def pick_device(wish: str) -> str:
    """Turn "auto" into a GPU if there is one, else Apple silicon, else the CPU.

    Raises CourseError for "cuda" or "mps" on a machine without it: to compute on the CPU instead would take days in silence.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wish == "auto":
        return next(device for device, is_there in there.items() if is_there)
    if not there[wish]:
        raise CourseError(f"device: {wish} is not there for PyTorch {torch.__version__}. Set device: auto, or cpu.")
    return wish


def set_seed(seed: int) -> None:
    """Start all three generators of random numbers anew: Python's, NumPy's, and torch's on every device.

    The same as `accelerate.utils.set_seed`, which would have to import all of Accelerate for these three lines.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
