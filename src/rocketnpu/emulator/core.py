"""CORE: exact accumulators of direct and depthwise convolutions, by matrix products and shifted multiply-adds.

Weights carry the CPEND operand: acc + OW*S over the window sum S equals the product with weights + OW (hardware/dpu.md,
CPEND), for padded taps and filled lanes too, since S counts them. int8 sums are exact in float32 while the sum of
|weights| times 128 stays within 2^24, in float64 far beyond every legal layer.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.cna import Convolution
from rocketnpu.emulator.features import FeatureReader
from rocketnpu.emulator.memory import Bytes
from rocketnpu.emulator.tiles import Tile
from rocketnpu.emulator.workers import Workspace

Array: TypeAlias = NDArray[Any]

_FLOAT32_EXACT = 1 << 24
_INT8_MAGNITUDE = 128
FP16_GROUP = 32
"""Products of one group are summed exactly before the fp32 accumulator rounds (hardware/dpu.md, fp16 summary)."""


class Accumulator(Protocol):
    """Computes accumulators tile by tile; `bound` limits the magnitude of any of them."""

    bound: int

    def run(self, data: Bytes, tile: Tile, workspace: Workspace) -> Array:
        """Accumulators [rows*width, channels], float32 or float64, in a workspace buffer."""
        ...


class DirectInt8:
    """Direct convolution: patches [pixels, kh*kw*lanes] times weights [kh*kw*lanes, channels]."""

    def __init__(self, convolution: Convolution, reader: FeatureReader, weights: NDArray[np.int32]) -> None:
        """`weights` [channels, kh, kw, lanes]; channels past the kernels are zero."""
        self._convolution, self._reader = convolution, reader
        self._lanes = _lanes_in_use(convolution, weights)
        used = weights[..., : self._lanes]
        sums = np.abs(used).sum(axis=(1, 2, 3), dtype=np.int64)
        self.bound = int(sums.max(initial=0)) * _INT8_MAGNITUDE
        matrix = used.reshape(len(used), -1).T
        self._matrix = np.ascontiguousarray(matrix, np.float32 if self.bound <= _FLOAT32_EXACT else np.float64)

    def run(self, data: Bytes, tile: Tile, workspace: Workspace) -> Array:
        """See Accumulator."""
        window = self._reader.gather(data, tile.first_row, tile.last_row, slice(0, self._lanes), workspace)
        view = patches(self._convolution, window, tile)
        x: Array = workspace.take("patches", view.shape, self._matrix.dtype)
        x[...] = view
        matrix = self._matrix[:, tile.first_channel : tile.last_channel]
        acc: Array = workspace.take("acc", (view.shape[0] * view.shape[1], matrix.shape[1]), matrix.dtype)
        np.matmul(x.reshape(acc.shape[0], -1), matrix, out=acc)
        return acc


class DepthwiseInt8:
    """Depthwise convolution: one multiply-add of whole rows for each kernel tap."""

    def __init__(self, convolution: Convolution, reader: FeatureReader, weights: NDArray[np.int32]) -> None:
        """`weights` [kh, kw, channels]; channels past the stored ones are zero."""
        self._convolution, self._reader = convolution, reader
        sums = np.abs(weights).sum(axis=(0, 1), dtype=np.int64)
        self.bound = int(sums.max(initial=0)) * _INT8_MAGNITUDE
        self._weights = weights.astype(np.float32 if self.bound <= _FLOAT32_EXACT else np.float64)
        self._rows: dict[tuple[int, int], Array] = {}

    def run(self, data: Bytes, tile: Tile, workspace: Workspace) -> Array:
        """See Accumulator."""
        rows, columns = self._convolution.rows, self._convolution.columns
        if tile.first_channel >= self._convolution.lanes:
            # Channels that only fill the last group: no input, no weights.
            shape = ((tile.last_row - tile.first_row) * columns.outputs, tile.last_channel - tile.first_channel)
            nothing: Array = workspace.take("acc", shape, self._weights.dtype)
            nothing[...] = 0
            return nothing
        window = self._reader.gather(
            data, tile.first_row, tile.last_row, slice(tile.first_channel, tile.last_channel), workspace
        )
        height, width, channels = window.shape
        step = columns.stride
        # Columns sorted by their remainder modulo the stride: the outputs of a row then read neighbours.
        kind = self._weights.dtype
        x: Array = workspace.take("columns", (step, height, -(-width // step), channels), kind)
        for phase in range(min(step, width)):
            part = window[:, phase::step]
            x[phase, :, : part.shape[1]] = part
        weights = self._row_weights(tile)
        count, length = tile.last_row - tile.first_row, columns.outputs * channels
        acc: Array = workspace.take("acc", (count, length), kind)
        product: Array = workspace.take("product", (count, length), kind)
        acc[...] = 0
        for ky in range(rows.kernel):
            for kx in range(columns.kernel):
                ahead, phase = divmod(kx * columns.dilation, step)
                offset = phase * x.strides[0] + ky * rows.dilation * x.strides[1] + ahead * x.strides[2]
                taps: Array = np.ndarray(
                    (count, length), kind, x.data, offset, (rows.stride * x.strides[1], x.itemsize)
                )
                np.multiply(taps, weights[ky, kx], out=product)
                np.add(acc, product, out=acc)
        return acc.reshape(-1, channels)

    def _row_weights(self, tile: Tile) -> Array:
        """Weights [kh, kw, width*channels] of a tile's channels, repeated for every pixel of a row."""
        key = (tile.first_channel, tile.last_channel)
        known = self._rows.get(key)
        if known is None:
            part = self._weights[:, :, slice(*key)]
            known = self._rows[key] = np.tile(part, (1, 1, self._convolution.columns.outputs))
        return known


