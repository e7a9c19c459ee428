"""Operators that move nothing: RESHAPE, SQUEEZE, EXPAND_DIMS, TRANSPOSE that keep pixels and channels are aliases."""

from __future__ import annotations

from collections.abc import Iterator

from rocketnpu.compiler.constraints.table import operands
from rocketnpu.compiler.npu_ops import Alias, Lowered, cube_shape
from rocketnpu.ir import Graph, Operator


def lower_reshape(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """RESHAPE, SQUEEZE, EXPAND_DIMS, TRANSPOSE."""
    found = operands(graph, op)
    yield Alias(found.data.name, found.output.name, cube_shape(found.output))
