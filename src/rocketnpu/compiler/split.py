"""Sharing one convolution over cores: bands of output rows, or ranges of output channels.

1. All parts of a convolution run at the same time and end before the next step starts: no core needs another's rows.
2. Rows are cut into equal bands, each tiled as a convolution of its own; channels into whole groups, where each core
   reads only its share of the weights.
3. The way whose slowest core is fastest wins, where all cores share the DRAM (hardware/performance.md, cost model). One
   that gains less than GAIN is not worth a synchronisation, and the convolution stays on one core.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from rocketnpu.compiler.constraints import ConstraintError
from rocketnpu.compiler.lowered import Convolution, Window
from rocketnpu.compiler.tile import Tile, stored_input_channels, tile, weight_bytes
from rocketnpu.hw import cost, limits

GAIN = 0.9
"""Cycles on several cores over cycles on one, above which one core is as good: handing over costs microseconds."""


def split_over_cores(
    conv: Convolution, tiles: Sequence[Tile], cores: int, optimize: int = 1
) -> tuple[tuple[Tile, ...], ...] | None:
    """The tiles of each core, None where `tiles` on one core are as good."""
    best, best_cycles = None, GAIN * cycles(conv, (tiles,))
    for shares in (_by_rows(conv, cores, optimize), _by_channels(conv, cores, optimize)):
        if shares is not None and cycles(conv, shares) < best_cycles:
            best, best_cycles = shares, cycles(conv, shares)
    return best


def cycles(conv: Convolution, shares: Sequence[Sequence[Tile]]) -> float:
    """NPU cycles of a convolution whose tiles run on one core each: the busiest core's MACs, or all cores' traffic."""
    busiest = max(sum(_mac_cycles(conv, part) for part in share) for share in shares)
    moved = sum(moved_bytes(conv, part) for share in shares for part in share)
    return cost.layer_cycles(busiest, cost.ddr_cycles(moved))


def moved_bytes(conv: Convolution, part: Tile) -> int:
    """DRAM bytes of one task: its input rows, its weights and operands, its output."""
    window, channels = part.window, part.c1 - part.c0
    read = (part.input_y1 - part.input_y0) * (part.input_x1 - part.input_x0)
    pixel_bytes = conv.input_channels if conv.image_input else stored_input_channels(conv, channels)
    written = (window.y1 - window.y0) * (window.x1 - window.x0) * channels
    return cost.convolution_ddr_bytes(read * pixel_bytes, written, weight_bytes(conv, channels), channels)


def _mac_cycles(conv: Convolution, part: Tile) -> int:
    height, width = part.window.y1 - part.window.y0, part.window.x1 - part.window.x0
    channels = part.c1 - part.c0
    if conv.depthwise:
        return cost.depthwise_cycles(height, width, channels, conv.kernel_h, conv.kernel_w)
    return cost.direct_cycles(height, width, channels, conv.input_channels, conv.kernel_h, conv.kernel_w)


def _by_rows(conv: Convolution, cores: int, optimize: int) -> tuple[tuple[Tile, ...], ...] | None:
    window = conv.window
    rows = window.y1 - window.y0
    if rows < cores:
        return None
    edges = [window.y0 + rows * core // cores for core in range(cores + 1)]
    bands = (Window(y0, y1, window.x0, window.x1) for y0, y1 in itertools.pairwise(edges))
    try:
        return tuple(tile(replace(conv, window=band), optimize) for band in bands)
    except ConstraintError:
        return None


def _by_channels(conv: Convolution, cores: int, optimize: int) -> tuple[tuple[Tile, ...], ...] | None:
    group = limits.DEPTHWISE_GROUP if conv.depthwise else limits.DIRECT_OUTPUT_GROUP
    groups = -(-conv.output_channels // group)
    if groups < cores:
        return None
    edges = [min(groups * core // cores * group, conv.output_channels) for core in range(cores + 1)]
    shares: list[tuple[Tile, ...]] = []
    for c0, c1 in itertools.pairwise(edges):
        share = replace(
            conv,
            weights=conv.weights[c0:c1],
            weight_zero_points=conv.weight_zero_points[c0:c1],
            bias=conv.bias[c0:c1],
            gains=conv.gains[c0:c1],
        )
        try:
            shares.append(tuple(replace(part, c0=part.c0 + c0, c1=part.c1 + c0) for part in tile(share, optimize)))
        except ConstraintError:
            return None
    return tuple(shares)
