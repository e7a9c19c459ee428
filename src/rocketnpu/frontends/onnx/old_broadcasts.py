"""Broadcasting as it was before opset 7, when an operator named the axis of the second operand's first dimension.

1. The operand gets dimensions of one element behind its own, which is how later opsets say the same.
2. A PRelu's slopes belonged to the channels, the second dimension of the data.

onnx.version_converter takes these operators over as well, but adds one dimension too many.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rocketnpu.errors import ModelError
from rocketnpu.frontends.onnx.edit import new_name, replace_nodes, tensor_names
from rocketnpu.frontends.onnx.library import library

FIRST_OPSET = 7
"""Operands broadcast as numpy's do from here on."""

BROADCASTING = frozenset({"Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"})

CHANNEL_AXIS = 1


def align_operands(model: Any, name: str) -> None:
    """Give the second operands of a model before opset 7 the dimensions above, in place.

    Raises ModelError where a rank is not known.
    """
    ranks = _ranks(model)
    taken = tensor_names(model)
    nodes: list[Any] = []
    for node in model.graph.node:
        axis = _axis(node, ranks)
        if axis is not None:
            if not ranks.keys() >= set(node.input):
                raise ModelError(
                    f"{name}: {node.op_type} broadcasts along an axis, and its operands' ranks are unknown"
                )
            behind = ranks[node.input[0]] - axis - ranks[node.input[1]]
            if behind > 0:
                nodes.append(_unsqueeze(node, ranks[node.input[1]], behind, taken))
        nodes.append(node)
    replace_nodes(model, nodes)


def _axis(node: Any, ranks: dict[str, int]) -> int | None:
    """Where the second operand begins, if the operator says so; the attribute goes."""
    if node.op_type == "PRelu":
        return CHANNEL_AXIS if ranks.get(node.input[1]) == 1 else None
    given = [attribute for attribute in node.attribute if attribute.name == "axis"]
    if node.op_type not in BROADCASTING or not given:
        return None
    node.attribute.remove(given[0])
    axis = given[0].i
    return axis if axis >= 0 else axis + ranks.get(node.input[0], 0)


def _unsqueeze(node: Any, rank: int, behind: int, taken: set[str]) -> Any:
    """The operator that adds the dimensions; `node` reads its result."""
    name = new_name(f"{node.output[0]}_operand", taken)
    made = library("onnx").helper.make_node("Unsqueeze", [node.input[1]], [name], axes=list(range(rank, rank + behind)))
    node.input[1] = name
    return made


def _ranks(model: Any) -> dict[str, int]:
    graph = library("onnx").shape_inference.infer_shapes(model).graph
    values: Collection[Any] = (*graph.value_info, *graph.input, *graph.output)
    shapes = [(value.name, value.type.tensor_type) for value in values]
    ranks = {name: len(declared.shape.dim) for name, declared in shapes if declared.HasField("shape")}
    return ranks | {tensor.name: len(tensor.dims) for tensor in graph.initializer}
