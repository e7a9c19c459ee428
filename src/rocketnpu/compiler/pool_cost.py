"""What both forms of a pooling operator cost on one core: a pool of the PPU, or maxima, copies and convolutions.

The vendor's own model (hardware/performance.md): a convolution costs its MACs or its traffic, everything else its
traffic alone; and what a task costs however small it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from rocketnpu.compiler.lowered import ATOM_CHANNELS, Convolution, Move, Pool
from rocketnpu.compiler.pool_tiles import PoolTile
from rocketnpu.compiler.split import cycles
from rocketnpu.compiler.tile import TASK_OVERHEAD_BYTES, Tile
from rocketnpu.hw import cost
from rocketnpu.hw.sizes import align


def pool_cycles(form: Pool, tiles: Sequence[PoolTile]) -> float:
    """Cycles of all tasks of a pool; columns under two of them are read twice."""
    output_rows = form.output_shape.height
    pixels = (tile.rows * (tile.input_x1 - tile.input_x0) + output_rows * (tile.x1 - tile.x0) for tile in tiles)
    return _traffic_cycles(sum(pixels), form.output_shape.channels, len(tiles))


def convolution_cycles(form: Convolution, tiles: Sequence[Tile]) -> float:
    """Cycles of all tasks of a convolution."""
    return cycles(form, (tiles,)) + _traffic_cycles(0, 0, len(tiles))


def move_cycles(form: Move) -> float:
    """Cycles of a copy or a maximum."""
    cubes = len(form.inputs) + 1
    return _traffic_cycles(cubes * form.height * form.width, form.channels, 1)


def _traffic_cycles(pixels: int, channels: int, tasks: int) -> float:
    return cost.ddr_cycles(pixels * align(channels, ATOM_CHANNELS) + tasks * TASK_OVERHEAD_BYTES)
