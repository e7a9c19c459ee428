"""Rules about post-processing: DPU and DPU_RDMA (hardware/dpu.md)."""

from __future__ import annotations

from collections.abc import Iterator

from rocketnpu.hw import limits
from rocketnpu.hw.codes import (
    DEPTHWISE,
    DIRECT,
    FP16,
    FP32,
    INT4,
    INT8,
    INT16,
    INT32,
    USE_ALL,
    USE_ALU,
    USE_CPEND,
    USE_MUL,
)
from rocketnpu.hw.registers import CNA, CORE, DPU, DPU_RDMA
from rocketnpu.hw.rules._model import RegisterTask, Rule

_SIZE_E = {
    (DIRECT, INT8, INT8): 1,
    (DEPTHWISE, INT8, INT8): 3,
    (DIRECT, FP16, FP16): 1,
    (DEPTHWISE, FP16, FP16): 3,
    (DIRECT, FP16, FP32): 3,
    (DIRECT, INT16, INT32): 3,
    (DIRECT, INT8, INT32): 7,
    (DIRECT, INT8, FP32): 7,
    (DIRECT, INT4, INT16): 7,
}
"""SIZE_E of a convolution by mode, processing and output precision (hardware/dpu.md, Output writer)."""

_OUT_SHIFT = 63
"""6 bits are effective (hardware/dpu.md, OUT_CVT)."""
_BRDMA_USES = (0, USE_ALU, USE_ALL)
"""Known layouts: off, dense int32, blocks of bias, OW, multiplier (hardware/layouts.md, Per-channel operands)."""
_NRDMA_USES = (0, USE_MUL)
"""Known layouts: off, dense int16 multipliers (same place)."""
_LAST_EW_ALGORITHM = 8
_LAST_EW_DATA_MODE = 2
"""Highest documented codes (hardware/register-list.md, DPU.EW_CFG)."""


def _size_e(task: RegisterTask) -> int:
    return task.get(DPU.BS_OW_CFG, "SIZE_E_0")


def _upsamples(task: RegisterTask) -> bool:
    return (
        task.enables(DPU_RDMA)
        and task.knows(DPU_RDMA.RDMA_SRC_DMA_CFG)
        and bool(task.get(DPU_RDMA.RDMA_SRC_DMA_CFG, "UNPOOLING_EN"))
    )


def _element_wise_is_active(task: RegisterTask) -> bool:
    return not task.get(DPU.EW_CFG, "EW_BYPASS") and not task.get(DPU.EW_CFG, "EW_OP_BYPASS")


def size_e_fields_are_alike(task: RegisterTask) -> Iterator[str]:
    """The three SIZE_E fields have one value. hardware/dpu.md, Output writer [vendor]."""
    sizes = [task.get(DPU.BS_OW_CFG, f"SIZE_E_{index}") for index in range(3)]
    if len(set(sizes)) > 1:
        yield "SIZE_E_0, SIZE_E_1, SIZE_E_2 are {}, {}, {}".format(*sizes)


def size_e_fits_the_mode(task: RegisterTask) -> Iterator[str]:
    """SIZE_E is the writer's planes per pass minus one: int8 1 direct, 3 depthwise; int32 from int8 7; and so on.
    Another value hangs. hardware/dpu.md, Output writer; convolution.md, Must not emit [silicon].
    """
    mode = task.get(DPU.FEATURE_MODE_CFG, "CONV_MODE")
    process, output = task.get(CNA.CONV_CON1, "PROC_PRECISION"), task.get(DPU.DATA_FORMAT, "OUT_PRECISION")
    expected = _SIZE_E.get((mode, process, output))
    if expected is not None and _size_e(task) != expected:
        yield f"SIZE_E is {_size_e(task)}, CONV_MODE {mode} with precision {process} to {output} needs {expected}"


def surface_add_steps_over_a_pass(task: RegisterTask) -> Iterator[str]:
    """SURFACE_ADD = DST_SURF_STRIDE * (SIZE_E + 1), except in nearest upsampling, which has one pass.
    hardware/dpu.md, Output writer [vendor, 1292 of 1292; silicon].
    """
    stride, add = task.word(DPU.DST_SURF_STRIDE), task.word(DPU.SURFACE_ADD)
    expected = stride * (_size_e(task) + 1)
    if add != expected and not _upsamples(task):
        yield f"SURFACE_ADD is {add:#x}, DST_SURF_STRIDE {stride:#x} and SIZE_E {_size_e(task)} make {expected:#x}"


