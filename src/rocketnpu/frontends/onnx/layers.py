"""ONNX operators with weights in TFLite's terms: Conv, ConvTranspose, Gemm, MatMul, BatchNormalization, some averages.

Weights become OHWI (depthwise: 1HWC), asymmetric int8 ones uint8, and a bias counts steps of the accumulator.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import ModelError
from rocketnpu.frontends.onnx.call import Call, Translation, as_it_is
from rocketnpu.frontends.onnx.window import UNUSUAL_WINDOW, pair, window_of
from rocketnpu.ir import (
    SMALLEST_SCALE,
    ConvOptions,
    FullyConnectedOptions,
    Padding,
    Pads,
    Quantization,
    Tensor,
    TransposeConvOptions,
)

OHWI = (0, 2, 3, 1)
DEPTHWISE_1HWC = (1, 2, 3, 0)
TRANSPOSED_OHWI = (1, 2, 3, 0)
SIGN_FLIP = 128

MOST_DENSE_WEIGHTS = 1 << 24
"""Weights that are made here: more than any that are worth running so."""

LARGEST_OFFSET = 1 << 30
"""Half of what a 32-bit bias holds."""


def _conv(call: Call) -> Translation:
    data, weights, bias = call.data, call.operand(1), call.operand(2)
    if len(data.shape) != 4 or weights is None or len(weights.shape) != 4:
        return as_it_is(call)
    groups: int = call.attributes.get("group", 1)
    channels, outputs = data.shape[1], weights.shape[0]
    if groups < 1 or weights.shape[1] * groups != channels or outputs % groups or 0 in weights.shape:
        raise ModelError(f"{call.where} has weights {weights.shape} in {groups} groups for an input {data.shape}")
    if bias is not None and bias.shape != (outputs,):
        raise ModelError(f"{call.where} has a bias of shape {bias.shape} for {outputs} output channels")
    depthwise = groups == channels and groups > 1
    kernel = (weights.shape[2], weights.shape[3])
    window = window_of(call, kernel)
    if window is None:
        return Translation("CONV_2D", (data, weights, bias), unsupported=UNUSUAL_WINDOW)
    pads, strides, dilations = window
    options = ConvOptions(
        padding=Padding.VALID,
        stride_h=strides[0],
        stride_w=strides[1],
        dilation_h=dilations[0],
        dilation_w=dilations[1],
        activation=call.activation,
        multiplier=outputs // channels if depthwise else 0,
        pads=pads,
    )
    stored = _transposed(weights, DEPTHWISE_1HWC if depthwise else OHWI)
    operands = (data, _unsigned_if_asymmetric(stored), _bias_in_steps(data, weights, bias, outputs))
    return Translation("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", operands, options)


def _transposed(weights: Tensor, order: tuple[int, ...]) -> Tensor:
    """Weights with their dimensions, and the axis of their scales, in another order."""
    grid = weights.quantization
    if grid is not None and grid.axis is not None:
        grid = replace(grid, axis=order.index(grid.axis))
    shape = tuple(weights.shape[axis] for axis in order)
    data = None if weights.data is None else np.ascontiguousarray(weights.data.transpose(order))
    return replace(weights, shape=shape, data=data, quantization=grid)


def _unsigned_if_asymmetric(weights: Tensor) -> Tensor:
    """TFLite's int8 weights have the zero point 0; others are the same weights as uint8."""
    grid = weights.quantization
    if weights.data is None or grid is None or weights.dtype != np.int8 or not grid.zero_points.any():
        return weights
    data = (weights.data.astype(np.int16) + SIGN_FLIP).astype(np.uint8)
    shifted = Quantization(grid.scales, grid.zero_points + SIGN_FLIP, grid.axis)
    return replace(weights, data=data, dtype=data.dtype, quantization=shifted)


def _bias_in_steps(
    data: Tensor, weights: Tensor, bias: Tensor | None, channels: int, factor: float = 1.0
) -> Tensor | None:
    """A constant bias, float or quantized, times `factor`, in units of the accumulator: scale of the data times that of
    the weights, which are in TFLite's order. It is float64 where these are no whole numbers of 32 bits."""
    if bias is None or bias.data is None or data.quantization is None or weights.quantization is None:
        return bias
    units = data.quantization.scales * weights.quantization.scales
    values = np.broadcast_to(factor * dequantized(bias).reshape(-1), (channels,)) / units
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int32)
    stored = whole if np.array_equal(whole, values) else values
    return replace(bias, shape=(channels,), dtype=stored.dtype, data=stored, quantization=None)


def dequantized(constant: Tensor) -> NDArray[np.float64]:
    """A constant's real values, float64 of its shape; `constant.data` must not be None."""
    assert constant.data is not None
    values, grid = constant.data.astype(np.float64), constant.quantization
    if grid is None:
        return values
    shape = [1] * values.ndim
    if grid.axis is not None:
        shape[grid.axis] = -1
    scales, zeros = (part.reshape(shape if grid.axis is not None else ()) for part in (grid.scales, grid.zero_points))
    return (values - zeros) * scales


