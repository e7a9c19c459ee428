"""Cutting a pool into tasks of the PPU (hardware/ppu.md, Limits).

1. A task takes all rows, and as many output columns as the unit's line buffer is known to hold.
2. Rows and columns behind the last window are not read: columns left over shift an int8 result (silicon).
3. A window of 16 has no padding: 16 with 7 of padding gave wrong results (silicon).
4. Each image of a batch has tasks of its own, unless the windows of one tall image are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from rocketnpu.compiler.npu_ops import Pool
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.errors import Error
from rocketnpu.hw import limits


@dataclass(frozen=True)
class PoolTile:
    """One task's share: output rows y0..y1, output columns x0..x1, `rows` input rows from input_y0 on, input columns
    input_x0..input_x1, and padding."""

    y0: int
    y1: int
    x0: int
    x1: int
    input_y0: int
    rows: int
    input_x0: int
    input_x1: int
    pad_left: int
    pad_right: int
    pad_bottom: int


def tile_pool(form: Pool) -> tuple[PoolTile, ...]:
    """The tasks of a pool, image by image and from left to right; ConstraintError names what the unit cannot do."""
    form = form.joined()
    first = form.of_one_image()
    tiles = _tiles_of_image(first)
    return tuple(
        replace(
            tile,
            y0=image * first.output_shape.height,
            y1=(image + 1) * first.output_shape.height,
            input_y0=image * first.input_shape.height,
        )
        for image in range(form.images)
        for tile in tiles
    )


def _tiles_of_image(form: Pool) -> list[PoolTile]:
    data, out = form.input_shape, form.output_shape
    shapes = (*(data.height, data.width, data.channels), *(out.height, out.width))
    if max(shapes) > limits.MAX_CUBE:
        raise ConstraintError(f"height, width and channels of a pool are at most {limits.MAX_CUBE}")
    try:
        most = limits.max_pool_output_columns(form.kernel_h, form.stride_h)
    except Error as error:
        raise ConstraintError(str(error)) from error
    bottom = (out.height - 1) * form.stride_h + form.kernel_h - form.pad_top
    tasks = -(-out.width // most)
    edges = [out.width * task // tasks for task in range(tasks + 1)]
    tiles: list[PoolTile] = []
    for x0, x1 in pairwise(edges):
        left = x0 * form.stride_w - form.pad_left
        right = (x1 - 1) * form.stride_w + form.kernel_w - form.pad_left
        tiles.append(
            PoolTile(
                y0=0,
                y1=out.height,
                x0=x0,
                x1=x1,
                input_y0=0,
                rows=min(bottom, data.height),
                input_x0=max(left, 0),
                input_x1=min(right, data.width),
                pad_left=max(-left, 0),
                pad_right=max(right - data.width, 0),
                pad_bottom=max(bottom - data.height, 0),
            )
        )
    _check(form, tiles)
    return tiles


def _check(form: Pool, tiles: list[PoolTile]) -> None:
    columns = [pad for tile in tiles for pad in (tile.pad_left, tile.pad_right)]
    rows = [form.pad_top, *(tile.pad_bottom for tile in tiles)]
    if max(columns + rows) > limits.MAX_POOL_PAD:
        raise ConstraintError(f"the pooling unit pads at most {limits.MAX_POOL_PAD} rows and columns")
    for kernel, pads in ((form.kernel_h, rows), (form.kernel_w, columns)):
        if kernel == limits.MAX_POOL_WINDOW and any(pads):
            raise ConstraintError(f"a window of {kernel} has no padding")
    if any(tile.input_x0 >= tile.input_x1 for tile in tiles):
        raise ConstraintError("no task lies in the padding alone")
