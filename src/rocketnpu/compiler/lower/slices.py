"""SPLIT, SPLIT_V, SLICE, STRIDED_SLICE, GATHER, PAD, PADV2, MIRROR_PAD: a part of a tensor, or more than it.

1. A range of channels that starts with a plane is an alias: planes lie one after the other.
2. A range of rows is a copy, since rows are consecutive pixels.
3. Anything else is a convolution that moves values: depthwise where channels keep their lane, else one that selects.
   Padding is what it reads outside its input, the input's zero point there being the value to pad with.
4. A mirrored border is a column, or row, of the image for each of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from rocketnpu.compiler.constraints.table import operands
from rocketnpu.compiler.lower.grids import SIGN_FLIP, zero_point_of
from rocketnpu.compiler.lower.moves import identity, selection
from rocketnpu.compiler.lower.padding import pad_in_steps
from rocketnpu.compiler.npu_ops import (
    ATOM_CHANNELS,
    Alias,
    CubeShape,
    Lowered,
    Move,
    Side,
    Window,
    cube_shape,
    cube_side,
)
from rocketnpu.hw import limits
from rocketnpu.ir import GatherOptions, Graph, Operator, PadOptions, SliceOptions, SplitOptions, Tensor


@dataclass(frozen=True)
class _Range:
    """Elements along one side: the first, how many, and the step."""

    begin: int
    size: int
    step: int = 1


def lower_split(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """SPLIT, SPLIT_V."""
    assert isinstance(op.options, SplitOptions)
    data = operands(graph, op).data
    side = cube_side(data, op.options.axis)
    assert side is not None
    begin = 0
    for name, size in zip(op.outputs, op.options.sizes, strict=True):
        yield _slice(data, name, {side: _Range(begin, size)})
        begin += size


def lower_slice(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """SLICE, STRIDED_SLICE."""
    assert isinstance(op.options, SliceOptions)
    found, options = operands(graph, op), op.options
    ranges: dict[Side, _Range] = {}
    for axis, (begin, size, step) in enumerate(zip(options.begins, options.sizes, options.steps, strict=True)):
        side = cube_side(found.data, axis)
        if side is not None:
            ranges[side] = _Range(begin, size, step)
    yield _slice(found.data, found.output.name, ranges)


def _slice(tensor: Tensor, target: str, ranges: dict[Side, _Range]) -> Lowered:
    """Rules 1 to 3; sides without a range are taken whole."""
    data = cube_shape(tensor)
    rows = ranges.get("height", _Range(0, data.height))
    columns = ranges.get("width", _Range(0, data.width))
    channels = ranges.get("channels", _Range(0, data.channels))
    out = CubeShape(rows.size, columns.size, channels.size)
    keeps_lanes = channels.begin % ATOM_CHANNELS == 0 and (channels.step == 1 or channels.size == 1)
    if keeps_lanes and columns.size == data.width:
        first_plane = channels.begin // ATOM_CHANNELS
        if rows.size == data.height:
            return Alias(tensor.name, target, out, first_plane)
        if rows.step == 1:
            start = first_plane * data.pixels + rows.begin * data.width
            return _rows(tensor.name, target, data, out, start, 0, out.height)
    zero, origin, strides = zero_point_of(tensor), (rows.begin, columns.begin), (rows.step, columns.step)
    if keeps_lanes:
        return identity(
            tensor.name,
            target,
            data,
            out,
            zero_point=zero,
            origin=origin,
            strides=strides,
            first_channel=channels.begin,
        )
    chosen = channels.begin + channels.step * np.arange(channels.size)
    return selection(tensor.name, target, data, out, channels=chosen, zero_point=zero, origin=origin, strides=strides)


def lower_gather(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """GATHER of channels (rule 3)."""
    assert isinstance(op.options, GatherOptions)
    found = operands(graph, op)
    shapes = cube_shape(found.data), cube_shape(found.output)
    chosen, zero = np.array(op.options.indices), zero_point_of(found.data)
    yield selection(found.data.name, found.output.name, *shapes, channels=chosen, zero_point=zero)


def lower_pad(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """PAD, PADV2 (rule 3) and MIRROR_PAD (rule 4)."""
    assert isinstance(op.options, PadOptions)
    found, options = operands(graph, op), op.options
    data, out = cube_shape(found.data), cube_shape(found.output)
    sides = {cube_side(found.output, axis): pair for axis, pair in enumerate(options.pads)}
    (top, bottom), (left, right), (before, _) = (sides.get(side, (0, 0)) for side in ("height", "width", "channels"))
    zero = zero_point_of(found.output)
    source, target = found.data.name, found.output.name
    if options.mirror is not None:
        yield from _mirrored(source, target, data, (top, bottom, left, right), options.mirror, zero)
        return
    if options.value is not None:
        zero = options.value - (SIGN_FLIP if found.output.dtype == np.uint8 else 0)
    if data.channels == out.channels:
        yield from pad_in_steps(source, target, data, out, (top, left), zero)
        return
    if max(top, left) > limits.MAX_CONV_PAD:
        larger = CubeShape(out.height, out.width, data.channels)
        yield from pad_in_steps(source, f"{target}#rows", data, larger, (top, left), zero)
        source, data, top, left = f"{target}#rows", larger, 0, 0
    channels = np.arange(out.channels) - before
    channels[channels >= data.channels] = -1
    yield selection(source, target, data, out, channels=channels, zero_point=zero, origin=(-top, -left))


def _mirrored(
    source: str, target: str, data: CubeShape, pads: tuple[int, int, int, int], edge: int, zero: int
) -> Iterator[Lowered]:
    """Rule 4: first columns, then rows; `edge` is 1 where the outermost element is not repeated."""
    top, bottom, left, right = pads
    wide = CubeShape(data.height, left + data.width + right, data.channels)
    out = CubeShape(top + data.height + bottom, wide.width, data.channels)
    between = f"{target}#columns" if left + right else source
    if left + right:
        middle = identity(source, between, data, wide, zero_point=zero, origin=(0, -left))
        yield replace(middle, window=Window(0, data.height, left, left + data.width))
        for x in (*range(left), *range(left + data.width, wide.width)):
            column = identity(
                source, between, data, wide, zero_point=zero, origin=(0, _mirror(x - left, data.width, edge) - x)
            )
            yield replace(column, window=Window(0, data.height, x, x + 1))
    yield _rows(between, target, wide, out, 0, top * out.width, data.height)
    for y in (*range(top), *range(top + data.height, out.height)):
        start = _mirror(y - top, data.height, edge) * out.width
        yield _rows(between, target, wide, out, start, y * out.width, 1)


def _mirror(position: int, size: int, edge: int) -> int:
    """The place inside 0..size-1 that a place outside mirrors."""
    return -position - 1 + edge if position < 0 else 2 * size - 1 - edge - position


def _rows(
    source: str, target: str, data: CubeShape, out: CubeShape, first_start: int, output_start: int, rows: int
) -> Move:
    """Whole rows, as wide on both sides."""
    return Move(
        first=source,
        second=None,
        output=target,
        input_shape=data,
        output_shape=out,
        height=rows,
        width=out.width,
        channels=out.channels,
        row_step=out.width,
        first_start=first_start,
        output_start=output_start,
    )
