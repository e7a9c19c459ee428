"""Any function of one int8 tensor as a lookup table with the result of each of the 256 inputs.

LiteRT computes LOGISTIC, TANH, EXP, LOG, SQRT and ELU from the real value, rounded once, and so do these tables. Its
HARD_SWISH, GELU, LEAKY_RELU, ABS, RSQRT and RELU_N1_TO_1 round on the way and differ by at most 1 step.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints.table import operands
from rocketnpu.compiler.lower.grids import SIGN_FLIP, scale_of, zero_point_of
from rocketnpu.compiler.npu_ops import Lookup, Lowered, TableLoad, cube_shape
from rocketnpu.ir import Graph, LookupOptions, Operator, Tensor, UnaryOptions
from rocketnpu.unary import FUNCTIONS, Reals


def lower_lookup(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """A kind of unary.FUNCTIONS."""
    found = operands(graph, op)
    options = op.options if isinstance(op.options, UnaryOptions) else UnaryOptions()
    results = FUNCTIONS[op.kind](real_inputs(found.data), options)
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
