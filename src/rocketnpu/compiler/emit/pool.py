"""Register values of a pool: PPU and its reader alone (hardware/ppu.md, Program).

Evidence: the vendor's ten int8 pools, register by register, column tiles included; averages and what padding holds are
from silicon.
"""

from __future__ import annotations

from rocketnpu.compiler.emit.command_list import Address, TaskRegisters
from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, Pool, PoolMethod
from rocketnpu.compiler.tiling.pool import PoolTile
from rocketnpu.hw import arithmetic, codes
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.registers import PPU, PPU_RDMA
from rocketnpu.hw.sizes import align

LOWEST = -128
"""What padding holds: it never wins."""
_PAD_LOW_BITS, _PAD_HIGH_BITS = 32, 3
"""The value is sign-extended over both fields (hardware/ppu.md, Open conflicts)."""


def emit_pool(form: Pool, tile: PoolTile, data: Address, output: Address) -> TaskRegisters:
    """The task of one tile; the addresses are those of whole cubes."""
    task = TaskRegisters(form.output, (PPU, PPU_RDMA))
    pitch_in, pitch_out = form.input_shape.pixels, form.output_shape.pixels
    channels = align(form.output_shape.channels, ATOM_CHANNELS)
    width_in, width_out = tile.input_x1 - tile.input_x0, tile.x1 - tile.x0
    task.set(PPU.DATA_CUBE_IN_WIDTH, CUBE_IN_WIDTH=width_in - 1)
    task.set(PPU.DATA_CUBE_IN_HEIGHT, CUBE_IN_HEIGHT=tile.rows - 1)
    task.set(PPU.DATA_CUBE_IN_CHANNEL, CUBE_IN_CHANNEL=channels - 1)
    task.set(PPU.DATA_CUBE_OUT_WIDTH, CUBE_OUT_WIDTH=width_out - 1)
    task.set(PPU.DATA_CUBE_OUT_HEIGHT, CUBE_OUT_HEIGHT=tile.y1 - tile.y0 - 1)
    task.set(PPU.DATA_CUBE_OUT_CHANNEL, CUBE_OUT_CHANNEL=channels - 1)
    task.set(
        PPU.OPERATION_MODE_CFG,
        NOTCH_ADDR=form.output_shape.width - width_out,
        FLYING_MODE=1,
        POOLING_METHOD=codes.POOL_MAX if form.method is PoolMethod.MAX else codes.POOL_AVERAGE,
    )
    task.set(
        PPU.POOLING_KERNEL_CFG,
        KERNEL_STRIDE_HEIGHT=form.stride_h - 1,
        KERNEL_STRIDE_WIDTH=form.stride_w - 1,
        KERNEL_HEIGHT=form.kernel_h - 1,
        KERNEL_WIDTH=form.kernel_w - 1,
    )
    task.set(
        PPU.POOLING_PADDING_CFG,
        PAD_BOTTOM=tile.pad_bottom,
        PAD_RIGHT=tile.pad_right,
        PAD_TOP=form.pad_top,
        PAD_LEFT=tile.pad_left,
    )
    if form.method is PoolMethod.AVERAGE:
        task.set(PPU.RECIP_KERNEL_WIDTH, RECIP_KERNEL_WIDTH=arithmetic.pool_reciprocal(form.kernel_w))
        task.set(PPU.RECIP_KERNEL_HEIGHT, RECIP_KERNEL_HEIGHT=arithmetic.pool_reciprocal(form.kernel_h))
    else:
        task.set(PPU.PADDING_VALUE_1_CFG, PAD_VALUE_0=LOWEST & (1 << _PAD_LOW_BITS) - 1)
        task.set(PPU.PADDING_VALUE_2_CFG, PAD_VALUE_1=LOWEST >> _PAD_LOW_BITS & (1 << _PAD_HIGH_BITS) - 1)
    task.point(PPU.DST_BASE_ADDR, output + (tile.y0 * form.output_shape.width + tile.x0) * ATOM_BYTES)
    task.set(PPU.DST_SURF_STRIDE, DST_SURF_STRIDE=pitch_out)
    task.set(PPU.DATA_FORMAT, INDEX_ADD=pitch_out, PROC_PRECISION=codes.INT8)
    task.set(PPU.MISC_CTRL, BURST_LEN=codes.POOL_BURST)

    task.set(PPU_RDMA.RDMA_CUBE_IN_WIDTH, CUBE_IN_WIDTH=width_in - 1)
    task.set(PPU_RDMA.RDMA_CUBE_IN_HEIGHT, CUBE_IN_HEIGHT=tile.rows - 1)
    task.set(PPU_RDMA.RDMA_CUBE_IN_CHANNEL, CUBE_IN_CHANNEL=channels - 1)
    start = tile.input_y0 * form.input_shape.width + tile.input_x0
    task.point(PPU_RDMA.RDMA_SRC_BASE_ADDR, data + start * ATOM_BYTES)
    task.set(PPU_RDMA.RDMA_SRC_LINE_STRIDE, SRC_LINE_STRIDE=form.input_shape.width)
    task.set(PPU_RDMA.RDMA_SRC_SURF_STRIDE, SRC_SURF_STRIDE=pitch_in)
    task.set(PPU_RDMA.RDMA_DATA_FORMAT, IN_PRECISION=codes.ELEMENT_8_BIT)
    return task
