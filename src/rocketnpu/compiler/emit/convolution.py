"""Register values of one convolution task (hardware/convolution.md, Minimal int8 program; hardware/dpu.md).

Evidence: the CNA, CORE and RDMA programming is the vendor's, register by register (609 programs). BS MUL with a
scalar operand, ties-away rounding in OUT_CVT and dilation were measured one by one on silicon. BN MUL with a scalar
operand and a shift is what the vendor's programs have before lookup tables; that it rounds like BS is documented, not
measured. The BN offset before a clamp (only RELU_N1_TO_1 needs it) stands on the register description alone. Slopes of
negative values are the vendor's PReLU, as hardware/dpu.md, BN stage, describes its programs; none is at hand. BN
multipliers by channel are read as those slopes are; they multiply positive values too. int32 output was measured on
silicon, with raw accumulators; that BS and BN scale them before is the stages' order, not a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rocketnpu.compiler.emit.command_list import Address, TaskRegisters
from rocketnpu.compiler.emit.constants import ConstantPool
from rocketnpu.compiler.emit.residual import set_residual
from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, Convolution, image_row_pitch
from rocketnpu.compiler.requantize.registers import Requantization
from rocketnpu.compiler.tiling.convolution import (
    Tile,
    aligned_channels,
    kernel_bytes,
    stored_input_channels,
    weight_bytes,
)
from rocketnpu.hw import cbuf, codes, limits
from rocketnpu.hw.layouts import (
    ATOM_BYTES,
    ChannelOperands,
    channel_operand_bytes,
    pack_bias,
    pack_channel_operands,
    pack_depthwise_weights,
    pack_direct_weights,
    pack_multipliers,
)
from rocketnpu.hw.registers import CNA, CORE, DPU, DPU_RDMA
from rocketnpu.hw.sizes import INT32_BYTES, align

CVT_SCALE_BYPASSED = 1
MULTIPLIER_BYTES = 2


@dataclass(frozen=True)
class ConvolutionConstants:
    """Where the packed weights and the per-channel operands of a whole convolution begin; tiles point into them."""

    weights: Address
    operands: Address
    bn_multipliers: Address | None = None


def place_constants(conv: Convolution, values: Requantization, pool: ConstantPool) -> ConvolutionConstants:
    """Pack the weights and operands of all channels."""
    zeros = conv.weight_zero_points.astype(np.int8)
    if conv.depthwise:
        # Lanes past the last channel only feed channels that nobody reads.
        weights = pack_depthwise_weights(values.weights[..., 0].transpose(1, 2, 0), fill=int(zeros[-1]))
    else:
        weights = pack_direct_weights(values.weights, fill=zeros)
    channels = align(conv.output_channels, limits.DEPTHWISE_GROUP if conv.depthwise else limits.DIRECT_OUTPUT_GROUP)
    alu = values.alu.astype(np.int32)
    if values.per_channel:
        addends = -conv.weight_zero_points.astype(np.int16)
        blob = pack_channel_operands(ChannelOperands(alu, addends, values.multipliers.astype(np.int16)), channels)
    else:
        blob = pack_bias(alu, channels)
    by_channel = values.bn_multipliers if values.slopes is None else values.slopes
    if by_channel is None:
        return ConvolutionConstants(pool.add(weights), pool.add(blob))
    multipliers = pool.add(pack_multipliers(by_channel.astype(np.int16), channels))
    return ConvolutionConstants(pool.add(weights), pool.add(blob), multipliers)


def emit_convolution(
    conv: Convolution,
    values: Requantization,
    tile: Tile,
    data: Address,
    output: Address,
    constants: ConvolutionConstants,
    residual: Address | None = None,
) -> TaskRegisters:
    """The task that computes `tile`; `data`, `output` and `residual` are where whole cubes start."""
    task = TaskRegisters(conv.output, (CNA, CORE, DPU, DPU_RDMA))
    _set_cna(task, conv, tile, data, constants.weights + _weight_offset_bytes(conv, tile))
    _set_core(task, conv, tile)
    _set_dpu(task, conv, values, tile, output)
    _set_rdma(task, conv, values, tile, constants.operands)
    if constants.bn_multipliers is not None:
        task.set(DPU_RDMA.RDMA_NRDMA_CFG, NRDMA_DATA_USE=codes.USE_MUL)
        task.point(DPU_RDMA.RDMA_BN_BASE_ADDR, constants.bn_multipliers + tile.c0 * MULTIPLIER_BYTES)
    if residual is not None and values.residual is not None:
        set_residual(task, conv, values.residual, tile, residual)
    return task


def _weight_offset_bytes(conv: Convolution, tile: Tile) -> int:
    """Where the weights of channel c0 begin: groups of kernels follow one another (hardware/layouts.md, Weights)."""
    kernel = kernel_bytes(conv, conv.output_channels)
    return kernel // stored_input_channels(conv, conv.output_channels) * tile.c0 if conv.depthwise else kernel * tile.c0


def _set_cna(task: TaskRegisters, conv: Convolution, tile: Tile, data: Address, weights: Address) -> None:
    shape, window = conv.input_shape, tile.window
    width, height = tile.input_x1 - tile.input_x0, tile.input_y1 - tile.input_y0
    out_width, out_height = window.x1 - window.x0, window.y1 - window.y0
    channels = tile.c1 - tile.c0
    read = channels if conv.depthwise else conv.input_channels
    stored = stored_input_channels(conv, channels)
    first_plane = (conv.first_input_channel + (tile.c0 if conv.depthwise else 0)) // ATOM_CHANNELS
    mode = codes.DEPTHWISE if conv.depthwise else codes.DIRECT
    grains = min(height + conv.kernel_h + tile.pad_top, limits.MAX_FEATURE_GRAINS)
    if conv.image_input:
        dense = codes.ARGB_BASE + conv.input_channels
        task.set(CNA.CONV_CON1, CONV_MODE=mode, ARGB_IN=dense, NONALIGN_DMA=1, GROUP_LINE_OFF=1)
    else:
        task.set(CNA.CONV_CON1, CONV_MODE=mode)
    task.set(CNA.CONV_CON2, FEATURE_GRAINS=grains)
    task.set(
        CNA.CONV_CON3,
        # A stride beyond the field only comes with a single output along that axis, where it has no meaning.
        CONV_X_STRIDE=conv.stride_w if out_width > 1 else 1,
        CONV_Y_STRIDE=conv.stride_h if out_height > 1 else 1,
        ATROUS_X_DILATION=conv.dilation_w - 1,
        ATROUS_Y_DILATION=conv.dilation_h - 1,
    )
    task.set(CNA.DATA_SIZE0, DATAIN_WIDTH=width, DATAIN_HEIGHT=height)
    # The vendor programs the real count modulo 64, which leaves channels above 64 unambiguous (hardware/registers.md).
    task.set(CNA.DATA_SIZE1, DATAIN_CHANNEL_REAL=(read - 1) % 64, DATAIN_CHANNEL=stored)
    task.set(CNA.DATA_SIZE2, DATAOUT_WIDTH=out_width)
    task.set(CNA.DATA_SIZE3, DATAOUT_ATOMICS=out_width * out_height)
    task.set(CNA.WEIGHT_SIZE0, WEIGHT_BYTES=weight_bytes(conv, channels))
    task.set(CNA.WEIGHT_SIZE1, WEIGHT_BYTES_PER_KERNEL=kernel_bytes(conv, channels))
    task.set(
        CNA.WEIGHT_SIZE2,
        WEIGHT_WIDTH=conv.kernel_w,
        WEIGHT_HEIGHT=conv.kernel_h,
        WEIGHT_KERNELS=1 if conv.depthwise else align(channels, 2),
    )
    task.set(
        CNA.CBUF_CON0,
        WEIGHT_REUSE=int(tile.keeps_weights),
        WEIGHT_BANK=tile.weight_banks,
        DATA_BANK=tile.data_banks,
    )
    entries = cbuf.image_entries(width, height) if conv.image_input else cbuf.data_entries_per_row(width, stored)
    task.set(CNA.CBUF_CON1, DATA_ENTRIES=entries)
    task.set(CNA.CVT_CON0, DATA_SIGN=1, CVT_TYPE=1, CVT_BYPASS=1)
    for number in range(4):
        task.set(CNA[f"CVT_CON{number + 1}"], **{f"CVT_SCALE{number}": CVT_SCALE_BYPASSED})
    task.set(CNA.PAD_CON0, PAD_LEFT=tile.pad_left, PAD_TOP=tile.pad_top)
    task.set(CNA.PAD_CON1, PAD_VALUE=(conv.input_zero_point & 0xFF) * 0x01010101)
    task.set(CNA.DMA_CON0, WEIGHT_BURST_LEN=codes.BURST_16, DATA_BURST_LEN=codes.BURST_16)
    if conv.image_input:
        pitch = image_row_pitch(shape)
        task.point(CNA.FEATURE_DATA_ADDR, data + tile.input_y0 * pitch * shape.channels)
        task.set(CNA.DMA_CON1, LINE_STRIDE=pitch)
        task.set(CNA.DMA_CON2, SURF_STRIDE=pitch * (conv.input_height - 1))
    else:
        start = tile.input_y0 * shape.width + tile.input_x0
        task.point(CNA.FEATURE_DATA_ADDR, data + (first_plane * shape.pixels + start) * ATOM_BYTES)
        task.set(CNA.DMA_CON1, LINE_STRIDE=codes.ROWS_PER_LINE_GROUP * shape.width)
        task.set(CNA.DMA_CON2, SURF_STRIDE=shape.pixels - codes.ROWS_PER_LINE_GROUP * shape.width)
    task.set(CNA.FC_DATA_SIZE0, DMA_WIDTH=width, DMA_HEIGHT=height)
    task.set(CNA.FC_DATA_SIZE1, DMA_CHANNEL=stored)
    task.point(CNA.DCOMP_ADDR0, weights)


def _set_core(task: TaskRegisters, conv: Convolution, tile: Tile) -> None:
    window = tile.window
    task.set(CORE.MISC_CFG, DW_EN=int(conv.depthwise), QD_EN=int(conv.fraction_bits is None))
    task.set(CORE.DATAOUT_SIZE_0, DATAOUT_HEIGHT=window.y1 - window.y0 - 1, DATAOUT_WIDTH=window.x1 - window.x0 - 1)
    task.set(CORE.DATAOUT_SIZE_1, DATAOUT_CHANNEL=aligned_channels(conv, tile) - 1)


def _set_dpu(task: TaskRegisters, conv: Convolution, values: Requantization, tile: Tile, output: Address) -> None:
    shape, window = conv.output_shape, tile.window
    width, height = window.x1 - window.x0, window.y1 - window.y0
    channels = aligned_channels(conv, tile)
    wide = conv.fraction_bits is not None
    first_plane = (conv.first_output_channel + tile.c0) * (INT32_BYTES if wide else 1) // ATOM_CHANNELS
    # Output planes per pass minus one: 64 channels for depthwise, 32 for direct (hardware/dpu.md, Output writer).
    size_e = 7 if wide else 3 if conv.depthwise else 1
    task.set(
        DPU.FEATURE_MODE_CFG,
        BURST_LEN=codes.BURST_16,
        CONV_MODE=codes.DEPTHWISE if conv.depthwise else codes.DIRECT,
        OUTPUT_MODE=codes.OUTPUT_TO_MEMORY,
    )
    shift_negative = values.shift + values.slope_shift
    task.set(
        DPU.DATA_FORMAT,
        OUT_PRECISION=codes.INT32 if wide else codes.INT8,
        BS_MUL_SHIFT_VALUE_NEG=shift_negative,
        BN_MUL_SHIFT_VALUE_NEG=values.bn_shift,
    )
    start = first_plane * shape.pixels + window.y0 * shape.width + window.x0
    task.point(DPU.DST_BASE_ADDR, output + start * ATOM_BYTES)
    task.set(DPU.DST_SURF_STRIDE, DST_SURF_STRIDE=shape.pixels)
    task.set(DPU.DATA_CUBE_WIDTH, WIDTH=width - 1)
    task.set(DPU.DATA_CUBE_HEIGHT, HEIGHT=height - 1)
    # Behind a single row, a gap has no meaning.
    notch = 0 if height == 1 and shape.width - width > limits.MAX_NOTCH else shape.width - width
    task.set(DPU.DATA_CUBE_NOTCH_ADDR, NOTCH_ADDR_0=notch, NOTCH_ADDR_1=notch)
    task.set(DPU.DATA_CUBE_CHANNEL, ORIG_CHANNEL=tile.c1 - tile.c0 - 1, CHANNEL=channels - 1)
    task.set(DPU.BS_CFG, BS_ALU_ALGO=codes.ALU_ADD, BS_ALU_SRC=1, BS_RELU_BYPASS=1)
    if values.per_channel:
        task.set(DPU.BS_MUL_CFG, BS_MUL_SRC=1, BS_MUL_SHIFT_VALUE=values.shift)
    else:
        task.set(DPU.BS_MUL_CFG, BS_MUL_OPERAND=int(values.multipliers[0]), BS_MUL_SHIFT_VALUE=values.shift)
        task.set(DPU.BS_OW_OP, OW_OP=-int(conv.weight_zero_points[0]))
    sizes = {f"SIZE_E_{index}": size_e for index in range(3)}
    if wide:
        # CPEND makes every value of an int32 output wrong (hardware/convolution.md, Must not emit).
        task.set(DPU.BS_OW_CFG, **sizes, OD_BYPASS=1)
    else:
        task.set(DPU.BS_OW_CFG, **sizes, OW_SRC=int(values.per_channel))
    task.set(DPU.WDMA_SIZE_0, CHANNEL_WDMA=channels - 1)
    task.set(DPU.WDMA_SIZE_1, HEIGHT_WDMA=height - 1, WIDTH_WDMA=width - 1)
    _set_bn(task, values)
    task.set(DPU.EW_CFG, EW_RELU_BYPASS=1, EW_OP_CVT_BYPASS=1, EW_LUT_BYPASS=1, EW_OP_BYPASS=1, EW_BYPASS=1)
    task.set(DPU.EW_CVT_SCALE_VALUE, EW_OP_CVT_SCALE=1)
    task.set(DPU.OUT_CVT_OFFSET, OUT_CVT_OFFSET=values.out_offset)
    task.set(DPU.OUT_CVT_SCALE, OUT_CVT_SCALE=values.out_scale)
    task.set(DPU.OUT_CVT_SHIFT, CVT_ROUND=int(values.ties_away), OUT_CVT_SHIFT=values.out_shift)
    task.set(DPU.SURFACE_ADD, SURF_ADD=shape.pixels * (size_e + 1))


def _set_bn(task: TaskRegisters, values: Requantization) -> None:
    if values.slopes is not None:
        task.set(DPU.BN_CFG, BN_RELU_BYPASS=1, BN_MUL_PRELU=1, BN_ALU_BYPASS=1)
        task.set(DPU.BN_MUL_CFG, BN_MUL_SRC=1)
        return
    by_channel = values.bn_multipliers is not None
    multiplies = values.bn_multiplier is not None or by_channel
    if not (values.relu or multiplies):
        task.set(DPU.BN_CFG, BN_RELU_BYPASS=1, BN_MUL_BYPASS=1, BN_ALU_BYPASS=1, BN_BYPASS=1)
        return
    task.set(
        DPU.BN_CFG,
        BN_ALU_ALGO=codes.ALU_ADD if values.bn_offset else 0,
        BN_RELUX_EN=int(values.relux is not None),
        BN_RELU_BYPASS=int(not values.relu),
        BN_MUL_BYPASS=int(not multiplies),
        BN_ALU_BYPASS=int(not values.bn_offset),
    )
    task.set(DPU.BN_ALU_CFG, BN_ALU_OPERAND=values.bn_offset)
    if by_channel:
        task.set(DPU.BN_MUL_CFG, BN_MUL_SRC=1)
    else:
        task.set(DPU.BN_MUL_CFG, BN_MUL_OPERAND=values.bn_multiplier or 0, BN_MUL_SHIFT_VALUE=values.bn_shift)
    task.set(DPU.BN_RELUX_CMP_VALUE, BN_RELUX_CMP_DAT=values.relux or 0)


def _set_rdma(task: TaskRegisters, conv: Convolution, values: Requantization, tile: Tile, operands: Address) -> None:
    window, channels = tile.window, aligned_channels(conv, tile)
    offset_bytes = channel_operand_bytes(tile.c0) if values.per_channel else tile.c0 * INT32_BYTES
    task.set(DPU_RDMA.RDMA_DATA_CUBE_WIDTH, WIDTH=window.x1 - window.x0 - 1)
    task.set(DPU_RDMA.RDMA_DATA_CUBE_HEIGHT, HEIGHT=window.y1 - window.y0 - 1)
    task.set(DPU_RDMA.RDMA_DATA_CUBE_CHANNEL, CHANNEL=channels - 1)
    task.set(DPU_RDMA.RDMA_BRDMA_CFG, BRDMA_DATA_USE=codes.USE_ALL if values.per_channel else codes.USE_ALU)
    task.point(DPU_RDMA.RDMA_BS_BASE_ADDR, operands + offset_bytes)
    task.set(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DISABLE=1)
    task.set(
        DPU_RDMA.RDMA_FEATURE_MODE_CFG,
        BURST_LEN=codes.BURST_16,
        MRDMA_DISABLE=1,
        CONV_MODE=codes.DEPTHWISE if conv.depthwise else codes.DIRECT,
    )
    task.set(DPU_RDMA.RDMA_WEIGHT, E_WEIGHT=1, N_WEIGHT=1, B_WEIGHT=1, M_WEIGHT=1)
