"""The compiler's own nouns: what the NPU can do in one or more tasks, between the model's operators and register lists.

Everything here is in the device's int8 domain: a uint8 tensor is stored as value - 128, and its zero point likewise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.limits import CORES
from rocketnpu.hw.sizes import align
from rocketnpu.ir import Tensor

ATOM_CHANNELS = ATOM_BYTES
"""Channels of one int8 atom: planes, and channel offsets, come in these."""


@dataclass(frozen=True)
class CubeShape:
    """A tensor's shape on the device: one image of height x width pixels of `channels` int8 values."""

    height: int
    width: int
    channels: int

    @property
    def pixels(self) -> int:
        """Pixels in one plane."""
        return self.height * self.width


def cube_shape(tensor: Tensor) -> CubeShape:
    """The device's view of a tensor of any rank: the last dimension is the channel, the one before it the width.

    NCHW images (rank 4, batch 1) have the channel before height and width.
    """
    shape = tensor.shape
    if tensor.layout == "NCHW":
        _, channels, height, width = shape
        return CubeShape(height, width, channels)
    channels = shape[-1] if shape else 1
    width = shape[-2] if len(shape) > 1 else 1
    height = 1
    for size in shape[:-2]:
        height *= size
    return CubeShape(height, width, channels)


Side: TypeAlias = Literal["height", "width", "channels"]
"""A side of a cube."""
_NCHW_SIDES: Mapping[int, Side] = MappingProxyType({1: "channels", 2: "height", 3: "width"})


def cube_side(tensor: Tensor, axis: int) -> Side | None:
    """Which side of the tensor's cube a dimension is; None where it is only a part of the height."""
    if tensor.layout == "NCHW":
        return _NCHW_SIDES.get(axis)
    match len(tensor.shape) - axis:
        case 1:
            return "channels"
        case 2:
            return "width"
        case 3 if math.prod(tensor.shape[:axis]) == 1:
            return "height"
        case _:
            return None


def image_row_pitch(shape: CubeShape) -> int:
    """Pixels from row to row of a dense image: the vendor's pitch, which puts every row on a 16-byte address."""
    return align(shape.width, ATOM_BYTES)


@dataclass(frozen=True)
class Window:
    """Half-open ranges of output rows and columns."""

    y0: int
    y1: int
    x0: int
    x1: int


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
    weight_zero_points, bias: int64 (OC,); gains: float64 (OC,), s_in * s_w / s_out. Input channels are read from
    `first_input_channel` on, output channels written from `first_output_channel` on (multiples of 16 and 32).
    low and high bound the result in the output's int8 grid. `slopes`, float64 (OC,), multiply a negative sum
    (LEAKY_RELU, PRELU), and take the place of bounds. `image_input` says that the input is dense pixels of 1 to 4
    channels, rows a whole number of 16 pixels apart, and not a feature cube. `residual` is a tensor of the output's
    shape that the task adds to the result (fuse_residual.py); the other fields are those of the convolution alone.
    `fraction_bits`, in a piece of a larger sum (lower/pieces.py), says that the output is int32 in units of
    2^-fraction_bits steps, without zero point or bounds; output_shape then counts bytes as channels.
    """

    input: str
    output: str
    input_shape: CubeShape
    output_shape: CubeShape
    depthwise: bool
    weights: NDArray[np.int8]
    weight_zero_points: NDArray[np.int64]
    bias: NDArray[np.int64]
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


class Operation(Enum):
    """What an element-wise form does with two real numbers."""

    SUM = "sum"
    PRODUCT = "product"
    MAXIMUM = "maximum"
    MINIMUM = "minimum"


@dataclass(frozen=True, eq=False)
class Elementwise:
    """Two cubes of one shape, element by element: clamp(round((s1*(q1-z1) op s2*(q2-z2)) / so) + zo).

    Ties round away from zero as in TFLite, or to even as in ONNX. A difference is a sum with a negative second scale.
    The second operand is `second`, or the int8 `constant` (height, width, channels) where that is None.
    """

    operation: Operation
    first: str
    second: str | None
    output: str
    shape: CubeShape
    first_scale: float
    second_scale: float
    output_scale: float
    first_zero_point: int
    second_zero_point: int
    output_zero_point: int
    low: int = -128
    high: int = 127
    ties_away: bool = True
    constant: NDArray[np.int8] | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def input_shape(self) -> CubeShape:
        """Shape of both operands."""
        return self.shape

    @property
    def output_shape(self) -> CubeShape:
        """Shape of the result."""
        return self.shape


@dataclass(frozen=True)
class WideSum:
    """The saturated sum of two int32 cubes; `output_shape` counts their bytes as channels."""

    first: str
    second: str
    output: str
    output_shape: CubeShape

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.first, self.second)

    @property
    def input_shape(self) -> CubeShape:
        """Shape of both operands."""
        return self.output_shape


@dataclass(frozen=True)
class Rescale:
    """A cube on another grid: clamp(round(gain * (q - zi)) + zo).

    The clamp below is at -128 or at zo. Ties round away from zero as in TFLite, or to even as in ONNX.
    """

    input: str
    output: str
    output_shape: CubeShape
    gain: float
    input_zero_point: int
    output_zero_point: int
    low: int = -128
    high: int = 127
    ties_away: bool = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,)

    @property
    def input_shape(self) -> CubeShape:
        """Shape of the tensor read."""
        return self.output_shape


@dataclass(frozen=True, eq=False)
class TableLoad:
    """Loads the lookup table, int8 (256,): results of -128..127.

    `output` is scratch without meaning, 16 bytes for each core.
    """

    output: str
    table: NDArray[np.int8]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read: none."""
        return ()

    @property
    def input_shape(self) -> CubeShape:
        """Shape of the scratch."""
        return CubeShape(1, CORES, 1)

    @property
    def output_shape(self) -> CubeShape:
        """Shape of the scratch."""
        return CubeShape(1, CORES, 1)


