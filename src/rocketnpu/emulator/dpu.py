"""DPU: the stages that a task's registers switch on, as steps, and where its output goes (hardware/dpu.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.element_wise import ElementOp, ElementWise, OperandConverter
from rocketnpu.emulator.faults import never_completes, unsupported
from rocketnpu.emulator.lut import LutMemory, table_of
from rocketnpu.emulator.memory import ATOM, Bytes, Region
from rocketnpu.emulator.precision import DTYPES, precision
from rocketnpu.emulator.stages import Add, Clamp, Lookup, Multiply, Operand, OutputConverter, Step, Truncate, scalar
from rocketnpu.emulator.state import TaskState
from rocketnpu.hw import codes
from rocketnpu.hw.codes import FP16, FP32, INT8, INT16, INT32
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.registers import CORE, DPU, Register

WDMA = "DPU write"
_SHIFT_MASK = 63
"""OUT_CVT_SHIFT has six effective bits (hardware/dpu.md, OUT_CVT)."""
_ELEMENT_ALU = {
    codes.ALU_MAX: ElementOp.MAX,
    codes.ALU_MIN: ElementOp.MIN,
    codes.ALU_ADD: ElementOp.ADD,
    codes.ALU_MINUS: ElementOp.MINUS,
}
"""EW_ALU_ALGO of the integer path (hardware/registers.md, DPU; hardware/dpu.md, EW stage)."""
_ELEMENT_MAGNITUDE = {INT8: 1 << 7, INT16: 1 << 15, INT32: 1 << 31}
_EDATA_BYTES = {1: 1, 2: 2, 3: 4}

StageName = Literal["BS", "BN"]


@dataclass(frozen=True)
class ChannelValues:
    """Per-channel operands from memory, int64 [channels] each; None where the task reads none."""

    bs_alu: NDArray[np.int64] | None = None
    bs_mul: NDArray[np.int64] | None = None
    bn_mul: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Output:
    """The output cube in memory: `region` [passes, planes per pass, height] of width*16 bytes."""

    region: Region
    width: int
    height: int
    channels: int
    precision: int

    def store(self, array: Bytes, data: NDArray[np.generic], first_row: int, first_channel: int) -> None:
        """Put `data` [pixels, channels] of whole rows and whole atoms into `array`, the region's bytes."""
        atoms = data.view(ATOM).reshape(-1, self.width, data.shape[1] * data.itemsize // ATOM_BYTES)
        first_plane = first_channel * data.itemsize // ATOM_BYTES
        per_pass = self.region.counts[1]
        target = array.view(ATOM)
        rows = slice(first_row, first_row + atoms.shape[0])
        if first_plane % per_pass == 0 and atoms.shape[2] % per_pass == 0:
            passes = slice(first_plane // per_pass, (first_plane + atoms.shape[2]) // per_pass)
            grouped = atoms.reshape(atoms.shape[0], self.width, -1, per_pass)
            target[passes, :, rows] = grouped.transpose(2, 3, 0, 1)
            return
        for index in range(atoms.shape[2]):
            target[(*divmod(first_plane + index, per_pass), rows)] = atoms[:, :, index]


def decode_output(state: TaskState, lane_bytes: int | None = None) -> Output:
    """The writer's geometry (hardware/dpu.md, Output writer); raises DeviceTimeout for a pass that is never full.

    `lane_bytes` is the size of a channel where it isn't that of the output precision.
    """
    state.expect(
        DPU.FEATURE_MODE_CFG, "OUTPUT_MODE", codes.OUTPUT_TO_MEMORY, "no known program feeds the PPU from the DPU"
    )
    state.expect(DPU.FEATURE_MODE_CFG, "COMB_USE", 0, "the DPU's combine flag has no known use")
    code = precision(state, DPU.DATA_FORMAT, "OUT_PRECISION", (INT8, INT16, INT32, FP16, FP32))
    width = state.value(DPU.DATA_CUBE_WIDTH, "WIDTH") + 1
    height = state.value(DPU.DATA_CUBE_HEIGHT, "HEIGHT") + 1
    channels = state.value(DPU.DATA_CUBE_CHANNEL, "CHANNEL") + 1
    for register, field, expected in (
        (DPU.WDMA_SIZE_0, "CHANNEL_WDMA", channels - 1),
        (DPU.WDMA_SIZE_1, "WIDTH_WDMA", width - 1),
        (DPU.WDMA_SIZE_1, "HEIGHT_WDMA", height - 1),
    ):
        state.expect(register, field, expected, "the writer's cube differs from the DPU's")
    per_pass = state.value(DPU.BS_OW_CFG, "SIZE_E_0") + 1
    bytes_per_pixel = channels * (lane_bytes or DTYPES[code].itemsize)
    if bytes_per_pixel % (per_pass * ATOM_BYTES):
        raise never_completes(f"{channels} channels do not fill passes of {per_pass} planes (SIZE_E {per_pass - 1})")
    passes = bytes_per_pixel // (per_pass * ATOM_BYTES)
    row_atoms = width + state.value(DPU.DATA_CUBE_NOTCH_ADDR, "NOTCH_ADDR_0")
    region = Region(
        state.word(DPU.DST_BASE_ADDR),
        (passes, per_pass, height),
        (state.word(DPU.SURFACE_ADD), state.word(DPU.DST_SURF_STRIDE), row_atoms * ATOM_BYTES),
        width * ATOM_BYTES,
    )
    return Output(region, width, height, channels, code)


def element_from_memory(state: TaskState) -> bool:
    """Whether EW wants an operand from ERDMA."""
    cfg = DPU.EW_CFG
    return not (state.flag(cfg, "EW_BYPASS") or state.flag(cfg, "EW_OP_BYPASS")) and state.flag(cfg, "EW_OP_SRC")


def integer_steps(state: TaskState, values: ChannelValues, lut: LutMemory, channels: slice) -> list[Step]:
    """All steps of an integer task for a range of channels, in the order of hardware/dpu.md.

    Raises DeviceError for settings whose effect is not known.
    """
    steps: list[Step] = []
    steps += _stage(state, "BS", values.bs_alu, values.bs_mul, channels)
    steps += _stage(state, "BN", None, values.bn_mul, channels)
    steps += _element_wise(state, lut)
    steps.append(_output_converter(state))
    return steps


def uses_lut(state: TaskState) -> bool:
    """Whether the steps of an integer task include a lookup."""
    return not state.flag(DPU.EW_CFG, "EW_BYPASS") and not state.flag(DPU.EW_CFG, "EW_LUT_BYPASS")


def truncation(state: TaskState) -> list[Step]:
    """CORE's CLIP_TRUNCATE, before all DPU stages."""
    shift = state.value(CORE.CLIP_TRUNCATE, "CLIP_TRUNCATE")
    return [Truncate(shift, state.flag(CORE.CLIP_TRUNCATE, "ROUND_TYPE"))] if shift else []


def _stage(
    state: TaskState,
    name: StageName,
    alu: NDArray[np.int64] | None,
    mul: NDArray[np.int64] | None,
    channels: slice,
) -> list[Step]:
    """BS or BN: ALU, MUL, ReLU, each unless bypassed."""
    cfg: Register = DPU[f"{name}_CFG"]
    if state.flag(cfg, f"{name}_BYPASS"):
        return []
    steps: list[Step] = []
    if not state.flag(cfg, f"{name}_ALU_BYPASS"):
        algorithm = state.value(cfg, f"{name}_ALU_ALGO")
        if algorithm not in (codes.ALU_ADD, codes.ALU_MINUS):
            raise unsupported(cfg, f"{name}_ALU_ALGO", algorithm, "known are 2 (add) and 4 (minus)")
        register = state.value(DPU[f"{name}_ALU_CFG"], f"{name}_ALU_OPERAND")
        operand = _operand(cfg, f"{name}_ALU_SRC", state.flag(cfg, f"{name}_ALU_SRC"), alu, register, channels)
        steps.append(Add(operand if algorithm == codes.ALU_ADD else Operand(-operand.values)))
    if not state.flag(cfg, f"{name}_MUL_BYPASS"):
        mul_cfg: Register = DPU[f"{name}_MUL_CFG"]
        state.expect(mul_cfg, f"{name}_TRUNCATE_SRC", 0, "shifts from memory are not known to work")
        register = state.value(mul_cfg, f"{name}_MUL_OPERAND")
        from_memory = state.flag(mul_cfg, f"{name}_MUL_SRC")
        operand = _operand(mul_cfg, f"{name}_MUL_SRC", from_memory, mul, register, channels)
        steps.append(
            Multiply(
                operand,
                state.value(mul_cfg, f"{name}_MUL_SHIFT_VALUE"),
                state.value(DPU.DATA_FORMAT, f"{name}_MUL_SHIFT_VALUE_NEG"),
                prelu=state.flag(cfg, f"{name}_MUL_PRELU"),
            )
        )
    steps += relu(state, cfg, f"{name}_", DPU[f"{name}_RELUX_CMP_VALUE"])
    return steps


def relu(state: TaskState, cfg: Register, prefix: str, ceiling: Register) -> list[Step]:
    """The ReLU or ReLUX of a stage, if it is on."""
    if state.flag(cfg, f"{prefix}RELU_BYPASS"):
        return []
    clips = state.flag(cfg, f"{prefix}RELUX_EN")
    return [Clamp(state.value(ceiling, f"{prefix}RELUX_CMP_DAT") if clips else None)]


def _operand(
    register: Register, field: str, from_memory: bool, values: NDArray[np.int64] | None, fixed: int, channels: slice
) -> Operand:
    if not from_memory:
        return scalar(fixed)
    if values is None:
        raise unsupported(register, field, 1, "no read engine delivers this operand")
    return Operand(values[channels])


def _element_wise(state: TaskState, lut: LutMemory) -> list[Step]:
    cfg = DPU.EW_CFG
    if state.flag(cfg, "EW_BYPASS"):
        return []
    steps: list[Step] = []
    if not state.flag(cfg, "EW_OP_BYPASS"):
        steps.append(_element_operation(state))
    if uses_lut(state):
        if steps:
            raise unsupported(cfg, "EW_LUT_BYPASS", 0, "a lookup together with an operand is not known to work")
        steps.append(Lookup(table_of(state, lut)))
    steps += relu(state, cfg, "EW_", DPU.EW_RELUX_CMP_VALUE)
    return steps


def _element_operation(state: TaskState) -> Step:
    cfg = DPU.EW_CFG
    state.expect(cfg, "EW_MUL_PRELU", 0, "an element-wise PReLU is not known to work")
    state.expect(DPU.EW_CVT_SCALE_VALUE, "EW_TRUNCATE", 0, "its position is not known")
    state.expect(DPU.DATA_FORMAT, "EW_TRUNCATE_NEG", 0, "its position is not known")
    if state.flag(cfg, "EW_OP_TYPE"):
        operation = ElementOp.MUL
    else:
        algorithm = state.value(cfg, "EW_ALU_ALGO")
        if algorithm not in _ELEMENT_ALU:
            raise unsupported(cfg, "EW_ALU_ALGO", algorithm, "known are 0 max, 1 min, 2 add, 4 minus")
        operation = _ELEMENT_ALU[algorithm]
        if operation in (ElementOp.MAX, ElementOp.MIN):
            state.expect(cfg, "EW_EQUAL_EN", 1, "integer max and min need it")
    converter = None
    if not state.flag(cfg, "EW_OP_CVT_BYPASS"):
        converter = OperandConverter(
            offset=state.value(DPU.EW_CVT_OFFSET_VALUE, "EW_OP_CVT_OFFSET"),
            scale=state.value(DPU.EW_CVT_SCALE_VALUE, "EW_OP_CVT_SCALE"),
            shift=state.value(DPU.EW_CVT_SCALE_VALUE, "EW_OP_CVT_SHIFT"),
            add_first=state.flag(cfg, "EW_CVT_TYPE"),
            ties_away=state.flag(cfg, "EW_CVT_ROUND"),
        )
    code = precision(state, DPU.DATA_FORMAT, "IN_PRECISION", (INT8, INT16, INT32))
    if not state.flag(cfg, "EW_OP_SRC"):
        constant = state.value(DPU.EW_OP_VALUE_0, "EW_OPERAND_0")
        return ElementWise(operation, converter, 0, constant)
    state.expect(cfg, "EW_DATA_MODE", 1, "only whole-cube operands are known")
    size = state.value(cfg, "EDATA_SIZE")
    if _EDATA_BYTES.get(size) != DTYPES[code].itemsize:
        raise unsupported(cfg, "EDATA_SIZE", size, f"differs from IN_PRECISION {code}")
    # The second operand of an int32 multiplication is read as int16 (hardware/dpu.md, EW stage; silicon).
    narrow = operation is ElementOp.MUL and code == INT32
    return ElementWise(operation, converter, _ELEMENT_MAGNITUDE[INT16 if narrow else code], narrow=narrow)


def _output_converter(state: TaskState) -> Step:
    bits = {INT8: 8, INT16: 16, INT32: 32}
    code = precision(state, DPU.DATA_FORMAT, "OUT_PRECISION", tuple(bits))
    state.expect(DPU.OUT_CVT_SCALE, "FP32TOFP16_EN", 0, "the output is an integer")
    return OutputConverter(
        scale=state.value(DPU.OUT_CVT_SCALE, "OUT_CVT_SCALE"),
        shift=state.value(DPU.OUT_CVT_SHIFT, "OUT_CVT_SHIFT") & _SHIFT_MASK,
        offset=state.value(DPU.OUT_CVT_OFFSET, "OUT_CVT_OFFSET"),
        ties_away=state.flag(DPU.OUT_CVT_SHIFT, "CVT_ROUND"),
        bits=bits[code],
    )
