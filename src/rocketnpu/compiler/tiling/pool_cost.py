"""What both forms of a pooling operator cost on one core: a pool of the PPU, or maxima, copies and convolutions.

The vendor's own model (hardware/performance.md): a convolution costs its MACs or its traffic, everything else its
traffic alone; and what a task costs however small it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, Convolution, Move, Pool
from rocketnpu.compiler.tiling.convolution import Tile, tiles_cycles
from rocketnpu.compiler.tiling.pool import PoolTile
from rocketnpu.hw import cost
from rocketnpu.hw.sizes import align


def pool_cycles(form: Pool, tiles: Sequence[PoolTile]) -> float:
    """Cycles of all tasks of a pool; columns under two of them are read twice."""
    out = form.output_shape
    read = sum(tile.rows * (tile.input_x1 - tile.input_x0) for tile in tiles) * align(out.channels, ATOM_CHANNELS)
    return cost.ddr_cycles(read + out.pixels * out.channels) + len(tiles) * cost.CHAINED_TASK_CYCLES


def convolution_cycles(form: Convolution, tiles: Sequence[Tile]) -> float:
    """Cycles of all tasks of a convolution."""
    return tiles_cycles(form, tiles)


def move_cycles(form: Move) -> float:
    """Cycles of a copy or a maximum."""
    pixels = form.height * form.width
    read = len(form.inputs) * pixels * align(form.channels, ATOM_CHANNELS)
    return form.images * (cost.ddr_cycles(read + pixels * form.channels) + cost.CHAINED_TASK_CYCLES)
