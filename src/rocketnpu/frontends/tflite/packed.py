"""Constants of 4 bits: two in a byte, the first in its low half (LiteRT's UnpackDenseInt4IntoInt8)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import ModelError

PACKED = "INT4"
"""The tensor type of the schema."""

UNPACKING = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "DEQUANTIZE"})
"""Operators whose kernels in LiteRT take such constants as int8 ones. Others take the bytes for something else."""


def unpacked(stored: NDArray[np.uint8], shape: tuple[int, ...], name: str) -> NDArray[np.int8]:
    """The numbers as int8 of `shape`; ModelError if the bytes are too few or too many."""
    count = math.prod(shape)
    if stored.size != -(-count // 2):
        raise ModelError(
            f"tensor {name} of shape {shape} and type {PACKED} needs {-(-count // 2)} bytes, its buffer has"
            f" {stored.size}"
        )
    halves = np.stack([stored << 4, stored & 0xF0], axis=-1).reshape(-1)[:count]
    data = (halves.view(np.int8) >> 4).reshape(shape)
    data.flags.writeable = False
    return data
