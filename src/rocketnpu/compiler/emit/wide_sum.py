"""Register values of a sum of two int32 cubes: a DPU-only task whose precisions are all int32.

Evidence: measured exact on silicon with saturation, under the condition that all precisions and element sizes agree,
the operand converter is bypassed and OUT_CVT has scale 1 and shift 0 (hardware/dpu.md, EW stage).
"""

from __future__ import annotations

from dataclasses import replace

from rocketnpu.compiler.emit.command_list import Address, TaskRegisters
from rocketnpu.compiler.emit.flying import flying_task
from rocketnpu.compiler.npu_ops import WideSum
from rocketnpu.compiler.tiling.areas import Area
from rocketnpu.hw import codes
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.registers import DPU, DPU_RDMA
from rocketnpu.hw.sizes import INT32_BYTES


def emit_wide_sum(form: WideSum, first: Address, second: Address, output: Address, area: Area) -> TaskRegisters:
    """The task that adds an area of two cubes."""
    lanes = replace(area, channels=area.channels // INT32_BYTES)
    task = flying_task(form.output, form.output_shape, first, output, lanes)
    task.set(DPU.DATA_FORMAT, PROC_PRECISION=codes.INT32, IN_PRECISION=codes.INT32, OUT_PRECISION=codes.INT32)
    task.set(
        DPU.EW_CFG,
        EW_CVT_TYPE=1,
        EW_DATA_MODE=codes.PER_PIXEL,
        EDATA_SIZE=codes.ELEMENT_32_BIT,
        EW_ALU_ALGO=codes.ALU_ADD,
        EW_RELU_BYPASS=1,
        EW_OP_CVT_BYPASS=1,
        EW_LUT_BYPASS=1,
        EW_OP_SRC=1,
    )
    task.set(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DATA_MODE=codes.PER_PIXEL, ERDMA_DATA_SIZE=codes.ELEMENT_32_BIT)
    task.point(DPU_RDMA.RDMA_EW_BASE_ADDR, second + area.start * ATOM_BYTES)
    task.set(DPU_RDMA.RDMA_EW_SURF_STRIDE, EW_SURF_STRIDE=form.output_shape.pixels)
    task.set(
        DPU_RDMA.RDMA_FEATURE_MODE_CFG,
        BURST_LEN=codes.BURST_16,
        FLYING_MODE=1,
        IN_PRECISION=codes.INT32,
        PROC_PRECISION=codes.INT32,
    )
    return task
