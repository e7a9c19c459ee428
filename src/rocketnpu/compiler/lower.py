"""From TFLite operators to the NPU's own: each operator becomes convolutions, an addition or an alias.

1. CONV_2D is a direct convolution; one with groups becomes a direct convolution for every 32 output channels, over
   just the input channels that those need.
2. DEPTHWISE_CONV_2D with multiplier 1 is the chip's depthwise mode; any other multiplier is a grouped convolution.
3. FULLY_CONNECTED is a 1x1 convolution over rows, or one whose kernel is the whole image.
4. AVERAGE_POOL_2D and MEAN are depthwise convolutions with weights 1; a padded pool has one for every way in which its
   window overlaps the border, as TFLite divides by the taps inside; a window above 31 is averaged in two steps.
5. RESHAPE that keeps pixels is an alias.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import product
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints import ConstraintError, operands
from rocketnpu.compiler.lowered import (
    ATOM_CHANNELS,
    Addition,
    Alias,
    Convolution,
    CubeShape,
    Lowered,
    Rounding,
    Window,
    cube_shape,
)
from rocketnpu.hw import limits
from rocketnpu.hw.sizes import align
from rocketnpu.ir import (
    Activation,
    ConvOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    Graph,
    Operator,
    Padding,
    PoolOptions,
    Tensor,
)

SIGN_FLIP = 128
"""A uint8 tensor is stored as value - 128."""
MAX_TWO_STEP_GAIN = 1.5
"""Half an input step, and half an output step for each of both roundings, then differ by less than 2 output steps."""


def lower(graph: Graph, op: Operator) -> tuple[Lowered, ...]:
    """The NPU form of an operator that has passed `constraints.check`; ConstraintError if its sizes rule it out."""
    return tuple(_LOWERINGS[op.kind](graph, op))


def _scale(tensor: Tensor) -> float:
    assert tensor.quantization is not None
    return float(tensor.quantization.scales[0])


def _zero_point(tensor: Tensor) -> int:
    """Zero point of a per-tensor grid in the device's int8 domain."""
    assert tensor.quantization is not None
    return int(tensor.quantization.zero_points[0]) - (SIGN_FLIP if tensor.dtype == np.uint8 else 0)


def _bounds(activation: Activation, output: Tensor) -> tuple[int, int]:
    """The activation's range on the output's int8 grid, as TFLite computes it."""
    scale, zero = _scale(output), _zero_point(output)
    real = {
        Activation.RELU: (0.0, None),
        Activation.RELU6: (0.0, 6.0),
        Activation.RELU_N1_TO_1: (-1.0, 1.0),
    }.get(activation, (None, None))
    low = -128 if real[0] is None else max(-128, zero + _steps(real[0], scale))
    high = 127 if real[1] is None else min(127, zero + _steps(real[1], scale))
    return low, high


def _steps(real: float, scale: float) -> int:
    """real / scale in TFLite's arithmetic: float32, ties away from zero."""
    quotient = float(np.float32(real) / np.float32(scale))
    return int(math.copysign(math.floor(abs(quotient) + 0.5), quotient))


def _int8(weights: Tensor) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """A constant's values and zero points in the int8 domain."""
    assert weights.data is not None
    assert weights.quantization is not None
    flip = SIGN_FLIP if weights.dtype == np.uint8 else 0
    values = (weights.data.astype(np.int16) - flip).astype(np.int8)
    return values, weights.quantization.zero_points - flip


def _per_output(values: NDArray[np.generic], channels: int) -> NDArray[np.generic]:
    return np.broadcast_to(values, (channels,))


def _gains(found_scales: NDArray[np.float64], data: Tensor, output: Tensor, channels: int) -> NDArray[np.float64]:
    return np.broadcast_to(found_scales * _scale(data) / _scale(output), (channels,)).astype(np.float64)


