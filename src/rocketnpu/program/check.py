"""Whether a Program is consistent: every reference exists and every address lies inside its segment."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.regcmd import TRAILER_ENTRIES, WORD_BYTES
from rocketnpu.ir import UNKNOWN_SIZE, is_static
from rocketnpu.program.model import COMMANDS, Cube, NpuStep, Program, Segment, TensorEntry

ADDRESS_SPACE_BYTES = 1 << 32
"""Address registers hold 32 bits (hardware/registers.md)."""
MAX_RANK = 8
FIRST_CHANNEL_AXIS = 1
"""The channels' dimension of the layout NCHW."""
MAX_ZERO_POINT = 1 << 31
NUMBER_KINDS = "iuf"
"""numpy's kinds of the elements in device memory."""


def check_program(program: Program, name: str = "the program") -> None:
    """Raise ModelError with the first inconsistency."""
    for problem in chain(
        _segment_problems(program), _task_problems(program), _tensor_problems(program), _step_problems(program)
    ):
        raise ModelError(f"{name} is inconsistent: {problem}")


def _segment_problems(program: Program) -> Iterator[str]:
    names = [segment.name for segment in program.segments]
    if len(set(names)) != len(names):
        yield "two segments have one name"
    for segment in program.segments:
        if segment.size_bytes < 0 or (segment.data is not None and len(segment.data) != segment.size_bytes):
            yield f"segment {segment.name} does not have the {segment.size_bytes} bytes it claims"
    if sum(segment.size_bytes for segment in program.segments) >= ADDRESS_SPACE_BYTES:
        yield "its segments do not fit the 4 GiB that the NPU can address"


def _task_problems(program: Program) -> Iterator[str]:
    sizes = {segment.name: segment.size_bytes for segment in program.segments}
    commands = next((segment for segment in program.segments if segment.name == COMMANDS), Segment(COMMANDS, 0))
    words = commands.size_bytes // WORD_BYTES
    if program.tasks and commands.data is None:
        yield "it has tasks but no commands"
    for task in program.tasks:
        end = task.first_word + task.body_entries + TRAILER_ENTRIES
        if task.first_word < 0 or task.body_entries < 1 or end > words:
            yield f"task {task.name} lies outside the commands"
    for relocation in program.relocations:
        if not 0 <= relocation.word < words:
            yield f"a relocation of word {relocation.word} lies outside the commands"
        if relocation.segment not in sizes:
            yield f"a relocation refers to segment {relocation.segment!r}, which does not exist"
        elif not 0 <= relocation.addend_bytes <= sizes[relocation.segment]:
            yield f"a relocation points outside segment {relocation.segment}"


def _tensor_problems(program: Program) -> Iterator[str]:
    segments = {segment.name: segment for segment in program.segments}
    names = [tensor.name for tensor in program.tensors]
    if len(set(names)) != len(names):
        yield "two tensors have one name"
    for tensor in program.tensors:
        if len(tensor.shape) > MAX_RANK or any(size < UNKNOWN_SIZE for size in tensor.shape):
            yield f"tensor {tensor.name} has the shape {tensor.shape}"
        if tensor.layout == "NCHW" and len(tensor.shape) <= FIRST_CHANNEL_AXIS:
            yield f"tensor {tensor.name} of shape {tensor.shape} has no second dimension for its channels"
        if any(abs(zero_point) > MAX_ZERO_POINT for zero_point in tensor.zero_points):
            yield f"tensor {tensor.name} has a zero point beyond 32 bits"
        try:
            dtype = np.dtype(tensor.dtype)
        except (TypeError, ValueError, SyntaxError):  # numpy parses names like "(2,3)i4"
            yield f"tensor {tensor.name} has the unknown data type {tensor.dtype!r}"
            continue
        if tensor.cube is not None and dtype.kind not in NUMBER_KINDS:
            yield f"tensor {tensor.name} has the data type {tensor.dtype}, which the device does not hold"
        elif tensor.cube is not None:
            yield from _cube_problems(tensor, tensor.cube, dtype.itemsize, segments)
    shapes = {tensor.name: tensor.shape for tensor in program.tensors}
    for name in program.inputs:
        if not is_static(shapes.get(name, ())):
            yield f"its input {name!r} has no fixed shape"
    for name in (*program.inputs, *program.outputs):
        if name not in names:
            yield f"its input or output {name!r} is not in the tensor table"


