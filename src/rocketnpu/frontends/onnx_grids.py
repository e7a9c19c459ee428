"""Operators that only move or select elements get a QuantizeLinear of their own, with the grid of what they read.

Values that a DequantizeLinear has made come back from it unchanged, so that no result is another one; but the operator
is a quantized one then (onnx_qdq.py), also where its result stays real or is quantized on another grid.

1. That is for operators whose data a DequantizeLinear with one scale makes, and whose results are not quantized with
   just this scale already.
2. Operators that only say the shape anew stay as they are where real numbers are wanted of them: there they are free.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.frontends.onnx_library import library

MOVING = frozenset({"DepthToSpace", "GlobalMaxPool", "MaxPool", "ReduceMax", "Slice", "SpaceToDepth", "Split"})
RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def keep_grids(model: Any) -> None:
    """Add those nodes to an onnx.ModelProto, in place."""
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[Any]] = {value.name: [None] for value in graph.output}  # None: the world outside
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    arrays = library("onnx.numpy_helper")
    small = {tensor.name: arrays.to_array(tensor) for tensor in graph.initializer if not list(tensor.dims)}
    taken = {*makers, *readers}
    nodes: list[Any] = []
    for node in graph.node:
        nodes.append(node)
        source = makers.get(node.input[0]) if node.input else None
        grid = None if source is None else _grid(source, "DequantizeLinear", small)
        if source is None or grid is None or not _is_to_be_framed(node, grid, readers, small):
            continue
        for index, name in enumerate(node.output):
            moved, stored = (_unused(f"{name}/{what}", taken) for what in ("moved", "stored"))
            node.output[index] = moved
            parameters, helper = list(source.input[1:]), library("onnx.helper")
            nodes.append(helper.make_node("QuantizeLinear", [moved, *parameters], [stored]))
            nodes.append(helper.make_node("DequantizeLinear", [stored, *parameters], [name]))
            makers[name] = nodes[-1]
    if len(nodes) != len(graph.node):
        del graph.node[:]
        graph.node.extend(nodes)


Grid = tuple[NDArray[Any], NDArray[Any]]


def _grid(node: Any, op_type: str, small: Mapping[str, NDArray[Any]]) -> Grid | None:
    """Scale and zero point of a node of that type; None where they are not one constant number each."""
    if node is None or node.op_type != op_type or len(node.input) != 3:
        return None
    scale, zero = (small.get(name) for name in node.input[1:])
    return None if scale is None or zero is None else (scale, zero)


def _is_to_be_framed(
    node: Any, grid: Grid, readers: Mapping[str, list[Any]], small: Mapping[str, NDArray[Any]]
) -> bool:
    if not all(node.output) or (len(node.output) > 1 and node.op_type != "Split"):
        return False
    grids = [_grid(reader, "QuantizeLinear", small) for name in node.output for reader in readers.get(name, [None])]
    if all(found is not None and _equal(found, grid) for found in grids):
        return False
    return node.op_type in MOVING or (node.op_type in RESHAPING and all(found is not None for found in grids))


def _equal(first: Grid, second: Grid) -> bool:
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _unused(wanted: str, taken: set[str]) -> str:
    while wanted in taken:
        wanted += "_"
    taken.add(wanted)
    return wanted
