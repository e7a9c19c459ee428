"""Which bytes a task reads and writes, from its registers alone.

Sources: hardware/layouts.md (Feature cube, First layer, Weights, Per-channel operands), dpu.md (Output writer,
Residual add) and ppu.md (Program).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import ModelError
from rocketnpu.hw.codes import (
    ARGB_BASE,
    BF16,
    FP16,
    FP32,
    INT4,
    INT8,
    INT16,
    INT32,
    PER_CHANNEL,
    PER_PIXEL,
    ROWS_PER_LINE_GROUP,
    TF32,
    USE_ALL,
    USE_ALU,
    USE_MUL,
)
from rocketnpu.hw.layouts import ATOM_BYTES, channel_operand_bytes
from rocketnpu.hw.registers import CNA, DPU, DPU_RDMA, PPU, PPU_RDMA, Register
from rocketnpu.hw.rules import RegisterTask
from rocketnpu.inspect.spans import Spans, runs

Role: TypeAlias = Literal["features", "weights", "operands", "element", "output", "padding"]
"""`output` are the planes that hold real channels, `padding` those that the writer fills beyond ORIG_CHANNEL."""

CONSTANT_ROLES: tuple[Role, ...] = ("weights", "operands")

ELEMENT_BITS = {INT8: 8, INT16: 16, FP16: 16, BF16: 16, INT32: 32, FP32: 32, INT4: 4}
"""By the precision codes of DPU and DPU_RDMA (hardware/registers.md)."""
CONVOLUTION_BITS = {INT8: 8, INT16: 16, FP16: 16, BF16: 16, INT4: 4, TF32: 32}
"""By the precision codes of CNA and CORE."""
WIDTH_BITS = {0: 4, 1: 8, 2: 16, 3: 32}
"""By the width codes of PPU_RDMA.IN_PRECISION and ERDMA_DATA_SIZE."""
TO_MEMORY = 2
"""The bit of OUTPUT_MODE that sends the DPU's result to memory."""

Starts: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Access:
    """Runs of `run_bytes` bytes, read or written: `rows` of them, `row_bytes` apart, from each start of `planes`.

    `planes` are int64, in bytes from where `register` points.
    """

    role: Role
    register: Register
    planes: Starts
    rows: int
    row_bytes: int
    run_bytes: int

    @property
    def writes(self) -> bool:
        """Whether the bytes are written."""
        return self.role in ("output", "padding")

    def bounds(self, offset_bytes: int) -> tuple[int, int]:
        """The first byte and the one past the last, when the register points to `offset_bytes`."""
        last_row = (self.rows - 1) * self.row_bytes
        low = offset_bytes + int(self.planes.min()) + min(last_row, 0)
        return low, offset_bytes + int(self.planes.max()) + max(last_row, 0) + self.run_bytes

    def spans(self, offset_bytes: int) -> Spans:
        """The bytes, when the register points to `offset_bytes`."""
        rows, run = (1, self.rows * self.run_bytes) if self.row_bytes == self.run_bytes else (self.rows, self.run_bytes)
        starts = np.unique(self.planes)[:, None] + np.arange(rows, dtype=np.int64) * self.row_bytes
        return runs(starts.reshape(-1) + offset_bytes, run)


def accesses(task: RegisterTask) -> tuple[Access, ...]:
    """All memory accesses of a task but its command list's own.

    Raises ModelError for a register that is not known, or a state whose accesses no source explains.
    """
    found: list[Access] = []
    if task.enables(CNA):
        found += _convolution(task)
    if task.enables(DPU_RDMA):
        found += _dpu_reads(task)
    if task.enables(DPU) and _get(task, DPU.FEATURE_MODE_CFG, "OUTPUT_MODE") & TO_MEMORY:
        found += _dpu_writes(task)
    if task.enables(PPU_RDMA):
        found.append(_pool_read(task))
    if task.enables(PPU):
        found.append(_pool_write(task))
    found = [access for access in found if access.planes.size and access.rows > 0 and access.run_bytes > 0]
    for access in found:
        _word(task, access.register)
    return tuple(found)


def element_is_read(task: RegisterTask) -> bool:
    """Whether the EW stage takes an operand from memory."""
    cfg = DPU.EW_CFG
    active = not _get(task, cfg, "EW_BYPASS") and not _get(task, cfg, "EW_OP_BYPASS") and _get(task, cfg, "EW_OP_SRC")
    return bool(active and not _get(task, DPU_RDMA.RDMA_ERDMA_CFG, "ERDMA_DISABLE"))


def _word(task: RegisterTask, register: Register) -> int:
    if not task.knows(register):
        raise ModelError(f"{register} is not written, neither by this list nor by an earlier one")
    return task.word(register)


