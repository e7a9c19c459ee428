"""CORE: exact accumulators of direct and depthwise int8 convolutions.

Weights carry the CPEND operand: acc + OW*S over the window sum S equals the product with weights + OW (hardware/dpu.md,
CPEND), for padded taps and filled lanes too, since S counts them.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.cna import Convolution
from rocketnpu.emulator.features import FeatureReader
from rocketnpu.emulator.library import FloatConvolution, exact_parts
from rocketnpu.emulator.memory import Bytes
from rocketnpu.emulator.tiles import Tile
from rocketnpu.emulator.workers import Workspace

Array: TypeAlias = NDArray[Any]

_INT8_MAGNITUDE = 128


class Accumulator(Protocol):
    """Computes accumulators tile by tile; `bound` limits the magnitude of any of them."""

    bound: int

    def run(self, data: Bytes, tile: Tile, workspace: Workspace) -> Array:
        """Accumulators [rows*width, channels], float32 or float64, which the caller may overwrite.

        They are gone when the same workspace runs the next tile.
        """
        ...


class Int8Accumulator:
    """Convolutions of gathered windows, by a library made ready for each shape of tile and each worker."""

    def __init__(self, convolution: Convolution, reader: FeatureReader, weights: NDArray[np.int32]) -> None:
        """`weights` [channels, kh, kw, lanes], lanes 1 for depthwise; those of channels past the kernels are zero."""
        self._convolution, self._reader = convolution, reader
        used = np.flatnonzero(weights.any(axis=(0, 1, 2)))
        # Leading lanes that some weight multiplies: an image's pixels need no copies of all 16.
        self._lanes = int(used[-1]) + 1 if used.size else 1
        sums = np.abs(weights).sum(axis=(1, 2, 3), dtype=np.int64)
        self.bound = int(sums.max(initial=0)) * _INT8_MAGNITUDE
        self._parts = exact_parts(weights[..., : self._lanes], _INT8_MAGNITUDE)
        self._ready: dict[tuple[Workspace, int, int, int], list[FloatConvolution]] = {}

    def run(self, data: Bytes, tile: Tile, workspace: Workspace) -> Array:
        """See Accumulator."""
        c = self._convolution
        if c.depthwise and tile.first_channel >= c.lanes:
            # Channels that only fill the last group: no input, no weights.
            pixels = (tile.last_row - tile.first_row) * c.columns.outputs
            return np.zeros((pixels, tile.last_channel - tile.first_channel), np.float32)
        lanes = slice(tile.first_channel, tile.last_channel) if c.depthwise else self._reader.whole_atoms(self._lanes)
        window = self._reader.gather(data, tile.first_row, tile.last_row, lanes, workspace)
        if not c.depthwise:
            window = window[..., : self._lanes]
        key = (workspace, tile.last_row - tile.first_row, tile.first_channel, tile.last_channel)
        ready = self._ready.get(key)
        if ready is None:
            ready = self._ready[key] = [self._prepare(window, part, tile) for part in self._parts]
        first = ready[0].run(window)
        if len(ready) == 1:
            return first
        total = first.astype(np.float64)
        for convolution in ready[1:]:
            total += convolution.run(window)
        return total

    def _prepare(self, window: Array, weights: NDArray[np.float32], tile: Tile) -> FloatConvolution:
        c = self._convolution
        part = weights[tile.first_channel : tile.last_channel]
        height, width, lanes = window.shape
        return FloatConvolution(
            (height, width, lanes),
            part.transpose(3, 1, 2, 0) if c.depthwise else part,
            (c.rows.stride, c.columns.stride),
            (c.rows.dilation, c.columns.dilation),
            depthwise=c.depthwise,
        )
