"""Equalization of a float ONNX model: which tensors lie between two convolutions, and where their channels are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.frontends.onnx.library import library
from rocketnpu.quantizer.equalize import factors
from rocketnpu.quantizer.ranges import Range

HOMOGENEOUS = frozenset({"LeakyRelu", "PRelu", "Relu"})
"""Operators that give c times as much, channel by channel, for c times as large a first operand (c > 0)."""


def equalize(data: bytes, ranges: Mapping[str, Range]) -> tuple[bytes, dict[str, Range]]:
    """The same function in other weights, and the ranges of its tensors; `data` is a repaired file."""
    model = library("onnx").load_model_from_string(data)
    graph = model.graph
    changed = dict(ranges)
    readers = Counter(name for node in graph.node for name in node.input if name)
    readers.update(value.name for value in graph.output)
    makers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for reader in graph.node:
        if reader.op_type != "Conv":
            continue
        path = _path(makers, reader.input[0])
        if path is None or any(readers[name] != 1 for name in path) or path[0] not in ranges:
            continue
        pair = _Pair(makers[path[-1]], reader, constants)
        if pair.is_constant and all(readers[name] == 1 for name in pair.names):
            divisors = pair.equalize(ranges[path[0]])
            if divisors is not None:
                changed.update({name: ranges[name].divided(divisors) for name in path})
    return model.SerializeToString(), changed


def _path(makers: Mapping[str, Any], name: str) -> list[str] | None:
    """The tensors from a convolution's input back to the result of another, through operators of HOMOGENEOUS."""
    path: list[str] = []
    while name in makers:
        path.append(name)
        if makers[name].op_type == "Conv":
            return path
        if makers[name].op_type not in HOMOGENEOUS:
            return None
        name = makers[name].input[0]
    return None


class _Pair:
    """Two convolutions, the second of which reads what the first one makes, and their constants."""

    def __init__(self, maker: Any, reader: Any, constants: Mapping[str, Any]) -> None:
        self._constants = constants
        self._groups = next((attribute.i for attribute in reader.attribute if attribute.name == "group"), 1)
        self.reading: str = reader.input[1]
        self.making: list[str] = [name for name in maker.input[1:] if name]  # weights (O, I, H, W) and bias (O)

    @property
    def names(self) -> list[str]:
        """Weights and bias of the first, weights of the second."""
        return [*self.making, self.reading]

    @property
    def is_constant(self) -> bool:
        """Whether all of them are constants."""
        return self._constants.keys() >= set(self.names)

    def equalize(self, range_: Range) -> NDArray[np.float32] | None:
        """Change the weights; what each channel between is divided by, None when the second is grouped."""
        weights = self._values(self.reading)
        channels = range_.low.size
        depthwise = self._groups == channels == weights.shape[0]
        if not depthwise and self._groups != 1:
            return None
        axis = 0 if depthwise else 1
        others = tuple(other for other in range(weights.ndim) if other != axis)
        divisors = factors(range_.magnitude, np.abs(weights).max(axis=others), own_scales=depthwise)
        along = [-1 if other == axis else 1 for other in range(weights.ndim)]
        self._replace(self.reading, weights * divisors.reshape(along))
        for name in self.making:
            values = self._values(name)
            self._replace(name, values / divisors.reshape([-1] + [1] * (values.ndim - 1)))
        return divisors

    def _values(self, name: str) -> NDArray[np.float32]:
        return library("onnx.numpy_helper").to_array(self._constants[name])

    def _replace(self, name: str, values: NDArray[np.float32]) -> None:
        self._constants[name].CopyFrom(library("onnx.numpy_helper").from_array(values, name))
