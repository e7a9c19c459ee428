"""CORE on fp16 data: products in groups, added to an fp32 accumulator with rounding."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.cna import Convolution
from rocketnpu.emulator.features import FeatureReader
from rocketnpu.emulator.memory import Bytes
from rocketnpu.emulator.tiles import Tile
from rocketnpu.emulator.workspace import Workspace

Array: TypeAlias = NDArray[Any]

FP16_GROUP = 32
"""Products of one group are summed exactly before the fp32 accumulator rounds (hardware/dpu.md, fp16 summary)."""


class DirectFp16:
    """Direct fp16: groups of 32 products exact, then added to an fp32 accumulator with rounding.

    The order of the groups (input channels outermost, as weights are stored) is inferred, not measured.
    """

    bound = 0

    def __init__(self, convolution: Convolution, reader: FeatureReader, weights: Array) -> None:
        """`weights` [channels, kh, kw, lanes] float16; channels past the kernels are zero."""
        self._convolution, self._reader = convolution, reader
        self._weights = weights.astype(np.float64)
        self.kept_bytes = self._weights.nbytes

    def run(self, data: Bytes, tile: Tile, workspace: Workspace) -> Array:
        """See Accumulator."""
        lanes = self._convolution.lanes
        window = self._reader.window(data, tile.first_row, tile.last_row, slice(0, lanes), workspace)
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
        self.kept_bytes = self._weights.nbytes

    def run(self, data: Bytes, tile: Tile, workspace: Workspace) -> Array:
        """See Accumulator."""
        channels = slice(tile.first_channel, tile.last_channel)
        window = self._reader.window(data, tile.first_row, tile.last_row, channels, workspace).astype(np.float64)
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
