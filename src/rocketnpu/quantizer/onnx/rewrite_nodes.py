"""Single float ONNX nodes that another operator says as well, one that the quantizer and the NPU know.

1. A division by a constant that differs from channel to channel is a product with the reciprocals.
2. The largest value of each channel is a MaxPool with a window of the whole image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rocketnpu.frontends.onnx.edit import new_name, replace_nodes, tensor_names
from rocketnpu.frontends.onnx.library import library

BATCH_AND_CHANNELS = 2
"""Dimensions in front of those that a pool slides over."""


def multiply_by_reciprocals(model: Any) -> None:
    """Rule 1, in place. Constants of one element stay: such a division is a function of one tensor."""
    numpy_helper = library("onnx.numpy_helper")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    taken = tensor_names(model)
    for node in model.graph.node:
        divisor = constants.get(node.input[1]) if node.op_type == "Div" else None
        values = None if divisor is None else numpy_helper.to_array(divisor)
        if values is None or values.dtype != np.float32 or values.size < 2:
            continue
        with np.errstate(divide="ignore", over="ignore"):
            reciprocals = np.float32(1) / values
        if np.isfinite(reciprocals).all():
            name = new_name(f"{node.input[1]}_reciprocal", taken)
            model.graph.initializer.append(numpy_helper.from_array(reciprocals, name))
            node.op_type, node.input[1] = "Mul", name


def pool_maxima(model: Any) -> None:
    """Rule 2, in place."""
    shapes = _shapes(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    taken = tensor_names(model)
    found: list[Any] = []
    for node in model.graph.node:
        shape = shapes.get(node.input[0], ()) if node.input else ()
        if len(shape) <= BATCH_AND_CHANNELS or not all(shape) or not _takes_whole_images(node, len(shape), constants):
            found.append(node)
            continue
        keeps = node.op_type == "GlobalMaxPool" or _attribute(node, "keepdims", 1)
        pooled = node.output[0] if keeps else new_name(f"{node.output[0]}_pooled", taken)
        make_node = library("onnx").helper.make_node
        found.append(make_node("MaxPool", node.input[:1], [pooled], kernel_shape=shape[BATCH_AND_CHANNELS:]))
        if not keeps:
            found.append(make_node("Flatten", [pooled], node.output, axis=BATCH_AND_CHANNELS - 1))
    replace_nodes(model, found)


def _takes_whole_images(node: Any, rank: int, constants: Mapping[str, Any]) -> bool:
    if node.op_type == "GlobalMaxPool":
        return True
    if node.op_type != "ReduceMax":
        return False
    axes = _attribute(node, "axes", None)
    if len(node.input) > 1 and node.input[1] in constants:
        axes = library("onnx.numpy_helper").to_array(constants[node.input[1]]).tolist()
    return axes is not None and sorted(axis % rank for axis in axes) == list(range(BATCH_AND_CHANNELS, rank))


def _attribute(node: Any, name: str, default: Any) -> Any:
    found = next((attribute for attribute in node.attribute if attribute.name == name), None)
    return default if found is None else library("onnx").helper.get_attribute_value(found)


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Of the tensors whose sizes are known; 0 for a size that is not."""
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    declared = [(value.name, value.type.tensor_type) for value in values]
    return {
        name: tuple(dim.dim_value for dim in found.shape.dim) for name, found in declared if found.HasField("shape")
    }
