"""What the NPU path asks of an operator: one documented predicate a constraint, whose docstring is the rule users read.

`check` returns the first rule that an operator breaks. Limits of the chip that depend on the tiling are found while
tiling and raised as ConstraintError, with the same kind of sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from rocketnpu.compiler.constraints_moves import (
    chooses_channels,
    grows_by_whole_factors,
    has_few_phases,
    has_no_activation,
    interpolates_whole_steps,
    keeps_channel_count,
    keeps_channels,
    keeps_order,
    pads_sides,
    repeats_pixels,
    slices_sides,
    steps_evenly,
    works_along_a_side,
)
from rocketnpu.compiler.lowered import cube_shape
from rocketnpu.hw import limits
from rocketnpu.ir import (
    Activation,
    ConvOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    Graph,
    Operator,
    PoolOptions,
    ReduceOptions,
    Tensor,
    TransposeConvOptions,
)


class ConstraintError(Exception):
    """An operator cannot run on the NPU; the text is the rule that it breaks. Never reaches the user as an
    exception."""


Predicate: TypeAlias = Callable[[Graph, Operator], bool]

ELEMENTWISE = frozenset({"ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"})
"""Operators on two tensors, element by element."""

BYTE_TYPES = (np.dtype(np.uint8), np.dtype(np.int8))


@dataclass(frozen=True)
class Operands:
    """An operator's tensors: its data input, its weights and bias where it has them, and its output."""

    data: Tensor
    output: Tensor
    weights: Tensor | None
    bias: Tensor | None


_POSITIONS: Mapping[str, tuple[int, int, int]] = MappingProxyType({"SPLIT": (1, 2, 3), "TRANSPOSE_CONV": (2, 1, 3)})
"""Where data, weights and bias are among the inputs, if they are not the first three."""


def operands(graph: Graph, op: Operator) -> Operands:
    """The tensors of an operator with one data input."""
    inputs = [None if name is None else graph.tensors[name] for name in op.inputs]
    inputs += [None] * (4 - len(inputs))
    data, weights, bias = (inputs[index] for index in _POSITIONS.get(op.kind, (0, 1, 2)))
    if data is None:
        raise ConstraintError("the data input is present")
    return Operands(data, graph.tensors[op.outputs[0]], weights, bias)


def data_inputs(op: Operator) -> tuple[str, ...]:
    """Names of the inputs that are data: not weights or bias, nor shapes or axes."""
    first = _POSITIONS.get(op.kind, (0,))[0]
    count = len(op.inputs) if op.kind == "CONCATENATION" else 2 if op.kind in ELEMENTWISE else 1
    return tuple(name for name in op.inputs[first : first + count] if name is not None)


def _activations(graph: Graph, op: Operator) -> list[Tensor]:
    """Data tensors that come in and go out."""
    return [graph.tensors[name] for name in (*data_inputs(op), *op.outputs)]


def is_analysable(_graph: Graph, op: Operator) -> bool:
    """the operator's options are ones the compiler knows"""
    return op.unsupported is None


def is_int8_per_tensor(graph: Graph, op: Operator) -> bool:
    """data tensors are int8 or uint8 with one scale and zero point"""
    return all(
        tensor.dtype in BYTE_TYPES and tensor.quantization is not None and tensor.quantization.scales.size == 1
        for tensor in _activations(graph, op)
    )


def has_variable_data(graph: Graph, op: Operator) -> bool:
    """data inputs are not constants"""
    return all(tensor.data is None for tensor in _activations(graph, op))


def has_one_dtype(graph: Graph, op: Operator) -> bool:
    """input and output have the same data type"""
    return len({tensor.dtype for tensor in _activations(graph, op)}) == 1


def is_not_empty(graph: Graph, op: Operator) -> bool:
    """no dimension is zero"""
    return all(0 not in tensor.shape for tensor in _activations(graph, op))


