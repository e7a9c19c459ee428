"""Averages: depthwise convolutions with weights 1.

1. A padded AVERAGE_POOL_2D has one convolution for every way in which its window overlaps the border, as TFLite divides
   by the taps inside.
2. A window above 31 rows or columns is averaged in two steps, or where these are not near enough as a sum of pieces
   (pieces.py).
3. A MEAN is such an average over height, width or both; one over channels as well is a dense convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import TypeAlias

import numpy as np

from rocketnpu.compiler.constraints.layers import reduced_shape
from rocketnpu.compiler.constraints.table import operands
from rocketnpu.compiler.lower.grids import (
    SIGN_FLIP,
    activation_bounds,
    pads_before,
    rounding_of,
    scale_of,
    zero_point_of,
)
from rocketnpu.compiler.lower.pieces import whole_or_in_pieces
from rocketnpu.compiler.npu_ops import (
    Convolution,
    CubeShape,
    Lowered,
    Rounding,
    Window,
    cube_shape,
)
from rocketnpu.hw import limits
from rocketnpu.ir import (
    Graph,
    Operator,
    PoolOptions,
)

MAX_TWO_STEP_GAIN = 1.5
"""Half an input step, and half an output step for each of both roundings, then differ by less than 2 output steps."""

_Band: TypeAlias = tuple[int, int, int, int]
"""Output rows y0..y1 whose windows all cover `taps` input rows, the first of them at y * stride + origin."""


def _pool_bands(size: int, out_size: int, taps: int, stride: int, pad: int) -> list[_Band]:
    """Outputs along one axis, grouped by the part of the window that lies inside the input."""
    bands: list[_Band] = []
    for y in range(out_size):
        start = y * stride - pad
        first, last = max(0, -start), min(taps, size - start)
        origin, inside = first - pad, last - first
        if bands and bands[-1][2:] == (origin, inside):
            bands[-1] = (bands[-1][0], y + 1, origin, inside)
        else:
            bands.append((y, y + 1, origin, inside))
    return bands


def lower_average_pool(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """AVERAGE_POOL_2D (rules 1 and 2)."""
    found, options = operands(graph, op), op.options
    assert isinstance(options, PoolOptions)
    data, out = cube_shape(found.data), cube_shape(found.output)
    if graph.format == "tflite":
        # TFLite averages the stored numbers, ties away from zero: uint8 ones are all positive.
        zero_in = zero_out = -SIGN_FLIP if found.data.dtype == np.uint8 else 0
        gain = 1.0
    else:
        zero_in, zero_out = zero_point_of(found.data), zero_point_of(found.output)
        gain = scale_of(found.data) / scale_of(found.output)
    low, high = activation_bounds(options.activation, found.output)
    pad_h, pad_w = pads_before(options, data, out, (options.filter_h, options.filter_w))
    rows = _pool_bands(data.height, out.height, options.filter_h, options.stride_h, pad_h)
    columns = _pool_bands(data.width, out.width, options.filter_w, options.stride_w, pad_w)
    for (y0, y1, origin_h, taps_h), (x0, x1, origin_w, taps_w) in product(rows, columns):
        conv = _average(found.data.name, found.output.name, data, out, taps_h, taps_w, zero_in, zero_out, gain)
        conv = replace(
            conv,
            rounding=rounding_of(graph, Rounding.ONCE),
            stride_h=options.stride_h,
            stride_w=options.stride_w,
            origin_h=origin_h,
            origin_w=origin_w,
            window=Window(y0, y1, x0, x1),
            low=low,
            high=high,
        )
        yield from _in_steps(conv)


def lower_mean(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """MEAN over any sides of a cube (rules 2 and 3)."""
    found = operands(graph, op)
    data, out = cube_shape(found.data), reduced_shape(found.data, op)
    gain = scale_of(found.data) / scale_of(found.output)
    zeros = zero_point_of(found.data), zero_point_of(found.output)
    rows, columns = data.height // out.height, data.width // out.width
    conv = _average(found.data.name, found.output.name, data, out, rows, columns, *zeros, gain)
    if out.channels != data.channels:
        ones = np.ones((1, rows, columns, data.channels), np.int8)
        gains = conv.gains[:1] / data.channels
        none = np.zeros(1, np.int64)
        conv = replace(conv, depthwise=False, weights=ones, gains=gains, weight_zero_points=none, bias=none)
    yield from _in_steps(replace(conv, rounding=rounding_of(graph, Rounding.ONCE)), whole_sides=True)


def _average(
    source: str,
    target: str,
    data: CubeShape,
    out: CubeShape,
    taps_h: int,
    taps_w: int,
    zero_in: int,
    zero_out: int,
    gain: float,
) -> Convolution:
    """Mean over taps_h x taps_w inputs, times gain, as a depthwise convolution with weights 1 and stride 1."""
    channels = data.channels
    return Convolution(
        input=source,
        output=target,
        input_shape=data,
        output_shape=out,
        depthwise=True,
        weights=np.ones((channels, taps_h, taps_w, 1), np.int8),
        weight_zero_points=np.zeros(channels, np.int64),
        bias=np.zeros(channels),
        gains=np.full(channels, gain / (taps_h * taps_w)),
        input_zero_point=zero_in,
        output_zero_point=zero_out,
        stride_h=1,
        stride_w=1,
        dilation_h=1,
        dilation_w=1,
        origin_h=0,
        origin_w=0,
        window=Window(0, out.height, 0, out.width),
        rounding=Rounding.ONCE,
    )


def _in_steps(conv: Convolution, *, whole_sides: bool = False) -> Iterator[Lowered]:
    """Rule 2: an average over more than 31 rows or columns becomes one over averages of small, adjacent windows.

    `whole_sides`: a window has all rows or one, and all columns or one. The first step rounds to int8, which moves the
    value before the last rounding by at most half an input step.
    """
    gain = float(conv.gains[0]) * conv.weights[0].size
    small_h, small_w = _factor(conv.kernel_h), _factor(conv.kernel_w)
    data, out = conv.input_shape, conv.output_shape
    within_1 = (whole_sides or out.pixels == 1) and gain <= MAX_TWO_STEP_GAIN
    if max(conv.kernel_h, conv.kernel_w) <= limits.MAX_KERNEL or small_h is None or small_w is None or not within_1:
        yield from whole_or_in_pieces(conv)
        return
    between = CubeShape(out.height * conv.kernel_h // small_h, out.width * conv.kernel_w // small_w, data.channels)
    name = f"{conv.output}#windows"
    zero = conv.input_zero_point
    first = _average(conv.input, name, data, between, small_h, small_w, zero, zero, 1.0)
    first = replace(first, stride_h=small_h, stride_w=small_w, origin_h=conv.origin_h, origin_w=conv.origin_w)
    yield from whole_or_in_pieces(replace(first, rounding=conv.rounding))
    weights = np.ascontiguousarray(conv.weights[:, : conv.kernel_h // small_h, : conv.kernel_w // small_w])
    yield replace(
        conv,
        input=name,
        input_shape=between,
        weights=weights,
        gains=np.full_like(conv.gains, gain / weights[0].size),
        origin_h=0,
        origin_w=0,
    )


def _factor(size: int) -> int | None:
    """The smallest divisor of `size` that leaves at most 31, so that the stride of the first step stays small."""
    divisors = range(1, limits.MAX_KERNEL + 1)
    return next((each for each in divisors if size % each == 0 and size // each <= limits.MAX_KERNEL), None)
