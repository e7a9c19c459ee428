"""What the NPU path asks of operators that compute: predicates as in constraints/."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rocketnpu.compiler.constraints.tensors import data_tensors, has_equal_grid, operands
from rocketnpu.compiler.npu_ops import CubeShape, cube_shape, cube_side
from rocketnpu.ir import (
    BYTE_TYPES,
    Activation,
    ConvOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    Graph,
    Operator,
    PoolOptions,
    ReduceOptions,
    Tensor,
    TransposeConvOptions,
)


def has_constant_weights(graph: Graph, op: Operator) -> bool:
    """weights are int8 or uint8 constants, quantized per tensor or per output channel"""
    found = operands(graph, op).weights
    if found is None or found.data is None or found.dtype not in BYTE_TYPES or found.quantization is None:
        return False
    channel_axis = found.data.ndim - 1 if op.kind == "DEPTHWISE_CONV_2D" else 0
    return found.quantization.scales.size == 1 or found.quantization.axis == channel_axis


def has_symmetric_int8_weights(graph: Graph, op: Operator) -> bool:
    """int8 weights have the zero point 0"""
    found = operands(graph, op).weights
    assert found is not None
    assert found.quantization is not None
    return found.dtype != np.int8 or not found.quantization.zero_points.any()


def has_constant_bias(graph: Graph, op: Operator) -> bool:
    """the bias is absent or a constant: int32, or in an ONNX model finite numbers"""
    found = operands(graph, op).bias
    if found is None or found.data is None:
        return found is None
    return found.dtype == np.int32 or (found.dtype == np.float64 and bool(np.isfinite(found.data).all()))


def has_matching_inner_size(graph: Graph, op: Operator) -> bool:
    """each row of weights takes one pixel's channels, or one image"""
    found = operands(graph, op)
    assert found.weights is not None
    inner, shape = found.weights.shape[1], found.data.shape
    if found.data.layout == "NHWC" and shape[-1:] == (inner,):
        return True
    cube = cube_shape(found.data)
    return len(shape) > 2 and shape[0] == 1 and cube.pixels * cube.channels == inner


def has_clamp_activation(_graph: Graph, op: Operator) -> bool:
    """the fused activation is NONE, RELU, RELU6 or RELU_N1_TO_1"""
    options = op.options
    known = (Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1)
    with_activation = (ConvOptions, PoolOptions, FullyConnectedOptions, ElementwiseOptions, TransposeConvOptions)
    return not isinstance(options, with_activation) or options.activation in known


def has_variable_operand(graph: Graph, op: Operator) -> bool:
    """at most one operand is a constant"""
    return any(graph.tensors[name].data is None for name in op.inputs[:2] if name is not None)


def broadcasts_one_pixel(graph: Graph, op: Operator) -> bool:
    """operands that are not constants have the output's shape; one of two may be a single pixel of as many channels"""
    *data, output = (tensor for tensor in data_tensors(graph, op) if tensor.data is None)
    small = [tensor for tensor in data if tensor.shape != output.shape]
    if not small:
        return True
    one, whole = cube_shape(small[0]), cube_shape(output)
    is_pixel = one.pixels == 1 and one.channels == whole.channels and small[0].layout == output.layout
    return len(data) == 2 and len(small) == 1 and is_pixel


def compares_on_one_grid(graph: Graph, op: Operator) -> bool:
    """in a TFLite model, operands and output have the same scale and zero point"""
    return graph.format != "tflite" or has_equal_grid(graph, op)


def averages_on_one_grid(graph: Graph, op: Operator) -> bool:
    """in a TFLite model, input and output have the same scale and zero point"""
    return compares_on_one_grid(graph, op)


def has_constant_alpha(graph: Graph, op: Operator) -> bool:
    """alpha is a constant: int8 or uint8 with one scale and zero point, or float"""
    alpha = operands(graph, op).weights
    if alpha is None or alpha.data is None:
        return False
    if alpha.dtype.kind == "f":
        return bool(np.isfinite(alpha.data).all())
    return alpha.dtype in BYTE_TYPES and alpha.quantization is not None and alpha.quantization.scales.size == 1


def reduces_sides(graph: Graph, op: Operator) -> bool:
    """the mean is over channels, width, or the height of one image"""
    data, options = operands(graph, op).data, op.options
    if not isinstance(options, ReduceOptions) or not options.axes:
        return False
    return all(data.shape[axis] == 1 or cube_side(data, axis) is not None for axis in options.axes)


def keeps_sides(graph: Graph, op: Operator) -> bool:
    """what the mean leaves lies on the device as its result does (a mean over channels keeps their dimension)"""
    found = operands(graph, op)
    left, out = reduced_shape(found.data, op), cube_shape(found.output)
    return (left.pixels, left.channels) == (out.pixels, out.channels)


def reduced_shape(data: Tensor, op: Operator) -> CubeShape:
    """The cube that a MEAN leaves of its data's."""
    assert isinstance(op.options, ReduceOptions)
    shape = cube_shape(data)
    return replace(shape, **{side: 1 for axis in op.options.axes if (side := cube_side(data, axis)) is not None})
