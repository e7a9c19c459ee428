"""ONNX operators in TFLite's terms, where both mean the same: kind, operands and options for the compiler.

Weights become OHWI (depthwise: 1HWC), asymmetric int8 ones uint8, and a bias int32 on the accumulator's grid. An
operator that TFLite has no equal for, or whose options the graph has no class for, keeps ONNX's name and runs on the
CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import ModelError
from rocketnpu.frontends.onnx_call import Call, Translation, as_it_is
from rocketnpu.frontends.onnx_moves import MOVES
from rocketnpu.ir import (
    ConvOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    Padding,
    Pads,
    PoolOptions,
    Quantization,
    ReduceOptions,
    Tensor,
    UnaryOptions,
)

OHWI = (0, 2, 3, 1)
DEPTHWISE_1HWC = (1, 2, 3, 0)
SIGN_FLIP = 128


def translate(call: Call) -> Translation:
    """An operator in TFLite's terms. Raises ModelError for operands that contradict each other."""
    form = _FORMS.get(call.op_type) or MOVES.get(call.op_type)
    return as_it_is(call) if form is None else form(call)


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
    window = _window(call, kernel)
    if window is None:
        return Translation("CONV_2D", (data, weights, bias), unsupported="its strides, pads or dilations are unusual")
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
    operands = (data, _unsigned_if_asymmetric(stored), _int32_bias(call, data, weights, bias, outputs))
    return Translation("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", operands, options)


_Window = tuple[Pads, tuple[int, int], tuple[int, int]]


def _window(call: Call, kernel: tuple[int, int]) -> _Window | None:
    """Pads, strides and dilations of a window that slides over two dimensions; None when the compiler can't have them.

    SAME_LOWER puts the odd row or column of padding before the image, SAME_UPPER behind it (ONNX, operator Conv).
    """
    strides = _pair(call, "strides")
    dilations = _pair(call, "dilations")
    sizes, outs = call.data.shape[2:], call.output.shape[2:]
    if strides is None or dilations is None or min(*strides, *dilations) < 1 or 0 in (*sizes, *outs):
        return None
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    auto = call.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((outs[i] - 1) * strides[i] + reach[i] - sizes[i], 0) for i in range(2)]
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
    elif auto == "VALID":
        before, after = [0, 0], [0, 0]
    else:
        given: list[int] = list(call.attributes.get("pads", (0, 0, 0, 0)))
        if len(given) != 4:
            return None
        before, after = given[:2], given[2:]
    pads = (before[0], before[1], after[0], after[1])
    expected = [(sizes[i] + before[i] + after[i] - reach[i]) // strides[i] + 1 for i in range(2)]
    # Rounding up (ceil_mode) lets the last window begin in the padding, or end beyond it.
    if min(pads) < 0 or any(max(before[i], after[i]) >= reach[i] for i in range(2)) or tuple(expected) != outs:
        return None
    return pads, strides, dilations


def _pair(call: Call, name: str) -> tuple[int, int] | None:
    values: list[int] = list(call.attributes.get(name, (1, 1)))
    return (values[0], values[1]) if len(values) == 2 else None


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


def _int32_bias(call: Call, data: Tensor, weights: Tensor, bias: Tensor | None, channels: int) -> Tensor | None:
    """A constant bias, float or quantized, in units of the accumulator: scale of the data times that of the weights."""
    if bias is None or bias.data is None or data.quantization is None or weights.quantization is None:
        return bias
    units = data.quantization.scales * weights.quantization.scales
    values = np.broadcast_to(dequantized(bias).reshape(-1), (channels,)) / units
    rounded = np.rint(values)
    limits = np.iinfo(np.int32)
    if not (np.isfinite(rounded) & (rounded >= limits.min) & (rounded <= limits.max)).all():
        raise ModelError(f"{call.where} has the bias {bias.name}, which does not fit 32 bits on the accumulator's grid")
    return replace(bias, shape=(channels,), dtype=np.dtype(np.int32), data=rounded.astype(np.int32), quantization=None)


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


def _gemm(call: Call) -> Translation:
    scaled = call.attributes.get("alpha", 1.0) != 1.0 or call.attributes.get("beta", 1.0) != 1.0
    if scaled or call.attributes.get("transA", 0):
        return as_it_is(call)
    return _fully_connected(call, transposed=bool(call.attributes.get("transB", 0)))


def _matmul(call: Call) -> Translation:
    return _fully_connected(call, transposed=False)


def _fully_connected(call: Call, *, transposed: bool) -> Translation:
    data, weights, bias = call.data, call.operand(1), call.operand(2)
    if weights is None or len(weights.shape) != 2 or len(data.shape) < 2 or data.data is not None:
        return as_it_is(call)
    stored = weights if transposed else _transposed(weights, (1, 0))
    units = stored.shape[0]
    if bias is not None and bias.shape not in ((units,), (1, units), (1,), (1, 1), ()):
        return as_it_is(call)
    operands = (data, _unsigned_if_asymmetric(stored), _int32_bias(call, data, weights, bias, units))
    return Translation("FULLY_CONNECTED", operands, FullyConnectedOptions(call.activation, keep_num_dims=True))


def _elementwise(kind: str) -> Callable[[Call], Translation]:
    def form(call: Call) -> Translation:
        return Translation(kind, call.operands, ElementwiseOptions(call.activation))

    return form


def _two(kind: str) -> Callable[[Call], Translation]:
    """Max and Min take any number of operands, TFLite's two."""

    def form(call: Call) -> Translation:
        return Translation(kind, call.operands, ElementwiseOptions()) if len(call.operands) == 2 else as_it_is(call)

    return form


def _simple(kind: str) -> Callable[[Call], Translation]:
    def form(call: Call) -> Translation:
        return Translation(kind, call.operands)

    return form


def _clip(call: Call) -> Translation:
    bounds = [None if operand is None else operand.data for operand in (call.operand(1), call.operand(2))]
    values = tuple(None if bound is None else float(bound.reshape(-1)[0]) for bound in bounds)
    kind = _CLAMPS.get(values)
    return as_it_is(call) if kind is None else Translation(kind, (call.data,))


_CLAMPS: Mapping[tuple[float | None, ...], str] = MappingProxyType(
    {(0.0, None): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): "RELU_0_TO_1"}
)


