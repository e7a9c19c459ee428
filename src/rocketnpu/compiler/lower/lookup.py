"""Any function of one int8 tensor as a lookup table with the result of each of the 256 inputs.

LiteRT's kernels compute LOGISTIC, TANH, EXP and LOG from the real value, rounded once, and so do these tables; its
HARD_SWISH, GELU, LEAKY_RELU, ABS and RELU_N1_TO_1 round on the way and differ from them by at most 1 step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints.table import operands
from rocketnpu.compiler.lower.grids import SIGN_FLIP, scale_of, zero_point_of
from rocketnpu.compiler.npu_ops import Lookup, Lowered, TableLoad, cube_shape
from rocketnpu.ir import Graph, LookupOptions, Operator, Tensor, UnaryOptions

Reals: TypeAlias = NDArray[np.float64]

_SMALLEST = 1e-300
"""Stands for 0 under a logarithm, whose result is then below every grid."""


def _gelu(x: Reals, options: UnaryOptions) -> Reals:
    if options.approximate:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.array([math.erf(value / math.sqrt(2)) for value in x.tolist()]))


def _logistic(x: Reals) -> Reals:
    return 0.5 * (1 + np.tanh(x / 2))  # 1 / (1 + exp(-x)) without overflow


_FUNCTIONS: Mapping[str, Callable[[Reals, UnaryOptions], Reals]] = MappingProxyType(
    {
        "ABS": lambda x, _: np.abs(x),
        "EXP": lambda x, _: np.exp(np.minimum(x, 700)),
        "GELU": _gelu,
        "HARD_SWISH": lambda x, _: x * np.clip(x + 3, 0, 6) / 6,
        "LEAKY_RELU": lambda x, options: np.where(x < 0, options.alpha * x, x),
        "LOG": lambda x, _: np.log(np.maximum(x, _SMALLEST)),
        "LOGISTIC": lambda x, _: _logistic(x),
        "RELU_N1_TO_1": lambda x, _: np.clip(x, -1, 1),
        "TANH": lambda x, _: np.tanh(x),
    }
)

LOOKUPS = frozenset(_FUNCTIONS)
"""Kinds that become a lookup."""


def lower_lookup(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """A kind of LOOKUPS."""
    found = operands(graph, op)
    options = op.options if isinstance(op.options, UnaryOptions) else UnaryOptions()
    results = _FUNCTIONS[op.kind](real_inputs(found.data), options)
    yield from look_up(found.data, found.output, to_grid(results, found.output, ties_away=graph.format == "tflite"))


def lower_table(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """LOOKUP, whose table comes with the operator."""
    assert isinstance(op.options, LookupOptions)
    found = operands(graph, op)
    results = np.frombuffer(op.options.table, found.output.dtype).astype(np.int16)
    flip = SIGN_FLIP if found.output.dtype == np.uint8 else 0
    yield from look_up(found.data, found.output, (results - flip).astype(np.int8))


def look_up(data: Tensor, output: Tensor, table: NDArray[np.int8]) -> Iterator[Lowered]:
    """The forms that map each byte of `data` through `table`, int8 (256,) from input -128 on."""
    yield TableLoad(f"{output.name}#table", table)
    yield Lookup(data.name, output.name, cube_shape(output))


def real_inputs(data: Tensor) -> Reals:
    """What the 256 int8 values stand for: float64 (256,), from -128 on."""
    return scale_of(data) * np.arange(-128 - zero_point_of(data), 128 - zero_point_of(data), dtype=np.float64)


def to_grid(values: Reals, output: Tensor, *, ties_away: bool) -> NDArray[np.int8]:
    """Real values on the grid of `output`, as it is on the device: int8 of the same shape."""
    steps = values / scale_of(output)
    rounded = np.copysign(np.floor(np.abs(steps) + 0.5), steps) if ties_away else np.rint(steps)
    return np.clip(rounded + zero_point_of(output), -128, 127).astype(np.int8)
