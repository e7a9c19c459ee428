"""Rules about pools: PPU and PPU_RDMA (hardware/ppu.md)."""

from __future__ import annotations

from collections.abc import Iterator

from rocketnpu.errors import Error
from rocketnpu.hw import arithmetic, limits
from rocketnpu.hw.codes import ELEMENT_8_BIT, ELEMENT_16_BIT, FP16, INT8, POOL_AVERAGE, POOL_MAX, POOL_MIN
from rocketnpu.hw.registers import PPU, PPU_RDMA
from rocketnpu.hw.rules._model import RegisterTask, Rule

_CUBES = tuple(PPU[f"DATA_CUBE_{side}_{name}"] for side in ("IN", "OUT") for name in ("WIDTH", "HEIGHT", "CHANNEL"))
_WINDOW = (*_CUBES, PPU.POOLING_KERNEL_CFG, PPU.POOLING_PADDING_CFG)


def _size(task: RegisterTask, side: str, name: str) -> int:
    return task.get(PPU[f"DATA_CUBE_{side}_{name}"], f"CUBE_{side}_{name}") + 1


def _window(task: RegisterTask, axis: str) -> tuple[int, int, int]:
    """Kernel, stride and the sum of both pads along "WIDTH" or "HEIGHT"."""
    before, after = ("PAD_LEFT", "PAD_RIGHT") if axis == "WIDTH" else ("PAD_TOP", "PAD_BOTTOM")
    padding = task.word(PPU.POOLING_PADDING_CFG)
    return (
        task.get(PPU.POOLING_KERNEL_CFG, f"KERNEL_{axis}") + 1,
        task.get(PPU.POOLING_KERNEL_CFG, f"KERNEL_STRIDE_{axis}") + 1,
        PPU.POOLING_PADDING_CFG.field_value(padding, before) + PPU.POOLING_PADDING_CFG.field_value(padding, after),
    )


def pool_windows_consume_the_width(task: RegisterTask) -> Iterator[str]:
    """The windows of a row end exactly where input and padding end: trailing columns shift an int8 result.
    hardware/ppu.md, Limits [silicon].
    """
    kernel, stride, pads = _window(task, "WIDTH")
    width, output = _size(task, "IN", "WIDTH"), _size(task, "OUT", "WIDTH")
    consumed = (output - 1) * stride + kernel
    if consumed != width + pads:
        yield f"{output} windows of {kernel}, stride {stride}, take {consumed} columns, not {width} + {pads} of padding"


def pool_windows_stay_in_the_height(task: RegisterTask) -> Iterator[str]:
    """The windows of a column end inside input and padding. hardware/ppu.md, Program [inferred]."""
    kernel, stride, pads = _window(task, "HEIGHT")
    height, output = _size(task, "IN", "HEIGHT"), _size(task, "OUT", "HEIGHT")
    consumed = (output - 1) * stride + kernel
    if consumed > height + pads:
        yield f"{output} windows of {kernel}, stride {stride}, take {consumed} rows of {height} + {pads} of padding"


def pool_rows_fit_the_line_buffer(task: RegisterTask) -> Iterator[str]:
    """A task has at most 128, 64, 32, 16 output columns for ceil(kernel height / stride) of 1, 2, 3..4, 5..8.
    hardware/ppu.md, Limits [inferred from NVDLA, agrees with every vendor program]; above 8 nothing is known.
    """
    kernel, stride, _ = _window(task, "HEIGHT")
    output = _size(task, "OUT", "WIDTH")
    try:
        limit = limits.max_pool_output_columns(kernel, stride)
    except Error as error:
        yield str(error)
        return
    if output > limit:
        yield f"{output} output columns, {limit} are known to fit with kernel height {kernel} at stride {stride}"


def pool_kernel_16_has_no_padding(task: RegisterTask) -> Iterator[str]:
    """Kernel 16 (with pad 7) gave wrong results. hardware/ppu.md, Limits [silicon, one shape]."""
    for axis in ("WIDTH", "HEIGHT"):
        kernel, _, pads = _window(task, axis)
        if kernel == limits.MAX_POOL_WINDOW and pads:
            yield f"kernel {axis.lower()} {kernel} with {pads} of padding"


def pool_keeps_its_channels(task: RegisterTask) -> Iterator[str]:
    """Input and output have the same channels, a whole number of atoms. hardware/ppu.md, Limits [silicon], Program
    [vendor].
    """
    channels, output = _size(task, "IN", "CHANNEL"), _size(task, "OUT", "CHANNEL")
    atom = 8 if task.get(PPU.DATA_FORMAT, "PROC_PRECISION") == FP16 else 16
    if channels != output or channels % atom:
        yield f"{channels} channels in, {output} out; atoms have {atom}"


