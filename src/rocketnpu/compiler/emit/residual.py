"""Register values of the operand that a convolution adds in its own task (hardware/dpu.md, Residual add fused).

MRDMA reads the operand's even planes and ERDMA the odd ones, the writer's two planes together. Evidence: the vendor's
programs, register by register, with two planes and rows cut. They leave out what keeps the model's rounding between:
BN's ALU, multiplier and clamp together, and an operand converter that multiplies first (the vendor's adds first), stand
on the register description alone: the form is compiled with `experimental` only.
"""

from __future__ import annotations

from rocketnpu.compiler.emit.command_list import Address, TaskRegisters
from rocketnpu.compiler.npu_ops import Convolution
from rocketnpu.compiler.requantize.registers import ResidualValues
from rocketnpu.compiler.tiling.convolution import Tile
from rocketnpu.hw import codes
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.registers import DPU, DPU_RDMA

MULTIPLY_FIRST = 0
"""EW_CVT_TYPE: the offset is added after the multiplication."""


def set_residual(task: TaskRegisters, conv: Convolution, values: ResidualValues, tile: Tile, operand: Address) -> None:
    """Let a convolution's task add the cube at `operand`, which has the output's shape."""
    pitch, width = conv.output_shape.pixels, conv.output_shape.width
    rows = tile.window.y1 - tile.window.y0
    even = operand + tile.window.y0 * width * ATOM_BYTES
    task.set(
        DPU.EW_CFG,
        EW_CVT_TYPE=MULTIPLY_FIRST,
        EW_DATA_MODE=codes.PER_PIXEL,
        EDATA_SIZE=codes.ELEMENT_8_BIT,
        EW_ALU_ALGO=codes.ALU_ADD,
        EW_RELU_BYPASS=int(not values.relu),
        EW_LUT_BYPASS=1,
        EW_OP_SRC=1,
    )
    task.set(DPU.EW_CVT_OFFSET_VALUE, EW_OP_CVT_OFFSET=values.offset)
    task.set(DPU.EW_CVT_SCALE_VALUE, EW_OP_CVT_SCALE=values.scale)
    task.point(DPU_RDMA.RDMA_SRC_BASE_ADDR, even)
    task.set(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DATA_MODE=codes.PER_PIXEL, ERDMA_DATA_SIZE=codes.ELEMENT_8_BIT)
    task.point(DPU_RDMA.RDMA_EW_BASE_ADDR, even + pitch * ATOM_BYTES)
    task.set(DPU_RDMA.RDMA_EW_SURF_STRIDE, EW_SURF_STRIDE=pitch)
    task.set(DPU_RDMA.RDMA_FEATURE_MODE_CFG, BURST_LEN=codes.BURST_16, COMB_USE=codes.COMBINE_RESIDUAL)
    task.set(DPU_RDMA.RDMA_SURF_NOTCH, SURF_NOTCH_ADDR=2 * pitch - rows * width)
    task.set(DPU_RDMA.RDMA_EW_SURF_NOTCH, EW_SURF_NOTCH=2 * pitch - rows * width)
