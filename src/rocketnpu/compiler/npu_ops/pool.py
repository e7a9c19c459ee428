"""Pooling on the PPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    windows of an average have none. `images` of equal height are stacked in both cubes; rows and padding are those of
    each one.
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
    images: int = 1

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,)

    def of_one_image(self) -> Pool:
        """The pool of the first image."""
        data, out = self.input_shape, self.output_shape
        return replace(
            self,
            input_shape=replace(data, height=data.height // self.images),
            output_shape=replace(out, height=out.height // self.images),
            images=1,
        )

    def joined(self) -> Pool:
        """The same pool of one tall image, where no window reads rows of two images; else this one."""
        own_blocks = self.pad_top == 0 and self.kernel_h <= self.stride_h
        fills_them = self.input_shape.height == self.output_shape.height * self.stride_h
        return replace(self, images=1) if own_blocks and fills_them else self
