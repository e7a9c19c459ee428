"""FULLY_CONNECTED after a RESHAPE that flattens an image can read the image itself.

RESHAPE (N, H, W, C) -> (N, H*W*C) would move bytes on the device, where channels lie in planes of 16; a fully connected
layer over it is a convolution whose kernel is the whole image, which moves none. The RESHAPE then goes away, so its
result must not be needed elsewhere: by another operator, as an output, or because it is to be kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

from rocketnpu.compiler.constraints.table import has_equal_grid
from rocketnpu.compiler.npu_ops import cube_shape
from rocketnpu.ir import Graph, Operator


@dataclass(frozen=True)
class Fold:
    """`folded` computes what `consumer` computes from `absorbed`, from what `absorbed` reads."""

    absorbed: Operator
    consumer: Operator
    folded: Operator


def flatten_folds(graph: Graph, keep: Collection[str]) -> tuple[Fold, ...]:
    """Every such pair of the graph."""
    uses = Counter(name for op in graph.operators for name in op.inputs)
    uses.update([*graph.outputs, *keep])
    flattens = {op.outputs[0]: op for op in graph.operators if _flattens(graph, op) and uses[op.outputs[0]] == 1}
    return tuple(
        Fold(source, op, replace(op, inputs=(source.inputs[0], *op.inputs[1:])))
        for op in graph.operators
        if op.kind == "FULLY_CONNECTED" and (source := flattens.get(op.inputs[0] or "")) is not None
    )


def _flattens(graph: Graph, op: Operator) -> bool:
    if op.kind != "RESHAPE" or op.inputs[0] is None or not has_equal_grid(graph, op):
        return False
    before, after = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]].shape
    if len(before.shape) <= len(after) or len(after) != 2 or 0 in before.shape or after[:1] != before.shape[:1]:
        return False
    return cube_shape(before).pixels > after[0]
