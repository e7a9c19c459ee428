"""ONNX's operators that move data, in TFLite's terms: Concat, Slice, Split, Pad, Resize, Transpose, blocks.

Their options count dimensions in the order of the tensors, which for images is NCHW. Positions must be constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from rocketnpu.frontends.onnx.call import Call, Translation, as_it_is
from rocketnpu.frontends.onnx.layers import dequantized
from rocketnpu.ir import (
    BlockOptions,
    ConcatOptions,
    GatherOptions,
    PadOptions,
    ResizeOptions,
    SliceOptions,
    SplitOptions,
    Tensor,
    TransposeOptions,
)


def _concat(call: Call) -> Translation:
    rank: int = len(call.output.shape)
    axis: int = call.attributes["axis"]
    return Translation("CONCATENATION", call.operands, ConcatOptions(axis % rank))


def _slice(call: Call) -> Translation:
    """Starts and ends beyond the data mean its ends; a negative one counts from there (ONNX, operator Slice)."""
    shape = call.data.shape
    starts, ends = call.integers(1), call.integers(2)
    if starts is None or ends is None:
        return as_it_is(call)
    axes = call.integers(3) or list(range(len(starts)))
    steps = call.integers(4) or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or min(steps, default=1) < 1:
        return as_it_is(call)
    begins, sizes, strides = [0] * len(shape), list(shape), [1] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        room = shape[axis]
        first, last = (min(max(place + room if place < 0 else place, 0), room) for place in (start, end))
        begins[axis], sizes[axis], strides[axis] = first, max(0, -(-(last - first) // step)), step
    if tuple(sizes) != call.output.shape or 0 in sizes:
        return as_it_is(call)
    return Translation("STRIDED_SLICE", (call.data,), SliceOptions(tuple(begins), tuple(sizes), tuple(strides)))


def _split(call: Call) -> Translation:
    """With the data as its only operand: the sizes are those of the results."""
    given: int = call.attributes.get("axis", 0)
    axis = given % len(call.data.shape)
    sizes = tuple(output.shape[axis] for output in call.outputs)
    return Translation("SPLIT_V", (call.data,), SplitOptions(axis, sizes))


def _pad(call: Call) -> Translation:
    """Borders of one value, mirrored without their edge, or of one copy of it, which is mirrored with its edge."""
    pads, value = _pads(call), call.operand(2)
    mode = call.text("mode", "constant")
    if pads is None:
        return as_it_is(call)
    if mode == "constant" and value is None:
        return Translation("PAD", (call.data,), PadOptions(pads))
    if mode == "constant":
        stored = _on_grid(call, value)
        return as_it_is(call) if stored is None else Translation("PADV2", (call.data,), PadOptions(pads, stored))
    if mode == "reflect":
        return Translation("MIRROR_PAD", (call.data,), PadOptions(pads, mirror=1))
    if mode == "edge" and max(max(pair) for pair in pads) <= 1:
        return Translation("MIRROR_PAD", (call.data,), PadOptions(pads, mirror=0))
    return as_it_is(call)


def _pads(call: Call) -> tuple[tuple[int, int], ...] | None:
    """How much is added before and after, for each dimension; None when it is not constant, or something is cut off."""
    rank, counts = len(call.data.shape), call.integers(1)
    axes = list(range(rank)) if call.operand(3) is None else call.integers(3)
    if counts is None or axes is None or len(counts) != 2 * len(axes) or min(counts, default=0) < 0:
        return None
    if any(not -rank <= axis < rank for axis in axes) or len({axis % rank for axis in axes}) != len(axes):
        return None
    pads = [(0, 0)] * rank
    for axis, pair in zip(axes, zip(counts[: len(axes)], counts[len(axes) :], strict=True), strict=True):
        pads[axis] = pair
    return tuple(pads)


def _on_grid(call: Call, value: Tensor | None) -> int | None:
    """A constant number as the output stores it; None when it is computed, or no number."""
    grid = call.output.quantization
    if value is None or value.data is None or value.data.size != 1 or grid is None:
        return None
    real = float(dequantized(value).reshape(()))
    if math.isnan(real):
        return None
    limits = np.iinfo(call.output.dtype.str)
    low, high = (grid.scales[0] * (bound - grid.zero_points[0]) for bound in (limits.min, limits.max))
    return round(min(max(real, low), high) / grid.scales[0]) + int(grid.zero_points[0])


def _resize(call: Call) -> Translation:
    """Images made larger by whole factors, where ONNX's coordinates and roundings are among TFLite's.

    For such factors the nearest point is the same for half_pixel, and for asymmetric coordinates that are rounded down.
    """
    before, after = call.data.shape, call.output.shape
    if len(before) != 4 or 0 in before or before[:2] != after[:2] or after[2] % before[2] or after[3] % before[3]:
        return as_it_is(call)
    if not _scales_are_sizes(call):
        return as_it_is(call)
    coordinates = call.text("coordinate_transformation_mode", "half_pixel")
    mode, nearest = call.text("mode", "nearest"), call.text("nearest_mode", "round_prefer_floor")
    half = coordinates in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel")
    if mode == "nearest" and (
        (half and nearest.startswith("round")) or (coordinates == "asymmetric" and nearest == "floor")
    ):
        return Translation("RESIZE_NEAREST_NEIGHBOR", (call.data,), ResizeOptions(False, half))
    if mode == "linear" and not call.attributes.get("antialias", 0):
        if half or coordinates == "asymmetric":
            return Translation("RESIZE_BILINEAR", (call.data,), ResizeOptions(False, half))
        if coordinates == "align_corners":
            return Translation("RESIZE_BILINEAR", (call.data,), ResizeOptions(True, False))
    return as_it_is(call)


def _scales_are_sizes(call: Call) -> bool:
    """Whether an image grows by just the factors that its sizes tell; factors that the file gives may differ a bit."""
    scales = call.operand(2)
    if scales is None or scales.shape == (0,):
        return call.integers(3) is not None
    if scales.data is None or scales.dtype.kind != "f":
        return False
    axes: list[int] = [axis % 4 for axis in call.attributes.get("axes", range(4))]
    given: list[float] = scales.data.reshape(-1).tolist()
    if len(given) != len(axes):
        return False
    return all(
        call.data.shape[axis] * factor == call.output.shape[axis] for axis, factor in zip(axes, given, strict=True)
    )


def _gather(call: Call) -> Translation:
    """A range of one dimension, in steps that go on, or any choice."""
    places, given = call.integers(1), call.attributes.get("axis", 0)
    axis: int = given % len(call.data.shape)
    indices = call.operand(1)
    if places is None or indices is None or len(indices.shape) != 1 or not places:
        return as_it_is(call)
    room = call.data.shape[axis]
    places = [place + room if place < 0 else place for place in places]
    step = places[1] - places[0] if len(places) > 1 else 1
    last = places[0] + step * len(places)
    if min(places) < 0 or max(places) >= room:
        return as_it_is(call)
    if step < 1 or places != list(range(places[0], last, step)):
        return Translation("GATHER", (call.data,), GatherOptions(axis, tuple(places)))
    begins, sizes, steps = [0] * len(call.data.shape), list(call.data.shape), [1] * len(call.data.shape)
    begins[axis], sizes[axis], steps[axis] = places[0], len(places), step
    return Translation("STRIDED_SLICE", (call.data,), SliceOptions(tuple(begins), tuple(sizes), tuple(steps)))


def _transpose(call: Call) -> Translation:
    rank = len(call.data.shape)
    permutation = tuple(call.attributes.get("perm", reversed(range(rank))))
    return Translation("TRANSPOSE", (call.data,), TransposeOptions(permutation))


def _depth_to_space(call: Call) -> Translation:
    channel_first = call.text("mode", "DCR") == "CRD"
    return Translation("DEPTH_TO_SPACE", (call.data,), BlockOptions(call.attributes["blocksize"], channel_first))


def _space_to_depth(call: Call) -> Translation:
    return Translation("SPACE_TO_DEPTH", (call.data,), BlockOptions(call.attributes["blocksize"]))


MOVES: Mapping[str, Callable[[Call], Translation]] = MappingProxyType(
    {
        "Concat": _concat,
        "DepthToSpace": _depth_to_space,
        "Gather": _gather,
        "Pad": _pad,
        "Resize": _resize,
        "Slice": _slice,
        "SpaceToDepth": _space_to_depth,
        "Split": _split,
        "Transpose": _transpose,
    }
)
"""The operators of this file, by ONNX's names."""