def has_rank_4(graph: Graph, op: Operator) -> bool:
    """input and output have four dimensions"""
    return all(len(tensor.shape) == 4 for tensor in _activations(graph, op))


def has_batch_1(graph: Graph, op: Operator) -> bool:
    """the batch is 1"""
    return all(tensor.shape[0] == 1 for tensor in _activations(graph, op))


def has_constant_weights(graph: Graph, op: Operator) -> bool:
    """weights are int8 or uint8 constants, quantized per tensor or per output channel"""
    found = operands(graph, op).weights
    if found is None or found.data is None or found.dtype not in BYTE_TYPES or found.quantization is None:
        return False
    channel_axis = found.data.ndim - 1 if op.kind == "DEPTHWISE_CONV_2D" else 0
    return found.quantization.scales.size == 1 or found.quantization.axis == channel_axis


def has_symmetric_int8_weights(graph: Graph, op: Operator) -> bool:
    """int8 weights have the zero point 0"""
    found = operands(graph, op).weights
    assert found is not None
    assert found.quantization is not None
    return found.dtype != np.int8 or not found.quantization.zero_points.any()


def has_int32_bias(graph: Graph, op: Operator) -> bool:
    """the bias is absent or an int32 constant"""
    found = operands(graph, op).bias
    return found is None or (found.data is not None and found.dtype == np.int32)


def has_clamp_activation(_graph: Graph, op: Operator) -> bool:
    """the fused activation is NONE, RELU, RELU6 or RELU_N1_TO_1"""
    options = op.options
    known = (Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1)
    with_activation = (ConvOptions, PoolOptions, FullyConnectedOptions, ElementwiseOptions, TransposeConvOptions)
    return not isinstance(options, with_activation) or options.activation in known


def has_variable_operand(graph: Graph, op: Operator) -> bool:
    """at most one operand is a constant"""
    return any(graph.tensors[name].data is None for name in op.inputs[:2] if name is not None)


def broadcasts_one_pixel(graph: Graph, op: Operator) -> bool:
    """operands that are not constants have the output's shape; one of two may be a single pixel of as many channels"""
    *data, output = (tensor for tensor in _activations(graph, op) if tensor.data is None)
    small = [tensor for tensor in data if tensor.shape != output.shape]
    if not small:
        return True
    one, whole = cube_shape(small[0]), cube_shape(output)
    is_pixel = one.pixels == 1 and one.channels == whole.channels and small[0].layout == output.layout
    return len(data) == 2 and len(small) == 1 and is_pixel


def compares_on_one_grid(graph: Graph, op: Operator) -> bool:
    """in a TFLite model, operands and output have the same scale and zero point"""
    return graph.format != "tflite" or has_equal_grid(graph, op)


def fits_row_registers(graph: Graph, op: Operator) -> bool:
    """the output is at most 8192 pixels wide"""
    return cube_shape(operands(graph, op).output).width <= limits.MAX_CUBE


def fits_one_cube(graph: Graph, op: Operator) -> bool:
    """height, width and channels are at most 8192"""
    shape = cube_shape(operands(graph, op).output)
    return max(shape.height, shape.width, shape.channels) <= limits.MAX_CUBE


def has_constant_alpha(graph: Graph, op: Operator) -> bool:
    """alpha is a constant: int8 or uint8 with one scale and zero point, or float"""
    alpha = operands(graph, op).weights
    if alpha is None or alpha.data is None:
        return False
    if alpha.dtype.kind == "f":
        return bool(np.isfinite(alpha.data).all())
    return alpha.dtype in BYTE_TYPES and alpha.quantization is not None and alpha.quantization.scales.size == 1


def fits_lookup(graph: Graph, op: Operator) -> bool:
    """width is at most 4096, height and channels are at most 8192"""
    return fits_one_cube(graph, op) and cube_shape(operands(graph, op).output).width <= limits.MAX_LUT_WIDTH


