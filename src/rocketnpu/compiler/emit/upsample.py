"""Register values of nearest upsampling by two: a DPU-only task for every plane.

Source: hardware/layouts.md, Nearest 2x upsample in the reader.

The reader takes each atom for 8 lanes of 16 bits and repeats it along the row; what the writer takes for two planes
are rows 2y and 2y + 1 of one plane. Evidence: 14 tasks of the vendor, register by register.
"""

from __future__ import annotations

from collections.abc import Iterator

from rocketnpu.compiler.emit.command_list import Address, TaskRegisters
from rocketnpu.compiler.emit.flying import flying_task
from rocketnpu.compiler.multicore.share import Share
from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, CubeShape, Upsample
from rocketnpu.hw import codes
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.registers import DPU, DPU_RDMA

LANES_16_BIT = ATOM_BYTES // 2
TWO = 1
"""Kernel and stride fields hold size - 1, SIZE_E planes - 1."""


def emit_upsample(form: Upsample, data: Address, output: Address, part: Share) -> Iterator[TaskRegisters]:
    """The tasks of a part, which has whole pairs of rows: one for each plane of 16 channels."""
    shape, out = form.input_shape, form.output_shape
    first, rows = part.y0 // 2, (part.y1 - part.y0) // 2
    for plane in range(part.c0 // ATOM_CHANNELS, -(-part.c1 // ATOM_CHANNELS)):
        source = data + (plane * shape.pixels + first * shape.width) * ATOM_BYTES
        target = output + (plane * out.pixels + part.y0 * out.width) * ATOM_BYTES
        task = flying_task(form.output, CubeShape(rows, out.width, ATOM_CHANNELS), source, target)
        task.set(DPU.DATA_FORMAT, IN_PRECISION=codes.INT16)
        task.set(DPU.BS_OW_CFG, OD_BYPASS=1, SIZE_E_0=TWO, SIZE_E_1=TWO, SIZE_E_2=TWO)
        task.set(DPU.DST_SURF_STRIDE, DST_SURF_STRIDE=out.width)
        task.set(DPU.DATA_CUBE_NOTCH_ADDR, NOTCH_ADDR_0=out.width, NOTCH_ADDR_1=out.width)
        task.set(DPU.SURFACE_ADD, SURF_ADD=out.pixels)
        task.set(DPU_RDMA.RDMA_DATA_CUBE_WIDTH, WIDTH=shape.width - 1)
        task.set(DPU_RDMA.RDMA_DATA_CUBE_CHANNEL, CHANNEL=LANES_16_BIT - 1)
        task.set(DPU_RDMA.RDMA_FEATURE_MODE_CFG, BURST_LEN=codes.BURST_16, FLYING_MODE=1, IN_PRECISION=codes.INT16)
        task.set(
            DPU_RDMA.RDMA_SRC_DMA_CFG,
            UNPOOLING_EN=1,
            KERNEL_WIDTH=TWO,
            KERNEL_HEIGHT=TWO,
            KERNEL_STRIDE_WIDTH=TWO,
            KERNEL_STRIDE_HEIGHT=TWO,
        )
        yield task
