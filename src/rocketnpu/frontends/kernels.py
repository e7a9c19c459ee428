"""Operators that no runtime can compute are refused, with the outputs that a model without them could have."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rocketnpu.errors import ModelError
from rocketnpu.ir import Graph, Operator


def require_kernels(graph: Graph, name: str) -> Graph:
    """The graph. Raises ModelError for an operator that not even the model's own runtime can compute.

    `name` is what the error calls the file.
    """
    missing = [op for op in graph.operators if op.no_kernel is not None]
    if not missing:
        return graph
    first = missing[0]
    problem = f"operator {first.index} ({first.kind}) of {name} can't run anywhere: {first.no_kernel}"
    ends = outputs_before(graph, missing)
    raise ModelError(f"{problem}; {advice(ends)}" if ends else problem)


def advice(outputs: Sequence[str]) -> str:
    """What to do about an operator that nothing computes: end the model at these tensors."""
    shown = ", ".join(map(repr, outputs))
    return f"end the model before it with outputs=[{shown}] (--outputs {shlex.quote(','.join(outputs))})"


def outputs_before(graph: Graph, operators: Sequence[Operator]) -> list[str]:
    """The tensors at which the graph can end so that these operators are not needed.

    They are the graph's outputs that do not depend on the operators, and what others compute for the operators and for
    those that depend on them.
    """
    left = {op.index for op in operators}
    beyond = {name for op in operators for name in op.outputs}
    for op in graph.operators:
        if not beyond.isdisjoint(op.inputs):
            left.add(op.index)
            beyond.update(op.outputs)
    made = {name for op in graph.operators if op.index not in left for name in op.outputs}
    read = [name for op in graph.operators if op.index in left for name in op.inputs if name in made]
    return list(dict.fromkeys([*(name for name in graph.outputs if name in made), *(name for name in read if name)]))
