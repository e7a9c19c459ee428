"""A cleaned ONNX model as look-up tables: constants, shapes, who makes and who reads each tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import ModelError
from rocketnpu.frontends.onnx.library import library, refusal_is_model_error
from rocketnpu.frontends.onnx.model import opset
from rocketnpu.frontends.tflite.shapes import MAX_RANK, check_shape
from rocketnpu.ir import SMALLEST_SCALE, Quantization

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Node:
    """One node of the file: `index` is its place in there; an input that is left out is ""."""

    index: int
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"node {self.index} ({self.op_type})"


@dataclass(frozen=True, eq=False)
class TensorType:
    """dtype and shape of a tensor; a dtype that numpy lacks is object, sizes and shapes that are not known are None."""

    dtype: np.dtype[np.generic]
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, eq=False)
class Net:
    """`constants` holds the initializers; `producers` and `consumers` indices of nodes, the latter with repeats."""

    nodes: tuple[Node, ...]
    opset: int
    constants: Mapping[str, NDArray[Any]]
    types: Mapping[str, TensorType]
    producers: Mapping[str, int]
    consumers: Mapping[str, tuple[int, ...]]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def producer(self, name: str, op_type: str) -> Node | None:
        """The node that makes a tensor, if it is of that type."""
        index = self.producers.get(name)
        return self.nodes[index] if index is not None and self.nodes[index].op_type == op_type else None

    def sole_consumer(self, name: str) -> Node | None:
        """The one node that reads a tensor; None when there are several, or it leaves the model."""
        readers = self.consumers.get(name, ())
        return self.nodes[readers[0]] if len(readers) == 1 and name not in self.outputs else None

    def smallest_scale(self, tensor: str) -> float:
        """The smallest scale with which a quantized tensor is understood."""
        constant = self.constants.get(tensor)
        if constant is None:
            return SMALLEST_SCALE
        return 0.0 if constant.dtype == np.int32 else float(np.finfo(np.float32).smallest_subnormal)

    def grid(self, node: Node) -> Quantization | None:
        """The parameters of a QuantizeLinear or DequantizeLinear; None when they are no constants, or not of use.

        Scales in blocks, and scales that are not positive float32 numbers, are left to ONNX Runtime; so are subnormal
        scales of tensors that are computed. Those of constants are exact: filters of zeros have them, and biases may
        have 0.
        """
        scale = self.constants.get(node.inputs[1])
        zero_name = "".join(node.inputs[2:3])
        zero = self.constants.get(zero_name) if zero_name else np.zeros(1, np.int64)
        if scale is None or zero is None or node.attributes.get("block_size") or scale.dtype != np.float32:
            return None
        scales = scale.astype(np.float64).reshape(-1)
        if scales.size == 0 or zero.size not in (1, scales.size) or zero.dtype.kind not in "iu":
            return None
        if not (np.isfinite(scales) & (scales >= self.smallest_scale(node.inputs[0]))).all():
            return None
        zeros = np.broadcast_to(zero.astype(np.int64).reshape(-1), scales.shape)
        if scales.size == 1:
            return Quantization(scales, zeros)
        sizes: list[int | None] = list(self.types[node.inputs[0]].shape or ())
        given: int = node.attributes.get("axis", 1)
        axis = given + len(sizes) if given < 0 else given
        matches = 0 <= axis < len(sizes) and sizes[axis] == scales.size
        return Quantization(scales, zeros, axis) if matches else None


MOST_SIZES = 1 << 12
"""No arithmetic on shapes has as many elements in one tensor."""


def _computes_few_sizes(model: Any) -> bool:
    """Whether shape inference may compute the values of small tensors, which it keeps all.

    Concat nodes in a row that read their operand twice double it at each step: a small file would take all memory.
    """
    counts = {tensor.name: max(1, math.prod(tensor.dims)) for tensor in model.graph.initializer}
    counts = {name: count for name, count in counts.items() if count <= MOST_SIZES}
    for node in model.graph.node:
        if node.op_type in ("Shape", "Size"):
            counts.update(dict.fromkeys(node.output, MAX_RANK))
        elif all(operand in counts for operand in node.input if operand):
            operands = [counts[operand] for operand in node.input if operand]
            count = sum(operands) if node.op_type == "Concat" else max(operands, default=1)
            if count > MOST_SIZES:
                return False
            counts.update(dict.fromkeys(node.output, count))
    return True


def build_net(model: Any, name: str) -> Net:
    """The tables of an onnx.ModelProto. Raises ModelError when shapes contradict each other or are too large."""
    with refusal_is_model_error(f"{name} contradicts itself"):
        types = _types(model)
        arrays = library("onnx.numpy_helper")
        constants = {tensor.name: arrays.to_array(tensor) for tensor in model.graph.initializer}
    helper = library("onnx.helper")
    nodes: list[Node] = []
    producers: dict[str, int] = {}
    consumers: dict[str, list[int]] = {}
    for index, node in enumerate(model.graph.node):
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        nodes.append(Node(index, node.op_type, tuple(node.input), tuple(node.output), attributes))
        producers.update((output, index) for output in node.output)
        for operand in node.input:
            consumers.setdefault(operand, []).append(index)
    return Net(
        nodes=tuple(nodes),
        opset=opset(model),
        constants=constants,
        types=types,
        producers=producers,
        consumers={tensor: tuple(readers) for tensor, readers in consumers.items()},
        inputs=tuple(value.name for value in model.graph.input),
        outputs=tuple(value.name for value in model.graph.output),
    )


def _types(model: Any) -> dict[str, TensorType]:
    """Types of all tensors, from the inputs alone: what a file says of its other tensors is not needed."""
    onnx = library("onnx")
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for value in bare.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    computes = _computes_few_sizes(model)
    inferred = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=computes).graph
    types = {
        tensor.name: TensorType(_dtype(tensor.data_type), tuple(tensor.dims)) for tensor in model.graph.initializer
    }
    types.update(declared_types(inferred))
    return types


def declared_types(graph: Any) -> dict[str, TensorType]:
    """The types that an onnx.GraphProto states of its tensors; ModelError for one that is too large."""
    types = {
        value.name: _type(value.type.tensor_type)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.HasField("tensor_type")
    }
    for tensor, found in types.items():
        if found.shape is not None:
            check_shape(tensor, tuple(size or 0 for size in found.shape), found.dtype)
    return types


def _type(tensor: Any) -> TensorType:
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(size.dim_value if size.HasField("dim_value") else None for size in tensor.shape.dim)
    return TensorType(_dtype(tensor.elem_type), shape)


def _dtype(number: int) -> np.dtype[np.generic]:
    """The numpy type of an ONNX element type; object for strings and for the narrow types that numpy lacks."""
    try:
        found: np.dtype[np.generic] = library("onnx.helper").tensor_dtype_to_np_dtype(number)
    except KeyError as error:
        raise ModelError(
            f"element type {number} is not known to the installed onnx package; a newer one may know it"
        ) from error
    return found if found.kind in "iufcb" and found.isbuiltin == 1 else np.dtype(object)
