"""Batches: an operator on one image of several, and its form on all of them.

1. The images of a tensor lie one below the other in its cube. To an operator that treats every pixel alike, or works
   along width or channels, they are one tall image.
2. An operator that works along another dimension (the height, or the batch) is lowered for what lies at one index of
   all dimensions before that one. Its form is then repeated for every index.
3. Convolutions, copies and pools have tasks for each image, unless those of one tall image do the same; everything else
   is one task for all images.
4. An output one row high has no stride. If the image's height is taken for the stride, the windows of all images are
   those of one tall image: means over whole images, fully connected layers.
5. A slice or a pad along several of these dimensions is one along each of them, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TypeVar

import numpy as np

from rocketnpu.compiler.constraints.table import CONSTRAINTS, ELEMENTWISE, data_inputs, operands
from rocketnpu.compiler.npu_ops import (
    Alias,
    Convolution,
    CubeShape,
    Elementwise,
    Lookup,
    Lowered,
    Move,
    Part,
    Pool,
    Rescale,
    TableLoad,
    Upsample,
    WideSum,
)
from rocketnpu.compiler.npu_ops.cube import device_order
from rocketnpu.hw import limits
from rocketnpu.ir import (
    ConcatOptions,
    Graph,
    Operator,
    Options,
    PadOptions,
    ReduceOptions,
    SliceOptions,
    SplitOptions,
    Tensor,
)

_T = TypeVar("_T")

ON_IMAGES = frozenset(
    {
        "AVERAGE_POOL_2D",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "DEPTH_TO_SPACE",
        "MAX_POOL_2D",
        "MEAN",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SPACE_TO_DEPTH",
        "TRANSPOSE_CONV",
    }
)
"""Operators on images, whose first dimension is the batch."""

SMALLEST_IMAGE_RANK = 3
"""Batch, channels, and a width."""


@dataclass(frozen=True, eq=False)
class Images:
    """An operator on one of `count` images; of `graph`, only that operator's tensors have a meaning."""

    graph: Graph
    operator: Operator
    count: int = 1


def on_images(graph: Graph, op: Operator) -> Iterator[Images]:
    """An operator as it works on one image (rule 2), or as it is where rule 1 holds; in several steps for rule 5."""
    if not _has_form(graph, op) or _averages_a_batch(op):
        yield Images(graph, op)
    elif op.kind in ON_IMAGES or _takes_whole_images(graph, op) or _spreads_pixels(graph, op):
        yield _of_batch(graph, op)
    else:
        yield from _along_one_dimension(graph, op)


def _has_form(graph: Graph, op: Operator) -> bool:
    """Whether the operator is one that `check` knows, with options and shapes that have a meaning."""
    if op.opaque is not None or op.unsupported is not None or op.kind not in CONSTRAINTS:
        return False
    return all(tensor.has_static_shape and 0 not in tensor.shape for tensor in _data(graph, op))


def _data(graph: Graph, op: Operator) -> list[Tensor]:
    return [graph.tensors[name] for name in (*data_inputs(op), *op.outputs)]


def _averages_a_batch(op: Operator) -> bool:
    """Whether it is a mean over several images."""
    return isinstance(op.options, ReduceOptions) and 0 in op.options.axes


def _of_batch(graph: Graph, op: Operator) -> Images:
    """The operator on the first image of tensors that all have the same batch."""
    tensors = _data(graph, op)
    batches = {tensor.shape[:1] for tensor in tensors}
    if len(batches) != 1 or len(tensors[0].shape) < SMALLEST_IMAGE_RANK or tensors[0].shape[0] == 1:
        return Images(graph, op)
    shapes = {tensor.name: (1, *tensor.shape[1:]) for tensor in tensors}
    return Images(_with_shapes(graph, shapes), op, tensors[0].shape[0])


def _takes_whole_images(graph: Graph, op: Operator) -> bool:
    """Whether it is a fully connected layer with weights for every pixel of an image."""
    if op.kind != "FULLY_CONNECTED":
        return False
    found = operands(graph, op)
    depth = None if found.weights is None else found.weights.shape[1:]
    return found.data.layout == "NCHW" or found.data.shape[-1:] != depth


