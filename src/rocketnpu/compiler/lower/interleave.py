"""Images whose pixels take turns in a larger one: every b-th column and row of the result is an image of its own.

A copy can leave pixels out only where it writes: rows of a task start any distance apart. Columns of one image are
therefore written as rows of one pixel, b apart; the rows of the wider images that come of it, b rows apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rocketnpu.compiler.npu_ops import CubeShape, Move


@dataclass(frozen=True)
class Image:
    """Some channels of a cube: they start at pixel `start`, counted through all planes."""

    name: str
    shape: CubeShape
    start: int = 0


def interleave(
    images: Mapping[tuple[int, int], Image], target: str, small: CubeShape, rows: int, columns: int
) -> Iterator[Move]:
    """Pixel (y, x) of the target is pixel (y / rows, x / columns) of the image (y mod rows, x mod columns).

    All images are as large as `small` says.
    """
    wide = CubeShape(small.height, small.width * columns, small.channels)
    out = CubeShape(small.height * rows, wide.width, small.channels)
    for row in range(rows):
        turn = Image(target, out) if rows == 1 else Image(f"{target}#row", wide)
        for column in range(columns):
            source = images[row, column]
            if columns == 1:
                turn = source
            else:
                yield _columns(source, turn, small, column, columns)
        if rows > 1:
            yield Move(
                first=turn.name,
                second=None,
                output=target,
                input_shape=turn.shape,
                output_shape=out,
                height=wide.height,
                width=wide.width,
                channels=wide.channels,
                row_step=rows * wide.width,
                first_start=turn.start,
                output_start=row * wide.width,
            )


def _columns(source: Image, to: Image, small: CubeShape, column: int, columns: int) -> Move:
    """All pixels of `source`, `columns` apart."""
    return Move(
        first=source.name,
        second=None,
        output=to.name,
        input_shape=source.shape,
        output_shape=to.shape,
        height=small.pixels,
        width=1,
        channels=small.channels,
        row_step=columns,
        first_start=source.start,
        output_start=column,
    )
