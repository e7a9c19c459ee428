"""Float ONNX operators said by others, which ONNX Runtime's quantizer and the NPU know.

1. A Sum is additions of two tensors.
2. A batch normalization that no convolution before it takes in is a depthwise convolution with a kernel of one pixel;
   for rows of features it is a product and a sum.
3. Each bias belongs to one layer, and has a value for each of its channels. The quantizer makes copies of a bias that
   several layers share, under names that may be those of other tensors, and takes a Gemm's bias for a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.frontends.onnx.edit import new_name, replace_nodes, tensor_names
from rocketnpu.frontends.onnx.library import library

BIAS = 2
"""The operand of a layer that is its bias."""

LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm"})

FEATURES, IMAGE = 2, 4
"""Dimensions of a row of features, and of an image."""


def add_pairwise(model: Any) -> None:
    """Rule 1, in place."""
    taken = tensor_names(model)
    found: list[Any] = []
    for node in model.graph.node:
        found.extend(_additions(node, taken) if node.op_type == "Sum" and len(node.input) > 1 else [node])
    replace_nodes(model, found)


def _additions(node: Any, taken: set[str]) -> Iterator[Any]:
    total, *others = node.input
    for index, other in enumerate(others):
        last = index == len(others) - 1
        result = node.output[0] if last else new_name(f"{node.output[0]}_{index}", taken)
        yield library("onnx").helper.make_node("Add", [total, other], [result])
        total = result


def convolve_normalizations(model: Any) -> None:
    """Rule 2, in place. What has a rank of its own, or no constants, stays as it is."""
    numpy_helper = library("onnx.numpy_helper")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    ranks = _ranks(model)
    taken = tensor_names(model)
    found: list[Any] = []
    for node in model.graph.node:
        operands = [constants.get(name) for name in node.input[1:]]
        rank = ranks.get(node.input[0], 0) if node.input else 0
        is_plain = node.op_type == "BatchNormalization" and len(node.output) == 1 and rank in (FEATURES, IMAGE)
        if not is_plain or None in operands:
            found.append(node)
            continue
        values = [numpy_helper.to_array(operand).astype(np.float64) for operand in operands]
        found.extend(_affine(model, node, values, rank, taken))
    replace_nodes(model, found)


def _affine(model: Any, node: Any, values: list[NDArray[np.float64]], rank: int, taken: set[str]) -> Iterator[Any]:
    """y = x * factor + shift, one of each for a channel."""
    make_node = library("onnx").helper.make_node
    scale, bias, mean, variance = values
    epsilon = next((attribute.f for attribute in node.attribute if attribute.name == "epsilon"), 1e-5)
    factor = scale / np.sqrt(variance + epsilon)
    shift = bias - mean * factor
    data, result = node.input[0], node.output[0]
    if rank == IMAGE:
        weights = _constant(model, factor.reshape(-1, 1, 1, 1), f"{result}_factor", taken)
        shifts = _constant(model, shift, f"{result}_shift", taken)
        yield make_node("Conv", [data, weights, shifts], [result], group=len(factor), kernel_shape=[1, 1])
        return
    product = new_name(f"{result}_product", taken)
    yield make_node("Mul", [data, _constant(model, factor, f"{result}_factor", taken)], [product])
    yield make_node("Add", [product, _constant(model, shift, f"{result}_shift", taken)], [result])


def own_biases(model: Any) -> None:
    """Rule 3, in place."""
    numpy_helper = library("onnx.numpy_helper")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    taken = tensor_names(model)
    seen: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in LAYERS or len(node.input) <= BIAS or node.input[BIAS] not in constants:
            continue
        name = node.input[BIAS]
        values = numpy_helper.to_array(constants[name])
        wanted = _gemm_bias(node, values, constants) if node.op_type == "Gemm" else values
        if name in seen or wanted.shape != values.shape:
            node.input[BIAS] = new_name(f"{name}_of_{node.output[0]}", taken)
            model.graph.initializer.append(numpy_helper.from_array(wanted, node.input[BIAS]))
        seen.add(name)


def _gemm_bias(node: Any, values: NDArray[Any], constants: Mapping[str, Any]) -> NDArray[Any]:
    """A vector, if all rows of the result get the same bias."""
    weights = constants.get(node.input[1])
    if weights is None or len(weights.dims) != FEATURES or (values.ndim == FEATURES and len(values) > 1):
        return values
    is_transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return np.broadcast_to(values.reshape(-1), weights.dims[0 if is_transposed else 1]).copy()


def _constant(model: Any, values: NDArray[np.float64], name: str, taken: set[str]) -> str:
    found = new_name(name, taken)
    model.graph.initializer.append(library("onnx.numpy_helper").from_array(values.astype(np.float32), found))
    return found


def _ranks(model: Any) -> dict[str, int]:
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    shapes = {value.name: value.type.tensor_type for value in values if value.type.tensor_type.HasField("shape")}
    return {name: len(declared.shape.dim) for name, declared in shapes.items()}
