"""Register values of an element-wise addition: a DPU-only task with both operands from memory (hardware/dpu.md).

y = sat8(round((C * (q1 - z1) + rne((q2 - z2) * EW_SCALE, EW_SHIFT)) * SCALE / 2^SHIFT) + zo), with C near 2^14,
C * SCALE / 2^SHIFT = s1 / so and EW_SCALE / 2^EW_SHIFT * SCALE / 2^SHIFT = s2 / so. SCALE is chosen so that both hold
best; the value before the last rounding is off by less than 2^-12 steps where s1 <= so, and the result by at most 1.

Evidence: the vendor's programs for two-tensor additions and subtractions (emulated 99.98 %, at most 1 apart). The
upper clamp of a fused activation (EW_RELUX) stands on the register description alone.
"""

from __future__ import annotations

from rocketnpu.compiler.commands import Address, TaskRegisters
from rocketnpu.compiler.lowered import ATOM_CHANNELS, Addition
from rocketnpu.compiler.requantize import AdditionScales
from rocketnpu.hw.registers import DPU, DPU_RDMA
from rocketnpu.hw.sizes import align

ALGO_ADD = 2
BURST_16 = 15
OUTPUT_TO_MEMORY = 2
DATA_SIZE_8_BIT = 1
PER_PIXEL = 1


def emit_addition(
    add: Addition, values: AdditionScales, first: Address, second: Address, output: Address
) -> TaskRegisters:
    """The task that adds two whole cubes."""
    task = TaskRegisters(add.output, (DPU, DPU_RDMA))
    shape = add.shape
    channels = align(shape.channels, ATOM_CHANNELS)

    task.set(DPU.FEATURE_MODE_CFG, BURST_LEN=BURST_16, OUTPUT_MODE=OUTPUT_TO_MEMORY, FLYING_MODE=1)
    task.point(DPU.DST_BASE_ADDR, output)
    task.set(DPU.DST_SURF_STRIDE, DST_SURF_STRIDE=shape.pixels)
    task.set(DPU.DATA_CUBE_WIDTH, WIDTH=shape.width - 1)
    task.set(DPU.DATA_CUBE_HEIGHT, HEIGHT=shape.height - 1)
    # In DPU-only tasks both counts must agree (hardware/convolution.md, Must not emit).
    task.set(DPU.DATA_CUBE_CHANNEL, ORIG_CHANNEL=channels - 1, CHANNEL=channels - 1)
    task.set(DPU.BS_CFG, BS_ALU_ALGO=ALGO_ADD, BS_RELU_BYPASS=1)
    task.set(DPU.BS_ALU_CFG, BS_ALU_OPERAND=-add.first_zero_point)
    task.set(DPU.BS_MUL_CFG, BS_MUL_OPERAND=values.first_multiplier)
    task.set(DPU.BS_OW_CFG, OD_BYPASS=1)
    task.set(DPU.WDMA_SIZE_0, CHANNEL_WDMA=channels - 1)
    task.set(DPU.WDMA_SIZE_1, HEIGHT_WDMA=shape.height - 1, WIDTH_WDMA=shape.width - 1)
    task.set(DPU.BN_CFG, BN_RELU_BYPASS=1, BN_MUL_BYPASS=1, BN_ALU_BYPASS=1, BN_BYPASS=1)
    clamps_above = values.relux is not None
    task.set(
        DPU.EW_CFG,
        EW_CVT_TYPE=1,
        EW_DATA_MODE=PER_PIXEL,
        EDATA_SIZE=DATA_SIZE_8_BIT,
        EW_ALU_ALGO=ALGO_ADD,
        EW_RELUX_EN=int(clamps_above),
        EW_RELU_BYPASS=int(add.low <= -128 and not clamps_above),
        EW_LUT_BYPASS=1,
        EW_OP_SRC=1,
    )
    task.set(DPU.EW_CVT_OFFSET_VALUE, EW_OP_CVT_OFFSET=-add.second_zero_point)
    task.set(DPU.EW_CVT_SCALE_VALUE, EW_OP_CVT_SCALE=values.ew_scale, EW_OP_CVT_SHIFT=values.ew_shift)
    if values.relux is not None:
        task.set(DPU.EW_RELUX_CMP_VALUE, EW_RELUX_CMP_DAT=values.relux)
    task.set(DPU.OUT_CVT_OFFSET, OUT_CVT_OFFSET=add.output_zero_point)
    task.set(DPU.OUT_CVT_SCALE, OUT_CVT_SCALE=values.out_scale)
    task.set(DPU.OUT_CVT_SHIFT, CVT_ROUND=int(add.ties_away), OUT_CVT_SHIFT=values.out_shift)
    task.set(DPU.SURFACE_ADD, SURF_ADD=shape.pixels)

    task.set(DPU_RDMA.RDMA_DATA_CUBE_WIDTH, WIDTH=shape.width - 1)
    task.set(DPU_RDMA.RDMA_DATA_CUBE_HEIGHT, HEIGHT=shape.height - 1)
    task.set(DPU_RDMA.RDMA_DATA_CUBE_CHANNEL, CHANNEL=channels - 1)
    task.point(DPU_RDMA.RDMA_SRC_BASE_ADDR, first)
    task.set(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DATA_MODE=PER_PIXEL, ERDMA_DATA_SIZE=DATA_SIZE_8_BIT)
    task.point(DPU_RDMA.RDMA_EW_BASE_ADDR, second)
    task.set(DPU_RDMA.RDMA_EW_SURF_STRIDE, EW_SURF_STRIDE=shape.pixels)
    task.set(DPU_RDMA.RDMA_FEATURE_MODE_CFG, BURST_LEN=BURST_16, FLYING_MODE=1)
    task.set(DPU_RDMA.RDMA_WEIGHT, E_WEIGHT=1, N_WEIGHT=1, B_WEIGHT=1, M_WEIGHT=1)
    return task
