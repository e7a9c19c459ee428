"""The frame of a DPU-only ("flying") task: a cube, or a part of it, through the DPU's stages to another cube.

The frame copies int8 values; what a task computes is set on top of it (hardware/regcmd.md, Task list layout; dpu.md,
EW stage). Evidence: the vendor's copies, additions and lookups without convolution, register by register; parts are
the rows that each core copies in its programs for several cores.
"""

from __future__ import annotations

from rocketnpu.compiler.emit.command_list import Address, TaskRegisters
from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, CubeShape
from rocketnpu.compiler.tiling.areas import Area
from rocketnpu.hw import codes
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.registers import DPU, DPU_RDMA
from rocketnpu.hw.sizes import align


def flying_task(
    name: str, whole: CubeShape, source: Address, output: Address, area: Area | None = None
) -> TaskRegisters:
    """A task that copies a cube or an area of it, with BS, BN and EW bypassed and OUT_CVT at gain 1.

    `source` and `output` are where the whole cubes start.
    """
    task = TaskRegisters(name, (DPU, DPU_RDMA))
    shape = whole
    if area is not None:
        shape = CubeShape(area.height, area.width, area.channels)
        source, output = (address + area.start * ATOM_BYTES for address in (source, output))
    pitch = max(whole.pixels, shape.pixels)  # an area of more pixels is a single plane
    channels = align(shape.channels, ATOM_CHANNELS)
    task.set(DPU.FEATURE_MODE_CFG, BURST_LEN=codes.BURST_16, OUTPUT_MODE=codes.OUTPUT_TO_MEMORY, FLYING_MODE=1)
    task.point(DPU.DST_BASE_ADDR, output)
    task.set(DPU.DST_SURF_STRIDE, DST_SURF_STRIDE=pitch)
    task.set(DPU.DATA_CUBE_WIDTH, WIDTH=shape.width - 1)
    task.set(DPU.DATA_CUBE_HEIGHT, HEIGHT=shape.height - 1)
    # In DPU-only tasks both counts must agree (hardware/convolution.md, Must not emit).
    task.set(DPU.DATA_CUBE_CHANNEL, ORIG_CHANNEL=channels - 1, CHANNEL=channels - 1)
    task.set(DPU.BS_CFG, BS_RELU_BYPASS=1, BS_MUL_BYPASS=1, BS_ALU_BYPASS=1, BS_BYPASS=1)
    task.set(DPU.BS_OW_CFG, OD_BYPASS=1)
    task.set(DPU.WDMA_SIZE_0, CHANNEL_WDMA=channels - 1)
    task.set(DPU.WDMA_SIZE_1, HEIGHT_WDMA=shape.height - 1, WIDTH_WDMA=shape.width - 1)
    task.set(DPU.BN_CFG, BN_RELU_BYPASS=1, BN_MUL_BYPASS=1, BN_ALU_BYPASS=1, BN_BYPASS=1)
    task.set(DPU.EW_CFG, EW_RELU_BYPASS=1, EW_OP_CVT_BYPASS=1, EW_LUT_BYPASS=1, EW_OP_BYPASS=1, EW_BYPASS=1)
    task.set(DPU.EW_CVT_SCALE_VALUE, EW_OP_CVT_SCALE=1)
    task.set(DPU.OUT_CVT_SCALE, OUT_CVT_SCALE=1)
    task.set(DPU.SURFACE_ADD, SURF_ADD=pitch)

    task.set(DPU_RDMA.RDMA_DATA_CUBE_WIDTH, WIDTH=shape.width - 1)
    task.set(DPU_RDMA.RDMA_DATA_CUBE_HEIGHT, HEIGHT=shape.height - 1)
    task.set(DPU_RDMA.RDMA_DATA_CUBE_CHANNEL, CHANNEL=channels - 1)
    task.point(DPU_RDMA.RDMA_SRC_BASE_ADDR, source)
    task.set(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DISABLE=1)
    task.set(DPU_RDMA.RDMA_FEATURE_MODE_CFG, BURST_LEN=codes.BURST_16, FLYING_MODE=1)
    task.set(DPU_RDMA.RDMA_SURF_NOTCH, SURF_NOTCH_ADDR=pitch - shape.pixels)
    task.set(DPU_RDMA.RDMA_WEIGHT, E_WEIGHT=1, N_WEIGHT=1, B_WEIGHT=1, M_WEIGHT=1)
    return task