def _conv_transpose(call: Call) -> Translation:
    """Its groups become one: between channels of different groups, and between dilated taps, weights are 0."""
    data, weights, bias = call.data, call.operand(1), call.operand(2)
    if len(data.shape) != 4 or weights is None or weights.data is None or len(weights.shape) != 4:
        return as_it_is(call)
    groups: int = call.attributes.get("group", 1)
    channels, outputs = data.shape[1], weights.shape[1] * groups
    if groups < 1 or weights.shape[0] != channels or channels % groups or 0 in weights.shape:
        raise ModelError(f"{call.where} has weights {weights.shape} in {groups} groups for an input {data.shape}")
    if bias is not None and bias.shape != (outputs,):
        raise ModelError(f"{call.where} has a bias of shape {bias.shape} for {outputs} output channels")
    dilations = pair(call, "dilations")
    if weights.quantization is None:
        return Translation("TRANSPOSE_CONV", (None, _transposed(weights, TRANSPOSED_OHWI), data, bias))
    dense = None if dilations is None or min(dilations) < 1 else _dense(weights, groups, dilations)
    pads = None if dense is None else _cut_off(call, (dense.shape[1], dense.shape[2]))
    strides = pair(call, "strides")
    if dense is None or pads is None or strides is None:
        unsupported = "its strides, pads, dilations or groups are unusual"
        return Translation("TRANSPOSE_CONV", (None, weights, data, bias), unsupported=unsupported)
    options = TransposeConvOptions(Padding.VALID, *strides, activation=call.activation, pads=pads)
    operands = (None, _unsigned_if_asymmetric(dense), data, _bias_in_steps(data, dense, bias, outputs))
    return Translation("TRANSPOSE_CONV", operands, options)


def _dense(weights: Tensor, groups: int, dilations: tuple[int, int]) -> Tensor | None:
    """The weights of a transposed convolution as one group without dilation, OHWI; None when that is too much."""
    assert weights.data is not None
    inputs, outputs, *kernel = weights.shape
    reach = tuple((size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True))
    shape = (outputs * groups, *reach, inputs)
    grid = weights.quantization
    if math.prod(shape) > MOST_DENSE_WEIGHTS or grid is None or grid.axis not in (None, 1):
        return None
    zeros = np.broadcast_to(grid.zero_points, (outputs,))
    data = np.empty(shape, weights.dtype)
    data[:] = np.tile(zeros, groups).astype(weights.dtype).reshape(-1, 1, 1, 1)
    part = inputs // groups
    for group in range(groups):
        own = weights.data[group * part : (group + 1) * part].transpose(1, 2, 3, 0)
        target = data[group * outputs : (group + 1) * outputs, :, :, group * part : (group + 1) * part]
        target[:, :: dilations[0], :: dilations[1]] = own
    if grid.axis is not None:
        grid = Quantization(np.tile(grid.scales, groups), np.tile(grid.zero_points, groups), 0)
    return replace(weights, shape=shape, data=data, quantization=grid)