def raw_depthwise_is_not_written(task: RegisterTask) -> Iterator[str]:
    """A depthwise task has no int32 output: values land at twice the plane stride. hardware/convolution.md, Must not
    emit [silicon].
    """
    depthwise = task.get(DPU.FEATURE_MODE_CFG, "CONV_MODE") == DEPTHWISE
    if depthwise and task.get(DPU.DATA_FORMAT, "OUT_PRECISION") == INT32:
        yield "depthwise with int32 output"


def raw_output_bypasses_cpend(task: RegisterTask) -> Iterator[str]:
    """A direct convolution with int32 output has OD_BYPASS 1, otherwise every value is wrong. hardware/convolution.md,
    Must not emit [silicon].
    """
    direct = task.get(DPU.FEATURE_MODE_CFG, "CONV_MODE") == DIRECT
    raw = task.get(DPU.DATA_FORMAT, "OUT_PRECISION") == INT32
    if direct and raw and not task.get(DPU.BS_OW_CFG, "OD_BYPASS"):
        yield "int32 output with OD_BYPASS 0"


def cpend_has_the_window_sum(task: RegisterTask) -> Iterator[str]:
    """An int8 convolution with CPEND (OD_BYPASS 0) has CORE QD_EN 1. hardware/dpu.md, CPEND [silicon]."""
    int8 = task.get(CORE.MISC_CFG, "PROC_PRECISION") == INT8
    if int8 and not task.get(DPU.BS_OW_CFG, "OD_BYPASS") and not task.get(CORE.MISC_CFG, "QD_EN"):
        yield "OD_BYPASS 0 with QD_EN 0"


def notch_halves_are_equal(task: RegisterTask) -> Iterator[str]:
    """Both NOTCH_ADDR halves have one value. hardware/convolution.md, Must not emit [silicon]."""
    first = task.get(DPU.DATA_CUBE_NOTCH_ADDR, "NOTCH_ADDR_0")
    second = task.get(DPU.DATA_CUBE_NOTCH_ADDR, "NOTCH_ADDR_1")
    if first != second:
        yield f"NOTCH_ADDR_0 is {first}, NOTCH_ADDR_1 is {second}"


def flying_modes_agree(task: RegisterTask) -> Iterator[str]:
    """DPU and DPU_RDMA both take their input from memory, or both don't. hardware/registers.md, DPU_RDMA [vendor]."""
    unit = task.get(DPU.FEATURE_MODE_CFG, "FLYING_MODE")
    reader = task.get(DPU_RDMA.RDMA_FEATURE_MODE_CFG, "FLYING_MODE")
    if unit != reader:
        yield f"FLYING_MODE is {unit} in DPU and {reader} in DPU_RDMA"


def main_reader_has_a_use(task: RegisterTask) -> Iterator[str]:
    """MRDMA is disabled in a convolution without residual operand and enabled in a flying task: otherwise one side
    waits. hardware/regcmd.md, What makes a job time out [silicon].
    """
    disabled = task.get(DPU_RDMA.RDMA_FEATURE_MODE_CFG, "MRDMA_DISABLE")
    flying = task.get(DPU_RDMA.RDMA_FEATURE_MODE_CFG, "FLYING_MODE")
    combined = task.get(DPU_RDMA.RDMA_FEATURE_MODE_CFG, "COMB_USE")
    if not disabled and not flying and not combined:
        yield "MRDMA runs in a task that is neither flying nor combined"
    if disabled and (flying or combined):
        yield f"MRDMA_DISABLE with FLYING_MODE {flying}, COMB_USE {combined}"


def flying_task_does_not_combine(task: RegisterTask) -> Iterator[str]:
    """COMB_USE bit 0 is 0 in a flying task. hardware/convolution.md, Must not emit [silicon]."""
    combined = task.get(DPU_RDMA.RDMA_FEATURE_MODE_CFG, "COMB_USE")
    if task.get(DPU_RDMA.RDMA_FEATURE_MODE_CFG, "FLYING_MODE") and combined & 1:
        yield f"COMB_USE is {combined} in a flying task"


def element_wise_mode_is_known(task: RegisterTask) -> Iterator[str]:
    """EW_CFG has a documented algorithm and data mode; garbage hangs, and may survive a reset. hardware/convolution.md,
    Must not emit [silicon]; codes of registers.csv [trm].
    """
    algorithm, data_mode = task.get(DPU.EW_CFG, "EW_ALU_ALGO"), task.get(DPU.EW_CFG, "EW_DATA_MODE")
    if not _element_wise_is_active(task):
        return
    if algorithm > _LAST_EW_ALGORITHM:
        yield f"EW_ALU_ALGO is {algorithm}"
    if data_mode > _LAST_EW_DATA_MODE:
        yield f"EW_DATA_MODE is {data_mode}"


