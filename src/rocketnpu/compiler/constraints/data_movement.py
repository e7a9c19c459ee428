"""What the NPU path asks of operators that move data: predicates as in constraints/."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints.tensors import operands
from rocketnpu.compiler.npu_ops import cube_shape, cube_side, device_order
from rocketnpu.ir import (
    Activation,
    ConcatOptions,
    GatherOptions,
    Graph,
    Operator,
    PadOptions,
    ResizeOptions,
    SliceOptions,
    Tensor,
    TransposeOptions,
)

MOST_PHASES = 64
"""Each phase of a bilinear resize is up to four convolutions and a copy; more are slower than the CPU."""
STEP_UNITS = 1 << 10
"""TFLite's ResizeBilinearInteger counts positions in 1024ths of a pixel."""


def has_no_activation(_graph: Graph, op: Operator) -> bool:
    """there is no fused activation"""
    return not isinstance(op.options, ConcatOptions) or op.options.activation is Activation.NONE


def keeps_channels(graph: Graph, op: Operator) -> bool:
    """the dimension of the channels is not dropped"""
    assert isinstance(op.options, SliceOptions)
    assert op.inputs[0] is not None
    data = graph.tensors[op.inputs[0]]
    return all(cube_side(data, axis) != "channels" for axis in op.options.dropped)


def chooses_channels(graph: Graph, op: Operator) -> bool:
    """the indices are constant and choose channels"""
    assert op.inputs[0] is not None
    options = op.options
    return isinstance(options, GatherOptions) and cube_side(graph.tensors[op.inputs[0]], options.axis) == "channels"


def keeps_channel_count(graph: Graph, op: Operator) -> bool:
    """no channels are added"""
    assert isinstance(op.options, PadOptions)
    output = graph.tensors[op.outputs[0]]
    return all(cube_side(output, axis) != "channels" or pair == (0, 0) for axis, pair in enumerate(op.options.pads))


def grows_by_whole_factors(graph: Graph, op: Operator) -> bool:
    """height and width grow by whole factors"""
    before, after = _sizes(graph, op)
    return all(large % small == 0 for small, large in zip(before, after, strict=True))


def repeats_pixels(graph: Graph, op: Operator) -> bool:
    """every pixel is repeated the same number of times (corners are not aligned)"""
    assert isinstance(op.options, ResizeOptions)
    sizes = zip(*_sizes(graph, op), strict=True)
    return all(
        np.array_equal(_nearest(small, large, op.options), np.arange(large) // (large // small))
        for small, large in sizes
    )


def interpolates_whole_steps(graph: Graph, op: Operator) -> bool:
    """height and width, or with aligned corners the distances between corners, grow by whole factors"""
    assert isinstance(op.options, ResizeOptions)
    return None not in growth(graph, op)


def has_few_phases(graph: Graph, op: Operator) -> bool:
    """at most 64 output pixels lie around an input pixel, or the input is a single one"""
    factors = [factor or 0 for factor in growth(graph, op)]
    return _sizes(graph, op)[0] == (1, 1) or math.prod(factors) <= MOST_PHASES


def steps_evenly(graph: Graph, op: Operator) -> bool:
    """factors of an int8 TFLite operator are powers of two (its reference rounds the step to 10 bits, and drifts)"""
    assert op.inputs[0] is not None
    several = _sizes(graph, op)[0] != (1, 1)
    rounds = several and graph.format == "tflite" and graph.tensors[op.inputs[0]].dtype == np.int8
    return not rounds or all(factor is None or STEP_UNITS % factor == 0 for factor in growth(graph, op))


def keeps_order(graph: Graph, op: Operator) -> bool:
    """on the device all elements keep their places, as from NCHW to NHWC"""
    assert isinstance(op.options, TransposeOptions)
    assert op.inputs[0] is not None
    data, output, axes = graph.tensors[op.inputs[0]], graph.tensors[op.outputs[0]], op.options.permutation
    before = [axis for axis in device_order(data) if data.shape[axis] != 1]
    after = [axes[axis] for axis in device_order(output) if output.shape[axis] != 1]
    return before == after and cube_shape(data).channels == cube_shape(output).channels


def has_constant_shape(graph: Graph, op: Operator) -> bool:
    """the new shape is a constant"""
    return all(graph.tensors[name].data is not None for name in op.inputs[1:] if name is not None)


def keeps_pixels(graph: Graph, op: Operator) -> bool:
    """the reshape keeps each pixel's channels together, so that no byte moves"""
    found = operands(graph, op)
    before, after = cube_shape(found.data), cube_shape(found.output)
    same_order = _before_channels(found.data) == _before_channels(found.output) or 1 in (before.pixels, before.channels)
    return before.channels == after.channels and same_order


def _before_channels(tensor: Tensor) -> int:
    """Elements of the dimensions in front of the channel's."""
    return math.prod(tensor.shape[: device_order(tensor)[-1]] if tensor.shape else ())


def growth(graph: Graph, op: Operator) -> tuple[int | None, int | None]:
    """By how much a resize makes the distance between rows, and columns, larger; None where it is no whole number."""
    aligned = isinstance(op.options, ResizeOptions) and op.options.align_corners
    rows, columns = zip(*_sizes(graph, op), strict=True)
    return _growth(*rows, aligned=aligned), _growth(*columns, aligned=aligned)


def _growth(small: int, large: int, *, aligned: bool) -> int | None:
    if aligned and small > 1:
        small, large = small - 1, large - 1
    return large // small if large and large % small == 0 else None


def _sizes(graph: Graph, op: Operator) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width before and after."""
    assert op.inputs[0] is not None
    before, after = cube_shape(graph.tensors[op.inputs[0]]), cube_shape(graph.tensors[op.outputs[0]])
    return (before.height, before.width), (after.height, after.width)


def _nearest(small: int, large: int, options: ResizeOptions) -> NDArray[np.int64]:
    """The input row of each output row, in TFLite's float32 arithmetic (its GetNearestNeighbor)."""
    aligned = options.align_corners and large > 1
    scale = np.float32(small - 1) / np.float32(large - 1) if aligned else np.float32(small) / np.float32(large)
    position = (np.arange(large).astype(np.float32) + np.float32(0.5 * options.half_pixel_centers)) * scale
    rounded = np.floor(position + np.float32(0.5)) if options.align_corners else np.floor(position)
    return np.minimum(rounded.astype(np.int64), small - 1)
