"""What tasks read and write, by their registers, against the vendor's own table of tensors."""

from __future__ import annotations

import numpy as np
import pytest

from rocketnpu.errors import ModelError
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import CNA, CORE, DPU, PPU, Block, Register
from rocketnpu.hw.rules import RegisterTask
from rocketnpu.inspect import accesses, view
from rocketnpu.inspect.memory import Area, combined, program_memory, same, without
from rocketnpu.inspect.names import placed_tensors
from rocketnpu.program.model import NpuStep, Program
from rocketnpu.rknn.places import ARENA

from .conftest import VENDOR


def area_of(program: Program, names: tuple[str, ...]) -> Area:
    placed = placed_tensors(program)
    return combined({placed[name].cube.segment: placed[name].spans} for name in names)


@pytest.mark.parametrize("name", VENDOR)
def test_the_tasks_of_a_vendor_step_write_exactly_its_output(name: str, vendor: dict[str, Program]) -> None:
    program = vendor[name]
    memories = program_memory(view(program))
    for step in program.steps:
        assert isinstance(step, NpuStep)
        for cores, segments in step.tasks.items():
            tasks = [index for segment in segments for core in segment for index in core]
            written = combined({ARENA: memories[index].writes.get(ARENA, np.empty((0, 2), int))} for index in tasks)
            assert same(written, area_of(program, step.outputs)), (step.name, cores, written)


@pytest.mark.parametrize("name", VENDOR)
def test_the_tasks_of_a_vendor_step_read_no_other_tensors(name: str, vendor: dict[str, Program]) -> None:
    program = vendor[name]
    for memory in program_memory(view(program)):
        task = memory.view
        assert task.step is not None
        read = {segment: spans for segment, spans in memory.reads.items() if segment == ARENA}
        assert not without(read, area_of(program, task.step.inputs)), (task, read)


def test_on_one_core_the_whole_input_is_read(vendor: dict[str, Program]) -> None:
    program = vendor["b_channel"]
    memories = program_memory(view(program))
    for step in program.steps:
        assert isinstance(step, NpuStep)
        read = combined(memories[index].reads for index in step.tasks[1][0][0])
        assert not without(area_of(program, step.inputs), read), step.name


def test_a_full_group_is_written_beyond_the_real_channels(small: Program) -> None:
    """48 channels are written as 64: hardware/layouts.md, Buffer sizes."""
    (output, padding) = (access for access in accesses(view(small).tasks[0].registers) if access.writes)
    assert (output.role, padding.role) == ("output", "padding")
    plane = 16 * 16 * 16
    assert output.spans(0).tolist() == [[0, 3 * plane]]
    assert padding.spans(0).tolist() == [[3 * plane, 4 * plane]]


def test_a_reused_half_of_the_cbuf_is_not_read_again(small: Program) -> None:
    task = view(small).tasks[0].registers
    kept = CNA.CBUF_CON0.encode(WEIGHT_REUSE=1, DATA_BANK=1, WEIGHT_BANK=11)
    reuse = RegisterTask({**task.written, CNA.CBUF_CON0: kept}, task.enable_mask)
    assert [access.role for access in accesses(reuse)] == ["features", "operands", "output", "padding"]


@pytest.mark.parametrize(
    ("blocks", "register"),
    [((CNA, CORE), CNA.CBUF_CON0), ((DPU,), DPU.FEATURE_MODE_CFG), ((PPU,), PPU.DATA_CUBE_OUT_WIDTH)],
)
def test_unknown_registers_are_named(blocks: tuple[Block, ...], register: Register) -> None:
    with pytest.raises(ModelError, match=f"{register} is not written, neither by this list nor by an earlier one"):
        accesses(RegisterTask({}, regcmd.enable_mask(blocks)))


def test_an_access_of_any_size_is_bounded_without_being_listed(small: Program) -> None:
    """4096 planes of 2047 rows: 8 million runs, whose ends follow from the strides."""
    task = view(small).tasks[0].registers
    huge = {
        CNA.FC_DATA_SIZE0: CNA.FC_DATA_SIZE0.encode(DMA_WIDTH=2047, DMA_HEIGHT=2047),
        CNA.FC_DATA_SIZE1: CNA.FC_DATA_SIZE1.encode(DMA_CHANNEL=65535),
        CNA.DMA_CON1: CNA.DMA_CON1.encode(LINE_STRIDE=4 * 4096),
        CNA.DMA_CON2: CNA.DMA_CON2.encode(SURF_STRIDE=-1 << 27),
    }
    (features, *_) = accesses(RegisterTask({**task.written, **huge}, task.enable_mask))
    step = 4 * 4096 - (1 << 27)
    assert features.bounds(0) == (4095 * step * 16, (2046 * 4096 + 2047) * 16)