def pool_reader_and_unit_agree(task: RegisterTask) -> Iterator[str]:
    """PPU_RDMA reads the cube that PPU expects. hardware/ppu.md, Program [vendor]."""
    for name in ("WIDTH", "HEIGHT", "CHANNEL"):
        expected = _size(task, "IN", name)
        read = task.get(PPU_RDMA[f"RDMA_CUBE_IN_{name}"], f"CUBE_IN_{name}") + 1
        if read != expected:
            yield f"PPU_RDMA reads {name.lower()} {read}, PPU expects {expected}"


def pool_precisions_agree(task: RegisterTask) -> Iterator[str]:
    """PPU PROC_PRECISION (domain code) and PPU_RDMA IN_PRECISION (width code) are 0 and 1 for int8, 2 and 2 for fp16.
    Others give plausible wrong surfaces or zeros. hardware/ppu.md, int8 support [silicon].
    """
    process = task.get(PPU.DATA_FORMAT, "PROC_PRECISION")
    width = task.get(PPU_RDMA.RDMA_DATA_FORMAT, "IN_PRECISION")
    if (process, width) not in ((INT8, ELEMENT_8_BIT), (FP16, ELEMENT_16_BIT)):
        yield f"PROC_PRECISION {process} with IN_PRECISION {width}"


def pool_method_is_known(task: RegisterTask) -> Iterator[str]:
    """POOLING_METHOD is 0 average, 1 max or 2 min, and PPU is fed by PPU_RDMA. hardware/ppu.md, Program [vendor]."""
    method = task.get(PPU.OPERATION_MODE_CFG, "POOLING_METHOD")
    if method not in (POOL_AVERAGE, POOL_MAX, POOL_MIN):
        yield f"POOLING_METHOD {method}"
    if not task.get(PPU.OPERATION_MODE_CFG, "FLYING_MODE"):
        yield "FLYING_MODE 0: no known program feeds PPU from DPU"


def average_reciprocals_fit_the_kernel(task: RegisterTask) -> Iterator[str]:
    """An int8 average has floor(0x10000 / k) in both reciprocals. hardware/ppu.md, int8 support [silicon]."""
    average = task.get(PPU.OPERATION_MODE_CFG, "POOLING_METHOD") == POOL_AVERAGE
    if not average or task.get(PPU.DATA_FORMAT, "PROC_PRECISION") != INT8:
        return
    for axis in ("WIDTH", "HEIGHT"):
        kernel, _, _ = _window(task, axis)
        reciprocal = task.get(PPU[f"RECIP_KERNEL_{axis}"], f"RECIP_KERNEL_{axis}")
        needed = arithmetic.pool_reciprocal(kernel)
        if reciprocal != needed:
            yield f"RECIP_KERNEL_{axis} = {reciprocal:#x}, kernel {kernel} needs {needed:#x}"


RULES = (
    Rule(
        pool_windows_consume_the_width,
        "corrupt",
        _WINDOW,
        "public pools of 10x12 (3x3, stride 2) and 5x5 (2x2, stride 2) run on boards",
    ),
    Rule(pool_windows_stay_in_the_height, "corrupt", _WINDOW),
    Rule(pool_rows_fit_the_line_buffer, "corrupt", _WINDOW),
    Rule(pool_kernel_16_has_no_padding, "corrupt", _WINDOW),
    Rule(pool_keeps_its_channels, "corrupt", (*_CUBES, PPU.DATA_FORMAT)),
    Rule(
        pool_reader_and_unit_agree,
        "illegal",
        (
            *_CUBES,
            PPU_RDMA.RDMA_CUBE_IN_WIDTH,
            PPU_RDMA.RDMA_CUBE_IN_HEIGHT,
            PPU_RDMA.RDMA_CUBE_IN_CHANNEL,
        ),
    ),
    Rule(pool_precisions_agree, "corrupt", (PPU.DATA_FORMAT, PPU_RDMA.RDMA_DATA_FORMAT)),
    Rule(pool_method_is_known, "illegal", (PPU.OPERATION_MODE_CFG,)),
    Rule(
        average_reciprocals_fit_the_kernel,
        "corrupt",
        (
            PPU.OPERATION_MODE_CFG,
            PPU.DATA_FORMAT,
            PPU.POOLING_KERNEL_CFG,
            PPU.POOLING_PADDING_CFG,
            PPU.RECIP_KERNEL_WIDTH,
            PPU.RECIP_KERNEL_HEIGHT,
        ),
    ),
)
