"""Element-wise operators on two tensors.

1. Two tensors of one shape are one DPU-only task.
2. A constant that is the same for every pixel is a 1x1 depthwise convolution: for a sum its bias, for a product its
   weights.
3. Any other constant is the second cube of such a task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints import ConstraintError
from rocketnpu.compiler.lower.grids import activation_bounds, as_int8, rounding_of, scale_of, zero_point_of
from rocketnpu.compiler.lowered import (
    Convolution,
    CubeShape,
    Elementwise,
    Lowered,
    Operation,
    Rounding,
    Window,
    cube_shape,
)
from rocketnpu.ir import ElementwiseOptions, Graph, Operator, Tensor

WEIGHT_OF_ONE = 127
"""What stands for 1 in a sum with a constant: the bias then has 127 units in each step of the input."""


@dataclass(frozen=True)
class _Kind:
    """An operator kind: its operation, and the signs of its operands in a sum."""

    operation: Operation
    signs: tuple[int, int] = (1, 1)


_KINDS = {
    "ADD": _Kind(Operation.SUM),
    "SUB": _Kind(Operation.SUM, (1, -1)),
    "MUL": _Kind(Operation.PRODUCT),
    "MAXIMUM": _Kind(Operation.MAXIMUM),
    "MINIMUM": _Kind(Operation.MINIMUM),
}


def lower_elementwise(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """ADD, SUB, MUL, MAXIMUM, MINIMUM."""
    kind = _KINDS[op.kind]
    tensors = [graph.tensors[name] for name in op.inputs if name is not None]
    constant = next((index for index, tensor in enumerate(tensors) if tensor.data is not None), None)
    if constant is None:
        yield _of_two_tensors(graph, op, kind, tensors[0], tensors[1])
        return
    fixed, data = tensors[constant], tensors[1 - constant]
    values = spread(fixed, data)
    same = bool((values == values[:1, :1]).all())
    if same and kind.operation in (Operation.SUM, Operation.PRODUCT):
        yield _with_constant_channels(graph, op, kind, data, fixed, values[0, 0].astype(np.int64), constant)
    elif kind.signs[1 - constant] < 0:
        raise ConstraintError("what is subtracted from a constant tensor meets one value in each channel")
    else:
        yield _of_two_tensors(graph, op, kind, data, fixed, values)


def spread(fixed: Tensor, data: Tensor) -> NDArray[np.int8]:
    """A constant that broadcasts to the shape of `data`: int8 (height, width, channels)."""
    values, _ = as_int8(fixed)
    whole = np.broadcast_to(values, data.shape)
    if data.layout == "NCHW":
        whole = whole.transpose(0, 2, 3, 1)
    shape = cube_shape(data)
    return whole.reshape(shape.height, shape.width, shape.channels)


def _of_two_tensors(
    graph: Graph,
    op: Operator,
    kind: _Kind,
    first: Tensor,
    second: Tensor,
    constant: NDArray[np.int8] | None = None,
) -> Elementwise:
    """Rules 1 and 3."""
    output = graph.tensors[op.outputs[0]]
    if constant is None and kind.signs == (1, 1) and scale_of(second) > scale_of(first):
        first, second = second, first
    low, high = _bounds(op, output)
    # EW_RELU and EW_RELUX both clamp at zero from below.
    if (low > -128 or high < 127) and low != zero_point_of(output):
        raise ConstraintError("the fused activation of an element-wise operator changes nothing, or clamps at zero")
    return Elementwise(
        operation=kind.operation,
        first=first.name,
        second=None if constant is not None else second.name,
        output=output.name,
        shape=cube_shape(output),
        first_scale=scale_of(first),
        second_scale=scale_of(second) * kind.signs[1],
        output_scale=scale_of(output),
        first_zero_point=zero_point_of(first),
        second_zero_point=zero_point_of(second),
        output_zero_point=zero_point_of(output),
        low=low,
        high=high,
        ties_away=graph.format == "tflite",
        constant=constant,
    )


def _bounds(op: Operator, output: Tensor) -> tuple[int, int]:
    return (
        activation_bounds(op.options.activation, output) if isinstance(op.options, ElementwiseOptions) else (-128, 127)
    )


def _with_constant_channels(
    graph: Graph, op: Operator, kind: _Kind, data: Tensor, fixed: Tensor, values: NDArray[np.int64], constant: int
) -> Convolution:
    """Rule 2; `values` int64 (channels,) of `fixed`, which is operand number `constant`."""
    output, channels = graph.tensors[op.outputs[0]], values.size
    steps = values - zero_point_of(fixed)
    low, high = _bounds(op, output)
    if kind.operation is Operation.PRODUCT:
        weights, zero_point, bias = values.astype(np.int8), zero_point_of(fixed), np.zeros(channels)
        gain = scale_of(data) * scale_of(fixed) / scale_of(output)
        rounding = rounding_of(graph, Rounding.TWICE)
    else:
        weight = WEIGHT_OF_ONE * kind.signs[1 - constant]
        weights, zero_point = np.full(channels, weight, np.int8), 0
        bias = np.rint(kind.signs[constant] * steps * (scale_of(fixed) / scale_of(data) * WEIGHT_OF_ONE))
        gain = scale_of(data) / scale_of(output) / WEIGHT_OF_ONE
        rounding = rounding_of(graph, Rounding.ONCE)
    if np.abs(bias).max() >= 1 << 31:
        raise ConstraintError("the constant is less than 2^24 steps of the other operand")
    shape = cube_shape(data)
    return channel_by_channel(
        data, output, shape, weights, zero_point, bias.astype(np.int64), gain, rounding, (low, high)
    )


def channel_by_channel(
    data: Tensor,
    output: Tensor,
    shape: CubeShape,
    weights: NDArray[np.int8],
    weight_zero_point: int,
    bias: NDArray[np.int64],
    gain: float,
    rounding: Rounding,
    bounds: tuple[int, int],
) -> Convolution:
    """gain * ((x - zx) * (w[c] - zw) + bias[c]) of every pixel by a 1x1 depthwise convolution; w, bias (channels,)."""
    return Convolution(
        input=data.name,
        output=output.name,
        input_shape=shape,
        output_shape=shape,
        depthwise=True,
        weights=weights.reshape(-1, 1, 1, 1),
        weight_zero_points=np.full(weights.size, weight_zero_point, np.int64),
        bias=bias,
        gains=np.full(weights.size, gain),
        input_zero_point=zero_point_of(data),
        output_zero_point=zero_point_of(output),
        stride_h=1,
        stride_w=1,
        dilation_h=1,
        dilation_w=1,
        origin_h=0,
        origin_w=0,
        window=Window(0, shape.height, 0, shape.width),
        low=bounds[0],
        high=bounds[1],
        rounding=rounding,
    )