def _cut_off(call: Call, kernel: tuple[int, int]) -> Pads | None:
    """What a transposed convolution leaves out of its full result; None where its sizes contradict one another.

    Where the file gives the output's size instead, SAME_UPPER leaves out the odd row at the end, and every other mode
    at the start (ONNX, operator ConvTranspose).
    """
    strides, extra = pair(call, "strides"), pair(call, "output_padding", default=0)
    if strides is None or extra is None or min(strides) < 1 or min(extra) < 0 or 0 in call.output.shape:
        return None
    sizes, outs = call.data.shape[2:], call.output.shape[2:]
    full = [(sizes[i] - 1) * strides[i] + extra[i] + kernel[i] for i in range(2)]
    auto = call.text("auto_pad", "NOTSET")
    if "output_shape" in call.attributes or auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [full[i] - outs[i] for i in range(2)]
        before = [total // 2 if auto == "SAME_UPPER" else total - total // 2 for total in totals]
        after = [total - first for total, first in zip(totals, before, strict=True)]
    else:
        given: list[int] = [0] * 4 if auto == "VALID" else list(call.attributes.get("pads", (0, 0, 0, 0)))
        if len(given) != 4:
            return None
        before, after = given[:2], given[2:]
    expected = tuple(full[i] - before[i] - after[i] for i in range(2))
    return None if min(*before, *after) < 0 or expected != outs else (before[0], before[1], after[0], after[1])


def _batch_normalization(call: Call) -> Translation:
    """A factor and an offset for each channel: a 1x1 depthwise convolution.

    Factors are int8 weights with scales of their own, so that they are as exact as these; scales are no smaller than
    what the offset needs in 32 bits.
    """
    data, grid = call.data, call.data.quantization
    given = [call.operand(index) for index in range(1, 5)]
    found = [dequantized(tensor) for tensor in given if tensor is not None and tensor.data is not None]
    if len(data.shape) < 2 or len(found) != 4 or grid is None or call.attributes.get("training_mode", 0):
        return as_it_is(call)
    gamma, beta, mean, variance = found
    channels = data.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        factors = gamma / np.sqrt(variance + call.attributes.get("epsilon", 1e-5))
        offsets = beta - mean * factors
    if not np.isfinite(factors + offsets).all() or factors.shape != (channels,):
        return as_it_is(call)
    largest = np.iinfo(np.int8).max
    scales = np.maximum(np.abs(factors) / largest, np.abs(offsets) / (grid.scales[0] * LARGEST_OFFSET))
    scales = np.maximum(scales, SMALLEST_SCALE)
    shape = (1, 1, 1, channels)
    weights = Tensor(
        f"{call.output.name}/factors",
        shape,
        np.dtype(np.int8),
        Quantization(scales, np.zeros(channels, np.int64), 3),
        np.rint(factors / scales).astype(np.int8).reshape(shape),
    )
    bias = Tensor(f"{call.output.name}/offsets", (channels,), np.dtype(np.float64), data=offsets)
    options = ConvOptions(Padding.VALID, 1, 1, activation=call.activation, multiplier=1, pads=(0, 0, 0, 0))
    operands = (data, weights, _bias_in_steps(data, weights, bias, channels))
    return Translation("DEPTHWISE_CONV_2D", operands, options)


def average_with_padding(call: Call, kernel: tuple[int, int]) -> Translation:
    """An AveragePool that counts its padding, as zeros: a depthwise convolution whose weights are all 1 / pixels."""
    window, shape = window_of(call, kernel), (1, *kernel, call.data.shape[1])
    if window is None or math.prod(shape) > MOST_DENSE_WEIGHTS:
        return Translation("AVERAGE_POOL_2D", (call.data,), unsupported=UNUSUAL_WINDOW)
    pads, strides, dilations = window
    scale = Quantization(np.array([1 / math.prod(kernel)]), np.zeros(1, np.int64))
    weights = Tensor(f"{call.output.name}/weights", shape, np.dtype(np.int8), scale, np.ones(shape, np.int8))
    options = ConvOptions(Padding.VALID, *strides, *dilations, activation=call.activation, multiplier=1, pads=pads)
    return Translation("DEPTHWISE_CONV_2D", (call.data, weights, None), options)


def _gemm(call: Call) -> Translation:
    alpha: float = call.attributes.get("alpha", 1.0)
    if alpha <= 0 or call.attributes.get("transA", 0):
        return as_it_is(call)
    beta: float = call.attributes.get("beta", 1.0)
    return _fully_connected(call, transposed=bool(call.attributes.get("transB", 0)), factors=(alpha, beta))


def _matmul(call: Call) -> Translation:
    return _fully_connected(call, transposed=False, factors=(1.0, 1.0))


def _fully_connected(call: Call, *, transposed: bool, factors: tuple[float, float]) -> Translation:
    """`factors` multiply the product and the bias. Weights may have further dimensions of size 1 in front."""
    data, weights, bias = call.data, call.operand(1), call.operand(2)
    if weights is None or not 2 <= len(weights.shape) <= len(data.shape) or data.data is not None:
        return as_it_is(call)
    weights = _matrix(weights)
    if len(weights.shape) != 2:
        return as_it_is(call)
    stored = weights if transposed else _transposed(weights, (1, 0))
    units = stored.shape[0]
    if bias is not None and bias.shape not in ((units,), (1, units), (1,), (1, 1), ()):
        return as_it_is(call)
    if stored.quantization is not None:
        grid = stored.quantization
        stored = replace(stored, quantization=replace(grid, scales=factors[0] * grid.scales))
    operands = (data, _unsigned_if_asymmetric(stored), _bias_in_steps(data, stored, bias, units, factors[1]))
    return Translation("FULLY_CONNECTED", operands, FullyConnectedOptions(call.activation, keep_num_dims=True))


def _matrix(weights: Tensor) -> Tensor:
    """Weights without the dimensions of size 1 that precede the last two."""
    more = len(weights.shape) - 2
    if weights.data is None or any(size != 1 for size in weights.shape[:more]):
        return weights
    grid = weights.quantization
    if grid is not None and grid.axis is not None:
        grid = replace(grid, axis=grid.axis - more) if grid.axis >= more else replace(grid, axis=None)
    shape = weights.shape[more:]
    return replace(weights, shape=shape, data=weights.data.reshape(shape), quantization=grid)


LAYERS: Mapping[str, Callable[[Call], Translation]] = MappingProxyType(
    {
        "BatchNormalization": _batch_normalization,
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "Gemm": _gemm,
        "MatMul": _matmul,
    }
)
"""The operators of this file, by ONNX's names."""