def input_fits_one_cube(graph: Graph, op: Operator) -> bool:
    """height, width and channels of the input are at most 8192"""
    shape = cube_shape(operands(graph, op).data)
    return max(shape.height, shape.width, shape.channels) <= limits.MAX_CUBE


def has_equal_grid(graph: Graph, op: Operator) -> bool:
    """input and output have the same scale and zero point"""
    grids = [tensor.quantization for tensor in _activations(graph, op)]
    first = grids[0]
    return first is not None and all(
        grid is not None and grid.scales[0] == first.scales[0] and grid.zero_points[0] == first.zero_points[0]
        for grid in grids
    )


def reduces_height_and_width(graph: Graph, op: Operator) -> bool:
    """the mean is over height and width of a four-dimensional tensor"""
    options = op.options
    data = operands(graph, op).data
    axes = (2, 3) if data.layout == "NCHW" else (1, 2)
    return isinstance(options, ReduceOptions) and options.axes == axes and len(data.shape) == 4


def has_matching_inner_size(graph: Graph, op: Operator) -> bool:
    """each row of weights takes one pixel's channels, or one image"""
    found = operands(graph, op)
    assert found.weights is not None
    inner, shape = found.weights.shape[1], found.data.shape
    if found.data.layout == "NHWC" and shape[-1:] == (inner,):
        return True
    cube = cube_shape(found.data)
    return len(shape) == 4 and shape[0] == 1 and cube.pixels * cube.channels == inner


def has_constant_shape(graph: Graph, op: Operator) -> bool:
    """the new shape is a constant"""
    return all(graph.tensors[name].data is not None for name in op.inputs[1:] if name is not None)


def keeps_pixels(graph: Graph, op: Operator) -> bool:
    """the reshape keeps each pixel's channels together, so that no byte moves"""
    found = operands(graph, op)
    before, after = cube_shape(found.data), cube_shape(found.output)
    same_order = found.data.layout == found.output.layout or 1 in (before.pixels, before.channels)
    return before.channels == after.channels and same_order


def averages_on_one_grid(graph: Graph, op: Operator) -> bool:
    """in a TFLite model, input and output have the same scale and zero point"""
    return compares_on_one_grid(graph, op)


_DATA: tuple[Predicate, ...] = (is_analysable, is_int8_per_tensor, has_variable_data, has_one_dtype, is_not_empty)
_ELEMENTWISE: tuple[Predicate, ...] = (
    is_analysable,
    is_int8_per_tensor,
    has_variable_operand,
    has_one_dtype,
    is_not_empty,
    has_clamp_activation,
    broadcasts_one_pixel,
    fits_one_cube,
)
_IMAGE: tuple[Predicate, ...] = (*_DATA, has_rank_4, has_batch_1, fits_row_registers)
_CONVOLUTION: tuple[Predicate, ...] = (
    *_IMAGE,
    has_constant_weights,
    has_symmetric_int8_weights,
    has_int32_bias,
    has_clamp_activation,
)

