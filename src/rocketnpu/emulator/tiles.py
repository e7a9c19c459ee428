"""How the output of a convolution is cut into tiles that fit the host's cache and keep all workers busy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

CHANNEL_UNIT = 32
"""Tiles end on whole groups of kernels, so that the writer stores whole passes."""
_TILE_BYTES = 1 << 20
"""Scratch memory of one tile: about a second-level cache."""
_TILE_PIXELS = 64
"""Fewer pixels make matrix products slow: split the channels instead."""
_ROW_ELEMENTS = 1 << 13
"""Depthwise rows of about this many elements: numpy is slow on short rows, long ones leave the cache."""
_SPLIT_WORK = 1 << 18
"""Multiply-adds below which a second thread costs more than it saves."""
_ELEMENT_BYTES = 16
"""Scratch memory of one output element: accumulator, product, float."""


@dataclass(frozen=True)
class Tile:
    """A block of the output: rows first_row..last_row-1, channels first_channel..last_channel-1."""

    first_row: int
    last_row: int
    first_channel: int
    last_channel: int


def direct_tiles(height: int, width: int, channels: int, patch_elements: int, workers: int) -> list[Tile]:
    """Tiles of rows; of channels where the pixels are few. `patch_elements` is kh*kw*lanes."""
    wanted = _wanted(height * width * channels * patch_elements, workers)
    chunk = channels
    if height * width < wanted * _TILE_PIXELS:
        chunk = -(-channels // (wanted * CHANNEL_UNIT)) * CHANNEL_UNIT
    row_bytes = width * (4 * patch_elements + _ELEMENT_BYTES * chunk)
    return _grid(height, row_bytes, [*range(0, channels, chunk), channels], wanted)


def depthwise_tiles(height: int, width: int, channels: int, lanes: int, taps: int, workers: int) -> list[Tile]:
    """Tiles of rows and channels; one ends where the input's `lanes` end, since nothing is computed behind."""
    wanted = _wanted(height * width * channels * taps, workers)
    chunk = max(_ROW_ELEMENTS // width // CHANNEL_UNIT, 1) * CHANNEL_UNIT
    bounds = sorted({*range(0, channels, chunk), min(lanes, channels), channels})
    widest = max(last - first for first, last in itertools.pairwise(bounds))
    return _grid(height, width * widest * _ELEMENT_BYTES, bounds, wanted)


def _wanted(work: int, workers: int) -> int:
    return workers if work >= _SPLIT_WORK else 1


def _grid(height: int, row_bytes: int, bounds: list[int], wanted: int) -> list[Tile]:
    """Tiles between the channel `bounds`, of as many rows as fit, but at least `wanted` tiles if there are rows."""
    rows = max(min(_TILE_BYTES // row_bytes, height), 1)
    if len(bounds) - 1 < wanted:
        rows = min(rows, -(-height // wanted))
    rows = -(-height // -(-height // rows))
    return [
        Tile(row, min(row + rows, height), first, last)
        for row in range(0, height, rows)
        for first, last in itertools.pairwise(bounds)
    ]
