"""Operators on one tensor, element by element.

1. QUANTIZE to another grid is a copy with a gain; where both grids give the same bytes on the device (uint8 against
   int8 with the zero point moved by 128), it is an alias.
2. RELU, RELU6 and RELU_0_TO_1 are copies that clamp.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from rocketnpu.compiler.constraints import operands
from rocketnpu.compiler.lower.grids import bounds_on_grid, scale_of, zero_point_of
from rocketnpu.compiler.lowered import Alias, Lowered, Rescale, cube_shape
from rocketnpu.ir import Graph, Operator

CLAMPS: Mapping[str, tuple[float, float | None]] = MappingProxyType(
    {"RELU": (0.0, None), "RELU6": (0.0, 6.0), "RELU_0_TO_1": (0.0, 1.0)}
)
"""Kinds that only clamp, with their real range; RELU_N1_TO_1, whose lower bound is not 0, is a lookup."""


def lower_clamp(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """A kind of CLAMPS (rule 2)."""
    found = operands(graph, op)
    low, high = bounds_on_grid(CLAMPS[op.kind], found.output)
    yield Rescale(
        found.data.name,
        found.output.name,
        cube_shape(found.output),
        scale_of(found.data) / scale_of(found.output),
        zero_point_of(found.data),
        zero_point_of(found.output),
        low,
        high,
        ties_away=graph.format == "tflite",
    )


def lower_quantize(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """QUANTIZE (rule 1)."""
    found = operands(graph, op)
    data, output, shape = found.data, found.output, cube_shape(found.output)
    gain, zeros = scale_of(data) / scale_of(output), (zero_point_of(data), zero_point_of(output))
    if gain == 1.0 and zeros[0] == zeros[1]:
        yield Alias(data.name, output.name, shape)
    else:
        yield Rescale(data.name, output.name, shape, gain, *zeros, ties_away=graph.format == "tflite")
