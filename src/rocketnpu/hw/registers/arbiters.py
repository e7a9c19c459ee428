"""Registers of DDMA and SDMA: the bus arbiters towards DRAM and SRAM; known software leaves them at reset."""

from __future__ import annotations

from rocketnpu.hw.registers._model import Block, block, field, register, reserved


def _arbiter(name: str, base: int) -> Block:
    return block(
        name,
        base,
        register(
            "CFG_OUTSTANDING",
            base,
            reserved(31, 16),
            field("WR_OS_CNT", 15, 8, "reads 0x0f idle"),
            field("RD_OS_CNT", 7, 0, "reads 0xff idle"),
        ),
        register(
            "RD_WEIGHT_0",
            base + 0x04,
            field("RD_WEIGHT_PDP", 31, 24, "arbiter weight; 1"),
            field("RD_WEIGHT_DPU", 23, 16),
            field("RD_WEIGHT_KERNEL", 15, 8),
            field("RD_WEIGHT_FEATURE", 7, 0),
        ),
        register(
            "WR_WEIGHT_0",
            base + 0x08,
            reserved(31, 16),
            field("WR_WEIGHT_PDP", 15, 8),
            field("WR_WEIGHT_DPU", 7, 0),
        ),
        register(
            "CFG_ID_ERROR",
            base + 0x0C,
            reserved(31, 10),
            field("WR_RESP_ID", 9, 6),
            reserved(5, 5),
            field("RD_RESP_ID", 4, 0),
        ),
        register(
            "RD_WEIGHT_1",
            base + 0x10,
            reserved(31, 8),
            field("RD_WEIGHT_PC", 7, 0),
        ),
        register(
            "CFG_DMA_FIFO_CLR",
            base + 0x14,
            reserved(31, 1),
            field("DMA_FIFO_CLR", 0, 0),
        ),
        register(
            "CFG_DMA_ARB",
            base + 0x18,
            reserved(31, 10),
            field("WR_ARBIT_MODEL", 9, 9),
            field("RD_ARBIT_MODEL", 8, 8),
            reserved(7, 7, access="RW"),
            field("WR_FIX_ARB", 6, 4),
            reserved(3, 3),
            field("RD_FIX_ARB", 2, 0),
        ),
        register(
            "CFG_DMA_RD_QOS",
            base + 0x20,
            reserved(31, 10),
            field("RD_PC_QOS", 9, 8),
            field("RD_PPU_QOS", 7, 6),
            field("RD_DPU_QOS", 5, 4),
            field("RD_KERNEL_QOS", 3, 2),
            field("RD_FEATURE_QOS", 1, 0),
        ),
        register(
            "CFG_DMA_RD_CFG",
            base + 0x24,
            reserved(31, 13),
            field("RD_ARLOCK", 12, 12),
            field("RD_ARCACHE", 11, 8),
            field("RD_ARPROT", 7, 5),
            field("RD_ARBURST", 4, 3),
            field("RD_ARSIZE", 2, 0),
        ),
        register(
            "CFG_DMA_WR_CFG",
            base + 0x28,
            reserved(31, 13),
            field("WR_AWLOCK", 12, 12),
            field("WR_AWCACHE", 11, 8),
            field("WR_AWPROT", 7, 5),
            field("WR_AWBURST", 4, 3),
            field("WR_AWSIZE", 2, 0),
        ),
        register(
            "CFG_DMA_WSTRB",
            base + 0x2C,
            field("WR_WSTRB", 31, 0),
        ),
        register(
            "CFG_STATUS",
            base + 0x30,
            reserved(31, 9),
            field("IDEL", 8, 8),
            reserved(7, 0),
        ),
    )


DDMA = _arbiter("DDMA", 0x8000)
SDMA = _arbiter("SDMA", 0x9000)