CONSTRAINTS: Mapping[str, tuple[Predicate, ...]] = MappingProxyType(
    {
        "CONV_2D": _CONVOLUTION,
        "DEPTHWISE_CONV_2D": _CONVOLUTION,
        "FULLY_CONNECTED": (
            *_DATA,
            has_constant_weights,
            has_int32_bias,
            has_clamp_activation,
            has_matching_inner_size,
            fits_row_registers,
        ),
        "ADD": _ELEMENTWISE,
        "SUB": _ELEMENTWISE,
        "MUL": _ELEMENTWISE,
        "MAXIMUM": (*_ELEMENTWISE, compares_on_one_grid),
        "MINIMUM": (*_ELEMENTWISE, compares_on_one_grid),
        "PRELU": (*_DATA, has_constant_alpha, fits_one_cube),
        "QUANTIZE": (is_analysable, is_int8_per_tensor, has_variable_data, is_not_empty, fits_one_cube),
        **dict.fromkeys(("RELU", "RELU6", "RELU_0_TO_1"), (*_DATA, fits_one_cube)),
        **dict.fromkeys(
            ("ABS", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "LOOKUP", "RELU_N1_TO_1", "TANH"),
            (*_DATA, fits_lookup),
        ),
        "AVERAGE_POOL_2D": (*_IMAGE, averages_on_one_grid, has_clamp_activation),
        "CONCATENATION": (*_DATA, has_no_activation, works_along_a_side, fits_one_cube),
        "TRANSPOSE_CONV": (
            *_IMAGE,
            has_constant_weights,
            has_symmetric_int8_weights,
            has_int32_bias,
            has_clamp_activation,
        ),
        "RESIZE_NEAREST_NEIGHBOR": (*_IMAGE, has_equal_grid, grows_by_whole_factors, repeats_pixels),
        "RESIZE_BILINEAR": (*_IMAGE, has_equal_grid, interpolates_whole_steps, has_few_phases, steps_evenly),
        "SPACE_TO_DEPTH": (*_IMAGE, has_equal_grid, input_fits_one_cube, fits_one_cube),
        "DEPTH_TO_SPACE": (*_IMAGE, has_equal_grid, input_fits_one_cube),
        "SQUEEZE": (*_DATA, has_equal_grid, keeps_pixels),
        "EXPAND_DIMS": (*_DATA, has_equal_grid, keeps_pixels),
        "TRANSPOSE": (*_DATA, has_equal_grid, keeps_order),
        "SPLIT": (*_DATA, has_equal_grid, works_along_a_side, input_fits_one_cube),
        "SPLIT_V": (*_DATA, has_equal_grid, works_along_a_side, input_fits_one_cube),
        "SLICE": (*_DATA, has_equal_grid, slices_sides, input_fits_one_cube),
        "STRIDED_SLICE": (*_DATA, has_equal_grid, slices_sides, keeps_channels, input_fits_one_cube),
        "GATHER": (*_DATA, has_equal_grid, chooses_channels, input_fits_one_cube, fits_one_cube),
        "PAD": (*_DATA, has_equal_grid, pads_sides, fits_one_cube),
        "PADV2": (*_DATA, has_equal_grid, pads_sides, fits_one_cube),
        "MIRROR_PAD": (*_DATA, has_equal_grid, pads_sides, keeps_channel_count, fits_one_cube),
        "MAX_POOL_2D": (*_IMAGE, has_equal_grid, has_clamp_activation, input_fits_one_cube),
        "MEAN": (*_DATA, reduces_height_and_width, has_batch_1),
        "RESHAPE": (*_DATA, has_equal_grid, has_constant_shape, keeps_pixels),
    }
)
"""The operators that the NPU path takes, each with its rules in the order in which they are checked."""


def check(graph: Graph, op: Operator) -> None:
    """Raise ConstraintError with the first rule that `op` breaks."""
    if op.kind not in CONSTRAINTS:
        raise ConstraintError(f"{op.kind} has no NPU form")
    for rule in CONSTRAINTS[op.kind]:
        if not rule(graph, op):
            detail = f" ({op.unsupported})" if rule is is_analysable else ""
            raise ConstraintError(f"{rule.__doc__}{detail}")


def supported_operators() -> str:
    """The rules above as a Markdown page (docs/operators.md)."""
    lines = [
        "# Operators on the NPU",
        "",
        "Made from the constraints' docstrings by `python -m rocketnpu.compiler.constraints > docs/operators.md`.",
        "",
        "An operator that breaks a rule runs on the CPU, through LiteRT or ONNX Runtime, and `session.steps`,",
        "`rocketnpu run` and `compile` name the rule. All other operators run on the CPU. Sizes that one task cannot",
        "hold are cut into several; where no cut is possible, the rule that tiling found is named in the same way.",
    ]
    for kind, rules in CONSTRAINTS.items():
        lines += ["", f"## {kind}", "", *(f"- {rule.__doc__}" for rule in rules)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(supported_operators(), end="")