def _get(task: RegisterTask, register: Register, field: str) -> int:
    return register.field_value(_word(task, register), field)


def _bits(task: RegisterTask, register: Register, field: str, table: dict[int, int]) -> int:
    code = _get(task, register, field)
    if code not in table:
        raise ModelError(f"{register}.{field} {code} is no known precision: the bytes it moves are unknown")
    return table[code]


def _planes(channels: int, bits: int) -> int:
    return -(-channels * bits // (8 * ATOM_BYTES))


def _steps(count: int, step_bytes: int) -> Starts:
    return np.arange(count, dtype=np.int64) * step_bytes


def _linear(role: Role, register: Register, size_bytes: int) -> Access:
    return Access(role, register, _steps(1, 0), 1, 0, size_bytes)


def _convolution(task: RegisterTask) -> Iterator[Access]:
    if not _get(task, CNA.CBUF_CON0, "DATA_REUSE"):
        yield _features(task)
    if not _get(task, CNA.CBUF_CON0, "WEIGHT_REUSE"):
        yield _linear("weights", CNA.DCOMP_ADDR0, _get(task, CNA.WEIGHT_SIZE0, "WEIGHT_BYTES"))


def _features(task: RegisterTask) -> Access:
    bits = _bits(task, CNA.CONV_CON1, "PROC_PRECISION", CONVOLUTION_BITS)
    width, height = _get(task, CNA.FC_DATA_SIZE0, "DMA_WIDTH"), _get(task, CNA.FC_DATA_SIZE0, "DMA_HEIGHT")
    line, surface = _get(task, CNA.DMA_CON1, "LINE_STRIDE"), _get(task, CNA.DMA_CON2, "SURF_STRIDE")
    argb = _get(task, CNA.CONV_CON1, "ARGB_IN")
    if argb:
        pixel_bytes = (argb - ARGB_BASE) * bits // 8
        if pixel_bytes < 1:
            raise ModelError(f"{CNA.CONV_CON1}.ARGB_IN {argb} is no known dense input")
        row, run = line * pixel_bytes, width * pixel_bytes
        return Access("features", CNA.FEATURE_DATA_ADDR, _steps(1, 0), height, row, run)
    plane_atoms, row_atoms = line + surface, line
    if not _get(task, CNA.CONV_CON1, "GROUP_LINE_OFF"):
        row_atoms = line // ROWS_PER_LINE_GROUP
    elif not surface and width == 1 and height > 1:
        # A row-major matrix (hardware/layouts.md): the atoms of one row follow one another.
        plane_atoms = 1
    planes = _steps(_planes(_get(task, CNA.FC_DATA_SIZE1, "DMA_CHANNEL"), bits), plane_atoms * ATOM_BYTES)
    return Access("features", CNA.FEATURE_DATA_ADDR, planes, height, row_atoms * ATOM_BYTES, width * ATOM_BYTES)


def _dpu_reads(task: RegisterTask) -> Iterator[Access]:
    r = DPU_RDMA
    channels = _get(task, r.RDMA_DATA_CUBE_CHANNEL, "CHANNEL") + 1
    pixels = (_get(task, r.RDMA_DATA_CUBE_WIDTH, "WIDTH") + 1) * (_get(task, r.RDMA_DATA_CUBE_HEIGHT, "HEIGHT") + 1)
    run = pixels * ATOM_BYTES
    mode = r.RDMA_FEATURE_MODE_CFG
    planes = _planes(channels, _bits(task, mode, "IN_PRECISION", ELEMENT_BITS))
    if _get(task, mode, "FLYING_MODE"):
        step = run + _word(task, r.RDMA_SURF_NOTCH)
        yield Access("features", r.RDMA_SRC_BASE_ADDR, _steps(planes, step), 1, 0, run)
        if element_is_read(task):
            yield _element(task, channels, run)
    elif element_is_read(task):
        # A residual operand: MRDMA reads the even planes, ERDMA the odd ones (hardware/dpu.md, Residual add fused). The
        # order is inferred.
        even, odd = run + _word(task, r.RDMA_SURF_NOTCH), run + _word(task, r.RDMA_EW_SURF_NOTCH)
        yield Access("element", r.RDMA_SRC_BASE_ADDR, _steps(-(-planes // 2), even), 1, 0, run)
        yield Access("element", r.RDMA_EW_BASE_ADDR, _steps(planes // 2, odd), 1, 0, run)
    use = _get(task, r.RDMA_BRDMA_CFG, "BRDMA_DATA_USE")
    if use in (USE_ALU, USE_ALL):
        size = 4 * channels if use == USE_ALU else channel_operand_bytes(channels)
        yield _linear("operands", r.RDMA_BS_BASE_ADDR, size)
    if _get(task, r.RDMA_NRDMA_CFG, "NRDMA_DATA_USE") == USE_MUL:
        yield _linear("operands", r.RDMA_BN_BASE_ADDR, 2 * channels)


def _element(task: RegisterTask, channels: int, run_bytes: int) -> Access:
    r = DPU_RDMA
    bits = _bits(task, r.RDMA_ERDMA_CFG, "ERDMA_DATA_SIZE", WIDTH_BITS)
    mode = _get(task, r.RDMA_ERDMA_CFG, "ERDMA_DATA_MODE")
    if mode == PER_CHANNEL:
        return _linear("operands", r.RDMA_EW_BASE_ADDR, -(-channels * bits // 8))
    if mode != PER_PIXEL:
        raise ModelError(f"{r.RDMA_ERDMA_CFG}.ERDMA_DATA_MODE {mode} has no known layout")
    planes = _steps(_planes(channels, bits), _word(task, r.RDMA_EW_SURF_STRIDE))
    return Access("element", r.RDMA_EW_BASE_ADDR, planes, 1, 0, run_bytes)


def _dpu_writes(task: RegisterTask) -> Iterator[Access]:
    """The planes of real channels, then those of the rest of the channel group."""
    width, height = _get(task, DPU.WDMA_SIZE_1, "WIDTH_WDMA") + 1, _get(task, DPU.WDMA_SIZE_1, "HEIGHT_WDMA") + 1
    bits = _bits(task, DPU.DATA_FORMAT, "OUT_PRECISION", ELEMENT_BITS)
    per_pass = _get(task, DPU.BS_OW_CFG, "SIZE_E_0") + 1
    total = _planes(_get(task, DPU.WDMA_SIZE_0, "CHANNEL_WDMA") + 1, bits)
    real = _planes(_get(task, DPU.DATA_CUBE_CHANNEL, "ORIG_CHANNEL") + 1, bits)
    if task.enables(DPU_RDMA) and _get(task, DPU_RDMA.RDMA_SRC_DMA_CFG, "UNPOOLING_EN"):
        # One pass, whose planes are the rows of one output plane (hardware/dpu.md, Output writer).
        total = real = per_pass
    index = np.arange(total, dtype=np.int64)
    planes = index // per_pass * _word(task, DPU.SURFACE_ADD) + index % per_pass * _word(task, DPU.DST_SURF_STRIDE)
    row = (width + _get(task, DPU.DATA_CUBE_NOTCH_ADDR, "NOTCH_ADDR_0")) * ATOM_BYTES
    yield Access("output", DPU.DST_BASE_ADDR, planes[:real], height, row, width * ATOM_BYTES)
    yield Access("padding", DPU.DST_BASE_ADDR, planes[real:], height, row, width * ATOM_BYTES)


def _pool_read(task: RegisterTask) -> Access:
    r = PPU_RDMA
    width = _get(task, r.RDMA_CUBE_IN_WIDTH, "CUBE_IN_WIDTH") + 1
    height = _get(task, r.RDMA_CUBE_IN_HEIGHT, "CUBE_IN_HEIGHT") + 1
    bits = _bits(task, r.RDMA_DATA_FORMAT, "IN_PRECISION", WIDTH_BITS)
    count = _planes(_get(task, r.RDMA_CUBE_IN_CHANNEL, "CUBE_IN_CHANNEL") + 1, bits)
    planes, row = _steps(count, _word(task, r.RDMA_SRC_SURF_STRIDE)), _word(task, r.RDMA_SRC_LINE_STRIDE)
    return Access("features", r.RDMA_SRC_BASE_ADDR, planes, height, row, width * ATOM_BYTES)


def _pool_write(task: RegisterTask) -> Access:
    width = _get(task, PPU.DATA_CUBE_OUT_WIDTH, "CUBE_OUT_WIDTH") + 1
    height = _get(task, PPU.DATA_CUBE_OUT_HEIGHT, "CUBE_OUT_HEIGHT") + 1
    bits = _bits(task, PPU.DATA_FORMAT, "PROC_PRECISION", ELEMENT_BITS)
    count = _planes(_get(task, PPU.DATA_CUBE_OUT_CHANNEL, "CUBE_OUT_CHANNEL") + 1, bits)
    row = (width + _get(task, PPU.OPERATION_MODE_CFG, "NOTCH_ADDR")) * ATOM_BYTES
    planes = _steps(count, _word(task, PPU.DST_SURF_STRIDE))
    return Access("output", PPU.DST_BASE_ADDR, planes, height, row, width * ATOM_BYTES)
