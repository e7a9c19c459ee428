"""Operators that LiteRT was seen to survive, whatever a file says of their shapes and options.

The lists come of running damaged models: hundreds of thousands of single operators with other types, shapes, options,
constants and inputs than they need (`benchmarks/hostile.py` repeats it). What LiteRT died of were types that do not fit
one another, tensors without scales or elements, missing inputs, and SPLIT. So an operator is on the allow-list when

1. the frontend could read all of its options, no input is left out, and it is not opaque (`Operator.opaque`),
2. its tensors have one of the combinations of types below,
3. tensors of bytes have a scale, no tensor is empty or of a size that the run decides, and what says where elements go
   is constant,
4. scales of bytes, weights excepted, are neither extreme nor far apart: LiteRT ends the process where a multiplier that
   it derives from them is not between 0 and 1, or 1 and 2^31 (its quantization_util.cc).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from rocketnpu.ir import Graph, Operator, Tensor

Types: TypeAlias = tuple[str, ...]

FLOAT, BYTES, INDEX = "float32", ("int8", "uint8"), "int32"
SAME = (FLOAT, *BYTES)


Signature: TypeAlias = tuple[Types, Types]
"""Types of the inputs and of the outputs; where there may be any number, those that follow one another count once."""


def _alike(inputs: int = 1) -> frozenset[Signature]:
    """Inputs and one output of one type."""
    return frozenset(((kind,) * inputs, (kind,)) for kind in SAME)


def _with_indices(count: int = 1) -> frozenset[Signature]:
    """One input, and constants that say where its elements go."""
    return frozenset(((kind, *[INDEX] * count), (kind,)) for kind in SAME)


def _pairs(before: Types, after: Types) -> frozenset[Signature]:
    return frozenset(((first,), (second,)) for first, second in product(before, after))


_LAYER = frozenset({((FLOAT,) * 3, (FLOAT,)), *(((kind, kind, INDEX), (kind,)) for kind in BYTES)})
_TRANSPOSED = frozenset(((INDEX, kind, kind), (kind,)) for kind in SAME)

_FUNCTIONS = """
ABS AVERAGE_POOL_2D DEPTH_TO_SPACE ELU EXP FLOOR GELU HARD_SWISH LEAKY_RELU LOG LOGISTIC MAX_POOL_2D NEG RELU RELU6
RELU_N1_TO_1 RSQRT SOFTMAX SPACE_TO_DEPTH SQRT SQUEEZE TANH
"""
_MOVES = "EXPAND_DIMS GATHER MEAN PAD RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR TRANSPOSE"

_SIGNATURES: Mapping[str, frozenset[Signature]] = MappingProxyType(
    {
        **dict.fromkeys(_FUNCTIONS.split(), _alike()),
        **dict.fromkeys(("ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "PRELU", "SUB"), _alike(2)),
        **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), _LAYER),
        **dict.fromkeys(_MOVES.split(), _with_indices()),
        "ARG_MAX": frozenset(((kind, INDEX), (result,)) for kind in SAME for result in ("int32", "int64")),
        "CONCATENATION": _alike(),
        "DEQUANTIZE": _pairs((*BYTES, "float16"), (FLOAT,)),
        "PACK": _alike(),
        "QUANTIZE": _pairs(SAME, BYTES),
        "RESHAPE": _alike() | _with_indices(),
        "SLICE": _with_indices(2),
        "SPLIT_V": _with_indices(2),
        "STRIDED_SLICE": _with_indices(3),
        "TRANSPOSE_CONV": _TRANSPOSED | frozenset(((*before, INDEX), after) for before, after in _TRANSPOSED),
    }
)
_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})
_PLAIN_SCALES = (2.0**-24, 2.0**24)
_FARTHEST_APART = 2.0**18
"""An addition divides by the larger operand's scale and 2^20: half of that, and something to spare."""

_ANY_NUMBER_IN = frozenset({"CONCATENATION", "PACK"})
_ANY_NUMBER_OUT = frozenset({"SPLIT_V"})


def is_allowed(graph: Graph) -> bool:
    """Whether all operators of a graph are."""
    return all(_is_safe(graph, operator) for operator in graph.operators)


def _is_safe(graph: Graph, operator: Operator) -> bool:
    if operator.unsupported is not None or operator.opaque is not None or None in operator.inputs:
        return False
    inputs = [graph.tensors[name] for name in operator.inputs if name is not None]
    outputs = [graph.tensors[name] for name in operator.outputs]
    if not all(_is_complete(tensor) for tensor in (*inputs, *outputs)):
        return False
    if any(tensor.data is None for tensor in inputs if tensor.dtype == np.int32):
        return False
    if not _has_plain_scales(operator.kind, (*inputs, *outputs)):
        return False
    before, after = (tuple(str(tensor.dtype) for tensor in tensors) for tensors in (inputs, outputs))
    if operator.kind in _ANY_NUMBER_IN:
        before = tuple(dict.fromkeys(before))
    if operator.kind in _ANY_NUMBER_OUT:
        after = tuple(dict.fromkeys(after))
    return (before, after) in _SIGNATURES.get(operator.kind, ())


def _has_plain_scales(kind: str, tensors: Sequence[Tensor]) -> bool:
    """Rule 4."""
    scales = [
        float(scale)
        for tensor in tensors
        if tensor.quantization is not None and (tensor.data is None or kind not in _WEIGHTED)
        for scale in tensor.quantization.scales
    ]
    if not scales:
        return True
    smallest, largest = min(scales), max(scales)
    return _PLAIN_SCALES[0] <= smallest and largest <= min(_PLAIN_SCALES[1], _FARTHEST_APART * smallest)


def _is_complete(tensor: Tensor) -> bool:
    return (
        0 not in tensor.shape
        and tensor.has_static_shape
        and (str(tensor.dtype) not in BYTES or tensor.quantization is not None)
    )
