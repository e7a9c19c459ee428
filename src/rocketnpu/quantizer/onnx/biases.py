"""Bias correction (biases.py) of ONNX models in QDQ form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.frontends.onnx.library import library
from rocketnpu.quantizer.biases import mean_error
from rocketnpu.quantizer.ranges import Range


def correct_biases(model: Any, source: Any, ranges: Mapping[str, Range]) -> None:
    """Change the biases of convolutions in a quantized model (onnx.ModelProto) in place.

    `source` is the float one, with the same names of nodes; `ranges` are those of its tensors.
    """
    float_nodes = {node.name: node for node in source.graph.node}
    float_constants = {tensor.name: tensor for tensor in source.graph.initializer}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        original = float_nodes.get(node.name)
        if node.op_type != "Conv" or original is None or len(node.input) < 3:
            continue
        real = [float_constants.get(name) for name in original.input[1:3]]
        stored = [_Stored(constants, makers.get(name)) for name in node.input[1:3]]
        range_ = ranges.get(original.input[0])
        if None in real or range_ is None or not all(operand.is_constant for operand in stored):
            continue
        weights, bias = (_array(tensor) for tensor in real)
        depthwise = weights.shape[1] == 1 and range_.mean.size > 1
        if not depthwise and weights.shape[1] != range_.mean.size:
            continue
        error = mean_error(stored[0].real() - weights, range_.mean, 0, 0 if depthwise else 1)
        if error is not None:
            stored[1].replace(bias - error)


def _array(tensor: Any) -> NDArray[Any]:
    return library("onnx.numpy_helper").to_array(tensor)


class _Stored:
    """A constant behind a DequantizeLinear node, with one scale for each index of its first axis, or one at all."""

    def __init__(self, constants: Mapping[str, Any], node: Any) -> None:
        self._constants = constants
        self._node = node
        self.is_constant = (
            node is not None
            and node.op_type == "DequantizeLinear"
            and all(name in constants for name in node.input)
            and all(attribute.name == "axis" and attribute.i == 0 for attribute in node.attribute)
        )

    def _scales(self, rank: int) -> NDArray[np.float64]:
        return _array(self._constants[self._node.input[1]]).astype(np.float64).reshape(-1, *[1] * (rank - 1))

    def real(self) -> NDArray[np.float64]:
        """Its real values: ONNX Runtime's quantizer makes weights and biases with the zero point 0."""
        values = _array(self._constants[self._node.input[0]]).astype(np.float64)
        return values * self._scales(values.ndim)

    def replace(self, real: NDArray[np.float64]) -> None:
        """Store other real values on the same grid."""
        name = self._node.input[0]
        limits = np.iinfo(np.int32)
        steps = np.clip(np.round(real / self._scales(real.ndim)), limits.min, limits.max).astype(np.int32)
        self._constants[name].CopyFrom(library("onnx.numpy_helper").from_array(steps, name))
