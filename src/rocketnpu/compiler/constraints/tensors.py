"""An operator's tensors, and what the NPU path asks of all of them: predicates as in constraints/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, cube_shape, device_order
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.hw.sizes import align
from rocketnpu.ir import BYTE_TYPES, Graph, Operator, SliceOptions, Tensor

MAX_DEVICE_BYTES = 1 << 30
"""Addresses have 32 bits: an operator with two inputs and an output of this size leaves room for little else."""

ELEMENTWISE = frozenset({"ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"})
"""Operators on two tensors, element by element."""


IMAGE_OPERATORS = frozenset(
    {
        "AVERAGE_POOL_2D",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "DEPTH_TO_SPACE",
        "MAX_POOL_2D",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SPACE_TO_DEPTH",
        "TRANSPOSE_CONV",
    }
)
"""Operators whose options speak of rows and columns."""

RESHAPES = frozenset({"EXPAND_DIMS", "RESHAPE", "SQUEEZE"})
"""Operators that only give elements another shape."""


def image_layout(graph: Graph) -> Literal["NHWC", "NCHW"]:
    """Where the operators on images have their channels in models of this format."""
    return "NCHW" if graph.format == "onnx" else "NHWC"


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


def data_tensors(graph: Graph, op: Operator) -> list[Tensor]:
    """Data tensors that come in and go out."""
    return [graph.tensors[name] for name in (*data_inputs(op), *op.outputs)]


def channels_agree(graph: Graph, op: Operator) -> bool:
    """channels are the same dimension of all data tensors"""
    dropped = op.options.dropped if isinstance(op.options, SliceOptions) else ()
    output = graph.tensors[op.outputs[0]]
    places = {len(tensor.shape) - device_order(tensor)[-1] for tensor in data_tensors(graph, op) if is_computed(tensor)}
    if not dropped:
        return len(places) <= 1
    data = operands(graph, op).data
    left = [axis for axis in range(len(data.shape)) if axis not in dropped]
    return not left or left[device_order(output)[-1]] == device_order(data)[-1]


def is_computed(tensor: Tensor) -> bool:
    """Whether a tensor is no constant, and has dimensions."""
    return tensor.data is None and bool(tensor.shape)


def is_analysable(_graph: Graph, op: Operator) -> bool:
    """the operator's options are ones the compiler knows"""
    return op.unsupported is None


def is_int8_per_tensor(graph: Graph, op: Operator) -> bool:
    """data tensors are int8 or uint8 with one scale and zero point"""
    return all(
        tensor.dtype in BYTE_TYPES and tensor.quantization is not None and tensor.quantization.scales.size == 1
        for tensor in data_tensors(graph, op)
    )


def has_variable_data(graph: Graph, op: Operator) -> bool:
    """data inputs are not constants"""
    return all(tensor.data is None for tensor in data_tensors(graph, op))


def has_one_dtype(graph: Graph, op: Operator) -> bool:
    """input and output have the same data type"""
    return len({tensor.dtype for tensor in data_tensors(graph, op)}) == 1


def is_not_empty(graph: Graph, op: Operator) -> bool:
    """no dimension is zero"""
    return all(0 not in tensor.shape for tensor in data_tensors(graph, op))


def has_image_rank(graph: Graph, op: Operator) -> bool:
    """input and output have two to four dimensions, rows and columns that they lack counting as 1"""
    ranks = {len(tensor.shape) for tensor in data_tensors(graph, op)}
    return len(ranks) == 1 and ranks <= {2, 3, 4}


def has_image_layout(graph: Graph, op: Operator) -> bool:
    """channels lie where the neighbours have them: dimension 1 in ONNX models, the last one in TFLite models"""
    wanted = image_layout(graph)
    return all(len(tensor.shape) == 2 or tensor.layout == wanted for tensor in data_tensors(graph, op))


def has_one_batch(graph: Graph, op: Operator) -> bool:
    """data tensors have one batch size"""
    return len({tensor.shape[0] for tensor in data_tensors(graph, op)}) == 1


def has_equal_grid(graph: Graph, op: Operator) -> bool:
    """input and output have the same scale and zero point"""
    grids = [tensor.quantization for tensor in data_tensors(graph, op)]
    first = grids[0]
    return first is not None and all(
        grid is not None and grid.scales[0] == first.scales[0] and grid.zero_points[0] == first.zero_points[0]
        for grid in grids
    )


def fits_addresses(graph: Graph, op: Operator) -> bool:
    """each data tensor takes at most 1 GiB on the device, where 16 channels are 16 bytes a pixel"""
    sizes = (cube_shape(tensor) for tensor in data_tensors(graph, op))
    return all(shape.pixels * align(shape.channels, ATOM_CHANNELS) <= MAX_DEVICE_BYTES for shape in sizes)
