"""Tasks without CNA and CORE: the DPU on a tensor from memory (element-wise, lookup, copy), and nearest upsampling."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.byte_table import PAIRS, ByteTable
from rocketnpu.emulator.dpu import WDMA, ChannelValues, decode_output, element_from_memory, integer_steps, uses_lut
from rocketnpu.emulator.dpu_rdma import BRDMA, NRDMA, Planes, Reader, decode_reader
from rocketnpu.emulator.faults import unsupported
from rocketnpu.emulator.lut import LutMemory
from rocketnpu.emulator.machine import Machine
from rocketnpu.emulator.memory import ATOM, Bytes
from rocketnpu.emulator.pipeline import Pipeline
from rocketnpu.emulator.precision import DTYPES, precision
from rocketnpu.emulator.state import TaskState
from rocketnpu.errors import DeviceError
from rocketnpu.hw.codes import INT8, INT16, INT32, USE_ALL
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.registers import DPU, DPU_RDMA

Array: TypeAlias = NDArray[Any]

_TILE_ELEMENTS = 1 << 16
_MAGNITUDE = {INT8: 1 << 7, INT16: 1 << 15, INT32: 1 << 31}


def decode_flying(state: TaskState) -> FlyingTask | UpsampleTask:
    """The DPU-only task that the registers describe; raises DeviceError for states that are not known."""
    state.expect(DPU.FEATURE_MODE_CFG, "FLYING_MODE", 1, "without CNA and CORE the input comes from memory")
    reader = decode_reader(state, element_active=element_from_memory(state))
    assert reader.source is not None
    return UpsampleTask(state, reader, reader.source) if reader.upsamples else FlyingTask(state, reader, reader.source)


class FlyingTask:
    """All DPU stages on a cube of integers."""

    kept_bytes = PAIRS
    """At most: its table."""

    def __init__(self, state: TaskState, reader: Reader, source: Planes) -> None:
        self._state, self._reader, self._source = state, reader, source
        self._output = decode_output(state)
        size = (self._output.width, self._output.height, self._output.channels)
        if size != (reader.width, reader.height, reader.channels):
            raise DeviceError(
                f"{DPU_RDMA.RDMA_DATA_CUBE_WIDTH}: DPU_RDMA's cube {(reader.width, reader.height, reader.channels)} "
                f"differs from the DPU's {size}"
            )
        code = precision(state, DPU.DATA_FORMAT, "IN_PRECISION", (INT8, INT16, INT32))
        if source.precision != code:
            raise unsupported(DPU.DATA_FORMAT, "IN_PRECISION", code, f"DPU_RDMA reads precision {source.precision}")
        state.expect(DPU.DATA_FORMAT, "PROC_PRECISION", code, "the precisions of a DPU-only task agree")
        self._found_table: tuple[bytes, ByteTable | None] | None = None

    def run(self, machine: Machine) -> None:
        """See Task."""
        memory, out, element = machine.memory, self._output, self._reader.element
        target = memory.target(out.region, WDMA)
        data = [_detached(part, target.array) for part in self._source.read(memory)]
        element_data = [_detached(part, target.array) for part in element.read(memory)] if element else []
        table = self._table(machine.lut)
        if table is None:
            self._run_stages(machine, data, element_data, target.array)
        else:
            # Every byte keeps its place: planes are read and written as they are.
            target.array[...] = table.look_up(data[0], *element_data).reshape(target.array.shape)
        target.commit()

    def _run_stages(self, machine: Machine, data: list[Bytes], element_data: list[Bytes], target: Bytes) -> None:
        workspace, out, element = machine.workspace, self._output, self._reader.element
        pipeline = self._pipeline(self._operands(machine), machine.lut)
        rows = max(_TILE_ELEMENTS // (out.width * out.channels), 1)
        for first in range(0, out.height, rows):
            last = min(first + rows, out.height)
            span = (first * out.width, last * out.width, slice(0, out.channels))
            shape = ((last - first) * out.width, out.channels)
            values: Array = workspace.take("values", shape, DTYPES[self._source.precision])
            self._source.gather(data, *span, values.view(np.uint8))
            operand: Array | None = None
            if element:
                operand = workspace.take("element", shape, DTYPES[element.precision])
                element.gather(element_data, *span, operand.view(np.uint8))
            out.store(target, pipeline.run(values, operand, workspace), first, 0)

    def _pipeline(self, values: ChannelValues, lut: LutMemory) -> Pipeline:
        steps = integer_steps(self._state, values, lut, slice(0, self._output.channels))
        return Pipeline(steps, _MAGNITUDE[self._source.precision], DTYPES[self._output.precision])

    def _table(self, lut: LutMemory) -> ByteTable | None:
        """What becomes of every byte, or pair of bytes; None where channels differ, elements are wider, or few."""
        if self._has_channel_operands:
            return None
        loaded = lut.tables.tobytes() if uses_lut(self._state) else b""
        if self._found_table is None or self._found_table[0] != loaded:
            out = self._output
            pipeline = self._pipeline(ChannelValues(), lut)
            if self._reader.element is None:
                table = pipeline.byte_table()
            else:
                table = pipeline.pair_table() if out.width * out.height * out.channels >= PAIRS else None
            self._found_table = loaded, table
        return self._found_table[1]

    @property
    def _has_channel_operands(self) -> bool:
        channels = self._output.channels
        return self._reader.bs_region(channels) is not None or self._reader.bn_region(channels) is not None

    def _operands(self, machine: Machine) -> ChannelValues:
        reader, channels = self._reader, self._output.channels
        alu = mul = bn_mul = None
        region = reader.bs_region(channels)
        if region is not None:
            read = reader.bs_operands(machine.memory.read(region, BRDMA), channels)
            alu = read.alu.astype(np.int64)
            mul = read.mul.astype(np.int64) if reader.bs_use == USE_ALL else None
        region = reader.bn_region(channels)
        if region is not None:
            bn_mul = reader.bn_multipliers(machine.memory.read(region, NRDMA), channels).astype(np.int64)
        return ChannelValues(alu, mul, bn_mul)


class UpsampleTask:
    """Nearest 2x upsampling of int8 atoms read as 8 int16 lanes (hardware/layouts.md; vendor, 14 tasks).

    Every atom is repeated along x; the two planes of the only pass are rows 2y and 2y+1 of one output plane. Only this
    bundle of registers is known, and in it bytes pass unchanged.
    """

    kept_bytes = 0

    def __init__(self, state: TaskState, reader: Reader, source: Planes) -> None:
        self._source = source
        self._output = out = decode_output(state, lane_bytes=2)
        why = "nearest upsampling is only known in the vendor's bundle"
        for register, field, expected in (
            (DPU.DATA_FORMAT, "PROC_PRECISION", INT8),
            (DPU.DATA_FORMAT, "IN_PRECISION", INT16),
            (DPU.DATA_FORMAT, "OUT_PRECISION", INT8),
            (DPU_RDMA.RDMA_FEATURE_MODE_CFG, "IN_PRECISION", INT16),
            (DPU.BS_CFG, "BS_BYPASS", 1),
            (DPU.BN_CFG, "BN_BYPASS", 1),
            (DPU.EW_CFG, "EW_BYPASS", 1),
            (DPU.OUT_CVT_OFFSET, "OUT_CVT_OFFSET", 0),
            (DPU.OUT_CVT_SCALE, "OUT_CVT_SCALE", 1),
            (DPU.OUT_CVT_SHIFT, "OUT_CVT_SHIFT", 0),
            (DPU.BS_OW_CFG, "SIZE_E_0", 1),
            (DPU_RDMA.RDMA_DATA_CUBE_CHANNEL, "CHANNEL", 7),
            (DPU.DATA_CUBE_CHANNEL, "CHANNEL", 15),
            (DPU.DATA_CUBE_WIDTH, "WIDTH", 2 * reader.width - 1),
            (DPU.DATA_CUBE_HEIGHT, "HEIGHT", reader.height - 1),
        ):
            state.expect(register, field, expected, why)
        # One atom of 8 int16 lanes a plane: the 16 channels of the DPU's cube are two planes of 16 bytes.
        region = out.region
        self._region = type(region)(region.address, (2, out.height), region.strides[1:], out.width * ATOM_BYTES)

    def run(self, machine: Machine) -> None:
        """See Task."""
        target = machine.memory.target(self._region, WDMA)
        source: Bytes = _detached(self._source.read(machine.memory)[0], target.array)
        atoms = source.view(ATOM).reshape(self._output.height, -1)
        target.array.view(ATOM)[...] = np.repeat(atoms, 2, axis=1)
        target.commit()


def _detached(data: Bytes, written: Bytes) -> Bytes:
    """`data`, copied if its memory is also written: a task reads what was there before it."""
    return data.copy() if np.may_share_memory(data, written) else data
