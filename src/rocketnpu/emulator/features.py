"""Feature rows as the MAC array sees them: gathered from planes or dense pixels, padded, zero-inserted, converted."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.cna import FEATURE_DMA, Convolution, InputConverter
from rocketnpu.emulator.faults import unsupported
from rocketnpu.emulator.memory import ATOM, Bytes, Memory
from rocketnpu.emulator.precision import DTYPES
from rocketnpu.emulator.workspace import Workspace
from rocketnpu.hw import arithmetic
from rocketnpu.hw.codes import INT8
from rocketnpu.hw.layouts import pad_lane_bytes
from rocketnpu.hw.registers import CNA

Array: TypeAlias = NDArray[Any]


class FeatureReader:
    """Reads the input of one convolution, rows at a time."""

    def __init__(self, convolution: Convolution) -> None:
        self._rows, self._columns = convolution.rows, convolution.columns
        self._lanes = convolution.lanes
        self.dtype = DTYPES[convolution.precision]
        self._feature = convolution.feature
        self._tables = [_table(converter) for converter in convolution.feature.converters]
        if convolution.precision == INT8:
            self._padding = pad_lane_bytes(convolution.pad_word, convolution.lanes, convolution.depthwise)
        elif convolution.pad_word:
            raise unsupported(CNA.PAD_CON1, "PAD_VALUE", convolution.pad_word, "only 0 is known to pad 16-bit data")
        else:
            self._padding = np.zeros(convolution.lanes, self.dtype)

    def open(self, memory: Memory) -> Bytes:
        """The input's bytes, in place where memory allows it; raises DeviceError for unmapped ones."""
        data, lost = memory.read(self._feature.region, FEATURE_DMA), self._feature.lost
        if lost is None:
            return data
        data = data.copy()
        if self._feature.dense_channels:
            data.reshape(*lost.shape, -1)[lost] = 0
        else:
            data.reshape(data.shape[0], data.shape[1], lost.shape[1], -1).swapaxes(1, 2)[lost] = 0
        return data

    def whole_atoms(self, lanes: int) -> slice:
        """The channels to gather for the first `lanes` ones: whole atoms of a cube, any number of an image."""
        atom = ATOM.itemsize // self.dtype.itemsize
        return slice(0, lanes if self._feature.dense_channels else min(-(-lanes // atom) * atom, self._lanes))

    def gather(self, data: Bytes, first: int, last: int, channels: slice, window: Array) -> None:
        """Fill `window` with what the output rows first..last-1 read.

        It is [positions in y, positions in x, channels], of this reader's dtype. `channels` is in whole atoms unless
        the input is dense; those beyond the input's lanes read as 0.
        """
        in_rows, row_places = self._rows.inside(first, last)
        in_columns, column_places = self._columns.inside(0, self._columns.outputs)
        present = min(max(self._lanes - channels.start, 0), window.shape[2])
        window[..., present:] = 0
        if not present:
            return
        if not (_covers(row_places, window.shape[0]) and _covers(column_places, window.shape[1])):
            window[..., :present] = self._padding[channels.start : channels.start + present]
        inside = window[row_places, column_places, :present]
        if self._feature.dense_channels:
            self._copy_pixels(data, in_rows, in_columns, inside)
        else:
            atom = ATOM.itemsize // self.dtype.itemsize
            planes = data.view(ATOM)[channels.start // atom : (channels.start + present) // atom, in_rows, in_columns]
            inside.view(ATOM)[...] = planes.transpose(1, 2, 0)

    def window(self, data: Bytes, first: int, last: int, channels: slice, workspace: Workspace) -> Array:
        """The same in a buffer of the workspace."""
        shape = (self._rows.positions(first, last), self._columns.positions(0, self._columns.outputs))
        window: Array = workspace.take("window", (*shape, channels.stop - channels.start), self.dtype)
        self.gather(data, first, last, channels, window)
        return window

    def _copy_pixels(self, data: Bytes, rows: slice, columns: slice, inside: Array) -> None:
        dense = self._feature.dense_channels
        pixels = data.view(self.dtype).reshape(data.shape[0], -1, dense)[rows, columns]
        used = min(dense, inside.shape[2])
        inside[..., used:] = 0
        if not self._tables:
            inside[..., :used] = pixels[..., :used]
            return
        for channel in range(used):
            inside[..., channel] = self._tables[channel][pixels[..., channel].view(np.uint8)]


def _covers(places: slice, count: int) -> bool:
    return (places.start, places.stop, places.step) == (0, count, 1)


def _table(converter: InputConverter) -> NDArray[np.int8]:
    """The converter's result for every byte."""
    byte = np.arange(256, dtype=np.uint8)
    x = (byte.view(np.int8) if converter.signed else byte).astype(np.int64)
    rounding = arithmetic.round_half_away if converter.ties_away else arithmetic.round_half_even
    if converter.add_first:
        result = rounding((x + converter.offset) * converter.scale, converter.shift)
    else:
        result = rounding(x * converter.scale, converter.shift) + converter.offset
    return arithmetic.saturate(result, 8).astype(np.int8)