def _spreads_pixels(graph: Graph, op: Operator) -> bool:
    """Whether an element-wise operator reads a tensor with fewer pixels in each image than its result has."""
    if op.kind not in ELEMENTWISE:
        return False
    *data, output = (tensor for tensor in _data(graph, op) if tensor.data is None)
    return any(tensor.shape != output.shape for tensor in data)


def _dimensions(data: Tensor, options: Options) -> list[int]:
    """The dimensions of `data` along which an operator works."""
    match options:
        case ConcatOptions(axis) | SplitOptions(axis):
            return [axis]
        case SliceOptions(_, sizes, steps):
            return [axis for axis, size in enumerate(data.shape) if (sizes[axis], steps[axis]) != (size, 1)]
        case PadOptions(pads):
            return [axis for axis, pair in enumerate(pads) if pair != (0, 0)]
        case _:
            return []


def _outer(tensor: Tensor) -> tuple[int, ...]:
    """The dimensions that make up the height of a tensor's cube."""
    return device_order(tensor)[:-2]


def _rows_inside(tensor: Tensor, axis: int) -> int:
    """Rows of the cube in each element of an outer dimension."""
    return prod(tensor.shape[other] for other in _outer(tensor) if other > axis)


def _along_one_dimension(graph: Graph, op: Operator) -> Iterator[Images]:
    """An operator as steps, each along one of the dimensions of the height at most (rule 5)."""
    data = _data(graph, op)[0]
    worked = _dimensions(data, op.options)
    outer = [axis for axis in worked if axis in _outer(data)]
    width = device_order(data)[-2] if len(data.shape) > 1 else None
    several = bool(outer) and width in worked and _rows_inside(data, outer[-1]) > 1
    for axis in outer if several else outer[:-1]:
        graph, first, op = _apart(graph, op, axis)
        yield _of_height(graph, first, axis)
    yield _of_height(graph, op, None if several or not outer else outer[-1])


def _apart(graph: Graph, op: Operator, axis: int) -> tuple[Graph, Operator, Operator]:
    """What a slice or a pad does along one dimension, and then along the others; the graph has the tensor between."""
    data = _data(graph, op)[0]
    shape, rest = list(data.shape), op.options
    match op.options:
        case SliceOptions(begins, sizes, steps, dropped):
            shape[axis] = sizes[axis]
            zeros, ones = (0,) * len(shape), (1,) * len(shape)
            first = SliceOptions(_but(zeros, axis, begins[axis]), tuple(shape), _but(ones, axis, steps[axis]))
            rest = SliceOptions(_but(begins, axis, 0), sizes, _but(steps, axis, 1), dropped)
        case PadOptions(pads) as options:
            shape[axis] += sum(pads[axis])
            first = replace(options, pads=_but(((0, 0),) * len(shape), axis, pads[axis]))
            rest = replace(options, pads=_but(pads, axis, (0, 0)))
        case _:
            raise AssertionError(f"{op.kind} works along one dimension")
    between = replace(data, name=f"{op.name}#along {axis}", shape=tuple(shape))
    graph = replace(graph, tensors={**graph.tensors, between.name: between})
    return (
        graph,
        replace(op, outputs=(between.name,), options=first),
        replace(op, inputs=(between.name, *op.inputs[1:]), options=rest),
    )


def _but(values: tuple[_T, ...], axis: int, value: _T) -> tuple[_T, ...]:
    """The values, with another one at `axis`."""
    return (*values[:axis], value, *values[axis + 1 :])


def _of_height(graph: Graph, op: Operator, axis: int | None) -> Images:
    """An operator along a dimension of the height as one along the height of images of four dimensions.

    The dimensions between that one and the width are part of the images' width.
    """
    tensors = _data(graph, op)
    data, outer = tensors[0], _outer(tensors[0])
    if axis is None or any(tensor.layout != data.layout for tensor in tensors):
        return Images(graph, op)
    count = prod(data.shape[other] for other in outer if other < axis)
    if count == 1 and axis == outer[-1]:
        return Images(graph, op)
    view = _View(axis, _rows_inside(data, axis), data.layout == "NCHW")
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    if isinstance(op.options, SliceOptions):
        shapes[op.outputs[0]] = op.options.sizes  # without the dimensions that it drops
    shapes = {name: view.shape(shape) for name, shape in shapes.items()}
    return Images(_with_shapes(graph, shapes), replace(op, options=view.options(op.options, data.shape)), count)