@dataclass(frozen=True)
class Lookup:
    """A cube through the table loaded just before, byte by byte."""

    input: str
    output: str
    output_shape: CubeShape

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,)

    @property
    def input_shape(self) -> CubeShape:
        """Shape of the tensor read."""
        return self.output_shape


@dataclass(frozen=True)
class Move:
    """Bytes of one cube, or the larger ones of two cubes, into another cube.

    In every plane, `height` x `width` consecutive pixels from `first_start` on, and from `second_start` on if there is
    a second cube, become rows of `width` pixels in the output, which start at `output_start` and lie `row_step` pixels
    apart. Starts are pixels counted through all planes: plane * pixels + row * width + column.
    """

    first: str
    second: str | None
    output: str
    input_shape: CubeShape
    output_shape: CubeShape
    height: int
    width: int
    channels: int
    row_step: int
    first_start: int = 0
    second_start: int = 0
    output_start: int = 0

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.first,) if self.second is None else (self.first, self.second)


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


@dataclass(frozen=True)
class Upsample:
    """Nearest neighbours by two: output pixel (y, x) is input pixel (y / 2, x / 2)."""

    input: str
    output: str
    input_shape: CubeShape
    output_shape: CubeShape

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,)


@dataclass(frozen=True)
class Alias:
    """A tensor whose bytes on the device are those of another, from plane `first_plane` on: a reshape that keeps pixels
    and channels, or a range of channels."""

    input: str
    output: str
    output_shape: CubeShape
    first_plane: int = 0

    @property
    def offset_bytes(self) -> int:
        """From the first byte of the tensor read to that of this one."""
        return self.first_plane * self.output_shape.pixels * ATOM_BYTES

    @property
    def input_shape(self) -> CubeShape:
        """A shape with the same pixels and channels as the tensor read."""
        return self.output_shape

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,)


@dataclass(frozen=True)
class Part:
    """A tensor that lies inside another one, from plane `first_plane` on, as soon as it is made: concatenation."""

    input: str
    output: str
    input_shape: CubeShape
    output_shape: CubeShape
    first_plane: int

    @property
    def offset_bytes(self) -> int:
        """From the first byte of the whole to that of the part."""
        return self.first_plane * self.output_shape.pixels * ATOM_BYTES

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,)


Lowered: TypeAlias = (
    Convolution | Elementwise | WideSum | Rescale | TableLoad | Lookup | Alias | Move | Pool | Upsample | Part
)
