"""Cutting a part out of an ONNX model: what lies between some tensors and others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rocketnpu.errors import ModelError
from rocketnpu.frontends.onnx.library import library
from rocketnpu.ir import Graph


def extract_piece(graph: Graph, inputs: Sequence[str], outputs: Sequence[str], parsed: Any = None) -> bytes:
    """An ONNX file of the nodes that compute `outputs` from `inputs` and constants, with both in that order.

    Tensors keep the graph's names. Operators that share something are the whole model.
    `parsed` is `graph.model` as an onnx.ModelProto, for those who cut many pieces.
    Raises ModelError when the inputs do not suffice.
    """
    onnx, helper = library("onnx"), library("onnx.helper")
    model = parsed or onnx.load_model_from_string(graph.model)
    if any(op.shares for op in graph.operators):
        values = {value.name: value for value in (*model.graph.input, *model.graph.output)}
        for field, names in ((model.graph.input, inputs), (model.graph.output, outputs)):
            ordered = [onnx.ValueInfoProto.FromString(values[name].SerializeToString()) for name in names]
            del field[:]
            field.extend(ordered)
        return model.SerializeToString()
    nodes = _between(model.graph, frozenset(inputs), outputs)
    needed = {name for node in nodes for name in node.input}.union(outputs)
    piece = helper.make_graph(
        nodes,
        "piece",
        [_value(graph, name) for name in inputs],
        [_value(graph, name) for name in outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in needed and tensor.name not in inputs],
    )
    packed = helper.make_model(piece, opset_imports=model.opset_import, ir_version=model.ir_version)
    data: bytes = packed.SerializeToString()
    return data


def _between(graph: Any, inputs: frozenset[str], outputs: Sequence[str]) -> list[Any]:
    """The nodes that lead from `inputs` to `outputs`, in the model's order."""
    producers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    found: set[int] = set()
    wanted = [name for name in outputs if name not in inputs]
    while wanted:
        name = wanted.pop()
        if not name or name in inputs or name in constants:
            continue
        if name not in producers:
            raise ModelError(f"the piece needs tensor {name}, which is neither its input nor a constant")
        if producers[name] not in found:
            found.add(producers[name])
            wanted += graph.node[producers[name]].input
    return [graph.node[index] for index in sorted(found)]


def _value(graph: Graph, name: str) -> Any:
    """The declaration of an input or output."""
    helper = library("onnx.helper")
    tensor = graph.tensors[name]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(tensor.dtype), tensor.shape)
