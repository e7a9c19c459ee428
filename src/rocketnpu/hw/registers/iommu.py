"""Registers of one bank of the Rockchip IOMMU v2, relative to the bank (hardware/kernels.md, Rockchip IOMMU v2)."""

from __future__ import annotations

from rocketnpu.hw.registers._model import Access, Register, block, field, register, reserved

BANK_BYTES = 0x100
"""Size of a bank's window."""
BANK_OFFSETS = ((0x9000, 0xA000), (0xA000,), (0xA000,))
"""Where the banks of each core's IOMMU are in the core's window (mainline device tree; hardware/kernels.md)."""

ENABLE_PAGING = 0
"""Values of COMMAND, to FORCE_RESET."""
DISABLE_PAGING = 1
ENABLE_STALL = 2
DISABLE_STALL = 3
ZAP_CACHE = 4
PAGE_FAULT_DONE = 5
FORCE_RESET = 6


def _interrupts(name: str, offset: int, access: Access) -> Register:
    return register(
        name,
        offset,
        reserved(31, 2),
        field("BUS_ERROR", 1, 1, "a table could not be read", access=access),
        field("PAGE_FAULT", 0, 0, access=access),
    )


IOMMU = block(
    "IOMMU",
    0,
    register("DTE_ADDR", 0x00, field("DIRECTORY", 31, 4, "directory address as in an entry"), reserved(3, 0)),
    register(
        "STATUS",
        0x04,
        field("STALL_NOT_ACTIVE", 31, 31, access="RO", reset=1),
        reserved(30, 6),
        field("PAGE_FAULT_IS_WRITE", 5, 5, access="RO"),
        field("REPLAY_BUFFER_EMPTY", 4, 4, access="RO", reset=1),
        field("IDLE", 3, 3, access="RO", reset=1),
        field("STALL_ACTIVE", 2, 2, access="RO"),
        field("PAGE_FAULT_ACTIVE", 1, 1, access="RO"),
        field("PAGING_ENABLED", 0, 0, access="RO"),
    ),
    register(
        "COMMAND",
        0x08,
        reserved(31, 3),
        field("COMMAND", 2, 0, "one of the commands above", access="WO"),
    ),
    register("PAGE_FAULT_ADDR", 0x0C, field("ADDRESS", 31, 0, "IOVA", access="RO")),
    register("ZAP_ONE_LINE", 0x10, field("ADDRESS", 31, 0, "IOVA in the page to forget", access="WO")),
    _interrupts("INT_RAWSTAT", 0x14, "RO"),
    _interrupts("INT_CLEAR", 0x18, "W1C"),
    _interrupts("INT_MASK", 0x1C, "RW"),
    _interrupts("INT_STATUS", 0x20, "RO"),
    register("AUTO_GATING", 0x24, field("AUTO_GATING", 31, 0, "clock gating; reset value not known", reset=None)),
)