@dataclass(frozen=True)
class _View:
    """Tensors as images of four dimensions, whose height is the dimension `axis`; `rows` rows of the tensor are one row
    of the image."""

    axis: int
    rows: int
    channels_first: bool

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one image."""
        if self.channels_first:
            return (1, shape[1], shape[self.axis], self.rows * shape[-1])
        return (1, shape[self.axis], self.rows * shape[-2], shape[-1])

    def options(self, options: Options, shape: tuple[int, ...]) -> Options:
        """The options of an operator that reads a tensor of this shape, for one image."""
        height = 2 if self.channels_first else 1
        match options:
            case ConcatOptions() | SplitOptions():
                return replace(options, axis=height)
            case SliceOptions(begins, sizes, steps, dropped):
                return SliceOptions(
                    self._ordered(0, begins),
                    self.shape(sizes),
                    self._ordered(1, steps),
                    self._dropped(shape, dropped),
                )
            case PadOptions(pads):
                return replace(options, pads=self._ordered((0, 0), pads))
            case _:
                return options

    def _dropped(self, shape: tuple[int, ...], dropped: tuple[int, ...]) -> tuple[int, ...]:
        channel, place = (1, 1) if self.channels_first else (len(shape) - 1, 3)
        return (place,) if channel in dropped else ()

    def _ordered(self, batch: _T, values: tuple[_T, ...]) -> tuple[_T, _T, _T, _T]:
        """What is given for each dimension of the tensor, for those of the image."""
        if self.channels_first:
            return (batch, values[1], values[self.axis], values[-1])
        return (batch, values[self.axis], values[-2], values[-1])


def _with_shapes(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    changed = {name: replace(graph.tensors[name], shape=shape) for name, shape in shapes.items()}
    return replace(graph, tensors={**graph.tensors, **changed})


def over_images(forms: Iterable[Lowered], count: int) -> Iterator[Lowered]:
    """The forms of one image on `count` of them (rules 3 and 4)."""
    for form in forms:
        yield form if count == 1 else _on_all(form, count)


def _on_all(form: Lowered, count: int) -> Lowered:
    match form:
        case Convolution():
            return _convolved(form, count)
        case Move():
            return _moved(form, count)
        case Pool():
            shapes = _tall(form.input_shape, count), _tall(form.output_shape, count)
            return replace(form, input_shape=shapes[0], output_shape=shapes[1], images=count)
        case Elementwise():
            constant = None if form.constant is None else np.tile(form.constant, (count, 1, 1))
            return replace(form, shape=_tall(form.shape, count), constant=constant)
        case Rescale() | Lookup() | Alias() | WideSum():
            return replace(form, output_shape=_tall(form.output_shape, count))
        case Upsample() | Part():
            shapes = _tall(form.input_shape, count), _tall(form.output_shape, count)
            return replace(form, input_shape=shapes[0], output_shape=shapes[1])
        case TableLoad():
            return form


def _tall(shape: CubeShape, count: int) -> CubeShape:
    return replace(shape, height=count * shape.height)


def _convolved(conv: Convolution, count: int) -> Convolution:
    height = conv.input_shape.height
    all_images = replace(
        conv, input_shape=_tall(conv.input_shape, count), output_shape=_tall(conv.output_shape, count), images=count
    )
    if conv.output_shape.height > 1 or height > limits.MAX_CONV_STRIDE:
        return all_images
    one_row = replace(all_images, stride_h=height)
    return all_images if one_row.joined() is one_row else one_row


def _moved(move: Move, count: int) -> Move:
    """A move; one of all images where the last row that it reads, and makes, is followed by the next image's first."""
    before, after = move.input_shape.pixels, move.output_shape.pixels
    starts = [(start // before, start % before) for start in (move.first_start, move.second_start)]
    plane, start = divmod(move.output_start, after)
    follows = move.height * move.width == before and move.height * move.row_step == after
    return replace(
        move,
        input_shape=_tall(move.input_shape, count),
        output_shape=_tall(move.output_shape, count),
        height=move.height * count if follows else move.height,
        first_start=starts[0][0] * before * count + starts[0][1],
        second_start=starts[1][0] * before * count + starts[1][1],
        output_start=plane * after * count + start,
        images=1 if follows else count,
    )
