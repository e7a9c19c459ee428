"""Registers of PPU_RDMA: the read engine of the PPU."""

from __future__ import annotations

from rocketnpu.hw.registers._model import block, field, group_registers, register, reserved

PPU_RDMA = block(
    "PPU_RDMA",
    0x7000,
    *group_registers(0x7000, "RDMA_"),
    register("RDMA_CUBE_IN_WIDTH", 0x700C, reserved(31, 13), field("CUBE_IN_WIDTH", 12, 0, "-1")),
    register("RDMA_CUBE_IN_HEIGHT", 0x7010, reserved(31, 13), field("CUBE_IN_HEIGHT", 12, 0, "-1")),
    register("RDMA_CUBE_IN_CHANNEL", 0x7014, reserved(31, 13), field("CUBE_IN_CHANNEL", 12, 0, "-1")),
    register("RDMA_SRC_BASE_ADDR", 0x701C, field("SRC_BASE_ADDR", 31, 0, "IOVA 16-byte aligned")),
    register(
        "RDMA_SRC_LINE_STRIDE",
        0x7024,
        field("SRC_LINE_STRIDE", 31, 4, "row pitch, 16-byte units (register value is bytes)"),
        reserved(3, 0),
    ),
    register(
        "RDMA_SRC_SURF_STRIDE",
        0x7028,
        field("SRC_SURF_STRIDE", 31, 4, "plane pitch, 16-byte units (register value is bytes)"),
        reserved(3, 0),
    ),
    register("RDMA_DATA_FORMAT", 0x7030, reserved(31, 2), field("IN_PRECISION", 1, 0, "0 4bit 1 8bit 2 16bit 3 32bit")),
    target=0x8001,
    enable_bit=6,
)
