"""Registers of CORE: the MAC array and its accumulator."""

from __future__ import annotations

from rocketnpu.hw.registers._model import block, field, group_registers, register, reserved, unknown

CORE = block(
    "CORE",
    0x3000,
    *group_registers(0x3000),
    register(
        "MAC_GATING",
        0x300C,
        reserved(31, 27),
        field(
            "SLCG_OP_EN", 26, 0, "clock gating; reset 0x7800800; clearing bit 24 hangs convolutions", reset=0x7800800
        ),
    ),
    register(
        "MISC_CFG",
        0x3010,
        reserved(31, 20),
        field("SOFT_GATING", 19, 14, "0 in all programs"),
        reserved(13, 11),
        field("PROC_PRECISION", 10, 8, "0 int8 1 int16 2 fp16 3 bf16 6 int4 7 tf32"),
        reserved(7, 2),
        field("DW_EN", 1, 1, "1 depthwise"),
        field("QD_EN", 0, 0, "1 = window sum available for CPEND; 1 for int8 output"),
    ),
    register("DATAOUT_SIZE_0", 0x3014, field("DATAOUT_HEIGHT", 31, 16, "-1"), field("DATAOUT_WIDTH", 15, 0, "-1")),
    register(
        "DATAOUT_SIZE_1",
        0x3018,
        reserved(31, 16),
        field("DATAOUT_CHANNEL", 15, 0, "aligned channels-1 (32 int8 direct, 64 int8 depthwise)"),
    ),
    register(
        "CLIP_TRUNCATE",
        0x301C,
        reserved(31, 7),
        field("ROUND_TYPE", 6, 6, "0 half to even 1 half up (TRM)"),
        reserved(5, 5, access="RW"),
        field("CLIP_TRUNCATE", 4, 0, "right shift of the accumulator; 0 in vendor and Mesa programs"),
    ),
    register("UNKNOWN_3030", 0x3030, unknown("VALUE", 31, 0, "not in TRM; vendor and Mesa write 0", reset=None)),
    target=0x0801,
    enable_bit=2,
)
