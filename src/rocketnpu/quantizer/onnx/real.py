"""Models whose weights are integers already, as the float models that they stand for.

1. A constant behind a DequantizeLinear node (weights that are stored small) becomes its real numbers.
2. DynamicQuantizeLinear chooses a scale at each run ("dynamic range"), which no register can. The integer operator
   behind it works on the real tensor instead, with weights minus their zero point. The scale is 1 then. Where a single
   Cast and a product with the weights' scale follow, that scale is in the weights.
3. ONNX Runtime's DynamicQuantizeMatMul is all of that in one.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.frontends.onnx.library import library

DYNAMIC, UNPACK, PRODUCT = "DynamicQuantizeLinear", "DequantizeLinear", "DynamicQuantizeMatMul"
INTEGER = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
"""Operators of rule 2: data, weights, and zero points of both."""


def make_real(model: Any) -> None:
    """Rewrite an onnx.ModelProto in place. What the rules do not fit stays as it is."""
    rewriter = _Rewriter(model)
    nodes = rewriter.nodes()
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)


class _Rewriter:
    """The constants of a model, and who reads each tensor, while it is rewritten."""

    def __init__(self, model: Any) -> None:
        self._graph = model.graph
        self._arrays = library("onnx.numpy_helper")
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self._readers[name].append(node)
        self._makers = {name: node for node in model.graph.node for name in node.output}
        self._outputs = {value.name for value in model.graph.output}

    def nodes(self) -> list[Any]:
        """The nodes of the rewritten model, in order."""
        found: list[Any] = []
        gone: set[str] = set()
        real = {node.output[0]: node.input[0] for node in self._graph.node if self._is_dynamic(node)}
        for node in self._graph.node:
            if node.op_type == UNPACK and self._are_constant(node.input):
                self._store(node.output[0], self._unpacked(node))
            elif node.op_type == DYNAMIC and node.output[0] in real:
                self._store(node.output[1], np.float32(1))
            elif node.op_type in INTEGER and node.input[0] in real:
                factor, output = self._scaled(node)
                gone.update(name for name in (self._sole_result(node.output[0]), output) if output != node.output[0])
                weights = self._store(f"{node.output[0]}/weights", factor * self._weights(node))
                found.append(self._node(INTEGER[node.op_type], [real[node.input[0]], weights], node, output))
            elif node.op_type == PRODUCT and self._are_constant(node.input[1:]):
                found += self._product(node)
            elif gone.isdisjoint(node.output):
                found.append(node)
        return found

    def _scaled(self, node: Any) -> tuple[float, str]:
        """What one Cast and one product behind an operator of rule 2 multiply with, and the result behind them.

        1, and the operator's own result, where something else follows.
        """
        own = node.output[0]
        product = self._sole_reader(self._sole_result(own)) if self._is_cast(own) else None
        if product is None or product.op_type != "Mul":
            return 1.0, own
        other = next((name for name in product.input if name != self._sole_result(own)), None)
        if other is None:
            return 1.0, own
        maker = self._makers.get(other)
        factors = [other] if maker is None or maker.op_type != "Mul" else list(maker.input)
        constants = [name for name in factors if not self._is_scale(name)]
        if not self._are_constant(constants) or any(self._array(name).size != 1 for name in constants):
            return 1.0, own
        return float(np.prod([self._array(name).reshape(()) for name in constants])), product.output[0]

    def _is_scale(self, name: str) -> bool:
        """Whether this is the scale of rule 2, which is 1."""
        maker = self._makers.get(name)
        return maker is not None and self._is_dynamic(maker) and name == maker.output[1]

    def _is_cast(self, name: str) -> bool:
        reader = self._sole_reader(name)
        return reader is not None and reader.op_type == "Cast"

    def _sole_reader(self, name: str) -> Any:
        readers = self._readers[name]
        return readers[0] if len(readers) == 1 and name not in self._outputs else None

    def _sole_result(self, name: str) -> str:
        reader = self._sole_reader(name)
        return name if reader is None else reader.output[0]

    def _are_constant(self, names: Any) -> bool:
        return all(name in self._stored for name in names if name)

    def _is_dynamic(self, node: Any) -> bool:
        """Whether rule 2 fits all that reads the numbers and the zero point of a DynamicQuantizeLinear node."""
        if node.op_type != DYNAMIC or not self._outputs.isdisjoint((node.output[0], node.output[2])):
            return False
        readers = [*self._readers[node.output[0]], *self._readers[node.output[2]]]
        return all(
            reader.op_type in INTEGER
            and reader.input[0] == node.output[0]
            and list(reader.input[2:3]) in ([], [""], [node.output[2]])
            and self._are_constant([reader.input[1], *reader.input[3:4]])
            for reader in readers
        )

    def _array(self, name: str) -> NDArray[np.float64]:
        return self._arrays.to_array(self._stored[name]).astype(np.float64)

    def _store(self, name: str, values: Any) -> str:
        self._stored[name] = self._arrays.from_array(np.asarray(values, np.float32), name)
        self._graph.initializer.append(self._stored[name])
        return name

    def _node(self, op: str, inputs: list[str], original: Any, output: str = "") -> Any:
        node = library("onnx.helper").make_node(op, inputs, [output or original.output[0]], name=original.name)
        node.attribute.extend(original.attribute)
        return node

    def _unpacked(self, node: Any) -> NDArray[np.float64]:
        attributes = {item.name: item.i for item in node.attribute}
        values, scale = self._array(node.input[0]), self._array(node.input[1])
        zero = self._array(node.input[2]) if list(node.input[2:3]) not in ([], [""]) else np.zeros(())
        axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
        return (values - _spread(zero, values.shape, axis, block)) * _spread(scale, values.shape, axis, block)

    def _weights(self, node: Any) -> NDArray[np.float64]:
        values = self._array(node.input[1])
        if list(node.input[3:4]) in ([], [""]):
            return values
        return values - _spread(self._array(node.input[3]), values.shape, 0 if node.op_type == "ConvInteger" else -1, 0)

    def _product(self, node: Any) -> list[Any]:
        """Rule 3: inputs are data, weights, their scale and zero point, and a bias; the last two may be missing."""
        data, weights, scale, zero, bias = [*node.input, "", ""][:5]
        values = self._array(weights)
        if zero:
            values = values - _spread(self._array(zero), values.shape, -1, 0)
        real = self._store(f"{node.output[0]}/weights", values * _spread(self._array(scale), values.shape, -1, 0))
        if not bias:
            return [self._node("MatMul", [data, real], node)]
        product = f"{node.output[0]}/product"
        return [self._node("MatMul", [data, real], node, product), self._node("Add", [product, bias], node)]


def _spread(parameters: NDArray[np.float64], shape: tuple[int, ...], axis: int, block: int) -> NDArray[np.float64]:
    """Scales or zero points so that they broadcast to `shape`: one, one for each index of `axis`, or for each block."""
    if parameters.size == 1:
        return parameters.reshape(())
    if block:
        return np.repeat(parameters, block, axis)[tuple(slice(size) for size in shape)]
    return parameters.reshape([-1 if index == axis % len(shape) else 1 for index in range(len(shape))])
