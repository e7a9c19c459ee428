"""RESIZE_NEAREST_NEIGHBOR, RESIZE_BILINEAR, SPACE_TO_DEPTH and DEPTH_TO_SPACE by whole factors.

1. Nearest neighbours: by two and two as the vendor does, other factors by interleaving as many copies. A single pixel
   is copied, and its copies with it, until there are enough.
2. Bilinear: the output pixels of one phase (row mod factor, column mod factor) all have the same weights, as a
   depthwise convolution; at the border, where a neighbour is missing, one of its own. The phases are interleaved.
   With aligned corners the last row and column end the image, and what is behind them is left out.
3. SPACE_TO_DEPTH is a convolution with weights 0 and 1, depthwise for each place in the block where channels come in
   whole groups. DEPTH_TO_SPACE interleaves ranges of channels, which a selection moves to whole planes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import gcd

import numpy as np

from rocketnpu.compiler.constraints.data_movement import growth
from rocketnpu.compiler.constraints.table import operands
from rocketnpu.compiler.lower.grids import SIGN_FLIP, rounding_of, zero_point_of
from rocketnpu.compiler.lower.interleave import Image, interleave
from rocketnpu.compiler.lower.moves import identity, selection
from rocketnpu.compiler.npu_ops import (
    ATOM_CHANNELS,
    Alias,
    Convolution,
    CubeShape,
    Lowered,
    Move,
    Rounding,
    Upsample,
    Window,
    cube_shape,
)
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.hw import limits
from rocketnpu.hw.sizes import align
from rocketnpu.ir import BlockOptions, Graph, Operator, ResizeOptions


def lower_nearest(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """RESIZE_NEAREST_NEIGHBOR (rule 1)."""
    found = operands(graph, op)
    data, out, name, target = cube_shape(found.data), cube_shape(found.output), found.data.name, found.output.name
    rows, columns = out.height // data.height, out.width // data.width
    if data == out:
        yield Alias(name, target, out)
        return
    if data.pixels == 1:
        yield from _repeated(name, target, data, out)
        return
    step = 0
    while rows % 2 == columns % 2 == 0:
        rows, columns, step = rows // 2, columns // 2, step + 1
        result = target if rows == columns == 1 else f"{target}#{step}"
        twice = CubeShape(2 * data.height, 2 * data.width, data.channels)
        if 2 * twice.width > limits.MAX_CUBE:
            raise ConstraintError("the result of a resize by two is at most 4096 pixels wide")
        yield Upsample(name, result, data, twice)
        name, data = result, twice
    if (rows, columns) != (1, 1):
        images = dict.fromkeys(product(range(rows), range(columns)), Image(name, data))
        yield from interleave(images, target, data, rows, columns)


def lower_bilinear(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """RESIZE_BILINEAR (rule 2)."""
    found, options = operands(graph, op), op.options
    assert isinstance(options, ResizeOptions)
    data, out, target = cube_shape(found.data), cube_shape(found.output), found.output.name
    if data == out:
        yield Alias(found.data.name, target, out)
        return
    if data.pixels == 1:
        yield from _repeated(found.data.name, target, data, out)
        return
    rows, columns = growth(graph, op)
    assert rows is not None
    assert columns is not None
    blocks = CubeShape(data.height * rows, data.width * columns, data.channels)
    whole = target if blocks == out else f"{target}#blocks"
    # TFLite averages the stored numbers: uint8 ones are all positive.
    zero = -SIGN_FLIP if found.data.dtype == np.uint8 else 0
    images: dict[tuple[int, int], Image] = {}
    for row, column in product(range(rows), range(columns)):
        images[row, column] = Image(f"{target}#{row},{column}", data)
        bands = product(
            _bands(row, rows, data.height, centers=options.half_pixel_centers),
            _bands(column, columns, data.width, centers=options.half_pixel_centers),
        )
        for (y0, y1, top, vertical), (x0, x1, left, horizontal) in bands:
            conv = _weighted(found.data.name, images[row, column].name, data, vertical, horizontal, zero)
            yield replace(
                conv,
                origin_h=top,
                origin_w=left,
                window=Window(y0, y1, x0, x1),
                rounding=rounding_of(graph, Rounding.ONCE),
            )
    if rows == columns == 1:
        whole = images[0, 0].name
    else:
        yield from interleave(images, whole, data, rows, columns)
    if whole != target:
        yield identity(whole, target, blocks, out, zero_point=zero)


def _repeated(source: str, target: str, data: CubeShape, out: CubeShape) -> Iterator[Move]:
    """Every pixel of `out` is the only one of `data`: copies of all that is there so far, behind it."""
    copies = f"{target}#copies"
    spread = Move(
        first=source,
        second=None,
        output=copies,
        input_shape=data,
        output_shape=out,
        height=1,
        width=1,
        channels=out.channels,
        row_step=1,
    )
    yield spread
    made = 1
    while made < out.pixels:
        more = min(made, out.pixels - made)
        yield replace(spread, first=copies, input_shape=out, width=more, row_step=more, output_start=made)
        made += more
    whole = replace(spread, first=copies, output=target, input_shape=out, height=out.height, width=out.width)
    yield replace(whole, row_step=out.width)


def _bands(phase: int, factor: int, size: int, *, centers: bool) -> Iterator[tuple[int, int, int, list[int]]]:
    """Ranges of one phase's pixels along one side, the input pixel of the first weight relative to theirs, the weights.

    Weights are parts of 2 * factor. Where a neighbour lies outside, its weight goes to the pixel beside it.
    """
    right = 2 * phase + 1 - factor if centers else 2 * phase
    first = -1 if right < 0 else 0
    weights = [-right, 2 * factor + right] if right < 0 else [2 * factor - right, right]
    if weights[1] == 0:
        yield 0, size, 0, [1]
        return
    inner = (-first, size - 1 - first)
    if first < 0:
        yield 0, 1, 0, [1]
    if inner[0] < min(inner[1], size):
        yield inner[0], min(inner[1], size), first, weights
    if first == 0:
        yield size - 1, size, 0, [1]


def _weighted(
    source: str, target: str, data: CubeShape, vertical: list[int], horizontal: list[int], zero: int
) -> Convolution:
    """The average of neighbours with the products of these weights, as a depthwise convolution."""
    weights = np.outer(vertical, horizontal)
    weights //= gcd(*weights.reshape(-1).tolist())
    # Products of up to 64 phases are at most 225: counted from -128, they are int8.
    weight_zero = 0 if weights.max() <= np.iinfo(np.int8).max else -SIGN_FLIP
    kernel = np.broadcast_to((weights + weight_zero).astype(np.int8)[:, :, None], (data.channels, *weights.shape, 1))
    conv = identity(source, target, data, data, zero_point=zero)
    return replace(
        conv,
        weights=np.ascontiguousarray(kernel),
        weight_zero_points=np.full(data.channels, weight_zero, np.int64),
        gains=conv.gains / int(weights.sum()),
    )


def lower_space_to_depth(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """SPACE_TO_DEPTH (rule 3)."""
    assert isinstance(op.options, BlockOptions)
    found, size = operands(graph, op), op.options.size
    data, out = cube_shape(found.data), cube_shape(found.output)
    names, zero, channels = (found.data.name, found.output.name), zero_point_of(found.output), data.channels
    places = list(product(range(size), range(size)))
    if channels % limits.DEPTHWISE_GROUP == 0:
        part = CubeShape(out.height, out.width, channels)
        for index, place in enumerate(places):
            conv = identity(*names, data, part, zero_point=zero, origin=place, strides=(size, size))
            yield replace(conv, output_shape=out, first_output_channel=index * channels)
        return
    weights = np.zeros((out.channels, size, size, channels), np.int8)
    for index, (row, column) in enumerate(places):
        weights[index * channels : (index + 1) * channels, row, column] = np.eye(channels, dtype=np.int8)
    every = np.arange(out.channels) % channels
    conv = selection(*names, data, out, channels=every, zero_point=zero, strides=(size, size))
    yield replace(conv, weights=weights)


def lower_depth_to_space(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """DEPTH_TO_SPACE (rule 3)."""
    assert isinstance(op.options, BlockOptions)
    found, size = operands(graph, op), op.options.size
    data, out = cube_shape(found.data), cube_shape(found.output)
    name, target, pitch = found.data.name, found.output.name, out.channels
    if size == 1:
        yield Alias(name, target, out)
        return
    if op.options.channel_first or out.channels % ATOM_CHANNELS:
        pitch = align(out.channels, ATOM_CHANNELS)
        spread = CubeShape(data.height, data.width, size * size * pitch)
        place, lane = np.divmod(np.arange(spread.channels), pitch)
        channel = lane * size * size + place if op.options.channel_first else place * out.channels + lane
        channels = np.where(lane < out.channels, channel, -1)
        yield selection(name, f"{target}#planes", data, spread, channels=channels, zero_point=zero_point_of(found.data))
        name, data = f"{target}#planes", spread
    small = CubeShape(data.height, data.width, out.channels)
    images = {
        (row, column): Image(name, data, (row * size + column) * pitch // ATOM_CHANNELS * data.pixels)
        for row, column in product(range(size), range(size))
    }
    yield from interleave(images, target, small, size, size)