def element_wise_has_whole_channels(task: RegisterTask) -> Iterator[str]:
    """ORIG_CHANNEL equals CHANNEL in a flying element-wise task: with 0 only lane 0 of each atom is right.
    hardware/dpu.md, EW stage [silicon].
    """
    channels = task.get(DPU.DATA_CUBE_CHANNEL, "CHANNEL") + 1
    real = task.get(DPU.DATA_CUBE_CHANNEL, "ORIG_CHANNEL") + 1
    flying = task.get(DPU.FEATURE_MODE_CFG, "FLYING_MODE")
    if flying and _element_wise_is_active(task) and channels != real:
        yield f"ORIG_CHANNEL has {real} channels, CHANNEL {channels}"


def scalar_operands_are_alike(task: RegisterTask) -> Iterator[str]:
    """A scalar element-wise operand is in all eight EW_OP_VALUE registers. hardware/dpu.md, EW stage [silicon]."""
    values = {task.word(register) for register in _EW_OPERANDS}
    if _element_wise_is_active(task) and not task.get(DPU.EW_CFG, "EW_OP_SRC") and len(values) > 1:
        yield f"EW_OP_VALUE registers hold {', '.join(f'{value:#x}' for value in sorted(values))}"


def element_wise_operand_is_read(task: RegisterTask) -> Iterator[str]:
    """A task whose EW operand comes from memory does not disable ERDMA. hardware/registers.md, DPU_RDMA [vendor]."""
    from_memory = _element_wise_is_active(task) and task.get(DPU.EW_CFG, "EW_OP_SRC")
    if from_memory and task.get(DPU_RDMA.RDMA_ERDMA_CFG, "ERDMA_DISABLE"):
        yield "EW_OP_SRC is 1 and ERDMA_DISABLE is 1"


def lut_width_is_at_most_4096(task: RegisterTask) -> Iterator[str]:
    """A task that uses the LUT is at most 4096 wide; 8191 corrupts the tail. hardware/convolution.md, Must not emit
    [silicon, fp16].
    """
    width = task.get(DPU.DATA_CUBE_WIDTH, "WIDTH") + 1
    active = not task.get(DPU.EW_CFG, "EW_BYPASS") and not task.get(DPU.EW_CFG, "EW_LUT_BYPASS")
    if active and width > limits.MAX_LUT_WIDTH:
        yield f"width is {width}"


def bs_operands_are_read(task: RegisterTask) -> Iterator[str]:
    """BRDMA reads every per-channel operand that BS and CPEND use, in a known layout: USE 0, 1 (bias) or 7 (bias, OW
    and multiplier). hardware/layouts.md, Per-channel operands [vendor]; the effect of a missing one is not measured.
    """
    use = task.get(DPU_RDMA.RDMA_BRDMA_CFG, "BRDMA_DATA_USE")
    if use not in _BRDMA_USES:
        yield f"BRDMA_DATA_USE is {use}"
    active = not task.get(DPU.BS_CFG, "BS_BYPASS")
    for used, bit, name in (
        (
            active and not task.get(DPU.BS_CFG, "BS_ALU_BYPASS") and task.get(DPU.BS_CFG, "BS_ALU_SRC"),
            USE_ALU,
            "BS_ALU_SRC",
        ),
        (
            active and not task.get(DPU.BS_CFG, "BS_MUL_BYPASS") and task.get(DPU.BS_MUL_CFG, "BS_MUL_SRC"),
            USE_MUL,
            "BS_MUL_SRC",
        ),
        (not task.get(DPU.BS_OW_CFG, "OD_BYPASS") and task.get(DPU.BS_OW_CFG, "OW_SRC"), USE_CPEND, "OW_SRC"),
    ):
        if used and not use & bit:
            yield f"{name} is 1 but BRDMA_DATA_USE {use} does not read the operand"


def bn_operands_do_not_hang(task: RegisterTask) -> Iterator[str]:
    """NRDMA USE 7 with the BN ALU operand from memory hangs, 8 of 8 runs. hardware/convolution.md, Must not emit
    [silicon].
    """
    if task.get(DPU_RDMA.RDMA_NRDMA_CFG, "NRDMA_DATA_USE") == 7 and task.get(DPU.BN_CFG, "BN_ALU_SRC"):
        yield "NRDMA_DATA_USE is 7 and BN_ALU_SRC is 1"


