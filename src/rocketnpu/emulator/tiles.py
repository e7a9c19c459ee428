"""How the output of a convolution is cut into tiles that fit the host's cache and keep all workers busy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

CHANNEL_UNIT = 32
"""Tiles end on whole groups of kernels, so that the writer stores whole passes."""
_TILE_ELEMENTS = 1 << 18
"""Accumulators of one tile. Smaller ones stay in nearer caches, but numpy's calls from two threads then wait for each
other more than they gain (measured)."""
_TILE_PIXELS = 64
"""Fewer pixels make matrix products slow: split the channels instead."""
_SPLIT_WORK = 1 << 23
"""Multiply-adds below which a second thread costs more than it saves."""


@dataclass(frozen=True)
class Tile:
    """A block of the output: rows first_row..last_row-1, channels first_channel..last_channel-1."""

    first_row: int
    last_row: int
    first_channel: int
    last_channel: int


def output_tiles(height: int, width: int, channels: int, computed: int, work: int, workers: int) -> list[Tile]:
    """Tiles of rows; of channels where the pixels are few. One ends at channel `computed`, where weights or input end.

    `work` is the multiply-adds of the whole: little work is not worth a second thread.
    """
    wanted = workers if work >= _SPLIT_WORK else 1
    chunk = channels
    if height * width < wanted * _TILE_PIXELS:
        chunk = -(-channels // (wanted * CHANNEL_UNIT)) * CHANNEL_UNIT
    bounds = sorted({*range(0, channels, chunk), min(computed, channels), channels})
    rows = max(min(_TILE_ELEMENTS // (width * chunk), height), 1)
    if chunk == channels:
        rows = min(rows, -(-height // wanted))
    count = -(-height // rows)
    edges = [height * index // count for index in range(count + 1)]
    return [
        Tile(first_row, last_row, first, last)
        for first_row, last_row in itertools.pairwise(edges)
        for first, last in itertools.pairwise(bounds)
    ]
