"""Registers of PC: the program controller that fetches command lists."""

from __future__ import annotations

from rocketnpu.hw.registers._model import Access, Register, block, field, register, reserved

_SOURCES = (
    ("CNA_FEATURE", "feature load"),
    ("CNA_WEIGHT", "weight load"),
    ("CNA_CSC", "CSC"),
    ("CORE", "CORE"),
    ("DPU", "DPU done (conv and DPU-only tasks)"),
    ("PPU", "PPU done (pool tasks)"),
)
"""Interrupt sources from bit 0 up, two bits each: register group 0 and 1."""


def _interrupt_register(name: str, offset: int, use: str, access: Access = "W1C", reset: int = 0) -> Register:
    groups = [
        field(f"{source}_{group}", 2 * index + group, 2 * index + group, f"{note}; {use}", access=access, reset=reset)
        for index, (source, note) in enumerate(_SOURCES)
        for group in (0, 1)
    ]
    return register(
        name,
        offset,
        reserved(31, 14),
        field("DMA_WRITE_ERROR", 13, 13, f"DMA write error; {use}", access=access, reset=reset),
        field("DMA_READ_ERROR", 12, 12, f"DMA read error; {use}", access=access, reset=reset),
        *reversed(groups),
    )


PC = block(
    "PC",
    0x0000,
    register(
        "VERSION",
        0x0000,
        field("VERSION", 31, 0, "core id; drivers report VERSION + (VERSION_NUM & 0xffff)", access="RO", reset=None),
    ),
    register(
        "VERSION_NUM",
        0x0004,
        field("VERSION_NUM", 31, 0, "low 16 bits added to VERSION by drivers", access="RO", reset=None),
    ),
    register(
        "OPERATION_ENABLE",
        0x0008,
        reserved(31, 1),
        field("OP_EN", 0, 0, "a CPU write of 1 starts the PC on the task list; streams reach TARGET_BROADCAST here"),
    ),
    register(
        "TARGET_BROADCAST",
        0x0008,
        field(
            "BLOCK_BITMAP", 6, 0, "blocks to start, with the bits of GLOBAL.OPERATION_ENABLE", access="WO", reset=None
        ),
        target=0x0081,
    ),
    register(
        "BASE_ADDRESS",
        0x0010,
        field("PC_SOURCE_ADDR", 31, 4, "IOVA of the register command list; 16-byte aligned"),
        reserved(3, 1),
        field("PC_SEL", 0, 0, "0=PC fetches the list itself (master); 1=slave mode: CPU writes registers directly"),
    ),
    register(
        "REGISTER_AMOUNTS",
        0x0014,
        field("MULTI_CORE_COUNT", 31, 16, "cores-1 in trailers of multi-core convs, else 0; effect unknown"),
        field("PC_DATA_AMOUNT", 15, 0, "RK3588: 64-bit entries / 2 minus 1; ceil((body+4)/2)-1"),
    ),
    _interrupt_register("INTERRUPT_MASK", 0x0020, "1 = enabled", access="RW", reset=1),
    _interrupt_register("INTERRUPT_CLEAR", 0x0024, "write 1 to clear"),
    _interrupt_register("INTERRUPT_STATUS", 0x0028, "masked status"),
    _interrupt_register("INTERRUPT_RAW_STATUS", 0x002C, "unmasked status"),
    register(
        "TASK_CON",
        0x0030,
        reserved(31, 14, "bit 14 written as 1 by both kernel drivers (0x7001 for one task)"),
        field("TASK_COUNT_CLEAR", 13, 13, "write 1: clear the completed-task counter", access="W1C"),
        field("TASK_PP_EN", 12, 12, "1 = prefetch next task registers into the other group"),
        field("TASK_NUMBER", 11, 0, "number of tasks in the chain (raw); 0 tasks = nothing runs"),
    ),
    register(
        "TASK_DMA_BASE_ADDR",
        0x0034,
        field("DMA_BASE_ADDR", 31, 4, "added to feature/weight/DPU/PPU DMA addresses (TRM); drivers write 0"),
        reserved(3, 0),
    ),
    register(
        "TASK_STATUS",
        0x003C,
        reserved(31, 28),
        field(
            "TASK_STATUS",
            27,
            0,
            "completed tasks in the low 12 bits; reads 0xf000 at interrupt time, do not retire on it",
        ),
    ),
    target=0x0101,
)
