"""Element-wise operators on two tensors.

1. Two tensors of one shape are one DPU-only task.
2. A constant that is the same for every pixel is a 1x1 depthwise convolution: for a sum its bias, for a product its
   weights.
3. Any other constant is the second cube of such a task.
4. A tensor of one pixel is spread over all pixels first (squeeze and excite): down a column, then along the rows.
5. Maxima and minima are of tensors on one grid; others are brought to the output's first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.lower.grids import activation_bounds, as_int8, rounding_of, scale_of, zero_point_of
from rocketnpu.compiler.npu_ops import (
    Convolution,
    CubeShape,
    Elementwise,
    Lowered,
    Operation,
    Rescale,
    Rounding,
    Window,
    cube_shape,
    device_order,
)
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.requantize.elementwise import grids
from rocketnpu.hw import limits
from rocketnpu.ir import ElementwiseOptions, Graph, Operator, Tensor

WEIGHT_OF_ONE = 127
"""What stands for 1 in a sum with a constant: the bias then has 127 units in each step of the input."""


SPREAD_TAPS = limits.MAX_CONV_PAD + 1
"""Output rows of one convolution that spreads a pixel."""


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
        whole = graph.tensors[op.outputs[0]]
        alike = [tensor if tensor.shape == whole.shape else _named(tensor, f"{op.name}#spread") for tensor in tensors]
        for tensor, name in zip(tensors, alike, strict=True):
            if name is not tensor:
                yield from _over_all_pixels(tensor, name.name, cube_shape(whole))
        yield from _on_one_grid(_of_two_tensors(graph, op, kind, alike[0], alike[1]))
        return
    fixed, data = tensors[constant], tensors[1 - constant]
    values = spread(fixed, data)
    same = bool((values == values[:1, :1]).all())
    if same and kind.operation in (Operation.SUM, Operation.PRODUCT):
        yield _with_constant_channels(graph, op, kind, data, fixed, values[0, 0].astype(np.int64), constant)
    elif kind.signs[1 - constant] < 0:
        raise ConstraintError("what is subtracted from a constant tensor meets one value in each channel")
    else:
        yield from _on_one_grid(_of_two_tensors(graph, op, kind, data, fixed, values))


def spread(fixed: Tensor, data: Tensor) -> NDArray[Any]:
    """A constant over the shape of `data`: (height, width, channels), int8 as on the device, or float as it is.

    ConstraintError if it does not broadcast.
    """
    assert fixed.data is not None
    values = fixed.data if fixed.dtype.kind == "f" else as_int8(fixed)[0]
    try:
        whole = np.broadcast_to(values, data.shape)
    except ValueError:
        raise ConstraintError("the constant broadcasts to the other operand's shape") from None
    whole = whole.transpose(device_order(data))
    shape = cube_shape(data)
    return whole.reshape(shape.height, shape.width, shape.channels)


def _named(tensor: Tensor, name: str) -> Tensor:
    return replace(tensor, name=name)


def _over_all_pixels(pixel: Tensor, name: str, shape: CubeShape) -> Iterator[Convolution]:
    """Rule 4: `name`, a cube of `shape` with the channels of `pixel` everywhere.

    Each block of 16 output rows (columns) is a convolution with as many taps of weight 1, of which all but one lie in
    the padding: that is at most 15 (hardware/README.md, Constants).
    """
    column = CubeShape(shape.height, 1, shape.channels)
    source, before = pixel.name, CubeShape(1, 1, shape.channels)
    for after, axis in ((column, "height"), (shape, "width")):
        size = after.height if axis == "height" else after.width
        if size == 1:
            continue
        target = name if after == shape else f"{name} column"
        for start in range(0, size, SPREAD_TAPS):
            taps = min(SPREAD_TAPS, size - start)
            window = (
                Window(start, start + taps, 0, 1) if axis == "height" else Window(0, after.height, start, start + taps)
            )
            kernel, origin = (taps, 1), (1 - taps - start, 0)
            if axis == "width":
                kernel, origin = kernel[::-1], origin[::-1]
            conv = channel_by_channel(
                pixel,
                pixel,
                after,
                weights=np.ones((shape.channels, *kernel), np.int8),
                weight_zero_point=0,
                bias=np.zeros(shape.channels),
                gain=1.0,
                rounding=Rounding.ONCE,
                bounds=(-128, 127),
            )
            yield replace(
                conv,
                input=source,
                output=target,
                input_shape=before,
                window=window,
                origin_h=origin[0],
                origin_w=origin[1],
            )
        source, before = target, after


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


def _on_one_grid(form: Elementwise) -> Iterator[Lowered]:
    """Rule 5: a maximum or minimum of tensors on the output's grid, which they are brought to first.

    Roundings grow with what they round, so that it makes no difference whether they come before or after.
    """
    if form.operation not in (Operation.MAXIMUM, Operation.MINIMUM) or len(grids(form)) == 1:
        yield form
        return
    first = _onto_grid(form, form.first, form.first_scale, form.first_zero_point)
    yield first
    alike: dict[str, Any] = {
        "first": first.output,
        "first_scale": form.output_scale,
        "second_scale": form.output_scale,
        "first_zero_point": form.output_zero_point,
        "second_zero_point": form.output_zero_point,
    }
    if form.second is not None:
        second = _onto_grid(form, form.second, form.second_scale, form.second_zero_point)
        yield second
        yield replace(form, second=second.output, **alike)
        return
    assert form.constant is not None
    steps = (form.constant - np.float64(form.second_zero_point)) * (form.second_scale / form.output_scale)
    rounded = np.copysign(np.floor(np.abs(steps) + 0.5), steps) if form.ties_away else np.rint(steps)
    constant = np.clip(rounded + form.output_zero_point, -128, 127).astype(np.int8)
    yield replace(form, constant=constant, **alike)


def _onto_grid(form: Elementwise, name: str, scale: float, zero_point: int) -> Rescale:
    return Rescale(
        name,
        f"{form.output}#{name} on its grid",
        form.shape,
        scale / form.output_scale,
        zero_point,
        form.output_zero_point,
        ties_away=form.ties_away,
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
        unit = scale_of(data) / scale_of(fixed) / WEIGHT_OF_ONE
        bias = (kind.signs[constant] * steps / unit).astype(np.float64)
        gain = scale_of(data) / scale_of(output) / WEIGHT_OF_ONE
        rounding = rounding_of(graph, Rounding.ONCE)
    shape = cube_shape(data)
    return channel_by_channel(data, output, shape, weights, zero_point, bias, gain, rounding, (low, high))


def channel_by_channel(
    data: Tensor,
    output: Tensor,
    shape: CubeShape,
    weights: NDArray[np.int8],
    weight_zero_point: int,
    bias: NDArray[np.float64],
    gain: float,
    rounding: Rounding,
    bounds: tuple[int, int],
) -> Convolution:
    """gain * ((x - zx) * (w[c] - zw) + bias[c]) of every pixel, by a depthwise convolution with stride 1.

    weights: int8 (channels,) or (channels, kernel_h, kernel_w), bias: float64 (channels,).
    """
    return Convolution(
        input=data.name,
        output=output.name,
        input_shape=shape,
        output_shape=shape,
        depthwise=True,
        weights=weights.reshape(shape.channels, *(weights.shape[1:] or (1, 1)), 1),
        weight_zero_points=np.full(shape.channels, weight_zero_point, np.int64),
        bias=bias,
        gains=np.full(shape.channels, gain),
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
