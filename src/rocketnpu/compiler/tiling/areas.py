"""Cutting DPU-only work into tasks whose sizes fit the chip's fields (hardware/README.md, Constants).

A cube's bytes lie in planes of 16 channels, and the pixels of a plane one after the other. Rows mean nothing to a task
that treats every pixel alike: it may take any rectangle of pixels that follow one another.

1. Sizes that fit are one task.
2. Pixels that do not fit as rows of the tensor's width are one task with rows of another width, if their number has
   such a factor; else a rectangle and what is left over.
3. More channels than the field holds are one task if it has whole planes: these follow one another like pixels do.
   Otherwise they are cut.
4. A copy to rows that do not follow one another keeps its rows. Where its rows are too wide, or too far apart, each row
   is a task.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, product
from math import isqrt

from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, CubeShape, Move
from rocketnpu.hw import limits
from rocketnpu.hw.sizes import align


@dataclass(frozen=True)
class Area:
    """`height` rows of `width` pixels that follow one another from pixel `start` on, which counts through all planes,
    and `channels` channels of each."""

    start: int
    height: int
    width: int
    channels: int


def rows_and_columns(pixels: int, widest: int = limits.MAX_CUBE) -> tuple[int, int] | None:
    """Rows, and columns up to `widest`, of a rectangle of so many pixels: the one nearest to a square; None if there
    is none (rule 2)."""
    for small in range(isqrt(pixels), 0, -1):
        large = pixels // small
        if small * large != pixels or small > widest:
            continue
        if large <= widest:
            return small, large
        return (large, small) if large <= limits.MAX_CUBE else None
    return None


def in_legal_rows(shape: CubeShape, widest: int = limits.MAX_CUBE) -> CubeShape:
    """The shape, or one of as many pixels whose rows fit the fields; the same shape where there is none (rule 2)."""
    if shape.width <= widest and shape.height <= limits.MAX_CUBE:
        return shape
    found = rows_and_columns(shape.pixels, widest)
    return shape if found is None else CubeShape(*found, shape.channels)


def areas(
    shape: CubeShape,
    rows: tuple[int, int],
    channels: tuple[int, int],
    widest: int = limits.MAX_CUBE,
    lane_bytes: int = 1,
) -> Iterator[Area]:
    """The tasks of half-open ranges of a cube's rows and channels (rules 1 to 3); the first channel starts a plane.

    Channels are bytes, `lane_bytes` of which are one of the chip's.
    """
    deepest = limits.MAX_CUBE * lane_bytes
    count, height = align(channels[1] - channels[0], ATOM_CHANNELS), rows[1] - rows[0]
    start = channels[0] // ATOM_CHANNELS * shape.pixels + rows[0] * shape.width
    if count > deepest and lane_bytes == 1 and height == shape.height:
        planes = count // ATOM_CHANNELS
        for first, part_height, part_width in _rectangles(1, planes * shape.pixels, widest):
            yield Area(start + first, part_height, part_width, ATOM_CHANNELS)
        return
    rectangles = list(_rectangles(height, shape.width, widest))
    for channel, (first, part_height, part_width) in product(range(0, count, deepest), rectangles):
        plane = channel // ATOM_CHANNELS * shape.pixels
        yield Area(start + plane + first, part_height, part_width, min(deepest, count - channel))


def legal_moves(move: Move) -> Iterator[Move]:
    """The tasks of a copy, or of the larger of two (rules 1, 2 and 4)."""
    if move.channels > limits.MAX_CUBE:
        for channel in range(0, move.channels, limits.MAX_CUBE):
            plane = channel // ATOM_CHANNELS
            part = move.further(plane * move.input_shape.pixels, plane * move.output_shape.pixels)
            yield from legal_moves(replace(part, channels=min(limits.MAX_CUBE, move.channels - channel)))
        return
    if move.height == 1 and abs(move.row_step - move.width) > limits.MAX_NOTCH:
        move = replace(move, row_step=move.width)
    fits = max(move.height, move.width) <= limits.MAX_CUBE and move.row_step - move.width <= limits.MAX_NOTCH
    if fits:
        yield move
    elif move.height == 1 or move.row_step == move.width:
        for first, height, width in _rectangles(move.height, move.width, limits.MAX_CUBE):
            yield replace(move.further(first, first), height=height, width=width, row_step=width)
    elif move.width <= limits.MAX_CUBE and move.row_step - move.width <= limits.MAX_NOTCH:
        for row in range(0, move.height, limits.MAX_CUBE):
            height = min(limits.MAX_CUBE, move.height - row)
            yield replace(move.further(row * move.width, row * move.row_step), height=height)
    else:
        for row in range(move.height):
            yield from legal_moves(replace(move.further(row * move.width, row * move.row_step), height=1))


def has_few_tasks(tasks: Iterable[object]) -> bool:
    """Whether one kick holds so many tasks."""
    return len(list(islice(tasks, limits.MAX_TASKS_PER_KICK + 1))) <= limits.MAX_TASKS_PER_KICK


def _rectangles(height: int, width: int, widest: int) -> Iterator[tuple[int, int, int]]:
    """The first pixel, height and width of rectangles that make up height x width pixels (rules 1 and 2)."""
    found = (
        (height, width) if width <= widest and height <= limits.MAX_CUBE else rows_and_columns(height * width, widest)
    )
    if found is not None:
        yield 0, *found
        return
    first, pixels = 0, height * width
    while first < pixels:
        part_width = min(widest, pixels - first)
        part_height = min((pixels - first) // part_width, limits.MAX_CUBE)
        yield first, part_height, part_width
        first += part_height * part_width
