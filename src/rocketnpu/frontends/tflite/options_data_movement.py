"""Options of TFLite's operators that move data: CONCATENATION, SPLIT, slices, pads, resizes, blocks, TRANSPOSE.

Shapes and positions that an operand gives must be constants. An instance whose output has another shape in the file
than its operands make is left to LiteRT, which ignores the file's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rocketnpu.frontends.tflite.flatbuffer import schema
from rocketnpu.frontends.tflite.operator import Context, Kind, Result
from rocketnpu.ir import (
    BlockOptions,
    ConcatOptions,
    GatherOptions,
    Options,
    PadOptions,
    ResizeOptions,
    SliceOptions,
    SplitOptions,
    TransposeConvOptions,
    TransposeOptions,
)

MANY = 1 << 16
"""More operands or results than any operator has."""

_NOT_CONSTANT = "an operand that says where data goes is not a constant vector of integers"


def _concatenation(context: Context) -> Result:
    shapes = [context.operand(index).shape for index in range(len(context.inputs))]
    axis = _axis(0 if context.table is None else context.table.Axis(), len(shapes[0]))
    if axis is None:
        return None, "its axis is not a dimension of its input"
    if any(len(shape) != len(shapes[0]) for shape in shapes):
        return None, "its inputs differ in rank"
    total = list(shapes[0])
    total[axis] = sum(shape[axis] for shape in shapes)
    fits = all(_without(shape, axis) == _without(total, axis) for shape in shapes)
    options = ConcatOptions(axis) if context.table is None else ConcatOptions(axis, context.activation())
    return _checked(context, options, total if fits else None)


def _split(context: Context) -> Result:
    axes, shape = _vector(context, 0), context.operand(1).shape
    if axes is None or len(axes) != 1:
        return None, _NOT_CONSTANT
    axis, parts = _axis(axes[0], len(shape)), len(context.outputs)
    if axis is None or shape[axis] % parts:
        return None, "its axis is not a dimension that its outputs share evenly"
    return _parts(context, axis, [shape[axis] // parts] * parts, shape)


def _split_v(context: Context) -> Result:
    sizes, axes, shape = _vector(context, 1), _vector(context, 2), context.operand(0).shape
    if sizes is None or axes is None or len(axes) != 1:
        return None, _NOT_CONSTANT
    axis = _axis(axes[0], len(shape))
    if axis is None or len(sizes) != len(context.outputs):
        return None, "its axis is not a dimension of its input, or its sizes are not those of its outputs"
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = shape[axis] - sum(sizes) - 1
    if min(sizes) < 0 or sum(sizes) != shape[axis]:
        return None, "its sizes do not add up to that of its input"
    return _parts(context, axis, sizes, shape)


def _parts(context: Context, axis: int, sizes: list[int], shape: tuple[int, ...]) -> Result:
    stated = [output.shape for output in context.outputs]
    made = [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]
    return SplitOptions(axis, tuple(sizes)), None if made == stated else _OTHER_SHAPE


def _slice(context: Context) -> Result:
    shape, begins, sizes = context.operand(0).shape, _vector(context, 1), _vector(context, 2)
    if begins is None or sizes is None:
        return None, _NOT_CONSTANT
    if not len(begins) == len(sizes) == len(shape):
        return None, "its begin and size do not have its input's rank"
    whole = [room - begin if size == -1 else size for room, begin, size in zip(shape, begins, sizes, strict=True)]
    if any(begin < 0 or begin + size > room for begin, size, room in zip(begins, whole, shape, strict=True)):
        return None, "it reaches beyond its input"
    return _checked(context, SliceOptions(tuple(begins), tuple(whole), (1,) * len(shape)), whole)


def _strided_slice(context: Context) -> Result:
    """Masks as TFLite's StridedSlice: a set bit of begin or end means all there is, of shrink one element."""
    shape, table = context.operand(0).shape, context.table
    vectors = [_vector(context, index) for index in (1, 2, 3)]
    begin, end, step = vectors
    if begin is None or end is None or step is None:
        return None, _NOT_CONSTANT
    if table.EllipsisMask() or table.NewAxisMask() or table.Offset():
        return None, "it has an ellipsis, a new dimension or ends that count from its begins"
    if not len(begin) == len(end) == len(step) <= len(shape):
        return None, "its begin, end and strides do not fit its input's rank"
    if any(stride < 1 for stride in step):
        return None, "it has a stride that is not positive"
    begins, sizes, steps, dropped = list[int](), list[int](), list[int](), list[int]()
    for axis, room in enumerate(shape):
        given, bit = axis < len(begin), 1 << axis
        stride = step[axis] if given else 1
        first = 0 if not given or table.BeginMask() & bit else _inside(begin[axis], room)
        last = room if not given or table.EndMask() & bit else _inside(end[axis], room)
        if given and table.ShrinkAxisMask() & bit:
            first, stride = begin[axis] + (room if begin[axis] < 0 else 0), 1
            last = first + 1
            dropped.append(axis)
        if not 0 <= first < last <= room:
            return None, "it reaches beyond its input, or is empty"
        begins.append(first)
        sizes.append(-(-(last - first) // stride))
        steps.append(stride)
    made = [size for axis, size in enumerate(sizes) if axis not in dropped]
    return _checked(context, SliceOptions(tuple(begins), tuple(sizes), tuple(steps), tuple(dropped)), made)


def _gather(context: Context) -> Result:
    """Constant indices in one vector. LiteRT counts them from the start only."""
    shape, indices = context.operand(0).shape, _vector(context, 1)
    axis = _axis(0 if context.table is None else context.table.Axis(), len(shape))
    if indices is None or len(context.operand(1).shape) != 1:
        return None, _NOT_CONSTANT
    if axis is None or (context.table is not None and context.table.BatchDims()):
        return None, "it gathers along batch dimensions"
    if any(not 0 <= index < shape[axis] for index in indices):
        return None, f"an index lies outside of the {shape[axis]} elements along its axis"
    made = (*shape[:axis], len(indices), *shape[axis + 1 :])
    return _checked(context, GatherOptions(axis, tuple(indices)), made)


def _pad(context: Context) -> Result:
    value = None
    if len(context.inputs) > 2:
        values = _vector(context, 2, any_integer=True)
        if values is None or len(values) != 1:
            return None, "what it pads with is not one constant"
        value = values[0]
    return _padded(context, value, None)


def _mirror_pad(context: Context) -> Result:
    reflects = context.table.Mode() == schema.MirrorPadMode.REFLECT
    return _padded(context, None, 1 if reflects else 0)


def _padded(context: Context, value: int | None, mirror: int | None) -> Result:
    shape, table = context.operand(0).shape, context.operand(1)
    flat = _vector(context, 1)
    if flat is None or table.shape != (len(shape), 2) or any(size < 0 for size in flat):
        return None, _NOT_CONSTANT
    pads = tuple(zip(flat[::2], flat[1::2], strict=True))
    if mirror is not None and any(max(pair) > room - mirror for pair, room in zip(pads, shape, strict=True)):
        return None, "it mirrors more than its input has"
    made = [before + room + after for (before, after), room in zip(pads, shape, strict=True)]
    return _checked(context, PadOptions(pads, value, mirror), made)


def _resize(context: Context) -> Result:
    shape, size = context.operand(0).shape, _vector(context, 1)
    if size is None or len(size) != 2 or len(shape) != 4:
        return None, _NOT_CONSTANT
    options = ResizeOptions(bool(context.table.AlignCorners()), bool(context.table.HalfPixelCenters()))
    return _checked(context, options, [shape[0], *size, shape[3]])


def _space_to_depth(context: Context) -> Result:
    shape, block = context.operand(0).shape, context.positive("BlockSize")
    fits = len(shape) == 4 and not shape[1] % block and not shape[2] % block
    made = [shape[0], shape[1] // block, shape[2] // block, shape[3] * block * block] if fits else None
    return _checked(context, BlockOptions(block), made)


def _depth_to_space(context: Context) -> Result:
    shape, block = context.operand(0).shape, context.positive("BlockSize")
    fits = len(shape) == 4 and not shape[3] % (block * block)
    made = [shape[0], shape[1] * block, shape[2] * block, shape[3] // (block * block)] if fits else None
    return _checked(context, BlockOptions(block), made)


def _transpose(context: Context) -> Result:
    shape, permutation = context.operand(0).shape, _vector(context, 1)
    if permutation is None:
        return None, _NOT_CONSTANT
    axes = [axis + len(shape) if axis < 0 else axis for axis in permutation]
    if sorted(axes) != list(range(len(shape))):
        return None, "its permutation does not fit its input's rank"
    return _checked(context, TransposeOptions(tuple(axes)), [shape[axis] for axis in axes])


def _squeeze(context: Context) -> Result:
    shape = context.operand(0).shape
    listed: list[int] = [] if context.table is None else context.reader.numbers(context.table, "SqueezeDims").tolist()
    axes = [_axis(axis, len(shape)) for axis in listed] or [axis for axis, size in enumerate(shape) if size == 1]
    if any(axis is None or shape[axis] != 1 for axis in axes):
        return None, "it squeezes a dimension that is not 1"
    return _checked(context, None, [size for axis, size in enumerate(shape) if axis not in axes])


def _expand_dims(context: Context) -> Result:
    shape, axes = context.operand(0).shape, _vector(context, 1)
    if axes is None or len(axes) != 1:
        return None, _NOT_CONSTANT
    axis = _axis(axes[0], len(shape) + 1)
    if axis is None:
        return None, "its axis is not a dimension of its output"
    return _checked(context, None, [*shape[:axis], 1, *shape[axis:]])


def _transpose_conv(context: Context) -> Result:
    size = _vector(context, 0)
    if size is None:
        return None, _NOT_CONSTANT
    options = TransposeConvOptions(
        padding=context.padding(),
        stride_h=context.positive("StrideH"),
        stride_w=context.positive("StrideW"),
        activation=context.activation(),
    )
    return _checked(context, options, size)


_OTHER_SHAPE = "the file states another shape for its output than its operands make"


def _checked(context: Context, options: Options, made: Sequence[int] | None) -> Result:
    """The options, if the operands make an output of the stated shape; `made` None: they do not fit together."""
    return options, None if made is not None and tuple(made) == context.outputs[0].shape else _OTHER_SHAPE


def _vector(context: Context, index: int, *, any_integer: bool = False) -> list[int] | None:
    """A constant operand's values; None if it is not constant, or not of an index type where it must be."""
    operand = context.operand(index)
    types = (np.int8, np.uint8, np.int32, np.int64) if any_integer else (np.int32, np.int64)
    if operand.data is None or operand.dtype not in types:
        return None
    context.reader.spend(operand.data.nbytes)
    values: list[int] = operand.data.reshape(-1).tolist()
    return values


def _axis(axis: int, rank: int) -> int | None:
    return axis % rank if -rank <= axis < rank else None


def _without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _inside(position: int, room: int) -> int:
    return min(max(position + room if position < 0 else position, 0), room)


MOVES: Mapping[str, Kind] = {
    "CONCATENATION": Kind("ConcatenationOptions", range(1, MANY), _concatenation, required=False),
    "SPLIT": Kind("SplitOptions", range(2, 3), _split, required=False, outputs=range(1, MANY)),
    "SPLIT_V": Kind("SplitVOptions", range(3, 4), _split_v, required=False, outputs=range(1, MANY)),
    "SLICE": Kind("SliceOptions", range(3, 4), _slice, required=False),
    "STRIDED_SLICE": Kind("StridedSliceOptions", range(4, 5), _strided_slice),
    "GATHER": Kind("GatherOptions", range(2, 3), _gather, required=False),
    "PAD": Kind("PadOptions", range(2, 3), _pad, required=False),
    "PADV2": Kind("PadV2Options", range(3, 4), _pad, required=False),
    "MIRROR_PAD": Kind("MirrorPadOptions", range(2, 3), _mirror_pad),
    "RESIZE_NEAREST_NEIGHBOR": Kind("ResizeNearestNeighborOptions", range(2, 3), _resize),
    "RESIZE_BILINEAR": Kind("ResizeBilinearOptions", range(2, 3), _resize),
    "SPACE_TO_DEPTH": Kind("SpaceToDepthOptions", range(1, 2), _space_to_depth),
    "DEPTH_TO_SPACE": Kind("DepthToSpaceOptions", range(1, 2), _depth_to_space),
    "TRANSPOSE": Kind("TransposeOptions", range(2, 3), _transpose, required=False),
    "SQUEEZE": Kind("SqueezeOptions", range(1, 2), _squeeze, required=False),
    "EXPAND_DIMS": Kind("ExpandDimsOptions", range(2, 3), _expand_dims, required=False),
    "TRANSPOSE_CONV": Kind("TransposeConvOptions", range(3, 5), _transpose_conv),
}
"""The operators of this file, by TFLite's names."""