def _leaky_relu(call: Call) -> Translation:
    return Translation("LEAKY_RELU", (call.data,), UnaryOptions(alpha=call.attributes.get("alpha", 0.01)))


def _gelu(call: Call) -> Translation:
    return Translation("GELU", (call.data,), UnaryOptions(approximate=call.text("approximate", "none") == "tanh"))


def _pool(kind: str) -> Callable[[Call], Translation]:
    def form(call: Call) -> Translation:
        kernel: list[int] = list(call.attributes.get("kernel_shape", ()))
        if len(call.data.shape) != 4 or len(kernel) != 2:
            return as_it_is(call)
        window = _window(call, (kernel[0], kernel[1]))
        if window is None or window[2] != (1, 1):
            return Translation(kind, (call.data,), unsupported="its window, strides, pads or dilations are unusual")
        pads, strides, _ = window
        if any(pads) and call.attributes.get("count_include_pad", 0):
            return Translation(kind, (call.data,), unsupported="its average counts the padding")
        options = PoolOptions(
            padding=Padding.VALID,
            stride_h=strides[0],
            stride_w=strides[1],
            filter_h=kernel[0],
            filter_w=kernel[1],
            activation=call.activation,
            pads=pads,
        )
        return Translation(kind, (call.data,), options)

    return form


def _global_average(call: Call) -> Translation:
    axes = tuple(range(2, len(call.data.shape)))
    return Translation("MEAN", (call.data,), ReduceOptions(axes, keep_dims=True))


def _mean(call: Call) -> Translation:
    rank, operand = len(call.data.shape), call.operand(1)
    given: list[int] = list(call.attributes.get("axes", ()))
    if operand is not None:
        given = [] if operand.data is None else operand.data.reshape(-1).tolist()
    keep_dims = bool(call.attributes.get("keepdims", 1))
    if not given or any(not -rank <= axis < rank for axis in given):
        return Translation("MEAN", (call.data,), ReduceOptions((), keep_dims), "its axes are not constant")
    return Translation("MEAN", (call.data,), ReduceOptions(tuple(sorted({axis % rank for axis in given})), keep_dims))


def _reshape(call: Call) -> Translation:
    """The output's shape says it all."""
    return Translation("RESHAPE", (call.data,))


_FORMS: Mapping[str, Callable[[Call], Translation]] = MappingProxyType(
    {
        "Abs": _simple("ABS"),
        "Add": _elementwise("ADD"),
        "AveragePool": _pool("AVERAGE_POOL_2D"),
        "Clip": _clip,
        "Conv": _conv,
        "Exp": _simple("EXP"),
        "Flatten": _reshape,
        "Gelu": _gelu,
        "Gemm": _gemm,
        "GlobalAveragePool": _global_average,
        "HardSwish": _simple("HARD_SWISH"),
        "LeakyRelu": _leaky_relu,
        "MatMul": _matmul,
        "MaxPool": _pool("MAX_POOL_2D"),
        "Max": _two("MAXIMUM"),
        "Min": _two("MINIMUM"),
        "Mul": _elementwise("MUL"),
        "ReduceMean": _mean,
        "Relu": _simple("RELU"),
        "Reshape": _reshape,
        "Sigmoid": _simple("LOGISTIC"),
        "Squeeze": _reshape,
        "Sub": _elementwise("SUB"),
        "Tanh": _simple("TANH"),
        "Unsqueeze": _reshape,
    }
)
