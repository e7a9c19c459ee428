"""From steps to a Program: command lists, constants, the arena and the tensor table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.emit.command_list import Address, CommandSegment, TaskRegisters
from rocketnpu.compiler.emit.constants import CONSTANTS, ConstantPool
from rocketnpu.compiler.emit.convolution import ConvolutionConstants, emit_convolution, place_constants
from rocketnpu.compiler.emit.elementwise import emit_copy, emit_elementwise
from rocketnpu.compiler.emit.lookup import emit_lookup, emit_table_load
from rocketnpu.compiler.emit.move import emit_moves
from rocketnpu.compiler.emit.pool import emit_pool
from rocketnpu.compiler.emit.upsample import emit_upsample
from rocketnpu.compiler.emit.wide_sum import emit_wide_sum
from rocketnpu.compiler.macs import macs
from rocketnpu.compiler.multicore.search import Group, Splitter
from rocketnpu.compiler.multicore.share import Share, Work, whole
from rocketnpu.compiler.npu_ops import Elementwise, cube_shape, image_row_pitch
from rocketnpu.compiler.passes.allocate import ACTIVATIONS, Arena
from rocketnpu.compiler.passes.assign import (
    Planned,
    PlannedAlias,
    PlannedConvolution,
    PlannedElementwise,
    PlannedLookup,
    PlannedMove,
    PlannedPool,
    PlannedRescale,
    PlannedTableLoad,
    PlannedUpsample,
    PlannedWideSum,
)
from rocketnpu.compiler.passes.group_steps import StepPlan, storage
from rocketnpu.compiler.tiling.areas import Area, areas
from rocketnpu.cpu import litert
from rocketnpu.cpu import onnxruntime as ort
from rocketnpu.hw import limits
from rocketnpu.hw.layouts import FeatureCube
from rocketnpu.hw.sizes import INT32_BYTES
from rocketnpu.ir import Graph
from rocketnpu.program.model import (
    COMMANDS,
    CpuStep,
    Cube,
    NpuStep,
    OperatorEntry,
    Program,
    Segment,
    Step,
    TensorEntry,
)

RUNTIMES: Mapping[str, Literal["litert", "onnxruntime"]] = MappingProxyType({"tflite": "litert", "onnx": "onnxruntime"})
"""What runs the pieces of a model on the CPU, by the model's format."""


def emit(
    name: str,
    graph: Graph,
    steps: Sequence[StepPlan],
    arena: Arena,
    dissolved: Mapping[str, str],
    splitter: Splitter,
    groups: Mapping[int, Sequence[Group]],
) -> Program:
    """The finished program of a graph whose steps and arena are planned, for one core and the counts of `groups`."""
    located = storage(steps)
    places = {tensor: Address(ACTIVATIONS, arena.offsets[at.place] + at.offset_bytes) for tensor, at in located.items()}
    writer = _Writer(places, splitter)
    dense = {
        located[plan.form.input].place
        for step in steps
        for plan in step.plans
        if isinstance(plan, PlannedConvolution) and plan.form.image_input
    }
    images = {tensor for tensor, at in located.items() if at.place in dense}
    alone = [{work: writer.chain(work, whole(work.plan)) for work in own} for own in splitter.works]
    # After all lists for one core, which follow one another without a gap.
    split = {count: _emit_groups(parts, alone, writer) for count, parts in groups.items()}
    emitted = tuple(_emit_step(graph, step, index, alone[index], split) for index, step in enumerate(steps))
    words = writer.commands.words()
    content = writer.pool.content()
    return Program(
        name=name,
        segments=(
            Segment(CONSTANTS, len(content), content),
            Segment(COMMANDS, words.nbytes, words.astype("<u8").tobytes()),
            Segment(ACTIVATIONS, arena.size_bytes),
        ),
        relocations=tuple(writer.commands.relocations),
        tasks=tuple(writer.commands.tasks),
        steps=emitted,
        tensors=tuple(_entry(graph, tensor, places, images) for tensor in _visible(graph, emitted)),
        inputs=graph.inputs,
        outputs=graph.outputs,
        dissolved=dissolved,
    )


def _emit_step(
    graph: Graph,
    step: StepPlan,
    index: int,
    alone: Mapping[Work, tuple[int, ...]],
    split: Mapping[int, _Kicks],
) -> Step:
    operators = tuple(
        OperatorEntry(op.name, op.kind, item.reason, macs(graph, op))
        for item in step.placed
        for op in (*item.absorbed, item.operator)
    )
    name = step.placed[-1].operator.name if step.placed else step.outputs[-1]
    if not step.on_npu:
        return CpuStep(name, operators, step.inputs, step.outputs, _piece(graph, step), runtime=RUNTIMES[graph.format])
    tasks: dict[int, tuple[tuple[tuple[int, ...], ...], ...]] = {
        1: ((tuple(task for chain in alone.values() for task in chain),),)
    }
    kicks: dict[int, tuple[int, ...]] = {}
    for count, numbered in split.items():
        own = sorted((number, chains) for (number, at), chains in numbered.items() if at == index)
        tasks[count] = tuple(tuple(map(tuple, chains)) for _, chains in own)
        kicks[count] = tuple(number for number, _ in own)
    return NpuStep(name, operators, step.inputs, step.outputs, tasks, kicks=kicks)


_Kicks: TypeAlias = dict[tuple[int, int], list[list[int]]]
"""The tasks of each core by the number of their kick and the index of their step."""


