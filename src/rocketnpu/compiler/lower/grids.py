"""What lowering asks of tensors: scales and zero points on the device, activation bounds, padding, rounding."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints.table import operands
from rocketnpu.compiler.npu_ops import (
    CubeShape,
    Rounding,
)
from rocketnpu.ir import (
    SMALLEST_SCALE,
    Activation,
    ConvOptions,
    Graph,
    Operator,
    Padding,
    PoolOptions,
    Tensor,
)

SIGN_FLIP = 128
"""A uint8 tensor is stored as value - 128."""

FARTHEST = 1 << 16
"""Steps that are beyond every 8-bit grid, wherever its zero point is."""


def scale_of(tensor: Tensor) -> float:
    """Scale of a per-tensor grid."""
    assert tensor.quantization is not None
    return float(tensor.quantization.scales[0])


def zero_point_of(tensor: Tensor) -> int:
    """Zero point of a per-tensor grid in the device's int8 domain."""
    assert tensor.quantization is not None
    return int(tensor.quantization.zero_points[0]) - (SIGN_FLIP if tensor.dtype == np.uint8 else 0)


def activation_bounds(activation: Activation, output: Tensor) -> tuple[int, int]:
    """The activation's range on the output's int8 grid, as TFLite computes it."""
    real = {
        Activation.RELU: (0.0, None),
        Activation.RELU6: (0.0, 6.0),
        Activation.RELU_N1_TO_1: (-1.0, 1.0),
    }.get(activation, (None, None))
    return bounds_on_grid(real, output)


def bounds_on_grid(real: tuple[float | None, float | None], output: Tensor) -> tuple[int, int]:
    """A real range on the output's int8 grid, as TFLite computes it; None: no bound."""
    scale, zero = scale_of(output), zero_point_of(output)
    low = -128 if real[0] is None else max(-128, zero + _steps(real[0], scale))
    high = 127 if real[1] is None else min(127, zero + _steps(real[1], scale))
    return low, high


def _steps(real: float, scale: float) -> int:
    """real / scale in TFLite's arithmetic: float32, ties away from zero."""
    with np.errstate(over="ignore"):
        quotient = float(np.clip(np.float32(real) / np.float32(scale), -FARTHEST, FARTHEST))
    return int(math.copysign(math.floor(abs(quotient) + 0.5), quotient))


def as_int8(weights: Tensor) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """A constant's values and zero points in the int8 domain."""
    assert weights.data is not None
    assert weights.quantization is not None
    flip = SIGN_FLIP if weights.dtype == np.uint8 else 0
    values = (weights.data.astype(np.int16) - flip).astype(np.int8)
    return values, weights.quantization.zero_points - flip


def per_output(values: NDArray[np.generic], channels: int) -> NDArray[np.generic]:
    """One value for each output channel."""
    return np.broadcast_to(values, (channels,))


def bias_of(bias: Tensor | None, channels: int) -> NDArray[np.float64]:
    """A constant bias in steps of the accumulator, float64 (channels,); zeros where there is none."""
    return np.zeros(channels) if bias is None or bias.data is None else bias.data.astype(np.float64)


def gains_of(graph: Graph, op: Operator, channels: int) -> NDArray[np.float64]:
    """Output steps for each unit of the accumulator, per output channel: s_in * s_w / s_out.

    TFLite's kernels take the first product in float32, where that holds it, but for int8 convolutions and scales for
    each channel (its kernel_util.cc, GetQuantizedConvolutionMultipler and PopulateConvolutionQuantizationParams).
    """
    found = operands(graph, op)
    assert found.weights is not None
    assert found.weights.quantization is not None
    scales = found.weights.quantization.scales
    products = scales * scale_of(found.data)
    in_double = scales.size > 1 or (op.kind != "FULLY_CONNECTED" and found.data.dtype == np.int8)
    if graph.format == "tflite" and not in_double:
        with np.errstate(over="ignore", under="ignore"):
            rounded = products.astype(np.float32).astype(np.float64)
        products = np.where(np.isfinite(rounded) & (rounded >= SMALLEST_SCALE), rounded, products)
    return np.broadcast_to(products / scale_of(found.output), (channels,)).astype(np.float64)


def pads_before(
    options: ConvOptions | PoolOptions, data: CubeShape, out: CubeShape, reach: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns of padding before the first ones: counted by the file, or as TFLite does."""
    if options.pads is not None:
        return options.pads[:2]
    if options.padding is not Padding.SAME:
        return 0, 0
    rows = (out.height - 1) * options.stride_h + reach[0] - data.height
    columns = (out.width - 1) * options.stride_w + reach[1] - data.width
    return max(rows, 0) // 2, max(columns, 0) // 2


def rounding_of(graph: Graph, tflite: Rounding) -> Rounding:
    """How the reference of this format rounds, where TFLite rounds as in `tflite`."""
    return tflite if graph.format == "tflite" else Rounding.ONCE_TO_EVEN
