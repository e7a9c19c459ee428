"""Scratch buffers that tasks share, one after the other, and the row length that suits numpy."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array: TypeAlias = NDArray[Any]

_ROW_ELEMENTS = 512
"""Rows of about this length, since numpy is slow on short ones."""


class Workspace:
    """Named scratch buffers of one thread: `take` hands out the same memory again and again."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """An uninitialised array; its contents last until the name is taken again."""
        kind: np.dtype[Any] = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.zeros(size, np.uint8)
        return np.ndarray(shape, kind, buffer.data)


def pixels_per_row(pixels: int, channels: int) -> int:
    """How many pixels to treat as one row, with repeated channel operands: a power of two that divides their number."""
    group = 1
    while group * channels < _ROW_ELEMENTS and pixels % (2 * group) == 0:
        group *= 2
    return group