def _pads_before(
    options: ConvOptions | PoolOptions, data: CubeShape, out: CubeShape, reach: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns of padding before the first ones: counted by the file, or as TFLite does."""
    if options.pads is not None:
        return options.pads[:2]
    if options.padding is not Padding.SAME:
        return 0, 0
    rows = (out.height - 1) * options.stride_h + reach[0] - data.height
    columns = (out.width - 1) * options.stride_w + reach[1] - data.width
    return max(rows, 0) // 2, max(columns, 0) // 2


def _rounding(graph: Graph, tflite: Rounding) -> Rounding:
    return tflite if graph.format == "tflite" else Rounding.ONCE_TO_EVEN


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
    low, high = _bounds(options.activation, found.output)
    pad_h, pad_w = _pads_before(options, data, out, (reach_h, reach_w))
    bias = np.zeros(channels, np.int64) if found.bias is None or found.bias.data is None else found.bias.data
    return Convolution(
        input=found.data.name,
        output=found.output.name,
        input_shape=data,
        output_shape=out,
        depthwise=False,
        weights=weights,
        weight_zero_points=_per_output(zeros, channels).astype(np.int64),
        bias=bias.astype(np.int64),
        gains=_gains(found.weights.quantization.scales, found.data, found.output, channels),
        input_zero_point=_zero_point(found.data),
        output_zero_point=_zero_point(found.output),
        stride_h=options.stride_h,
        stride_w=options.stride_w,
        dilation_h=options.dilation_h,
        dilation_w=options.dilation_w,
        origin_h=-pad_h,
        origin_w=-pad_w,
        window=Window(0, out.height, 0, out.width),
        low=low,
        high=high,
        rounding=_rounding(graph, Rounding.TWICE),
    )


def _lower_conv(graph: Graph, op: Operator) -> Iterator[Lowered]:
    found = operands(graph, op)
    assert found.weights is not None
    assert isinstance(op.options, ConvOptions)
    weights, zeros = _int8(found.weights)
    whole = _spatial(graph, op, weights, zeros, op.options)
    groups = whole.input_shape.channels // weights.shape[3]
    yield from [whole] if groups == 1 else _grouped(whole, groups)


def _lower_depthwise(graph: Graph, op: Operator) -> Iterator[Lowered]:
    found = operands(graph, op)
    assert found.weights is not None
    assert isinstance(op.options, ConvOptions)
    stored, zeros = _int8(found.weights)
    weights = np.ascontiguousarray(stored.transpose(3, 1, 2, 0))
    whole = _spatial(graph, op, weights, zeros, op.options)
    if weights.shape[0] == whole.input_shape.channels:
        yield replace(whole, depthwise=True)
    else:
        yield from _grouped(whole, whole.input_shape.channels)


def _grouped(conv: Convolution, groups: int) -> Iterator[Convolution]:
    """Rule 1: for 32 output channels at a time, dense weights over the whole atoms of input channels that they read."""
    per_group_in, per_group_out = conv.weights.shape[3], conv.output_channels // groups
    total_in = per_group_in * groups
    step = limits.DIRECT_OUTPUT_GROUP
    for c0 in range(0, conv.output_channels, step):
        c1 = min(c0 + step, conv.output_channels)
        first = c0 // per_group_out * per_group_in // ATOM_CHANNELS * ATOM_CHANNELS
        last = min(align(((c1 - 1) // per_group_out + 1) * per_group_in, ATOM_CHANNELS), total_in)
        shape = (c1 - c0, conv.kernel_h, conv.kernel_w, last - first)
        dense = np.broadcast_to(conv.weight_zero_points[c0:c1, None, None, None], shape).astype(np.int8)
        for channel in range(c0, c1):
            start = channel // per_group_out * per_group_in - first
            dense[channel - c0, :, :, start : start + per_group_in] = conv.weights[channel]
        yield replace(
            conv,
            weights=dense,
            weight_zero_points=conv.weight_zero_points[c0:c1],
            bias=conv.bias[c0:c1],
            gains=conv.gains[c0:c1],
            first_input_channel=first,
            first_output_channel=c0,
        )


def _lower_fully_connected(graph: Graph, op: Operator) -> Iterator[Lowered]:
    found = operands(graph, op)
    assert found.weights is not None
    assert isinstance(op.options, FullyConnectedOptions)
    stored, zeros = _int8(found.weights)
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
    yield replace(conv, output_shape=out, window=Window(0, out.height, 0, out.width))


def _lower_add(graph: Graph, op: Operator) -> Iterator[Lowered]:
    assert isinstance(op.options, ElementwiseOptions)
    tensors = [graph.tensors[name] for name in op.inputs if name is not None]
    # The converter of the second operand has gain at most 1 this way, so that 15 bits hold it.
    first, second = sorted(tensors, key=_scale, reverse=True)
    output = graph.tensors[op.outputs[0]]
    low, high = _bounds(op.options.activation, output)
    # EW_RELU and EW_RELUX both clamp at zero from below.
    if (low > -128 or high < 127) and low != _zero_point(output):
        raise ConstraintError("the fused activation of an addition changes nothing, or clamps at zero")
    yield Addition(
        first=first.name,
        second=second.name,
        output=output.name,
        shape=cube_shape(output),
        first_scale=_scale(first),
        second_scale=_scale(second),
        output_scale=_scale(output),
        first_zero_point=_zero_point(first),
        second_zero_point=_zero_point(second),
        output_zero_point=_zero_point(output),
        low=low,
        high=high,
        ties_away=graph.format == "tflite",
    )


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


def _lower_average_pool(graph: Graph, op: Operator) -> Iterator[Lowered]:
    found, options = operands(graph, op), op.options
    assert isinstance(options, PoolOptions)
    data, out = cube_shape(found.data), cube_shape(found.output)
    if graph.format == "tflite":
        # TFLite averages the stored numbers, ties away from zero: uint8 ones are all positive.
        zero_in = zero_out = -SIGN_FLIP if found.data.dtype == np.uint8 else 0
        gain = 1.0
    else:
        zero_in, zero_out = _zero_point(found.data), _zero_point(found.output)
        gain = _scale(found.data) / _scale(found.output)
    low, high = _bounds(options.activation, found.output)
    if low > -128 and low != zero_out:
        raise ConstraintError("the fused activation of a pool changes nothing, or clamps at zero point 0")
    pad_h, pad_w = _pads_before(options, data, out, (options.filter_h, options.filter_w))
    rows = _pool_bands(data.height, out.height, options.filter_h, options.stride_h, pad_h)
    columns = _pool_bands(data.width, out.width, options.filter_w, options.stride_w, pad_w)
    for (y0, y1, origin_h, taps_h), (x0, x1, origin_w, taps_w) in product(rows, columns):
        conv = _average(found.data.name, found.output.name, data, out, taps_h, taps_w, zero_in, zero_out, gain)
        conv = replace(
            conv,
            rounding=_rounding(graph, Rounding.ONCE),
            stride_h=options.stride_h,
            stride_w=options.stride_w,
            origin_h=origin_h,
            origin_w=origin_w,
            window=Window(y0, y1, x0, x1),
            low=low,
            high=high,
        )
        yield from _in_steps(conv)


def _lower_mean(graph: Graph, op: Operator) -> Iterator[Lowered]:
    found = operands(graph, op)
    data = cube_shape(found.data)
    out = CubeShape(1, 1, data.channels)
    gain = _scale(found.data) / _scale(found.output)
    zeros = _zero_point(found.data), _zero_point(found.output)
    conv = _average(found.data.name, found.output.name, data, out, data.height, data.width, *zeros, gain)
    yield from _in_steps(replace(conv, rounding=_rounding(graph, Rounding.ONCE)))


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
        bias=np.zeros(channels, np.int64),
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


def _in_steps(conv: Convolution) -> Iterator[Convolution]:
    """Rule 4: an average over more than 31 rows or columns becomes one over averages of small, adjacent windows.

    The first step rounds to int8, which moves the value before the last rounding by at most half an input step.
    """
    if max(conv.kernel_h, conv.kernel_w) <= limits.MAX_KERNEL:
        yield conv
        return
    if conv.output_shape.pixels != 1:
        raise ConstraintError("a pooling window above 31 x 31 covers the whole image")
    gain = float(conv.gains[0]) * conv.kernel_h * conv.kernel_w
    if gain > MAX_TWO_STEP_GAIN:
        raise ConstraintError(
            f"a mean over more than 31 rows or columns has at most {MAX_TWO_STEP_GAIN} output steps an input step"
        )
    small_h, small_w = _factor(conv.kernel_h), _factor(conv.kernel_w)
    between = CubeShape(conv.kernel_h // small_h, conv.kernel_w // small_w, conv.input_shape.channels)
    name = f"{conv.output}#windows"
    zero = conv.input_zero_point
    first = _average(conv.input, name, conv.input_shape, between, small_h, small_w, zero, zero, 1.0)
    first = replace(first, stride_h=small_h, stride_w=small_w, origin_h=conv.origin_h, origin_w=conv.origin_w)
    yield replace(first, rounding=conv.rounding)
    second = _average(
        name, conv.output, between, conv.output_shape, between.height, between.width, zero, conv.output_zero_point, gain
    )
    yield replace(second, low=conv.low, high=conv.high, rounding=conv.rounding)


def _factor(size: int) -> int:
    """The smallest divisor of `size` that leaves at most 31, so that the stride of the first step stays small."""
    for divisor in range(1, limits.MAX_KERNEL + 1):
        if size % divisor == 0 and size // divisor <= limits.MAX_KERNEL:
            return divisor
    raise ConstraintError(f"a pooling window of {size} is a product of two sizes of at most 31")


def _lower_reshape(graph: Graph, op: Operator) -> Iterator[Lowered]:
    found = operands(graph, op)
    yield Alias(found.data.name, found.output.name, cube_shape(found.output))


_LOWERINGS: Mapping[str, Callable[[Graph, Operator], Iterator[Lowered]]] = MappingProxyType(
    {
        "CONV_2D": _lower_conv,
        "DEPTHWISE_CONV_2D": _lower_depthwise,
        "FULLY_CONNECTED": _lower_fully_connected,
        "ADD": _lower_add,
        "AVERAGE_POOL_2D": _lower_average_pool,
        "MEAN": _lower_mean,
        "RESHAPE": _lower_reshape,
    }
)