class DirectFp16:
    """Direct fp16: groups of 32 products exact, then added to an fp32 accumulator with rounding.

    The order of the groups (input channels outermost, as weights are stored) is inferred, not measured.
    """

    bound = 0

    def __init__(self, convolution: Convolution, reader: FeatureReader, weights: Array) -> None:
        """`weights` [channels, kh, kw, lanes] float16; channels past the kernels are zero."""
        self._convolution, self._reader = convolution, reader
        self._weights = weights.astype(np.float64)

    def run(self, data: Bytes, tile: Tile, workspace: Workspace) -> Array:
        """See Accumulator."""
        lanes = self._convolution.lanes
        window = self._reader.gather(data, tile.first_row, tile.last_row, slice(0, lanes), workspace)
        view = patches(self._convolution, window, tile).astype(np.float64)
        taps = self._weights.shape[1] * self._weights.shape[2]
        x = view.reshape(-1, taps, lanes)
        weights = self._weights[tile.first_channel : tile.last_channel].reshape(-1, taps, lanes)
        acc = np.zeros((x.shape[0], weights.shape[0]), np.float32)
        for first in range(0, lanes, FP16_GROUP):
            for tap in range(taps):
                group = slice(first, first + FP16_GROUP)
                acc = (acc + x[:, tap, group] @ weights[:, tap, group].T).astype(np.float32)
        return acc


class DepthwiseFp16:
    """Depthwise fp16: each tap's product is added to an fp32 accumulator with rounding (inferred, not measured)."""

    bound = 0

    def __init__(self, convolution: Convolution, reader: FeatureReader, weights: Array) -> None:
        """`weights` [kh, kw, channels] float16."""
        self._convolution, self._reader = convolution, reader
        self._weights = weights.astype(np.float64)

    def run(self, data: Bytes, tile: Tile, workspace: Workspace) -> Array:
        """See Accumulator."""
        channels = slice(tile.first_channel, tile.last_channel)
        window = self._reader.gather(data, tile.first_row, tile.last_row, channels, workspace).astype(np.float64)
        rows, columns = self._convolution.rows, self._convolution.columns
        count = tile.last_row - tile.first_row
        acc = np.zeros((count, columns.outputs, channels.stop - channels.start), np.float32)
        for ky in range(rows.kernel):
            for kx in range(columns.kernel):
                y, x = ky * rows.dilation, kx * columns.dilation
                taps = window[y : y + (count - 1) * rows.stride + 1 : rows.stride]
                taps = taps[:, x : x + (columns.outputs - 1) * columns.stride + 1 : columns.stride]
                acc = (acc + taps * self._weights[ky, kx, channels]).astype(np.float32)
        return acc.reshape(-1, acc.shape[2])


def patches(convolution: Convolution, window: Array, tile: Tile) -> Array:
    """A view of the patches, [rows, width, kh, kw, lanes], or [rows, width, kh, kw*lanes] where lanes touch."""
    rows, columns = convolution.rows, convolution.columns
    by_row, by_column, by_lane = window.strides
    shape: tuple[int, ...] = (tile.last_row - tile.first_row, columns.outputs, rows.kernel)
    strides: tuple[int, ...] = (rows.stride * by_row, columns.stride * by_column, rows.dilation * by_row)
    if columns.dilation == 1 or columns.kernel == 1:
        shape, strides = (*shape, columns.kernel * window.shape[2]), (*strides, by_lane)
    else:
        shape = (*shape, columns.kernel, window.shape[2])
        strides = (*strides, columns.dilation * by_column, by_lane)
    return np.ndarray(shape, window.dtype, window.data, strides=strides)


def _lanes_in_use(convolution: Convolution, weights: NDArray[np.int32]) -> int:
    """Leading lanes that some weight multiplies: a dense image's pixels need no copy of their 16 lanes."""
    if not convolution.feature.dense_channels:
        return convolution.lanes
    used = np.flatnonzero(weights.any(axis=(0, 1, 2)))
    return int(used[-1]) + 1 if used.size else 1
