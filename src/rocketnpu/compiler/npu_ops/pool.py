"""Pooling on the PPU."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rocketnpu.compiler.npu_ops.cube import CubeShape


class PoolMethod(Enum):
    """What the pooling unit does with the values of a window."""

    AVERAGE = "average"
    MAX = "max"


@dataclass(frozen=True)
class Pool:
    """The largest value, or the average, of windows in each channel, by the pooling unit.

    Output (y, x) covers input rows y * stride_h - pad_top on, and columns likewise. Padding is never the largest; the
    windows of an average have none.
    """

    method: PoolMethod
    input: str
    output: str
    input_shape: CubeShape
    output_shape: CubeShape
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_top: int = 0
    pad_left: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,)
