"""Operators on one tensor, element by element.

1. QUANTIZE to another grid is a copy with a gain; where both grids give the same bytes on the device (uint8 against
   int8 with the zero point moved by 128), it is an alias.
"""

from __future__ import annotations

from collections.abc import Iterator

from rocketnpu.compiler.constraints import operands
from rocketnpu.compiler.lower.grids import scale_of, zero_point_of
from rocketnpu.compiler.lowered import Alias, Lowered, Rescale, cube_shape
from rocketnpu.ir import Graph, Operator


def lower_quantize(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """QUANTIZE (rule 1)."""
    found = operands(graph, op)
    data, output, shape = found.data, found.output, cube_shape(found.output)
    gain, zeros = scale_of(data) / scale_of(output), (zero_point_of(data), zero_point_of(output))
    if gain == 1.0 and zeros[0] == zeros[1]:
        yield Alias(data.name, output.name, shape)
    else:
        yield Rescale(data.name, output.name, shape, gain, *zeros, ties_away=graph.format == "tflite")
