"""Values of register fields that stand for something: precisions, modes, uses of operands (hardware/registers.md)."""

from __future__ import annotations

INT8 = 0
INT16 = 1
FP16 = 2
BF16 = 3
INT32 = 4
FP32 = 5
INT4 = 6
"""Precisions of DPU and DPU_RDMA; CNA and CORE share them and have TF32."""
TF32 = 7

HARDWARE_VERSION = 0x46495245
"""VERSION + (VERSION_NUM & 0xffff) of every core: FIRE in ASCII; the parts are not published (hardware/kernels.md)."""

DIRECT = 0
DEPTHWISE = 3
"""CONV_MODE."""

ARGB_BASE = 7
"""ARGB_IN is 7 + channels (hardware/layouts.md, First layer)."""
ROWS_PER_LINE_GROUP = 4
"""LINE_STRIDE counts four rows unless GROUP_LINE_OFF is set (hardware/layouts.md, Feature cube)."""

USE_ALU = 1
USE_CPEND = 2
USE_MUL = 4
"""Bits of BRDMA_DATA_USE and NRDMA_DATA_USE (hardware/layouts.md, Per-channel operands)."""
USE_ALL = USE_ALU | USE_CPEND | USE_MUL
"""Blocks of ALU, CPEND and MUL operands; USE_ALU alone is dense int32, USE_MUL alone dense int16."""

PER_CHANNEL = 0
PER_PIXEL = 1
"""ERDMA_DATA_MODE: one operand for each channel, or a whole cube."""

ELEMENT_8_BIT, ELEMENT_16_BIT, ELEMENT_32_BIT = 1, 2, 3
"""EDATA_SIZE and ERDMA_DATA_SIZE of operands, and IN_PRECISION of PPU_RDMA."""
POOL_AVERAGE, POOL_MAX, POOL_MIN = 0, 1, 2
"""POOLING_METHOD."""
POOL_BURST = 3
"""BURST_LEN of the PPU in every vendor pool."""
ALU_MAX, ALU_MIN, ALU_ADD, ALU_MINUS = 0, 1, 2, 4
"""ALU algorithms of BS, BN and EW; BS and BN know the last two (hardware/registers.md)."""
OUTPUT_TO_MEMORY = 2
"""OUTPUT_MODE: not to the PPU, which no known program feeds."""
COMBINE_RESIDUAL = 5
"""COMB_USE of a convolution with a residual operand: MRDMA reads the even planes, ERDMA the odd ones."""
BURST_16 = 15
"""Burst length fields hold bursts - 1; every known program uses 16."""
