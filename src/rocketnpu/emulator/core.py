"""CORE: exact accumulators of direct and depthwise int8 convolutions.

Weights carry the CPEND operand: acc + OW*S over the window sum S equals the product with weights + OW (hardware/dpu.md,
CPEND), for padded taps and filled lanes too, since S counts them.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.affine import Bracket
from rocketnpu.emulator.cna import Convolution
from rocketnpu.emulator.features import FeatureReader
from rocketnpu.emulator.library import FloatConvolution, Geometry, Part, exact_parts
from rocketnpu.emulator.memory import Bytes
from rocketnpu.emulator.tiles import Tile
from rocketnpu.emulator.workspace import Workspace

Array: TypeAlias = NDArray[Any]

_INT8_MAGNITUDE = 128


class Accumulator(Protocol):
    """Computes accumulators tile by tile; `bound` limits the magnitude of any of them."""

    bound: int

    @property
    def kept_bytes(self) -> int:
        """About what it keeps in memory between runs."""
        ...

    def run(self, data: Bytes, tile: Tile, workspace: Workspace) -> Array:
        """Accumulators [rows*width, channels], float32 or float64, which the caller may overwrite.

        They are gone when the same workspace runs the next tile.
        """
        ...


class Int8Accumulator:
    """Convolutions of gathered windows, by a library made ready for each shape of tile."""

    def __init__(self, convolution: Convolution, reader: FeatureReader, weights: NDArray[np.int32]) -> None:
        """`weights` [channels, kh, kw, lanes], lanes 1 for depthwise; those of channels past the kernels are zero."""
        self._convolution, self._reader = convolution, reader
        used = np.flatnonzero(weights.any(axis=(0, 1, 2)))
        # Leading lanes that some weight multiplies: an image's pixels need no copies of all 16.
        lanes = reader.whole_atoms(int(used[-1]) + 1 if used.size else 1)
        sums = np.abs(weights).sum(axis=(1, 2, 3), dtype=np.int64)
        self.bound = int(sums.max(initial=0)) * _INT8_MAGNITUDE
        self._parts = exact_parts(weights if convolution.depthwise else weights[..., : lanes.stop], _INT8_MAGNITUDE)
        self._ready: dict[tuple[int, int, int], list[FloatConvolution]] = {}

    @property
    def takes_brackets(self) -> bool:
        """Whether all products are summed at once, so that `run_bracket` may be called."""
        return len(self._parts) == 1

    @property
    def kept_bytes(self) -> int:
        """See Accumulator."""
        ready = sum(convolution.kept_bytes for convolutions in self._ready.values() for convolution in convolutions)
        return ready + sum(part.weights.nbytes for part in self._parts)

    def only_fills(self, tile: Tile) -> bool:
        """Whether the channels only fill a depthwise convolution's last group: no input, no weights, all sums 0."""
        return self._convolution.depthwise and tile.first_channel >= self._convolution.lanes

    def run_bracket(self, data: Bytes, tile: Tile, bracket: Bracket, element: Array | None) -> list[Array]:
        """The sums that the bracket names, and both ends of its output, [rows*width, channels] each."""
        (convolution,) = self._convolutions(tile, bracket)
        self._fill(convolution, self._parts[0], data, tile)
        if element is not None:
            np.copyto(convolution.element(), element)
        return convolution.run()

    def run(self, data: Bytes, tile: Tile, workspace: Workspace) -> Array:  # noqa: ARG002
        """See Accumulator."""
        total: Array | None = None
        for part, convolution in zip(self._parts, self._convolutions(tile, None), strict=True):
            self._fill(convolution, part, data, tile)
            (sums,) = convolution.run()
            if len(self._parts) == 1:
                return sums
            total = sums.astype(np.float64) if total is None else np.add(total, sums, out=total)
        assert total is not None
        return total

    def _fill(self, convolution: FloatConvolution, part: Part, data: Bytes, tile: Tile) -> None:
        self._reader.gather(data, tile.first_row, tile.last_row, self._lanes(part, tile), convolution.window())

    def _lanes(self, part: Part, tile: Tile) -> slice:
        """The input lanes of a part of a tile."""
        if self._convolution.depthwise:
            return slice(tile.first_channel, tile.last_channel)
        return slice(part.first, part.last)

    def _convolutions(self, tile: Tile, bracket: Bracket | None) -> list[FloatConvolution]:
        """One for each part; a tile is always run with the same bracket, or always without."""
        key = (tile.last_row - tile.first_row, tile.first_channel, tile.last_channel)
        ready = self._ready.get(key)
        if ready is None:
            ready = self._ready[key] = [self._prepare(part, tile, bracket) for part in self._parts]
        return ready

    def _prepare(self, part: Part, tile: Tile, bracket: Bracket | None) -> FloatConvolution:
        c, lanes = self._convolution, self._lanes(part, tile)
        weights = part.weights[tile.first_channel : tile.last_channel]
        geometry = Geometry(
            (
                c.rows.positions(tile.first_row, tile.last_row),
                c.columns.positions(0, c.columns.outputs),
                lanes.stop - lanes.start,
            ),
            (c.rows.stride, c.columns.stride),
            (c.rows.dilation, c.columns.dilation),
            c.depthwise,
        )
        return FloatConvolution(geometry, weights.transpose(3, 1, 2, 0) if c.depthwise else weights, bracket)
