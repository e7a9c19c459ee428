"""What a program's tasks read and write in device memory, found from their register values alone.

`replay` goes through a program as a device and its host would and raises AssertionError when a task reads bytes that
are not those of its step's inputs any more, when a step does not write each pixel of its output exactly once, or when
a tensor has been overwritten before its last reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from rocketnpu.hw.registers import CNA, DPU, DPU_RDMA, PPU, PPU_RDMA
from rocketnpu.hw.rules import RegisterTask, Violation, check, task_of
from rocketnpu.program.model import COMMANDS, CpuStep, NpuStep, Program, Task, TensorEntry

ATOM = 16
LANES = {0: 16, 1: 8, 4: 4}
"""Channels of an atom by precision: int8, int16, int32."""
PAGE = 4096
FIRST_BASE = 0x40000000
IMAGE_FORMAT_BASE = 7
"""ARGB_IN of a dense image is 7 + channels (hardware/layouts.md, First layer)."""

Atoms = NDArray[np.int64]


def bases(program: Program) -> dict[str, int]:
    """An address for each segment, on pages of their own."""
    addresses: dict[str, int] = {}
    next_free = FIRST_BASE
    for segment in program.segments:
        addresses[segment.name] = next_free
        next_free += (segment.size_bytes // PAGE + 2) * PAGE
    return addresses


def relocated_words(program: Program) -> list[int]:
    """The command words with the addresses of `bases` filled in."""
    content = next(segment.data for segment in program.segments if segment.name == COMMANDS)
    assert content is not None
    words = np.frombuffer(content, "<u8").tolist()
    where = bases(program)
    for item in program.relocations:
        address = where[item.segment] + item.addend_bytes
        words[item.word] = words[item.word] & ~(0xFFFFFFFF << 16) | address << 16
    return words


def register_tasks(program: Program) -> list[RegisterTask]:
    """The register values of every task."""
    if not program.tasks:
        return []
    words = relocated_words(program)
    return [task_of(_body(words, task), task.enable_mask) for task in program.tasks]


def violations(program: Program) -> list[Violation]:
    """Every rule of what must not be programmed that a task of the program breaks."""
    return [violation for task in register_tasks(program) for violation in check(task)]


def replay(program: Program) -> None:
    """Follow who wrote each atom of the arena through all steps; see the module."""
    arena = next((segment for segment in program.segments if segment.name == "activations"), None)
    if arena is None:
        return
    starts = bases(program)
    base, constants = starts["activations"] // ATOM, starts["constants"] // ATOM
    entries = {entry.name: entry for entry in program.tensors}
    owner = np.full(-(-arena.size_bytes // ATOM), "", object)
    holders: dict[str, set[str]] = {}
    tasks = register_tasks(program)
    made_on_npu: set[str] = set()
    read_by_host = {*program.outputs}
    read_by_host.update(name for step in program.steps if isinstance(step, CpuStep) for name in step.inputs)

    for on_npu, group in groupby(program.steps, key=lambda step: isinstance(step, NpuStep)):
        run = [step for step in group if isinstance(step, NpuStep)]
        if not on_npu:
            continue
        made = {name for step in run for name in step.outputs}
        for name in {name for step in run for name in step.inputs} - made - made_on_npu:
            owner[_cube_atoms(entries[name])] = name
        for step in run:
            numbers = [number for part in step.tasks[1] for core in part for number in core]
            _replay_step(step, [tasks[number] for number in numbers], entries, owner, holders, base, constants)
        made_on_npu |= made
        for name in made & read_by_host:
            owners = set(owner[_cube_atoms(entries[name])])
            assert owners == holders[name], f"{name}, which the host reads, holds {owners}"


def _replay_step(
    step: NpuStep,
    tasks: list[RegisterTask],
    entries: dict[str, TensorEntry],
    owner: NDArray[np.object_],
    holders: dict[str, set[str]],
    base: int,
    constants: int,
) -> None:
    """Afterwards `holders` names for each output the owners of its atoms: itself, and what it shares its place with."""
    inside = f"inside {step.name}"
    from_inputs = {holder for name in step.inputs for holder in holders.get(name, {name})}
    readable = {inside, *from_inputs}
    wanted = np.full(owner.size, inside, object)
    for output in step.outputs:
        wanted[_cube_atoms(entries[output])] = output
    writes = np.zeros(owner.size, np.int64)
    for number, task in enumerate(tasks):
        for atoms in reads(task):
            if constants <= atoms.min() and atoms.max() < base:
                continue
            owners = set(owner[atoms - base])
            assert owners <= readable, f"task {number} of {step.name} reads {owners - readable}, not {readable}"
        written = writes_of(task) - base
        assert written.min() >= 0, f"task {number} of {step.name} writes before the arena"
        assert written.max() < owner.size, f"task {number} of {step.name} writes past the arena"
        writes[written] += 1
        owner[written] = wanted[written]
    for output in step.outputs:
        atoms = _cube_atoms(entries[output])
        counts = set(writes[atoms].tolist())
        assert counts <= {0, 1}, f"{step.name} writes the atoms of {output} {counts} times"
        shared = set(owner[atoms][writes[atoms] == 0])
        assert shared <= from_inputs, f"{step.name} leaves atoms of {output} to {shared}, and reads {from_inputs}"
        holders[output] = set(owner[atoms])


def reads(task: RegisterTask) -> Iterator[Atoms]:
    """The atoms of activations that a task reads, one array for each operand."""
    image_channels = max(task.get(CNA.CONV_CON1, "ARGB_IN") - IMAGE_FORMAT_BASE, 0) if task.enables(CNA) else 0
    if image_channels:
        yield _dense_atoms(
            task.word(CNA.FEATURE_DATA_ADDR),
            task.get(CNA.DATA_SIZE0, "DATAIN_HEIGHT"),
            task.get(CNA.DMA_CON1, "LINE_STRIDE") * image_channels,
            task.get(CNA.DATA_SIZE0, "DATAIN_WIDTH") * image_channels,
        )
        return
    if task.enables(CNA):
        line = task.get(CNA.DMA_CON1, "LINE_STRIDE")
        yield _atoms(
            task.word(CNA.FEATURE_DATA_ADDR) // ATOM,
            [plane * (line + task.get(CNA.DMA_CON2, "SURF_STRIDE")) for plane in range(_input_planes(task))],
            task.get(CNA.DATA_SIZE0, "DATAIN_HEIGHT"),
            line // 4,
            task.get(CNA.DATA_SIZE0, "DATAIN_WIDTH"),
        )
        if task.get(DPU_RDMA.RDMA_FEATURE_MODE_CFG, "COMB_USE"):
            yield from _residual_atoms(task)
        return
    if task.enables(PPU):
        pitch = task.get(PPU_RDMA.RDMA_SRC_SURF_STRIDE, "SRC_SURF_STRIDE")
        yield _atoms(
            task.word(PPU_RDMA.RDMA_SRC_BASE_ADDR) // ATOM,
            [plane * pitch for plane in range(_pool_planes(task))],
            task.get(PPU_RDMA.RDMA_CUBE_IN_HEIGHT, "CUBE_IN_HEIGHT") + 1,
            task.get(PPU_RDMA.RDMA_SRC_LINE_STRIDE, "SRC_LINE_STRIDE"),
            task.get(PPU_RDMA.RDMA_CUBE_IN_WIDTH, "CUBE_IN_WIDTH") + 1,
        )
        return
    if task.get(DPU.LUT_ACCESS_CFG, "LUT_ACCESS_TYPE"):
        return  # What a load of the lookup table reads has no meaning: it writes the same bytes back.
    width = task.get(DPU_RDMA.RDMA_DATA_CUBE_WIDTH, "WIDTH") + 1
    height = task.get(DPU_RDMA.RDMA_DATA_CUBE_HEIGHT, "HEIGHT") + 1
    lanes = LANES[task.get(DPU_RDMA.RDMA_FEATURE_MODE_CFG, "IN_PRECISION")]
    planes = (task.get(DPU_RDMA.RDMA_DATA_CUBE_CHANNEL, "CHANNEL") + 1) // lanes
    first = width * height + task.word(DPU_RDMA.RDMA_SURF_NOTCH) // ATOM
    second = task.get(DPU_RDMA.RDMA_EW_SURF_STRIDE, "EW_SURF_STRIDE")
    operands = [(DPU_RDMA.RDMA_SRC_BASE_ADDR, first)]
    if not task.get(DPU_RDMA.RDMA_ERDMA_CFG, "ERDMA_DISABLE"):
        operands.append((DPU_RDMA.RDMA_EW_BASE_ADDR, second))
    for register, pitch in operands:
        yield _atoms(task.word(register) // ATOM, [plane * pitch for plane in range(planes)], height, width, width)


def _residual_atoms(task: RegisterTask) -> Iterator[Atoms]:
    """The planes of a residual operand: the even ones through MRDMA, the odd ones through ERDMA (hardware/dpu.md)."""
    width = task.get(DPU_RDMA.RDMA_DATA_CUBE_WIDTH, "WIDTH") + 1
    height = task.get(DPU_RDMA.RDMA_DATA_CUBE_HEIGHT, "HEIGHT") + 1
    planes = (task.get(DPU_RDMA.RDMA_DATA_CUBE_CHANNEL, "CHANNEL") + 1) // ATOM
    for base, notch in (
        (DPU_RDMA.RDMA_SRC_BASE_ADDR, DPU_RDMA.RDMA_SURF_NOTCH),
        (DPU_RDMA.RDMA_EW_BASE_ADDR, DPU_RDMA.RDMA_EW_SURF_NOTCH),
    ):
        step = width * height + task.word(notch) // ATOM
        yield _atoms(task.word(base) // ATOM, [plane * step for plane in range(planes // 2)], height, width, width)


def writes_of(task: RegisterTask) -> Atoms:
    """The atoms that a task writes, with channels that only fill up a group (hardware/dpu.md, Output writer)."""
    if task.enables(PPU):
        columns = task.get(PPU.DATA_CUBE_OUT_WIDTH, "CUBE_OUT_WIDTH") + 1
        pitch = task.get(PPU.DST_SURF_STRIDE, "DST_SURF_STRIDE")
        return _atoms(
            task.word(PPU.DST_BASE_ADDR) // ATOM,
            [plane * pitch for plane in range(_pool_planes(task))],
            task.get(PPU.DATA_CUBE_OUT_HEIGHT, "CUBE_OUT_HEIGHT") + 1,
            columns + task.get(PPU.OPERATION_MODE_CFG, "NOTCH_ADDR"),
            columns,
        )
    width = task.get(DPU.WDMA_SIZE_1, "WIDTH_WDMA") + 1
    # Nearest upsampling takes int8 for int16 on its way in (hardware/layouts.md).
    lanes = LANES[task.get(DPU.DATA_FORMAT, "OUT_PRECISION") or task.get(DPU.DATA_FORMAT, "IN_PRECISION")]
    planes = (task.get(DPU.WDMA_SIZE_0, "CHANNEL_WDMA") + 1) // lanes
    per_pass = task.get(DPU.BS_OW_CFG, "SIZE_E_0") + 1
    step = task.get(DPU.DST_SURF_STRIDE, "DST_SURF_STRIDE")
    pass_step = task.get(DPU.SURFACE_ADD, "SURF_ADD")
    return _atoms(
        task.word(DPU.DST_BASE_ADDR) // ATOM,
        [plane // per_pass * pass_step + plane % per_pass * step for plane in range(planes)],
        task.get(DPU.WDMA_SIZE_1, "HEIGHT_WDMA") + 1,
        width + task.get(DPU.DATA_CUBE_NOTCH_ADDR, "NOTCH_ADDR_0"),
        width,
    )


def _input_planes(task: RegisterTask) -> int:
    return task.get(CNA.DATA_SIZE1, "DATAIN_CHANNEL") // ATOM


def _pool_planes(task: RegisterTask) -> int:
    return (task.get(PPU.DATA_CUBE_OUT_CHANNEL, "CUBE_OUT_CHANNEL") + 1) // ATOM


def _atoms(first: int, planes: list[int], rows: int, row_step: int, width: int) -> Atoms:
    row = np.arange(rows, dtype=np.int64)[:, None] * row_step + np.arange(width)
    return (first + np.array(planes, np.int64)[:, None, None] + row).reshape(-1)


def _dense_atoms(first: int, rows: int, row_step: int, row_bytes: int) -> Atoms:
    """The atoms that hold any of these bytes, each once."""
    starts = first + np.arange(rows, dtype=np.int64) * row_step
    touched = [np.arange(start // ATOM, -(-(start + row_bytes) // ATOM)) for start in starts.tolist()]
    return np.unique(np.concatenate(touched))


def _cube_atoms(entry: TensorEntry) -> Atoms:
    """Atoms of a tensor in the arena."""
    cube = entry.cube
    assert cube is not None, f"{entry.name} has no place on the device"
    if cube.dense:
        row = cube.row_pitch_pixels * cube.channels
        return _dense_atoms(cube.offset_bytes, cube.height, row, row)
    planes = [plane * cube.pitch_atoms for plane in range(-(-cube.channels // ATOM))]
    return _atoms(cube.offset_bytes // ATOM, planes, cube.height, cube.width, cube.width)


def _body(words: list[int], task: Task) -> list[int]:
    return words[task.first_word : task.first_word + task.body_entries]
