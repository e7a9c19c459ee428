"""The vendor's convolutions by the formulas and layouts of `hw` alone, without the emulator.

Weights and operands are decoded from the container, register values from the one-core task, and the arithmetic of
hardware/dpu.md is applied to the recorded input.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketnpu.hw import arithmetic
from rocketnpu.hw.layouts import (
    pad_lane_bytes,
    unpack_bias,
    unpack_channel_operands,
    unpack_depthwise_weights,
    unpack_direct_weights,
)
from rocketnpu.hw.registers import CNA, DPU, DPU_RDMA, Register
from rocketnpu.program.model import NpuStep, Program
from rocketnpu.rknn import load_rknn

from .patch import body, constant_offset, segment_data
from .record import DIFFERENT_BYTES, Tensors, distance

OutputConvert = Callable[..., NDArray[np.int64]]

CONVOLUTIONS = {
    "a_channel": ["conv1_relu"],
    "a_layer": ["conv1_relu"],
    "a2_channel": ["conv1_relu", "conv2_relu6", "conv3"],
    "a2_layer": ["conv1_relu", "conv2_relu6", "conv3"],
    "b_channel": ["conv_rgb_relu", "dw_relu6", "branch_relu", "gap_2conv0", "gap", "fc_mm"],
    "b_layer": ["conv_rgb_relu", "dw_relu6", "branch_relu", "gap_2conv0", "gap", "fc_mm"],
}
"""Without the residual add and the lookup table."""


def _constant(program: Program, number: int, register: Register) -> NDArray[np.uint8]:
    """The bytes that an address register of a task points to."""
    return segment_data(program, "constants")[constant_offset(program, number, register) :]


def _convolution(program: Program, name: str, recorded: Tensors, output_convert: OutputConvert) -> NDArray[np.int64]:
    """The step's result [1, OC, OH, OW]; `output_convert` is the last stage."""
    step = next(step for step in program.steps if step.name == name)
    assert isinstance(step, NpuStep)
    (number,) = step.tasks[1][0][0]
    values = {command.offset: command.value for command in body(program, number)}

    def get(register: Register, field: str) -> int:
        return register.field_value(values[register.offset], field)

    x = recorded[step.inputs[0]][0].astype(np.int64)
    depthwise = get(CNA.CONV_CON1, "CONV_MODE") == 3
    kw, kh = get(CNA.WEIGHT_SIZE2, "WEIGHT_WIDTH"), get(CNA.WEIGHT_SIZE2, "WEIGHT_HEIGHT")
    channels = recorded[name].shape[1]
    buffer = _constant(program, number, CNA.DCOMP_ADDR0)
    if depthwise:
        weights = unpack_depthwise_weights(buffer, kh, kw, channels).astype(np.int64)
    else:
        weights = unpack_direct_weights(buffer, channels, kh, kw, x.shape[0]).astype(np.int64)
    operands = _constant(program, number, DPU_RDMA.RDMA_BS_BASE_ADDR)
    if get(DPU.BS_OW_CFG, "OW_SRC"):
        blocks = unpack_channel_operands(operands, channels)
        bias, zero, multiplier = blocks.alu, blocks.ow.astype(np.int64), blocks.mul
    else:
        bias, zero, multiplier = unpack_bias(operands, channels), np.int64(get(DPU.BS_OW_OP, "OW_OP")), None

    # Right and bottom padding is what the output size reads beyond the input.
    sy, sx = get(CNA.CONV_CON3, "CONV_Y_STRIDE"), get(CNA.CONV_CON3, "CONV_X_STRIDE")
    top, left = get(CNA.PAD_CON0, "PAD_TOP"), get(CNA.PAD_CON0, "PAD_LEFT")
    oh, ow = recorded[name].shape[2:]
    pads = pad_lane_bytes(values[CNA.PAD_CON1.offset], x.shape[0], depthwise).astype(np.int64)
    height, width = max((oh - 1) * sy + kh, top + x.shape[1]), max((ow - 1) * sx + kw, left + x.shape[2])
    padded = np.broadcast_to(pads[:, None, None], (x.shape[0], height, width)).copy()
    padded[:, top : top + x.shape[1], left : left + x.shape[2]] = x
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), axis=(1, 2))
    windows = windows[:, : (oh - 1) * sy + 1 : sy, : (ow - 1) * sx + 1 : sx]
    if depthwise:
        accumulator = np.einsum("cyxhw,hwc->cyx", windows, weights + zero)
    else:
        full = weights + np.broadcast_to(zero, channels)[:, None, None, None]
        accumulator = np.einsum("cyxhw,ohwc->oyx", windows, full, optimize=True)

    value = accumulator + bias[:, None, None]
    if multiplier is not None:
        shift, negative = get(DPU.BS_MUL_CFG, "BS_MUL_SHIFT_VALUE"), get(DPU.DATA_FORMAT, "BS_MUL_SHIFT_VALUE_NEG")
        value = arithmetic.multiply_shift(value, multiplier[:, None, None], shift, negative)
    if not get(DPU.BN_CFG, "BN_RELU_BYPASS"):
        value = arithmetic.relu(value)
        if get(DPU.BN_CFG, "BN_RELUX_EN"):
            value = arithmetic.relux(value, values[DPU.BN_RELUX_CMP_VALUE.offset])
    scale, shift = get(DPU.OUT_CVT_SCALE, "OUT_CVT_SCALE"), get(DPU.OUT_CVT_SHIFT, "OUT_CVT_SHIFT")
    return output_convert(value, scale, shift, get(DPU.OUT_CVT_OFFSET, "OUT_CVT_OFFSET"))[None]


def _different(name: str, vendor: dict[str, bytes], recorded: Tensors, output_convert: OutputConvert) -> dict[str, int]:
    """Bytes that differ from the record, by convolution; checks that none differs by more than 1."""
    program = load_rknn(vendor[name], name)
    different: dict[str, int] = {}
    for convolution in CONVOLUTIONS[name]:
        result = _convolution(program, convolution, recorded, output_convert)
        off = distance(result.astype(np.int8), recorded[convolution])
        assert off.max() <= 1, convolution
        different[convolution] = int(np.count_nonzero(off))
    return different


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_the_formulas_give_the_recorded_tensors(
    name: str, vendor: dict[str, bytes], recorded: dict[str, Tensors]
) -> None:
    different = _different(name, vendor, recorded[name], arithmetic.output_convert)
    assert sum(different.values()) <= DIFFERENT_BYTES[name], different
    assert different.get("gap", 0) == different.get("fc_mm", 0) == 0


def test_rounding_down_in_the_output_converter_leaves_the_record(
    vendor: dict[str, bytes], recorded: dict[str, Tensors]
) -> None:
    def floor(value: NDArray[np.int64], scale: int, shift: int, offset: int) -> NDArray[np.int64]:
        return arithmetic.saturate((value * scale >> shift) + offset, 8)

    different = _different("a_layer", vendor, recorded["a_layer"], floor)
    assert different["conv1_relu"] > 1000
