"""Every register and field of the RK3588 NPU, by block and name (source: hardware/registers.csv)."""

from __future__ import annotations

from rocketnpu.hw.registers._model import Access, Block, Field, Register
from rocketnpu.hw.registers.arbiters import DDMA, SDMA
from rocketnpu.hw.registers.cna import CNA
from rocketnpu.hw.registers.core import CORE
from rocketnpu.hw.registers.dpu import DPU
from rocketnpu.hw.registers.dpu_rdma import DPU_RDMA
from rocketnpu.hw.registers.global_enable import GLOBAL
from rocketnpu.hw.registers.pc import PC
from rocketnpu.hw.registers.ppu import PPU
from rocketnpu.hw.registers.ppu_rdma import PPU_RDMA

__all__ = [
    "BLOCKS",
    "BLOCK_BYTES",
    "CNA",
    "CORE",
    "DDMA",
    "DESTINATIONS",
    "DPU",
    "DPU_RDMA",
    "GLOBAL",
    "PC",
    "PPU",
    "PPU_RDMA",
    "SDMA",
    "Access",
    "Block",
    "Field",
    "Register",
    "block_of_target",
    "register_at",
    "register_of",
]

BLOCK_BYTES = 0x1000
"""Every block has 4 KiB of offsets (hardware/registers.md, Windows)."""
DESTINATIONS = (DPU.DST_BASE_ADDR, PPU.DST_BASE_ADDR)
"""Registers that hold the address of what a task writes."""
BLOCKS = (PC, CNA, CORE, DPU, DPU_RDMA, PPU, PPU_RDMA, DDMA, SDMA, GLOBAL)
"""All blocks, by address."""

_BY_OFFSET = {
    register.offset: register for block in BLOCKS for register in block if register is not PC.TARGET_BROADCAST
}
_BY_TARGET = {block.target: block for block in BLOCKS if block.target is not None}
_BY_TARGET_AND_OFFSET = {
    (register.target, register.offset): register
    for block in BLOCKS
    for register in block
    if register.target is not None
}


def register_at(offset: int) -> Register | None:
    """The register at `offset` of the core's window as the CPU sees it: 0x0008 is PC.OPERATION_ENABLE."""
    return _BY_OFFSET.get(offset)


def register_of(target: int, offset: int) -> Register | None:
    """The register that a stream entry writes: (0x0081, 0x0008) is PC.TARGET_BROADCAST (hardware/regcmd.md)."""
    return _BY_TARGET_AND_OFFSET.get((target, offset))


def block_of_target(target: int) -> Block | None:
    """The block that stream entries with this target write to."""
    return _BY_TARGET.get(target)
