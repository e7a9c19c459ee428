"""What operators do, in the words of both kinds of files: the nouns of borders.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from rocketnpu.ir import Graph, Operator

Shape: TypeAlias = tuple[int, ...]

Macs: TypeAlias = Callable[[list[Shape], Shape], int]
"""Multiply-accumulates of a layer, from the shapes of its inputs and of its result."""


@dataclass(frozen=True)
class Vocabulary:
    """Names of operators.

    `moves` give some or all of the elements that they read. `sums` and `joins` make one tensor of several on one grid,
    `products` multiply two tensors. `layers` multiply with weights.
    """

    moves: frozenset[str]
    sums: frozenset[str]
    joins: frozenset[str]
    products: frozenset[str]
    layers: Mapping[str, Macs]


def _by_output(output_axis: int) -> Macs:
    """Each of the weights is used once for each pixel of the result; `output_axis` is where they have its channels."""
    return lambda inputs, result: math.prod(result) * math.prod(inputs[1]) // max(1, inputs[1][output_axis])


def _by_input(data: int, input_axis: int) -> Macs:
    """Each of the weights is used once for each pixel of the data, the input number `data`."""
    return lambda inputs, _: math.prod(inputs[data]) * math.prod(inputs[1]) // max(1, inputs[1][input_axis])


def _product(inputs: list[Shape], result: Shape) -> int:
    """Of matrices: the last dimension of the first one is summed over."""
    return math.prod(result) * (inputs[0][-1] if inputs[0] else 1)


ONNX = Vocabulary(
    moves=frozenset({"Concat", "Flatten", "Gather", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}),
    sums=frozenset({"Add", "Sub"}),
    joins=frozenset({"Concat"}),
    products=frozenset({"Mul"}),
    layers={"Conv": _by_output(0), "ConvTranspose": _by_input(0, 0), "Gemm": _product, "MatMul": _product},
)

_TFLITE_MOVES = """
CONCATENATION EXPAND_DIMS GATHER PACK RESHAPE SLICE SPLIT SPLIT_V SQUEEZE STRIDED_SLICE TRANSPOSE UNPACK
"""

TFLITE = Vocabulary(
    moves=frozenset(_TFLITE_MOVES.split()),
    sums=frozenset({"ADD", "SUB"}),
    joins=frozenset({"CONCATENATION"}),
    products=frozenset({"MUL"}),
    layers={
        "BATCH_MATMUL": _product,
        "CONV_2D": _by_output(0),
        "DEPTHWISE_CONV_2D": _by_output(3),
        "FULLY_CONNECTED": _by_output(0),
        "TRANSPOSE_CONV": _by_input(2, 3),
    },
)


def vocabulary_of(graph: Graph) -> Vocabulary:
    """That of the kind of file that a graph was read from."""
    return ONNX if graph.format == "onnx" else TFLITE


def macs_of(graph: Graph, operator: Operator) -> int:
    """Multiply-accumulates of an operator of a float graph; 0 for one that is no layer."""
    count = vocabulary_of(graph).layers.get(operator.kind)
    if count is None:
        return 0
    shapes = [graph.tensors[name].shape if name else () for name in operator.inputs]
    return count(shapes, graph.tensors[operator.outputs[0]].shape)


def is_layer(graph: Graph, operator: Operator) -> bool:
    """Whether an operator multiplies with constant weights."""
    names = [name for name in operator.inputs if name]
    has_constant = any(graph.tensors[name].data is not None for name in names)
    return operator.kind in vocabulary_of(graph).layers and has_constant
