"""Quantized ONNX models on the emulator against ONNX Runtime, node by node: every byte within 1, nearly all equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rocketnpu as rn
from rocketnpu.cpu.onnxruntime import Reference
from rocketnpu.frontends import load_model
from support.agreement import Agreement, assert_close, assert_sound
from support.onnx_models import Grid

UNEQUAL = 0.01
"""Share of bytes of a layer that may be 1 apart. One shared gain for all channels costs up to 0.3 % where their gains
differ widely (hardware/dpu.md, Per-channel requantization); layers of a few hundred bytes scatter around that."""

IN: Grid = (0.03, 5)
OUT: Grid = (0.11, -9)


def noise(shape: Sequence[int], dtype: Any = np.int8, seed: int = 0) -> NDArray[Any]:
    limits = np.iinfo(dtype)
    return np.random.default_rng(seed).integers(limits.min, limits.max, shape, dtype, endpoint=True)


def onnx_agreement(data: bytes, inputs: Sequence[NDArray[Any]]) -> Agreement:
    """Compile and run a model; fails on an illegal task, a memory conflict, or a byte more than 1 off."""
    program = rn.compile(data)
    expected = Reference(load_model(data).model).tensors(inputs)
    assert_sound(program)
    with rn.Session(program, device="emulator") as session:
        found = session.run_isolated(expected)
    assert_close(found, expected)
    return Agreement(program, found, expected)


def on_npu(data: bytes, *inputs: NDArray[Any]) -> Agreement:
    """`onnx_agreement`; nothing may have stayed on the CPU, and nearly all bytes are equal."""
    result = onnx_agreement(data, inputs)
    assert not result.reasons(), f"on the CPU: {result.reasons()}"
    assert result.unequal <= UNEQUAL, f"{result.npu_tensors}: {result.unequal:.4%} of bytes differ"
    return result


def every_byte(dtype: Any = np.int8) -> NDArray[Any]:
    """An image with all 256 values."""
    limits = np.iinfo(dtype)
    return np.arange(limits.min, limits.max + 1).astype(dtype).reshape(1, 16, 4, 4)
