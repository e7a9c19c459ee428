"""Register values of element-wise operators: DPU-only tasks with one or both operands from memory (hardware/dpu.md).

y = sat8(round(((q1 + A) * C op rne((q2 + B) * EW_SCALE, EW_SHIFT)) * SCALE / 2^SHIFT) + zo): `requantize_elementwise`
says with which values. A stage that would change nothing is bypassed.

Evidence: the vendor's programs for two-tensor additions and subtractions (emulated 99.98 %, at most 1 apart) and for
copies onto another grid (equal). Integer maximum, minimum and multiplication of two tensors were measured exact on
silicon with converters bypassed; the converters beside them are the vendor's multiplication, which no program at hand
shows whole. EW_RELU is the vendor's. The clamp of a copy is BN's, as the vendor has it after convolutions.
"""

from __future__ import annotations

from rocketnpu.compiler.emit.command_list import Address, TaskRegisters
from rocketnpu.compiler.emit.flying import flying_task
from rocketnpu.compiler.npu_ops import Elementwise, Operation, Rescale
from rocketnpu.compiler.requantize.elementwise import ElementwiseValues
from rocketnpu.compiler.tiling.areas import Area
from rocketnpu.hw import codes
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.registers import DPU, DPU_RDMA

EW_ALU_ALGOS = {
    Operation.MAXIMUM: codes.ALU_MAX,
    Operation.MINIMUM: codes.ALU_MIN,
    Operation.SUM: codes.ALU_ADD,
    Operation.PRODUCT: 0,
}
"""EW_ALU_ALGO of each operation (hardware/dpu.md, EW stage); a product does not use the ALU."""


def emit_elementwise(
    form: Elementwise, values: ElementwiseValues, first: Address, second: Address, output: Address, area: Area
) -> TaskRegisters:
    """The task that combines an area of two cubes."""
    task = flying_task(form.output, form.shape, first, output, area)
    _set_first_operand(task, values)
    plain = (values.second_offset, values.ew_scale, values.ew_shift) == (0, 1, 0)
    task.set(
        DPU.EW_CFG,
        EW_CVT_TYPE=1,
        EW_DATA_MODE=codes.PER_PIXEL,
        EDATA_SIZE=codes.ELEMENT_8_BIT,
        EW_EQUAL_EN=int(form.operation in (Operation.MAXIMUM, Operation.MINIMUM)),
        EW_ALU_ALGO=EW_ALU_ALGOS[form.operation],
        EW_RELU_BYPASS=int(form.low <= -128),
        EW_OP_CVT_BYPASS=int(plain),
        EW_LUT_BYPASS=1,
        EW_OP_SRC=1,
        EW_OP_TYPE=int(form.operation is Operation.PRODUCT),
    )
    task.set(DPU.EW_CVT_OFFSET_VALUE, EW_OP_CVT_OFFSET=values.second_offset)
    task.set(DPU.EW_CVT_SCALE_VALUE, EW_OP_CVT_SCALE=values.ew_scale, EW_OP_CVT_SHIFT=values.ew_shift)
    _set_output(task, values, ties_away=form.ties_away)
    task.set(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DATA_MODE=codes.PER_PIXEL, ERDMA_DATA_SIZE=codes.ELEMENT_8_BIT)
    task.point(DPU_RDMA.RDMA_EW_BASE_ADDR, second + area.start * ATOM_BYTES)
    task.set(DPU_RDMA.RDMA_EW_SURF_STRIDE, EW_SURF_STRIDE=form.shape.pixels)
    return task


def emit_copy(form: Rescale, values: ElementwiseValues, source: Address, output: Address, area: Area) -> TaskRegisters:
    """The task that copies an area of a cube onto another grid."""
    task = flying_task(form.output, form.output_shape, source, output, area)
    _set_first_operand(task, values)
    clamps_above = values.relux is not None
    if form.low > -128 or clamps_above:
        task.set(DPU.BN_CFG, BN_RELUX_EN=int(clamps_above), BN_MUL_BYPASS=1, BN_ALU_BYPASS=1)
        task.set(DPU.BN_RELUX_CMP_VALUE, BN_RELUX_CMP_DAT=values.relux or 0)
    _set_output(task, values, ties_away=form.ties_away)
    return task


def _set_first_operand(task: TaskRegisters, values: ElementwiseValues) -> None:
    if (values.first_offset, values.first_multiplier) == (0, 1):
        return
    multiplies = values.first_multiplier != 1
    task.set(DPU.BS_CFG, BS_ALU_ALGO=codes.ALU_ADD, BS_RELU_BYPASS=1, BS_MUL_BYPASS=int(not multiplies))
    task.set(DPU.BS_ALU_CFG, BS_ALU_OPERAND=values.first_offset)
    task.set(DPU.BS_MUL_CFG, BS_MUL_OPERAND=values.first_multiplier if multiplies else 0)


def _set_output(task: TaskRegisters, values: ElementwiseValues, *, ties_away: bool) -> None:
    task.set(DPU.OUT_CVT_OFFSET, OUT_CVT_OFFSET=values.out_offset)
    task.set(DPU.OUT_CVT_SCALE, OUT_CVT_SCALE=values.out_scale)
    task.set(DPU.OUT_CVT_SHIFT, CVT_ROUND=int(ties_away), OUT_CVT_SHIFT=values.out_shift)