def _emit_groups(groups: Sequence[Group], alone: Sequence[Mapping[Work, tuple[int, ...]]], writer: _Writer) -> _Kicks:
    """What one core does keeps its lists; the others' are new, each core's in one chain for each kick."""
    found: _Kicks = {}
    number = 0
    for group in groups:
        ranks = [[member.shares for member in group.members], [member.seams for member in group.members]]
        for shares in ranks:
            cores = max(map(len, shares))
            for core in range(cores):
                first = True
                for member, own in zip(group.members, shares, strict=True):
                    share = own[core] if own else None
                    if share is None:
                        continue
                    chains = found.setdefault((number, member.work.step), [[] for _ in range(cores)])
                    if group.way == "alone":
                        chains[core] += alone[member.work.step][member.work]
                        continue
                    chains[core] += writer.chain(member.work, share, core, linked=not first)
                    first = False
            number += 1
    return found


class _Writer:
    """Appends the tasks of plans to the command lists, and their constants to the pool, each once."""

    def __init__(self, places: Mapping[str, Address], splitter: Splitter):
        self.commands, self.pool = CommandSegment(), ConstantPool()
        self._places, self._splitter = places, splitter
        self._packed: dict[Planned, ConvolutionConstants] = {}

    def chain(self, work: Work, share: Share, core: int = 0, *, linked: bool = True) -> tuple[int, ...]:
        """The indices of the tasks of a share; `linked`: the list before them leads on to them."""
        tasks: list[int] = []
        for registers in self._tasks(work, share, core):
            tasks.append(self.commands.append(registers, linked=linked or bool(tasks)))
        return tuple(tasks)

    def _tasks(self, work: Work, share: Share, core: int) -> Iterator[TaskRegisters]:
        places, plan = self._places, work.plan
        if work.table is not None:
            yield emit_table_load(work.table.form, places[work.table.form.output], core)
        match plan:
            case PlannedConvolution(form, values):
                data, output = places[form.input], places[form.output]
                residual = None if form.residual is None else places[form.residual]
                if plan not in self._packed:
                    self._packed[plan] = place_constants(form, values, self.pool)
                for tile in self._splitter.tiles(work, share):
                    yield emit_convolution(form, values, tile, data, output, self._packed[plan], residual)
            case PlannedElementwise(form, values):
                second = places[form.second] if form.second is not None else self.pool.add(_packed(form))
                for area in _areas(plan, share):
                    yield emit_elementwise(form, values, places[form.first], second, places[form.output], area)
            case PlannedWideSum(form):
                for area in _areas(plan, share):
                    yield emit_wide_sum(form, places[form.first], places[form.second], places[form.output], area)
            case PlannedRescale(form, values):
                for area in _areas(plan, share):
                    yield emit_copy(form, values, places[form.input], places[form.output], area)
            case PlannedLookup(form):
                for area in _areas(plan, share):
                    yield emit_lookup(form, places[form.input], places[form.output], area)
            case PlannedMove(form):
                second = None if form.second is None else places[form.second]
                yield from emit_moves(form, places[form.first], second, places[form.output], share)
            case PlannedPool(form, tiles):
                for tile in tiles:
                    yield emit_pool(form, tile, places[form.input], places[form.output])
            case PlannedUpsample(form):
                yield from emit_upsample(form, places[form.input], places[form.output], share)
            case PlannedTableLoad() | PlannedAlias():
                return


def _areas(plan: PlannedElementwise | PlannedWideSum | PlannedRescale | PlannedLookup, share: Share) -> Iterator[Area]:
    """What each task of a share takes."""
    rows, channels = (share.y0, share.y1), (share.c0, share.c1)
    widest = limits.MAX_LUT_WIDTH if isinstance(plan, PlannedLookup) else limits.MAX_CUBE
    lane_bytes = INT32_BYTES if isinstance(plan, PlannedWideSum) else 1
    return areas(plan.form.output_shape, rows, channels, widest, lane_bytes)


def _piece(graph: Graph, step: StepPlan) -> bytes:
    """A model of a step on the CPU, for the runtime of the graph's format."""
    if graph.format == "onnx":
        return ort.extract_piece(graph, step.inputs, step.outputs)
    return litert.extract_piece(graph, [item.operator.index for item in step.placed], step.inputs, step.outputs)


def _packed(form: Elementwise) -> NDArray[np.uint8]:
    """A constant operand as a feature cube."""
    assert form.constant is not None
    return FeatureCube(*form.constant.shape).pack(form.constant)


def _visible(graph: Graph, steps: Sequence[Step]) -> list[str]:
    """Tensors with a meaning to the user: the graph's inputs, and what goes in and out of steps."""
    names = [*graph.inputs, *(name for step in steps for name in (*step.inputs, *step.outputs)), *graph.outputs]
    return list(dict.fromkeys(names))


def _entry(graph: Graph, name: str, places: Mapping[str, Address], images: Collection[str] = ()) -> TensorEntry:
    tensor = graph.tensors[name]
    grid, cube = tensor.quantization, None
    if name in places:
        shape, place = cube_shape(tensor), places[name]
        cube = Cube(place.segment, place.offset_bytes, shape.height, shape.width, shape.channels, shape.pixels)
        if name in images:
            cube = replace(cube, dense=True, row_pitch_pixels=image_row_pitch(shape))
    return TensorEntry(
        name=name,
        shape=tensor.shape,
        dtype=tensor.dtype.name,
        scales=() if grid is None else tuple(map(float, grid.scales)),
        zero_points=() if grid is None else tuple(map(int, grid.zero_points)),
        axis=None if grid is None else grid.axis,
        layout=tensor.layout,
        cube=cube,
    )