def bn_operands_are_read(task: RegisterTask) -> Iterator[str]:
    """NRDMA reads the per-channel BN operands that are used, in the one known layout: USE 4, multipliers only.
    hardware/layouts.md, Per-channel operands [vendor].
    """
    use = task.get(DPU_RDMA.RDMA_NRDMA_CFG, "NRDMA_DATA_USE")
    if use not in _NRDMA_USES:
        yield f"NRDMA_DATA_USE is {use}"
    active = not task.get(DPU.BN_CFG, "BN_BYPASS")
    if (
        active
        and not task.get(DPU.BN_CFG, "BN_MUL_BYPASS")
        and task.get(DPU.BN_MUL_CFG, "BN_MUL_SRC")
        and not use & USE_MUL
    ):
        yield f"BN_MUL_SRC is 1 but NRDMA_DATA_USE {use} does not read the operand"
    if (
        active
        and not task.get(DPU.BN_CFG, "BN_ALU_BYPASS")
        and task.get(DPU.BN_CFG, "BN_ALU_SRC")
        and not use & USE_ALU
    ):
        yield f"BN_ALU_SRC is 1 but NRDMA_DATA_USE {use} does not read the operand"


def output_shift_is_at_most_63(task: RegisterTask) -> Iterator[str]:
    """Only the low 6 bits of OUT_CVT_SHIFT count. hardware/dpu.md, OUT_CVT [vendor]."""
    shift = task.get(DPU.OUT_CVT_SHIFT, "OUT_CVT_SHIFT")
    if shift > _OUT_SHIFT:
        yield f"OUT_CVT_SHIFT is {shift}"


_EW_OPERANDS = tuple(DPU[f"EW_OP_VALUE_{index}"] for index in range(8))
_CONVOLUTION = (CNA.CONV_CON1, DPU.FEATURE_MODE_CFG, DPU.DATA_FORMAT)
_READER = DPU_RDMA.RDMA_FEATURE_MODE_CFG

RULES = (
    Rule(size_e_fields_are_alike, "illegal", (DPU.BS_OW_CFG,)),
    Rule(size_e_fits_the_mode, "hang", (*_CONVOLUTION, DPU.BS_OW_CFG)),
    Rule(surface_add_steps_over_a_pass, "hang", (DPU.BS_OW_CFG, DPU.DST_SURF_STRIDE, DPU.SURFACE_ADD)),
    Rule(raw_depthwise_is_not_written, "corrupt", _CONVOLUTION),
    Rule(raw_output_bypasses_cpend, "corrupt", (*_CONVOLUTION, DPU.BS_OW_CFG)),
    Rule(cpend_has_the_window_sum, "corrupt", (CORE.MISC_CFG, DPU.BS_OW_CFG)),
    Rule(notch_halves_are_equal, "corrupt", (DPU.DATA_CUBE_NOTCH_ADDR,)),
    Rule(flying_modes_agree, "hang", (DPU.FEATURE_MODE_CFG, _READER)),
    Rule(main_reader_has_a_use, "hang", (_READER,)),
    Rule(flying_task_does_not_combine, "hang", (_READER,)),
    Rule(element_wise_mode_is_known, "hang", (DPU.EW_CFG,)),
    Rule(element_wise_has_whole_channels, "corrupt", (DPU.FEATURE_MODE_CFG, DPU.DATA_CUBE_CHANNEL, DPU.EW_CFG)),
    Rule(scalar_operands_are_alike, "corrupt", (DPU.EW_CFG, *_EW_OPERANDS)),
    Rule(element_wise_operand_is_read, "illegal", (DPU.EW_CFG, DPU_RDMA.RDMA_ERDMA_CFG)),
    Rule(lut_width_is_at_most_4096, "corrupt", (DPU.DATA_CUBE_WIDTH, DPU.EW_CFG)),
    Rule(bs_operands_are_read, "illegal", (DPU.BS_CFG, DPU.BS_MUL_CFG, DPU.BS_OW_CFG, DPU_RDMA.RDMA_BRDMA_CFG)),
    Rule(bn_operands_do_not_hang, "hang", (DPU.BN_CFG, DPU_RDMA.RDMA_NRDMA_CFG)),
    Rule(bn_operands_are_read, "illegal", (DPU.BN_CFG, DPU.BN_MUL_CFG, DPU_RDMA.RDMA_NRDMA_CFG)),
    Rule(output_shift_is_at_most_63, "corrupt", (DPU.OUT_CVT_SHIFT,)),
)
