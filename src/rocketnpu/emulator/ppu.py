"""A pool task: PPU fed by PPU_RDMA (hardware/ppu.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.faults import unsupported
from rocketnpu.emulator.machine import Machine
from rocketnpu.emulator.memory import Bytes, Region
from rocketnpu.emulator.precision import DTYPES, precision
from rocketnpu.emulator.state import TaskState
from rocketnpu.hw import arithmetic
from rocketnpu.hw.codes import FP16, INT8, POOL_AVERAGE, POOL_MAX, POOL_MIN
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.registers import PPU, PPU_RDMA

Array: TypeAlias = NDArray[Any]

PPU_READ, PPU_WRITE = "PPU_RDMA read", "PPU write"
_PAD_BITS = 35


@dataclass(frozen=True)
class Side:
    """The window along one axis; sizes in elements."""

    inputs: int
    outputs: int
    kernel: int
    stride: int
    before: int
    after: int


class PoolTask:
    """Max, min or average pooling of a cube."""

    kept_bytes = 0

    def __init__(self, state: TaskState) -> None:
        """Raises DeviceError for states whose effect is not known."""
        mode = PPU.OPERATION_MODE_CFG
        state.expect(mode, "FLYING_MODE", 1, "no known program feeds the PPU from the DPU")
        state.expect(PPU.DATA_FORMAT, "DPU_FLYIN", 0, "no known program feeds the PPU from the DPU")
        self._precision = precision(state, PPU.DATA_FORMAT, "PROC_PRECISION", (INT8, FP16))
        self._method = state.value(mode, "POOLING_METHOD")
        self._rows = _side(state, "HEIGHT", "TOP", "BOTTOM")
        self._columns = _side(state, "WIDTH", "LEFT", "RIGHT")
        self._pad = self._padding_value(state)
        channels = state.value(PPU.DATA_CUBE_IN_CHANNEL, "CUBE_IN_CHANNEL") + 1
        planes = channels * DTYPES[self._precision].itemsize // ATOM_BYTES
        for axis, side in (("HEIGHT", self._rows), ("WIDTH", self._columns)):
            state.expect(PPU_RDMA[f"RDMA_CUBE_IN_{axis}"], f"CUBE_IN_{axis}", side.inputs - 1, "PPU reads another size")
        state.expect(PPU_RDMA.RDMA_CUBE_IN_CHANNEL, "CUBE_IN_CHANNEL", channels - 1, "PPU reads another size")
        self._source = Region(
            state.word(PPU_RDMA.RDMA_SRC_BASE_ADDR),
            (planes, self._rows.inputs),
            (state.word(PPU_RDMA.RDMA_SRC_SURF_STRIDE), state.word(PPU_RDMA.RDMA_SRC_LINE_STRIDE)),
            self._columns.inputs * ATOM_BYTES,
        )
        row_atoms = self._columns.outputs + state.value(mode, "NOTCH_ADDR")
        self._target = Region(
            state.word(PPU.DST_BASE_ADDR),
            (planes, self._rows.outputs),
            (state.word(PPU.DST_SURF_STRIDE), row_atoms * ATOM_BYTES),
            self._columns.outputs * ATOM_BYTES,
        )

    def run(self, machine: Machine) -> None:
        """See Task."""
        target = machine.memory.target(self._target, PPU_WRITE)
        data = machine.memory.read(self._source, PPU_READ)
        if np.may_share_memory(data, target.array):
            data = data.copy()

        for plane in range(self._target.counts[0]):
            target.array[plane] = self._pool(data[plane])
        target.commit()

    def _pool(self, plane: Bytes) -> Bytes:
        """One plane, uint8 [height, width*16], pooled."""
        kind = DTYPES[self._precision]
        rows, columns = self._rows, self._columns
        lanes = ATOM_BYTES // kind.itemsize
        padded = np.full(
            (rows.before + rows.inputs + rows.after, columns.before + columns.inputs + columns.after, lanes),
            self._pad,
            np.int32 if self._precision == INT8 else np.float32,
        )
        inside = padded[rows.before : rows.before + rows.inputs, columns.before : columns.before + columns.inputs]
        inside[...] = plane.view(kind).reshape(rows.inputs, columns.inputs, lanes)
        combine = {POOL_AVERAGE: np.add, POOL_MAX: np.maximum, POOL_MIN: np.minimum}[self._method]
        result: Array = _taps(_taps(padded, rows, 0, combine), columns, 1, combine)
        if self._method == POOL_AVERAGE:
            if self._precision == INT8:
                result = arithmetic.average_pool(result, columns.kernel, rows.kernel)
            else:
                result = result / (columns.kernel * rows.kernel)
        return result.astype(kind).reshape(rows.outputs, -1).view(np.uint8)

    def _padding_value(self, state: TaskState) -> int | float:
        """What the padded border holds.

        For max and min it never wins: the hardware most likely ignores it there (hardware/ppu.md, Open conflicts).
        """
        if self._method == POOL_AVERAGE:
            raw = state.word(PPU.PADDING_VALUE_1_CFG)
            raw |= state.value(PPU.PADDING_VALUE_2_CFG, "PAD_VALUE_1") << 32
            if self._precision == FP16:
                return float(np.array([raw & 0xFFFF], np.uint16).view(np.float16)[0])
            value = raw - (raw >> (_PAD_BITS - 1) << _PAD_BITS)
            if not -128 <= value < 128:
                raise unsupported(PPU.PADDING_VALUE_1_CFG, "PAD_VALUE_0", value, "not an int8 value")
            return value
        lowest = -128 if self._precision == INT8 else -np.inf
        highest = 127 if self._precision == INT8 else np.inf
        return lowest if self._method == POOL_MAX else highest


def _taps(data: Array, side: Side, axis: int, combine: np.ufunc) -> Array:
    """Combine the `kernel` neighbours of every window along one axis."""
    span = (side.outputs - 1) * side.stride + 1
    result: Array | None = None
    for tap in range(side.kernel):
        index = (slice(None),) * axis + (slice(tap, tap + span, side.stride),)
        result = data[index].copy() if result is None else combine(result, data[index], out=result)
    assert result is not None
    return result


def _side(state: TaskState, size: str, before: str, after: str) -> Side:
    kernel = PPU.POOLING_KERNEL_CFG
    return Side(
        inputs=state.value(PPU[f"DATA_CUBE_IN_{size}"], f"CUBE_IN_{size}") + 1,
        outputs=state.value(PPU[f"DATA_CUBE_OUT_{size}"], f"CUBE_OUT_{size}") + 1,
        kernel=state.value(kernel, f"KERNEL_{size}") + 1,
        stride=state.value(kernel, f"KERNEL_STRIDE_{size}") + 1,
        before=state.value(PPU.POOLING_PADDING_CFG, f"PAD_{before}"),
        after=state.value(PPU.POOLING_PADDING_CFG, f"PAD_{after}"),
    )
