"""DPU_RDMA: where the DPU's operands and its flying input come from (hardware/registers.md, layouts.md, dpu.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rocketnpu.emulator.faults import unsupported
from rocketnpu.emulator.memory import ATOM, Bytes, Memory, Region, linear
from rocketnpu.emulator.precision import DTYPES, precision
from rocketnpu.emulator.state import TaskState
from rocketnpu.hw.codes import COMBINE_RESIDUAL, FP16, INT8, INT16, INT32, PER_PIXEL, USE_ALL, USE_ALU
from rocketnpu.hw.layouts import (
    ATOM_BYTES,
    ChannelOperands,
    channel_operand_bytes,
    unpack_bias,
    unpack_channel_operands,
    unpack_multipliers,
)
from rocketnpu.hw.registers import DPU_RDMA, Register

MRDMA, BRDMA, NRDMA, ERDMA = "DPU_RDMA main read", "DPU_RDMA BS read", "DPU_RDMA BN read", "DPU_RDMA EW read"

_WIDTH_CODES = {1: 1, 2: 2, 3: 4}
"""ERDMA_DATA_SIZE: bytes of an element."""


@dataclass(frozen=True)
class Planes:
    """A cube to read, one region for each read engine that takes turns at its planes, and its element type code."""

    regions: tuple[tuple[str, Region], ...]
    precision: int

    def read(self, memory: Memory) -> list[Bytes]:
        """The bytes of each region, [planes, pixels*16]; raises DeviceError for unmapped ones."""
        return [memory.read(region, unit) for unit, region in self.regions]

    def gather(self, data: list[Bytes], first: int, last: int, channels: slice, out: Bytes) -> None:
        """Pixels first..last-1 of whole-atom `channels` into `out`, uint8 [pixels, channels*e]."""
        lanes = ATOM_BYTES // DTYPES[self.precision].itemsize
        atoms = out.view(ATOM)
        engines = len(data)
        for index, plane in enumerate(range(channels.start // lanes, channels.stop // lanes)):
            atoms[:, index] = data[plane % engines].view(ATOM)[plane // engines, first:last]


@dataclass(frozen=True)
class Reader:
    """What DPU_RDMA reads; None for what is off.

    `source` is the flying input, `element` the EW operand; `upsamples` says that the source is unpooled 2x2.
    """

    width: int
    height: int
    channels: int
    source: Planes | None
    element: Planes | None
    bs_use: int
    bs_address: int
    bn_use: int
    bn_address: int
    upsamples: bool

    def bs_region(self, channels: int) -> Region | None:
        """Where the BS operands of `channels` channels are."""
        if not self.bs_use:
            return None
        size = 4 * channels if self.bs_use == USE_ALU else channel_operand_bytes(channels)
        return linear(self.bs_address, size)

    def bs_operands(self, raw: Bytes, channels: int) -> ChannelOperands:
        """The BS operands in the bytes of `bs_region`; those that are not read are 0."""
        if self.bs_use == USE_ALL:
            return unpack_channel_operands(raw, channels)
        zeros = np.zeros(channels, np.int16)
        return ChannelOperands(unpack_bias(raw, channels), zeros, zeros)

    def bn_region(self, channels: int) -> Region | None:
        """Where the BN multipliers of `channels` channels are."""
        return linear(self.bn_address, 2 * channels) if self.bn_use else None

    def bn_multipliers(self, raw: Bytes, channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
        """The BN multipliers in the bytes of `bn_region`."""
        return unpack_multipliers(raw, channels)


def decode_reader(state: TaskState, *, element_active: bool) -> Reader:
    """What DPU_RDMA's registers describe, after `hw.rules` has passed them.

    `element_active` says whether the DPU wants an operand from memory. Raises DeviceError for states whose effect is
    not known.
    """
    r = DPU_RDMA
    width = state.value(r.RDMA_DATA_CUBE_WIDTH, "WIDTH") + 1
    height = state.value(r.RDMA_DATA_CUBE_HEIGHT, "HEIGHT") + 1
    channels = state.value(r.RDMA_DATA_CUBE_CHANNEL, "CHANNEL") + 1
    mode = r.RDMA_FEATURE_MODE_CFG
    flying, combined = state.flag(mode, "FLYING_MODE"), state.value(mode, "COMB_USE")
    if combined != (0 if flying or not element_active else COMBINE_RESIDUAL):
        raise unsupported(mode, "COMB_USE", combined, "known are 5 for a convolution with a residual operand, else 0")
    if not state.flag(mode, "MRDMA_DISABLE"):
        state.expect(mode, "MRDMA_FP16TOFP32_EN", 0, "input widening is not modelled")
    upsamples = state.flag(r.RDMA_SRC_DMA_CFG, "UNPOOLING_EN")
    if upsamples:
        for name in ("KERNEL_WIDTH", "KERNEL_HEIGHT", "KERNEL_STRIDE_WIDTH", "KERNEL_STRIDE_HEIGHT"):
            state.expect(r.RDMA_SRC_DMA_CFG, name, 1, "only 2x2 unpooling is known")
    size = (width, height, channels)
    source = element = None
    if flying:
        code = precision(state, mode, "IN_PRECISION", (INT8, INT16, FP16, INT32))
        step = width * height * ATOM_BYTES + state.word(r.RDMA_SURF_NOTCH)
        source = _cube(MRDMA, state.word(r.RDMA_SRC_BASE_ADDR), step, size, code)
        if element_active:
            _check_element_size(state, code)
            stride = state.word(r.RDMA_EW_SURF_STRIDE)
            state.expect(r.RDMA_EW_SURF_NOTCH, "EW_SURF_NOTCH", 0, "planes follow EW_SURF_STRIDE")
            element = _cube(ERDMA, state.word(r.RDMA_EW_BASE_ADDR), stride, size, code)
    elif element_active:
        code = precision(state, mode, "IN_PRECISION", (INT8,))
        _check_element_size(state, code)
        element = _residual(state, size, code)
    return Reader(
        width=width,
        height=height,
        channels=channels,
        source=source,
        element=element,
        bs_use=state.value(r.RDMA_BRDMA_CFG, "BRDMA_DATA_USE"),
        bs_address=state.word(r.RDMA_BS_BASE_ADDR),
        bn_use=state.value(r.RDMA_NRDMA_CFG, "NRDMA_DATA_USE"),
        bn_address=state.word(r.RDMA_BN_BASE_ADDR),
        upsamples=upsamples,
    )


def _planes(register: Register, channels: int, code: int) -> int:
    lanes = ATOM_BYTES // DTYPES[code].itemsize
    if channels % lanes:
        raise unsupported(register, "CHANNEL", channels - 1, f"{channels} channels are not whole atoms of {lanes}")
    return channels // lanes


def _cube(unit: str, address: int, step_bytes: int, size: tuple[int, int, int], code: int) -> Planes:
    width, height, channels = size
    planes = _planes(DPU_RDMA.RDMA_DATA_CUBE_CHANNEL, channels, code)
    return Planes(((unit, Region(address, (planes,), (step_bytes,), width * height * ATOM_BYTES)),), code)


def _residual(state: TaskState, size: tuple[int, int, int], code: int) -> Planes:
    """MRDMA reads the even planes and ERDMA the odd ones (hardware/dpu.md, Residual add; the order is inferred)."""
    r = DPU_RDMA
    width, height, channels = size
    planes = _planes(r.RDMA_DATA_CUBE_CHANNEL, channels, code)
    run = width * height * ATOM_BYTES
    even = Region(state.word(r.RDMA_SRC_BASE_ADDR), (-(-planes // 2),), (run + state.word(r.RDMA_SURF_NOTCH),), run)
    odd = Region(state.word(r.RDMA_EW_BASE_ADDR), (planes // 2,), (run + state.word(r.RDMA_EW_SURF_NOTCH),), run)
    return Planes(((MRDMA, even), (ERDMA, odd)), code)


def _check_element_size(state: TaskState, code: int) -> None:
    erdma = DPU_RDMA.RDMA_ERDMA_CFG
    state.expect(erdma, "ERDMA_DATA_MODE", PER_PIXEL, "only whole-cube operands are known")
    size = state.value(erdma, "ERDMA_DATA_SIZE")
    if _WIDTH_CODES.get(size) != DTYPES[code].itemsize:
        raise unsupported(erdma, "ERDMA_DATA_SIZE", size, f"differs from IN_PRECISION {code}")
