"""A convolution, as one or more tasks compute it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.npu_ops.cube import CubeShape, Window

Run: TypeAlias = tuple[int, int, int]
"""Output rows of one image: the image, its first row, and the one behind its last."""


class Rounding(Enum):
    """How the model's reference rounds a product of accumulator and gain."""

    TWICE = "twice"
    """TFLite's convolutions: once after a multiplier in [0.5, 1), again after a power of two, ties away from zero."""
    ONCE = "once"
    """TFLite's average pool and fully connected layers: once, ties away from zero."""
    ONCE_TO_EVEN = "once, ties to even"
    """ONNX: the real value divided by the output's scale, ties to even."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """One convolution: every output in `window` is clamp(round(gain * sum((x - zx) * (w - zw)) + bias * gain) + zy).

    Tap (ky, kx) of output (y, x) reads input row y * stride_h + origin_h + ky * dilation_h, likewise the column;
    outside the input lies padding, which is real zero. weights: int8 (OC, KH, KW, IC), or (C, KH, KW, 1) if
    `depthwise`.
    weight_zero_points: int64 (OC,). bias: float64 (OC,), in steps of the accumulator, of which registers hold
    whole ones. gains: float64 (OC,), s_in * s_w / s_out. Input channels are read from `first_input_channel` on, output
    channels written from `first_output_channel` on (multiples of 16 and 32).
    low and high bound the result in the output's int8 grid. `slopes`, float64 (OC,), multiply a negative sum
    (LEAKY_RELU, PRELU), and take the place of bounds. `image_input` says that the input is dense pixels of 1 to 4
    channels, rows a whole number of 16 pixels apart, and not a feature cube. `residual` is a tensor of the output's
    shape that the task adds to the result (fuse_residual.py); the other fields are those of the convolution alone.
    `fraction_bits`, in a piece of a larger sum (lower/pieces.py), says that the output is int32 in units of
    2^-fraction_bits steps, without zero point or bounds; output_shape then counts bytes as channels.
    `images` of equal height are stacked in both cubes. The convolution works on each of them by itself: rows of
    `window`, origins and padding are those of one image.
    """

    input: str
    output: str
    input_shape: CubeShape
    output_shape: CubeShape
    depthwise: bool
    weights: NDArray[np.int8]
    weight_zero_points: NDArray[np.int64]
    bias: NDArray[np.float64]
    gains: NDArray[np.float64]
    input_zero_point: int
    output_zero_point: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    origin_h: int
    origin_w: int
    window: Window
    low: int = -128
    high: int = 127
    rounding: Rounding = Rounding.TWICE
    first_input_channel: int = 0
    first_output_channel: int = 0
    image_input: bool = False
    slopes: NDArray[np.float64] | None = None
    residual: str | None = None
    fraction_bits: int | None = None
    images: int = 1

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,) if self.residual is None else (self.input, self.residual)

    @property
    def kernel_h(self) -> int:
        """Kernel rows."""
        return self.weights.shape[1]

    @property
    def kernel_w(self) -> int:
        """Kernel columns."""
        return self.weights.shape[2]

    @property
    def input_height(self) -> int:
        """Input rows of one image."""
        return self.input_shape.height // self.images

    @property
    def output_height(self) -> int:
        """Output rows of one image."""
        return self.output_shape.height // self.images

    @property
    def window_rows(self) -> int:
        """Output rows of the window, in one image."""
        return self.window.y1 - self.window.y0

    @property
    def reach_h(self) -> int:
        """Input rows from the first tap to the last, both included."""
        return (self.kernel_h - 1) * self.dilation_h + 1

    @property
    def reach_w(self) -> int:
        """Input columns from the first tap to the last, both included."""
        return (self.kernel_w - 1) * self.dilation_w + 1

    @property
    def output_channels(self) -> int:
        """Channels this convolution computes."""
        return self.weights.shape[0]

    @property
    def input_channels(self) -> int:
        """Channels this convolution reads."""
        return self.weights.shape[0] if self.depthwise else self.weights.shape[3]

    def runs(self, start: int, stop: int) -> Iterator[Run]:
        """Output rows, image by image.

        `start` and `stop` count the window's rows through all images, from window.y0 on.
        """
        while start < stop:
            image, row = divmod(start - self.window.y0, self.window_rows)
            count = min(stop - start, self.window_rows - row)
            yield image, self.window.y0 + row, self.window.y0 + row + count
            start += count

    def joined(self) -> Convolution:
        """The same convolution of one tall image, where no output reads rows of two images; else this one.

        That is so if every output row reads rows of a block of its own, stride_h rows high.
        """
        if self.images == 1:
            return self
        whole = self.window_rows == self.output_height
        own_blocks = self.origin_h >= 0 and self.origin_h + self.reach_h <= self.stride_h
        if not whole or not own_blocks or self.input_height != self.output_height * self.stride_h:
            return self
        return replace(self, images=1, window=replace(self.window, y1=self.output_shape.height))
