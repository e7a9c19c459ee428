"""Registers of GLOBAL: the operation enable bits of all blocks."""

from __future__ import annotations

from rocketnpu.hw.registers._model import block, field, register, reserved

GLOBAL = block(
    "GLOBAL",
    0xF000,
    register(
        "OPERATION_ENABLE",
        0xF008,
        reserved(31, 7),
        field("PPU_RDMA_OP_EN", 6, 6, "block enable; reached through stream target 0x0081"),
        field("PPU_OP_EN", 5, 5, "block enable; reached through stream target 0x0081"),
        field("DPU_RDMA_OP_EN", 4, 4, "block enable; reached through stream target 0x0081"),
        field("DPU_OP_EN", 3, 3, "block enable; reached through stream target 0x0081"),
        field("CORE_OP_EN", 2, 2, "block enable; reached through stream target 0x0081"),
        reserved(1, 1),
        field("CNA_OP_EN", 0, 0, "block enable; reached through stream target 0x0081"),
    ),
)
