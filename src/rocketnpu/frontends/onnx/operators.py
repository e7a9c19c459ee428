"""ONNX operators in TFLite's terms, where both mean the same: kind, operands and options for the compiler.

An operator that TFLite has no equal for, or whose options the graph has no class for, keeps ONNX's name and runs on the
CPU, unless it is a function of one tensor (functions.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from rocketnpu.frontends.onnx.call import Call, Translation, as_it_is
from rocketnpu.frontends.onnx.data_movement import MOVES
from rocketnpu.frontends.onnx.layers import LAYERS, average_with_padding
from rocketnpu.frontends.onnx.rank import is_over_rows, over_images
from rocketnpu.frontends.onnx.window import UNUSUAL_WINDOW, window_of
from rocketnpu.ir import ElementwiseOptions, Padding, PoolOptions, ReduceOptions, UnaryOptions

FIRST_OF_SPACE = 2
"""The dimensions from this one on are those of space: rows and columns."""


def translate(call: Call) -> Translation:
    """An operator in TFLite's terms. Raises ModelError for operands that contradict each other."""
    if is_over_rows(call):
        image = over_images(call)
        found = translate(image)
        if not found.is_mapped:
            return as_it_is(call)
        operands = tuple(call.data if operand is image.data else operand for operand in found.operands)
        return replace(found, operands=operands)
    form = _FORMS.get(call.op_type) or LAYERS.get(call.op_type) or MOVES.get(call.op_type)
    return as_it_is(call) if form is None else form(call)


def is_known(op_type: str) -> bool:
    """Whether there is a translation of an operator, at least for some of its forms."""
    return op_type in _FORMS or op_type in LAYERS or op_type in MOVES


def _elementwise(kind: str) -> Callable[[Call], Translation]:
    """ONNX's Sum, Max and Min take any number of operands, TFLite's two."""

    def form(call: Call) -> Translation:
        all_quantized = all(operand is not None and operand.quantization is not None for operand in call.operands)
        if len(call.operands) != 2 or not all_quantized:
            return as_it_is(call)
        return Translation(kind, call.operands, ElementwiseOptions(call.activation))

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


def _prelu(call: Call) -> Translation:
    slopes = call.operand(1)
    if slopes is None or slopes.data is None:
        return as_it_is(call)
    return Translation("PRELU", (call.data, slopes))


def _pool(kind: str) -> Callable[[Call], Translation]:
    def form(call: Call) -> Translation:
        kernel: list[int] = list(call.attributes.get("kernel_shape", ()))
        if len(call.data.shape) != 4 or len(kernel) != 2:
            return as_it_is(call)
        window = window_of(call, (kernel[0], kernel[1]))
        if window is None or window[2] != (1, 1):
            return Translation(kind, (call.data,), unsupported=UNUSUAL_WINDOW)
        pads, strides, _ = window
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


def _average(call: Call) -> Translation:
    """Dilated averages, and those that count padding, are convolutions; a window that ends beyond it is ORT's alone."""
    kernel: list[int] = list(call.attributes.get("kernel_shape", ()))
    counts = call.attributes.get("count_include_pad", 0) and not call.attributes.get("ceil_mode", 0)
    if len(call.data.shape) == 4 and len(kernel) == 2 and counts:
        return average_with_padding(call, (kernel[0], kernel[1]))
    if call.attributes.get("count_include_pad", 0):
        return Translation("AVERAGE_POOL_2D", (call.data,), unsupported="it counts padding, and rounds its size up")
    return _pool("AVERAGE_POOL_2D")(call)


def _global_max(call: Call) -> Translation:
    """A pool with a window of the image's size."""
    shape = call.data.shape
    if len(shape) != 4:
        return as_it_is(call)
    options = PoolOptions(Padding.VALID, 1, 1, shape[2], shape[3], activation=call.activation, pads=(0, 0, 0, 0))
    return Translation("MAX_POOL_2D", (call.data,), options)


def _reduce_max(call: Call) -> Translation:
    """A pool whose window is as large as the dimensions of space that it reduces."""
    rank, axes = len(call.data.shape), _axes(call)
    if rank not in (3, 4) or len(call.output.shape) != rank or axes is None or min(axes) < FIRST_OF_SPACE:
        return as_it_is(call)
    window = [call.data.shape[axis] if axis in axes else 1 for axis in range(FIRST_OF_SPACE, rank)]
    rows = window[0] if rank == 4 else 1
    options = PoolOptions(Padding.VALID, 1, 1, rows, window[-1], activation=call.activation, pads=(0, 0, 0, 0))
    return Translation("MAX_POOL_2D", (call.data,), options)


def _global_average(call: Call) -> Translation:
    axes = tuple(range(2, len(call.data.shape)))
    return Translation("MEAN", (call.data,), ReduceOptions(axes, keep_dims=True))


def _mean(call: Call) -> Translation:
    keep_dims, axes = bool(call.attributes.get("keepdims", 1)), _axes(call)
    if axes is None:
        return Translation("MEAN", (call.data,), ReduceOptions((), keep_dims), "its axes are not constant")
    return Translation("MEAN", (call.data,), ReduceOptions(axes, keep_dims))


def _axes(call: Call) -> tuple[int, ...] | None:
    """What a reduction works over, an attribute up to opset 17 and an operand since; None when it is not constant."""
    rank, given = len(call.data.shape), list(call.attributes.get("axes", ()))
    if call.operand(1) is not None:
        given = call.integers(1) or []
    if not given or any(not -rank <= axis < rank for axis in given):
        return None
    return tuple(sorted({axis % rank for axis in given}))


def _reshape(call: Call) -> Translation:
    """The output's shape says it all."""
    return Translation("RESHAPE", (call.data,))


_FORMS: Mapping[str, Callable[[Call], Translation]] = MappingProxyType(
    {
        "Add": _elementwise("ADD"),
        "AveragePool": _average,
        "Clip": _clip,
        "Flatten": _reshape,
        "GlobalAveragePool": _global_average,
        "GlobalMaxPool": _global_max,
        "LeakyRelu": _leaky_relu,
        "MaxPool": _pool("MAX_POOL_2D"),
        "Max": _elementwise("MAXIMUM"),
        "Min": _elementwise("MINIMUM"),
        "Mul": _elementwise("MUL"),
        "PRelu": _prelu,
        "ReduceMax": _reduce_max,
        "ReduceMean": _mean,
        "Relu": _simple("RELU"),
        "Reshape": _reshape,
        "Squeeze": _reshape,
        "Sub": _elementwise("SUB"),
        "Sum": _elementwise("ADD"),
        "Unsqueeze": _reshape,
    }
)
