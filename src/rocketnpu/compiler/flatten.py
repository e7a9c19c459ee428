"""A pass over the graph: FULLY_CONNECTED after a RESHAPE that flattens an image reads the image itself.

1. RESHAPE (1, H, W, C) -> (1, H*W*C) would move bytes on the device, where channels lie in planes of 16; a fully
   connected layer over it is a convolution whose kernel is the whole image, which moves none.
2. The RESHAPE goes away unless its result is needed elsewhere: by another operator, as an output, or because it is
   to be kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from rocketnpu.ir import Graph, Operator


def fold_flatten(graph: Graph, keep: Collection[str]) -> tuple[Graph, dict[str, str]]:
    """The graph with the pass applied, and the dissolved tensors with the operator that absorbed each."""
    uses = Counter(name for op in graph.operators for name in op.inputs)
    uses.update([*graph.outputs, *keep])
    flattens = {op.outputs[0]: op for op in graph.operators if _flattens(graph, op) and uses[op.outputs[0]] == 1}
    dissolved: dict[str, str] = {}
    operators: list[Operator] = []
    for op in graph.operators:
        source = flattens.get(op.inputs[0] or "") if op.kind == "FULLY_CONNECTED" else None
        if source is not None:
            dissolved[source.outputs[0]] = op.name
            operators.append(replace(op, inputs=(source.inputs[0], *op.inputs[1:])))
        else:
            operators.append(op)
    kept = tuple(op for op in operators if not (op.kind == "RESHAPE" and op.outputs[0] in dissolved))
    return replace(graph, operators=kept), dissolved


def _flattens(graph: Graph, op: Operator) -> bool:
    if op.kind != "RESHAPE" or op.inputs[0] is None:
        return False
    before, after = graph.tensors[op.inputs[0]].shape, graph.tensors[op.outputs[0]].shape
    return len(before) == 4 and before[0] == 1 and before[1] * before[2] > 1 and len(after) == 2 and after[0] == 1