def _is_nchw(shape: tuple[int, ...], cube: Cube) -> bool:
    """Whether images of this shape, one below the other, are what the cube holds."""
    if len(shape) != 4:
        return False
    batch, channels, height, width = shape
    return (batch * height, width, channels) == (cube.height, cube.width, cube.channels)


def _cube_problems(tensor: TensorEntry, cube: Cube, itemsize: int, segments: dict[str, Segment]) -> Iterator[str]:
    if cube.segment not in segments:
        yield f"tensor {tensor.name} is in segment {cube.segment!r}, which does not exist"
        return
    if min(cube.height, cube.width, cube.channels) < 1 or min(cube.pitch_atoms, cube.row_pitch_pixels) < 0:
        yield f"tensor {tensor.name} has an empty place on the device"
        return
    if max(cube.pitch_atoms, cube.row_pitch_pixels) >= ADDRESS_SPACE_BYTES:
        yield f"tensor {tensor.name} has a pitch beyond the 4 GiB that the NPU can address"
        return
    if not is_static(tensor.shape):
        yield f"tensor {tensor.name} has a place on the device, but no fixed shape"
        return
    elements = 1
    for size in tensor.shape:
        elements *= size
    if elements != cube.height * cube.width * cube.channels:
        yield f"tensor {tensor.name} of shape {tensor.shape} does not fill its place on the device"
    if tensor.layout == "NCHW" and not _is_nchw(tensor.shape, cube):
        yield f"tensor {tensor.name} of shape {tensor.shape} has another order of dimensions on the device"
    pixels = cube.height * cube.width
    if cube.dense:
        size = cube.height * cube.row_pitch_pixels * cube.channels * itemsize
        legal = cube.row_pitch_pixels >= cube.width
    else:
        planes = -(-cube.channels * itemsize // ATOM_BYTES)
        size = ((planes - 1) * cube.pitch_atoms + pixels) * ATOM_BYTES
        legal = planes == 1 or cube.pitch_atoms >= pixels
    if not legal or cube.offset_bytes < 0 or cube.offset_bytes + size > segments[cube.segment].size_bytes:
        yield f"tensor {tensor.name} does not fit segment {cube.segment}"


def _step_problems(program: Program) -> Iterator[str]:
    tensors = {tensor.name: tensor for tensor in program.tensors}
    known = set(program.inputs)
    for step in program.steps:
        for operator in step.operators:
            if operator.macs is not None and operator.macs < 0:
                yield f"operator {operator.name} has {operator.macs} MACs"
        for name in (*step.inputs, *step.outputs):
            if name not in tensors:
                yield f"step {step.name} uses tensor {name!r}, which is not in the tensor table"
            elif isinstance(step, NpuStep) and tensors[name].cube is None:
                yield f"step {step.name} uses tensor {name!r}, which has no place on the device"
        missing = [name for name in step.inputs if name not in known]
        if missing:
            yield f"step {step.name} reads tensor {missing[0]!r} before it is computed"
        known.update(step.outputs)
        if isinstance(step, NpuStep):
            indices = (task for parts in step.tasks.values() for part in parts for core in part for task in core)
            if any(not 0 <= index < len(program.tasks) for index in indices):
                yield f"step {step.name} runs a task that does not exist"
            yield from _kick_problems(step)
    yield from _kick_width_problems(program)
    for name in program.outputs:
        if name not in known:
            yield f"its output {name!r} is never computed"


def _kick_problems(step: NpuStep) -> Iterator[str]:
    """A number for every segment, each its own, so that the segments' order is that of the numbers."""
    for cores, numbers in step.kicks.items():
        if len(numbers) != len(step.tasks.get(cores, ())) or any(a >= b for a, b in pairwise(numbers)):
            yield f"step {step.name} does not number its segments for {cores} cores in order"


def _kick_width_problems(program: Program) -> Iterator[str]:
    """Segments of one kick have chains for as many cores."""
    widths: dict[tuple[int, int], int] = {}
    for step in program.steps:
        if not isinstance(step, NpuStep):
            continue
        for cores, numbers in step.kicks.items():
            for number, segment in zip(numbers, step.tasks.get(cores, ()), strict=False):
                if widths.setdefault((cores, number), len(segment)) != len(segment):
                    yield f"step {step.name} joins a kick of {cores} cores that has another number of chains"
