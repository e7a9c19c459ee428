"""Where a quantized model may stay float: the operators between what is computed last and the outputs."""

from __future__ import annotations

from collections.abc import Collection

from rocketnpu.ir import Graph, Operator


def moves_to_outputs(graph: Graph, kinds: Collection[str]) -> list[Operator]:
    """The operators of these kinds, all of whose results leave the graph or are read by such operators only."""
    computing = {name for operator in graph.operators if operator.kind not in kinds for name in operator.inputs}
    found: list[Operator] = []
    for operator in reversed(graph.operators):
        if operator.kind not in kinds:
            continue
        if computing.isdisjoint(operator.outputs):
            found.append(operator)
        else:
            computing.update(operator.inputs)
    return found
