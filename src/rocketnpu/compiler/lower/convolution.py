"""Convolutions and fully connected layers.

1. CONV_2D is a direct convolution; one with groups becomes a direct convolution for every 32 output channels, over
   just the input channels that those need.
2. DEPTHWISE_CONV_2D with multiplier 1 is the chip's depthwise mode; any other multiplier is a grouped convolution.
3. FULLY_CONNECTED is a 1x1 convolution over rows, or one whose kernel is the whole image.
4. What no single pass takes is a sum of smaller convolutions (pieces.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints.table import operands
from rocketnpu.compiler.lower.grids import (
    activation_bounds,
    as_int8,
    bias_of,
    gains_of,
    pads_before,
    per_output,
    rounding_of,
    zero_point_of,
)
from rocketnpu.compiler.lower.padding import with_legal_padding
from rocketnpu.compiler.lower.pieces import groups_or_in_pieces, whole_or_in_pieces
from rocketnpu.compiler.npu_ops import (
    Convolution,
    CubeShape,
    Lowered,
    Rounding,
    Window,
    cube_shape,
)
from rocketnpu.ir import (
    ConvOptions,
    FullyConnectedOptions,
    Graph,
    Operator,
    Padding,
)


def _spatial(
    graph: Graph, op: Operator, weights: NDArray[np.int8], zeros: NDArray[np.int64], options: ConvOptions
) -> Convolution:
    """A dense or depthwise convolution over the whole output: weights (OC, KH, KW, IC)."""
    found = operands(graph, op)
    assert found.weights is not None
    assert found.weights.quantization is not None
    data, out = cube_shape(found.data), cube_shape(found.output)
    channels, kernel_h, kernel_w, _ = weights.shape
    reach_h = (kernel_h - 1) * options.dilation_h + 1
    reach_w = (kernel_w - 1) * options.dilation_w + 1
    low, high = activation_bounds(options.activation, found.output)
    pad_h, pad_w = pads_before(options, data, out, (reach_h, reach_w))
    return Convolution(
        input=found.data.name,
        output=found.output.name,
        input_shape=data,
        output_shape=out,
        depthwise=False,
        weights=weights,
        weight_zero_points=per_output(zeros, channels).astype(np.int64),
        bias=bias_of(found.bias, channels),
        gains=gains_of(graph, op, channels),
        input_zero_point=zero_point_of(found.data),
        output_zero_point=zero_point_of(found.output),
        stride_h=options.stride_h,
        stride_w=options.stride_w,
        dilation_h=options.dilation_h,
        dilation_w=options.dilation_w,
        origin_h=-pad_h,
        origin_w=-pad_w,
        window=Window(0, out.height, 0, out.width),
        low=low,
        high=high,
        rounding=rounding_of(graph, Rounding.TWICE),
    )


def lower_conv(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """CONV_2D (rule 1)."""
    found = operands(graph, op)
    assert found.weights is not None
    assert isinstance(op.options, ConvOptions)
    weights, zeros = as_int8(found.weights)
    *pads, whole = with_legal_padding(_spatial(graph, op, weights, zeros, op.options))
    yield from pads
    groups = whole.input_shape.channels // weights.shape[3]
    yield from whole_or_in_pieces(whole) if groups == 1 else groups_or_in_pieces(whole, groups)


def lower_depthwise(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """DEPTHWISE_CONV_2D (rule 2)."""
    found = operands(graph, op)
    assert found.weights is not None
    assert isinstance(op.options, ConvOptions)
    stored, zeros = as_int8(found.weights)
    weights = np.ascontiguousarray(stored.transpose(3, 1, 2, 0))
    *pads, whole = with_legal_padding(_spatial(graph, op, weights, zeros, op.options))
    yield from pads
    if weights.shape[0] == whole.input_shape.channels:
        yield from whole_or_in_pieces(replace(whole, depthwise=True))
    else:
        yield from groups_or_in_pieces(whole, whole.input_shape.channels)


def lower_fully_connected(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """FULLY_CONNECTED (rule 3)."""
    found = operands(graph, op)
    assert found.weights is not None
    assert isinstance(op.options, FullyConnectedOptions)
    stored, zeros = as_int8(found.weights)
    shape = cube_shape(found.data)
    rows_are_pixels = shape.channels == stored.shape[1]
    options = ConvOptions(Padding.VALID, 1, 1, activation=op.options.activation)
    if rows_are_pixels:
        weights = stored.reshape(-1, 1, 1, shape.channels)
    elif found.data.layout == "NCHW":
        planes = stored.reshape(-1, shape.channels, shape.height, shape.width)
        weights = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    else:
        weights = stored.reshape(-1, shape.height, shape.width, shape.channels)
    conv = _spatial(graph, op, weights, zeros, options)
    out = CubeShape(shape.height if rows_are_pixels else 1, shape.width if rows_are_pixels else 1, stored.shape[0])
    # LiteRT's kernel rounds once, unlike those of convolutions (test_fully_connected.py).
    rounding = rounding_of(graph, Rounding.ONCE)
    conv = replace(conv, output_shape=out, window=Window(0, out.height, 0, out.width), rounding=rounding)
    yield from whole_or_in_pieces(conv)
