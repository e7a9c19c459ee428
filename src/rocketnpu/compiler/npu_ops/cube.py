"""Tensors as the device sees them: cubes, their sides, and windows of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.sizes import align
from rocketnpu.ir import Tensor

ATOM_CHANNELS = ATOM_BYTES
"""Channels of one int8 atom: planes, and channel offsets, come in these."""


@dataclass(frozen=True)
class CubeShape:
    """A tensor's shape on the device: height x width pixels of `channels` int8 values; several images are stacked."""

    height: int
    width: int
    channels: int

    @property
    def pixels(self) -> int:
        """Pixels in one plane."""
        return self.height * self.width


def device_order(tensor: Tensor) -> tuple[int, ...]:
    """The tensor's dimensions as the device has them: the channel last, the others in their order."""
    axes = range(len(tensor.shape))
    return (0, *axes[2:], 1) if tensor.layout == "NCHW" else tuple(axes)


def cube_shape(tensor: Tensor) -> CubeShape:
    """The device's view of a tensor of any rank: the channel, of the other dimensions the last as width, the product of
    the rest as height."""
    shape = [tensor.shape[axis] for axis in device_order(tensor)]
    channels = shape[-1] if shape else 1
    width = shape[-2] if len(shape) > 1 else 1
    return CubeShape(math.prod(shape[:-2]), width, channels)


Side: TypeAlias = Literal["height", "width", "channels"]
"""A side of a cube."""


def cube_side(tensor: Tensor, axis: int) -> Side | None:
    """Which side of the tensor's cube a dimension is; None where it is only a part of the height."""
    order = device_order(tensor)
    place = order.index(axis)
    match len(order) - place:
        case 1:
            return "channels"
        case 2:
            return "width"
        case 3 if math.prod(tensor.shape[other] for other in order[:place]) == 1:
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
