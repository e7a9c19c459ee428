"""An ONNX model as parts that run one behind the other, so that few of its tensors exist at the same time.

1. A segment is a run of nodes in the model's order. It ends before its results would take more than SEGMENT_BYTES.
2. A model with results of unknown type or size is one segment.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from rocketnpu.cpu.onnxruntime.engine import Engine
from rocketnpu.frontends.onnx.library import library

SEGMENT_BYTES = 64 << 20


@dataclass(frozen=True)
class Segment:
    """An ONNX file of some nodes: `inputs` are what they read of the model's inputs and of segments before, `outputs`
    all that they make. Constants come with it."""

    model: bytes
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Segments:
    """Sessions of segments; each is built at its first run."""

    def __init__(self, segments: Sequence[Segment], name: str) -> None:
        """`name` is what errors call the model."""
        self._models = [segment.model for segment in segments]
        self._name = name
        self._engines: dict[int, Engine] = {}

    def run(self, values: Sequence[Any]) -> list[NDArray[Any]]:
        """The outputs of one segment: its number and its inputs in order are the values. Raises as `Engine` does."""
        number, inputs = int(values[0]), values[1:]
        if number not in self._engines:
            model = self._models[number]
            self._engines[number] = Engine(model, self._name, optimize=False, threads=1, keeps_memory=False)
        return self._engines[number].run(inputs)


def cut(model: Any, limit_bytes: int = SEGMENT_BYTES) -> tuple[Segment, ...]:
    """The segments of an onnx.ModelProto without control flow; at least one, and all nodes are in one of them."""
    onnx = library("onnx")
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {value.name: value for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    sizes = [sum(_size_bytes(types.get(name)) for name in node.output if name) for node in model.graph.node]
    groups: list[list[Any]] = []
    size_bytes = math.inf
    for node, own_bytes in zip(model.graph.node, sizes, strict=True):
        if size_bytes + own_bytes > limit_bytes and (not groups or math.isfinite(sum(sizes))):
            groups.append([])
            size_bytes = 0
        groups[-1].append(node)
        size_bytes += own_bytes
    return tuple(_segment(model, nodes, types) for nodes in groups or [[]])


def _size_bytes(value: Any) -> float:
    """Infinite where the size is not known."""
    if value is None or not value.type.HasField("tensor_type"):
        return math.inf
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or any(not size.HasField("dim_value") for size in tensor.shape.dim):
        return math.inf
    element = library("onnx.helper").tensor_dtype_to_np_dtype(tensor.elem_type)
    return math.prod(size.dim_value for size in tensor.shape.dim) * element.itemsize


def _segment(model: Any, nodes: Sequence[Any], types: dict[str, Any]) -> Segment:
    onnx, helper = library("onnx"), library("onnx.helper")
    made = dict.fromkeys(name for node in nodes for name in node.output if name)
    read = dict.fromkeys(name for node in nodes for name in _operands(node) if name and name not in made)
    constants = [tensor for tensor in model.graph.initializer if tensor.name in read]
    inputs = [name for name in read if name not in {tensor.name for tensor in constants}]
    # A declaration without a type asks ONNX Runtime to infer it.
    outputs = [onnx.ValueInfoProto(name=name) for name in made]
    graph = helper.make_graph(nodes, "segment", [types[name] for name in inputs], outputs, constants)
    packed = helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version, functions=model.functions
    )
    return Segment(packed.SerializeToString(), tuple(inputs), tuple(made))


def _operands(node: Any) -> list[str]:
    """What a node reads, and what the graphs in its attributes read of the graph around them."""
    found = list(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            inside = {value.name for value in (*graph.input, *graph.initializer)}
            inside.update(name for inner in graph.node for name in inner.output)
            found += [name for inner in graph.node for name in _operands(inner) if name not in inside]
            found += [value.name for value in graph.output if value.name not in inside]
    return found
