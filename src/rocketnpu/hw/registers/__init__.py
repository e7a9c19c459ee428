"""Every register and field of the RK3588 NPU, by block and name.

The table is `registers.csv` in this folder; hardware/registers.md explains the registers that matter. `_table.py`
reads the table, `_model.py` holds its nouns. `python -m rocketnpu.hw.registers` prints docs/hardware/register-list.md.
"""

from __future__ import annotations

from rocketnpu.hw.registers._model import Access, Block, Field, Register
from rocketnpu.hw.registers._table import read_blocks

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
    "IOMMU",
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

_BLOCKS_BY_NAME = read_blocks()
PC = _BLOCKS_BY_NAME["PC"]
CNA = _BLOCKS_BY_NAME["CNA"]
CORE = _BLOCKS_BY_NAME["CORE"]
DPU = _BLOCKS_BY_NAME["DPU"]
DPU_RDMA = _BLOCKS_BY_NAME["DPU_RDMA"]
PPU = _BLOCKS_BY_NAME["PPU"]
PPU_RDMA = _BLOCKS_BY_NAME["PPU_RDMA"]
DDMA = _BLOCKS_BY_NAME["DDMA"]
SDMA = _BLOCKS_BY_NAME["SDMA"]
GLOBAL = _BLOCKS_BY_NAME["GLOBAL"]
IOMMU = _BLOCKS_BY_NAME["IOMMU"]
"""One bank of the Rockchip IOMMU v2; its offsets are relative to the bank (iommu.py)."""

BLOCK_BYTES = 0x1000
"""Every block has 4 KiB of offsets (hardware/registers.md, Windows)."""
DESTINATIONS = (DPU.DST_BASE_ADDR, PPU.DST_BASE_ADDR)
"""Registers that hold the address of what a task writes."""
BLOCKS = (PC, CNA, CORE, DPU, DPU_RDMA, PPU, PPU_RDMA, DDMA, SDMA, GLOBAL)
"""All blocks of a core's window, by address."""

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
