"""ONNX's operators that move data, in TFLite's terms: Concat, Slice, Split, Pad, Resize, Transpose, blocks.

Their options count dimensions in the order of the tensors, which for images is NCHW. Positions must be constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from rocketnpu.frontends.onnx_call import Call, Translation, as_it_is
from rocketnpu.ir import (
    BlockOptions,
    ConcatOptions,
    PadOptions,
    ResizeOptions,
    SliceOptions,
    SplitOptions,
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
    """Borders of real zero or mirrored without their edge; the axes of opset 18 are left to ONNX Runtime."""
    rank, counts, value = len(call.data.shape), call.integers(1), call.operand(2)
    mode = call.text("mode", "constant")
    is_zero = value is None or (value.data is not None and value.quantization is None and not value.data.any())
    if counts is None or len(counts) != 2 * rank or call.operand(3) is not None or min(counts) < 0:
        return as_it_is(call)
    pads = tuple(zip(counts[:rank], counts[rank:], strict=True))
    if mode == "constant" and is_zero:
        return Translation("PAD", (call.data,), PadOptions(pads))
    if mode == "reflect":
        return Translation("MIRROR_PAD", (call.data,), PadOptions(pads, mirror=1))
    return as_it_is(call)


def _resize(call: Call) -> Translation:
    """Images made larger by whole factors, where ONNX's coordinates and roundings are among TFLite's.

    For such factors the nearest point is the same for half_pixel, and for asymmetric coordinates that are rounded down.
    """
    before, after = call.data.shape, call.output.shape
    if len(before) != 4 or 0 in before or before[:2] != after[:2] or after[2] % before[2] or after[3] % before[3]:
        return as_it_is(call)
    coordinates = call.text("coordinate_transformation_mode", "half_pixel")
    mode, nearest = call.text("mode", "nearest"), call.text("nearest_mode", "round_prefer_floor")
    half = coordinates in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel") and min(after[2:]) > 1
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


def _transpose(call: Call) -> Translation:
    rank = len(call.data.shape)
    permutation = tuple(call.attributes.get("perm", reversed(range(rank))))
    return Translation("TRANSPOSE", (call.data,), TransposeOptions(permutation))


def _depth_to_space(call: Call) -> Translation:
    if call.text("mode", "DCR") != "DCR":  # CRD has the block's place last in the channel, TFLite first
        return as_it_is(call)
    return Translation("DEPTH_TO_SPACE", (call.data,), BlockOptions(call.attributes["blocksize"]))


def _space_to_depth(call: Call) -> Translation:
    return Translation("SPACE_TO_DEPTH", (call.data,), BlockOptions(call.attributes["blocksize"]))


MOVES: Mapping[str, Callable[[Call], Translation]] = MappingProxyType(
    {
        "Concat": _concat,
        "DepthToSpace": _depth_to_space,
        "Pad": _pad,
        "Resize": _resize,
        "Slice": _slice,
        "SpaceToDepth": _space_to_depth,
        "Split": _split,
        "Transpose": _transpose,
    }
)
"""The operators of this file, by ONNX's names."""
