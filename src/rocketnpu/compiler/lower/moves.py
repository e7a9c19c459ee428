"""Convolutions that only move values: every output is one input, or the zero point where there is none.

The chip's readers know strides, padding and row pitches only in front of a convolution, so that values which change
their place in the raster, or their channel, pass through one with weights 0 and 1. Values come out unchanged: the
gain 1 has an exact pair of multipliers (requantize/convolution.py, recipe 1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, Convolution, CubeShape, Window
from rocketnpu.compiler.npu_ops.error import ConstraintError

MOST_WEIGHTS_BYTES = 1 << 24
"""Weights of a selection: one for each pair of channels. With more the NPU reads longer than a CPU copies, and so large
an array of zeros and ones has no place in a program."""

LOWEST = -128
"""Below every int8 value: what padding holds where the largest value wins."""


def identity(
    source: str,
    target: str,
    data: CubeShape,
    out: CubeShape,
    *,
    zero_point: int,
    origin: tuple[int, int] = (0, 0),
    strides: tuple[int, int] = (1, 1),
    first_channel: int = 0,
    low: int = -128,
    high: int = 127,
) -> Convolution:
    """Output (y, x, c) is input (y * stride + origin, x * stride + origin, first_channel + c), within low and high, and
    `zero_point` where that is outside the input's rows and columns. `first_channel` is a multiple of 16."""
    ones = np.ones((out.channels, 1, 1, 1), np.int8)
    return _mover(
        source, target, data, out, ones, zero_point, origin, strides, first_channel, low, high, depthwise=True
    )


def selection(
    source: str,
    target: str,
    data: CubeShape,
    out: CubeShape,
    *,
    channels: NDArray[np.int64],
    zero_point: int,
    origin: tuple[int, int] = (0, 0),
    strides: tuple[int, int] = (1, 1),
) -> Convolution:
    """As `identity`, but output channel c is input channel channels[c], or `zero_point` where that is negative.

    ConstraintError if that takes more than MOST_WEIGHTS_BYTES of weights.
    """
    chosen = np.flatnonzero(channels >= 0)
    first, last = int(channels[chosen].min()), int(channels[chosen].max())
    first -= first % ATOM_CHANNELS
    if channels.size * (last + 1 - first) > MOST_WEIGHTS_BYTES:
        raise ConstraintError(
            f"channels that change their place take at most {MOST_WEIGHTS_BYTES >> 20} MiB of weights"
        )
    weights = np.zeros((channels.size, 1, 1, last + 1 - first), np.int8)
    weights[chosen, 0, 0, channels[chosen] - first] = 1
    return _mover(source, target, data, out, weights, zero_point, origin, strides, first, -128, 127, depthwise=False)


def _mover(
    source: str,
    target: str,
    data: CubeShape,
    out: CubeShape,
    weights: NDArray[np.int8],
    zero_point: int,
    origin: tuple[int, int],
    strides: tuple[int, int],
    first_channel: int,
    low: int,
    high: int,
    *,
    depthwise: bool,
) -> Convolution:
    channels: int = weights.shape[0]
    return Convolution(
        input=source,
        output=target,
        input_shape=data,
        output_shape=out,
        depthwise=depthwise,
        weights=weights,
        weight_zero_points=np.zeros(channels, np.int64),
        bias=np.zeros(channels),
        gains=np.ones(channels),
        input_zero_point=zero_point,
        output_zero_point=zero_point,
        stride_h=strides[0],
        stride_w=strides[1],
        dilation_h=1,
        dilation_w=1,
        origin_h=origin[0],
        origin_w=origin[1],
        window=Window(0, out.height, 0, out.width),
        low=low,
        high=high,
        first_input_channel=first_channel,
    )
