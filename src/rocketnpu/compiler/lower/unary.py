"""Operators on one tensor, element by element.

1. QUANTIZE to another grid is a copy with a gain; where both grids give the same bytes on the device (uint8 against
   int8 with the zero point moved by 128), it is an alias.
2. RELU, RELU6 and RELU_0_TO_1 are copies that clamp.
3. PRELU is a 1x1 depthwise convolution with weights 1 and a slope in each channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints.table import operands
from rocketnpu.compiler.lower.elementwise import channel_by_channel, spread
from rocketnpu.compiler.lower.grids import bounds_on_grid, rounding_of, scale_of, zero_point_of
from rocketnpu.compiler.npu_ops import Alias, Lowered, Rescale, Rounding, cube_shape
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.ir import Graph, Operator, Tensor

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


def lower_prelu(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """PRELU (rule 3)."""
    found = operands(graph, op)
    assert found.weights is not None
    data, output, shape = found.data, found.output, cube_shape(found.output)
    slopes = channel_values(found.weights, data)
    conv = channel_by_channel(
        data,
        output,
        shape,
        weights=np.ones(shape.channels, np.int8),
        weight_zero_point=0,
        bias=np.zeros(shape.channels),
        gain=scale_of(data) / scale_of(output),
        rounding=rounding_of(graph, Rounding.ONCE),
        bounds=(-128, 127),
    )
    yield replace(conv, slopes=slopes)


def channel_values(constant: Tensor, data: Tensor) -> NDArray[np.float64]:
    """A constant with one value a channel of `data`, as real numbers: float64 (channels,).

    ConstraintError if it differs from pixel to pixel.
    """
    values = spread(constant, data)
    if (values != values[:1, :1]).any():
        raise ConstraintError("alpha is the same for every pixel")
    channels = values[0, 0].astype(np.float64)
    return channels if constant.quantization is None else (channels - zero_point_of(constant)) * scale_of(constant)


def lower_quantize(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """QUANTIZE (rule 1)."""
    found = operands(graph, op)
    data, output, shape = found.data, found.output, cube_shape(found.output)
    gain, zeros = scale_of(data) / scale_of(output), (zero_point_of(data), zero_point_of(output))
    if gain == 1.0 and zeros[0] == zeros[1]:
        yield Alias(data.name, output.name, shape)
    else:
        yield Rescale(data.name, output.name, shape, gain, *zeros, ties_away=graph.format == "tflite")
