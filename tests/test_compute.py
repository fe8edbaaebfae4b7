"""Which precision "auto" means where, and that fp32 is left alone."""

import contextlib

import pytest
import torch

from course_lib import compute
from course_lib.compute import autocast, cpu_bf16_instructions, resolve_precision


@pytest.mark.parametrize("wish", ["fp32", "bf16"])
@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_a_precision_that_is_named_is_taken(wish, device):
    assert resolve_precision(wish, device) == wish


@pytest.mark.parametrize(
    ("capabilities", "instructions", "expected"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, "AMX", "bf16"),
        ({"amx_bf16": False, "avx512_bf16": True}, "AVX512_BF16", "bf16"),
        ({"amx_bf16": False, "avx512_bf16": False, "avx512_f": True}, None, "fp32"),
        ({"neon": True, "bf16": True}, None, "fp32"),
    ],
)
def test_auto_takes_bf16_on_a_cpu_only_with_instructions_for_it(monkeypatch, capabilities, instructions, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert cpu_bf16_instructions() == instructions
    assert resolve_precision("auto", "cpu") == expected
    assert resolve_precision("auto", torch.device("cpu")) == expected


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_on_a_gpu_that_does_not_just_emulate_it(monkeypatch, native, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    assert resolve_precision("auto", "cuda:0") == expected


def test_auto_stays_with_fp32_on_other_devices(monkeypatch):
    monkeypatch.setattr(compute, "cpu_bf16_instructions", lambda: "AMX")
    assert resolve_precision("auto", "mps") == "fp32"


def test_this_cpu_can_be_asked():
    assert cpu_bf16_instructions() in (None, "AMX", "AVX512_BF16")


def test_autocast_in_fp32_does_nothing():
    assert isinstance(autocast("fp32"), contextlib.nullcontext)
    matrix = torch.ones(2, 2)
    with autocast("fp32"):
        assert not torch.is_autocast_enabled("cpu")
        assert (matrix @ matrix).dtype == torch.float32


def test_autocast_in_bf16_multiplies_in_bf16():
    matrix = torch.ones(2, 2)
    with autocast("bf16"):
        assert (matrix @ matrix).dtype == torch.bfloat16
    assert (matrix @ matrix).dtype == torch.float32
