"""Why a graph can only run as one piece on the CPU: control flow, state, or shapes that depend on data."""

from __future__ import annotations

from collections.abc import Mapping

from rocketnpu.ir import Graph, Operator

CONTROL_FLOW = frozenset({"IF", "WHILE", "CALL", "CALL_ONCE"})

STATEFUL = frozenset(
    {
        "ASSIGN_VARIABLE",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_RNN",
        "HASHTABLE",
        "HASHTABLE_FIND",
        "HASHTABLE_IMPORT",
        "HASHTABLE_SIZE",
        "LSTM",
        "MULTINOMIAL",
        "RANDOM_STANDARD_NORMAL",
        "RANDOM_UNIFORM",
        "READ_VARIABLE",
        "RNN",
        "SVDF",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        "VAR_HANDLE",
    }
)
"""Their results depend on earlier runs, or on a generator's state."""

DATA_DEPENDENT = frozenset({"NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "SEGMENT_SUM", "UNIQUE", "WHERE"})
"""How many elements they give depends on what their inputs hold."""

SHAPE_OPERANDS: Mapping[str, tuple[int, ...]] = {
    "BATCH_TO_SPACE_ND": (1, 2),
    "BROADCAST_TO": (1,),
    "EXPAND_DIMS": (1,),
    "FILL": (0,),
    "MEAN": (1,),
    "MIRROR_PAD": (1,),
    "ONE_HOT": (1,),
    "PAD": (1,),
    "PADV2": (1,),
    "RANGE": (0, 1, 2),
    "REDUCE_ALL": (1,),
    "REDUCE_ANY": (1,),
    "REDUCE_MAX": (1,),
    "REDUCE_MIN": (1,),
    "REDUCE_PROD": (1,),
    "RESHAPE": (1,),
    "RESIZE_BILINEAR": (1,),
    "RESIZE_NEAREST_NEIGHBOR": (1,),
    "SCATTER_ND": (2,),
    "SLICE": (1, 2),
    "SPACE_TO_BATCH_ND": (1, 2),
    "SPARSE_TO_DENSE": (1,),
    "SPLIT_V": (1,),
    "STRIDED_SLICE": (1, 2, 3),
    "SUM": (1,),
    "TILE": (1,),
    "TOPK_V2": (1,),
    "TRANSPOSE": (1,),
    "TRANSPOSE_CONV": (0,),
}
"""Inputs whose values, not shapes, decide the output's shape (tensorflow/lite/kernels, each kernel's Prepare)."""

SHAPE_ONLY = frozenset({"RANK", "SHAPE"})
"""They read only the shape of their input, which is static."""


def opaque_kind(operator: Operator) -> str | None:
    """The reason why an operator of this kind makes its graph opaque; None for ordinary kinds."""
    where = f"operator {operator.index} ({operator.kind})"
    if operator.kind in CONTROL_FLOW:
        return f"{where} is control flow"
    if operator.kind in STATEFUL:
        return f"{where} keeps state"
    if operator.kind == "CUSTOM":
        return f"{where} is a custom operator"
    if operator.kind == "DELEGATE" or operator.kind.startswith("STABLEHLO_"):
        return f"{where} has no TFLite kernel of its own"
    return None


def data_dependent_shape(graph: Graph) -> str | None:
    """The first operator whose output shape depends on the values of the graph's inputs; None when there is none.

    A shape that is computed from shapes alone (SHAPE, STRIDED_SLICE, PACK, RESHAPE: how converters write a reshape
    that keeps the batch) is static, because all the shapes it comes from are.
    """
    varying = set(graph.inputs)
    for operator in graph.operators:
        shape_operands = [
            operator.inputs[index] for index in SHAPE_OPERANDS.get(operator.kind, ()) if index < len(operator.inputs)
        ]
        if operator.kind in DATA_DEPENDENT or varying.intersection(shape_operands):
            return f"the output shape of operator {operator.index} ({operator.kind}) depends on data"
        if operator.kind not in SHAPE_ONLY and varying.intersection(operator.inputs):
            varying.update(operator.outputs)
    return None
