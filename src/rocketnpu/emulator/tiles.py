"""How the output of a convolution is cut into tiles of a bounded size."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

_TILE_ELEMENTS = 1 << 21
"""Accumulators of one tile: what the library keeps for one task stays within tens of megabytes (task_cache.py)."""


@dataclass(frozen=True)
class Tile:
    """A block of the output: rows first_row..last_row-1, channels first_channel..last_channel-1."""

    first_row: int
    last_row: int
    first_channel: int
    last_channel: int


def output_tiles(height: int, width: int, channels: int, computed: int) -> list[Tile]:
    """Tiles of rows of all channels; a tile ends at channel `computed`, where weights or input end."""
    bounds = sorted({0, min(computed, channels), channels})
    count = -(-height // max(_TILE_ELEMENTS // (width * channels), 1))
    edges = [height * index // count for index in range(count + 1)]
    return [
        Tile(first_row, last_row, first, last)
        for first_row, last_row in itertools.pairwise(edges)
        for first, last in itertools.pairwise(bounds)
    ]
