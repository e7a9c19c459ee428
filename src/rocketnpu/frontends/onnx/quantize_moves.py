"""Operators that only move or select elements get a QuantizeLinear of their own, with the grid of what they read.

Values that a DequantizeLinear has made come back from it unchanged, so that no result is another one; but the operator
is a quantized one then (qdq.py), also where its result stays real or is quantized on another grid.

1. An operator that only says the shape anew, or a Clip that no other operator takes along, and whose result is
   quantized, has its operand quantized with the same scale as well: rounding goes up and up, so that it may come first.
2. An operator whose data a DequantizeLinear with one scale makes, and whose results are not quantized with just this
   scale already, has its results quantized with it.
3. Operators that only say the shape anew are no case of rule 2 where real numbers are wanted of them: there they are
   free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.frontends.onnx.families import ELEMENT_BY_ELEMENT, MOVING, RESHAPING
from rocketnpu.frontends.onnx.library import library

ACTIVATIONS = ((0.0, None), (0.0, 6.0), (-1.0, 1.0))
"""Bounds that the operator before may have as its own."""

Grid: TypeAlias = tuple[NDArray[Any], NDArray[Any]]
"""Scale and zero point, one number each."""


def keep_grids(model: Any) -> None:
    """Add those nodes to an onnx.ModelProto, in place."""
    graph = model.graph
    arrays = library("onnx.numpy_helper")
    numbers = {tensor.name: arrays.to_array(tensor) for tensor in graph.initializer if not list(tensor.dims)}
    net = _Net(list(graph.node), numbers, [value.name for value in graph.output])
    before = len(net.nodes)
    net.quantize_operands()
    net.quantize_results()
    if len(net.nodes) != before:
        del graph.node[:]
        graph.node.extend(net.nodes)


class _Net:
    """The nodes while they become more."""

    def __init__(self, nodes: list[Any], numbers: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> None:
        self.nodes = nodes
        self._numbers = numbers
        self._makers = {name: node for node in nodes for name in node.output}
        self._readers: dict[str, list[Any]] = {name: [None] for name in outputs}  # None: the world outside
        for node in nodes:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._taken = {*self._makers, *self._readers}

    def quantize_operands(self) -> None:
        """Rule 1, from the last node to the first, so that a row of them is passed."""
        nodes: list[Any] = []
        for node in reversed(self.nodes):
            nodes.append(node)
            if not (node.op_type in RESHAPING or self._is_clip(node)) or self._maker_is(node, "DequantizeLinear"):
                continue
            grids = self._result_grids(node)
            if grids[0] is None or not all(found is not None and _equal(found, grids[0]) for found in grids):
                continue
            source, (reader, *_) = node.input[0], self._readers[node.output[0]]
            real = self._name(f"{source}/real")
            pair = self._pair(source, reader.input[1:], real)
            node.input[0] = real
            self._readers[source] = [pair[0] if other is node else other for other in self._readers[source]]
            self._readers[real] = [node]
            nodes += reversed(pair)
        self.nodes = nodes[::-1]

    def quantize_results(self) -> None:
        """Rules 2 and 3."""
        nodes: list[Any] = []
        for node in self.nodes:
            nodes.append(node)
            if self._is_to_be_framed(node):
                for index, name in enumerate(node.output):
                    node.output[index] = self._name(f"{name}/moved")
                    nodes += self._pair(node.output[index], self._makers[node.input[0]].input[1:], name)
        self.nodes = nodes

    def _is_to_be_framed(self, node: Any) -> bool:
        is_known = node.op_type in MOVING | RESHAPING and all(node.output)
        if not is_known or (len(node.output) > 1 and node.op_type != "Split"):
            return False
        if not self._maker_is(node, "DequantizeLinear"):
            return False
        grid, grids = self._grid(self._makers[node.input[0]]), self._result_grids(node)
        if grid is None or all(found is not None and _equal(found, grid) for found in grids):
            return False
        readers = [reader for name in node.output for reader in self._readers.get(name, [None])]
        works_on = ELEMENT_BY_ELEMENT | RESHAPING | {"QuantizeLinear"}
        return node.op_type in MOVING or all(reader is not None and reader.op_type in works_on for reader in readers)

    def _is_clip(self, node: Any) -> bool:
        """Whether a node is a Clip with constant bounds that are not those of an activation of TFLite."""
        if node.op_type != "Clip" or any(name and name not in self._numbers for name in node.input[1:]):
            return False
        bounds = [float(self._numbers[name]) if name else None for name in node.input[1:]]
        return tuple(bounds + [None] * (2 - len(bounds))) not in ACTIVATIONS

    def _maker_is(self, node: Any, op_type: str) -> bool:
        maker = self._makers.get(node.input[0]) if node.input else None
        return maker is not None and maker.op_type == op_type

    def _result_grids(self, node: Any) -> list[Grid | None]:
        """For each reader of each result the grid that it is quantized on; None for one that does something else."""
        readers = [reader for name in node.output for reader in self._readers.get(name, [None])]
        return [
            self._grid(reader) if reader is not None and reader.op_type == "QuantizeLinear" else None
            for reader in readers
        ]

    def _grid(self, node: Any) -> Grid | None:
        """Scale and zero point of a QuantizeLinear or DequantizeLinear, if they are one constant number each."""
        found = [self._numbers.get(name) for name in node.input[1:]]
        return (found[0], found[1]) if len(found) == 2 and found[0] is not None and found[1] is not None else None

    def _pair(self, source: str, parameters: Sequence[str], result: str) -> list[Any]:
        """QuantizeLinear and DequantizeLinear from `source` to `result`."""
        stored, make = self._name(f"{result}/stored"), library("onnx.helper").make_node
        pair = [
            make("QuantizeLinear", [source, *parameters], [stored]),
            make("DequantizeLinear", [stored, *parameters], [result]),
        ]
        self._makers.update({stored: pair[0], result: pair[1]})
        self._readers[stored] = [pair[1]]
        return pair

    def _name(self, wanted: str) -> str:
        while wanted in self._taken:
            wanted += "_"
        self._taken.add(wanted)
        return wanted


def _equal(first: Grid, second: Grid) -> bool:
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(first, second, strict=True))
