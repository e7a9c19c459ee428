"""From steps to a Program: command lists, constants, the arena and the tensor table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rocketnpu import litert, ort
from rocketnpu.compiler.allocate import ACTIVATIONS, Arena
from rocketnpu.compiler.commands import Address, CommandSegment, TaskRegisters
from rocketnpu.compiler.constants import CONSTANTS, ConstantPool
from rocketnpu.compiler.emit_convolution import emit_convolution, place_constants
from rocketnpu.compiler.emit_elementwise import emit_copy, emit_elementwise
from rocketnpu.compiler.emit_lookup import emit_lookup, emit_table_load
from rocketnpu.compiler.emit_move import emit_move
from rocketnpu.compiler.emit_pool import emit_pool
from rocketnpu.compiler.emit_upsample import emit_upsample
from rocketnpu.compiler.emit_wide_sum import emit_wide_sum
from rocketnpu.compiler.lowered import Elementwise, cube_shape, image_row_pitch
from rocketnpu.compiler.options import Options
from rocketnpu.compiler.place import (
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
from rocketnpu.compiler.split import split_over_cores
from rocketnpu.compiler.steps import StepPlan, storage
from rocketnpu.hw.layouts import FeatureCube
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
    options: Options,
) -> Program:
    """The finished program of a graph whose steps and arena are planned, for 1 .. `options.cores` cores."""
    located = storage(steps)
    places = {tensor: Address(ACTIVATIONS, arena.offsets[at.place] + at.offset_bytes) for tensor, at in located.items()}
    commands, pool = CommandSegment(), ConstantPool()
    dense = {
        located[plan.form.input].place
        for step in steps
        for plan in step.plans
        if isinstance(plan, PlannedConvolution) and plan.form.image_input
    }
    images = {tensor for tensor, at in located.items() if at.place in dense}
    emitted = tuple(_emit_step(graph, step, places, commands, pool) for step in steps)
    if options.cores > 1:
        # After all lists for one core, which follow one another without a gap.
        emitted = tuple(
            _with_cores(plan, step, options, places, commands, pool) for plan, step in zip(steps, emitted, strict=True)
        )
    words = commands.words()
    content = pool.content()
    return Program(
        name=name,
        segments=(
            Segment(CONSTANTS, len(content), content),
            Segment(COMMANDS, words.nbytes, words.astype("<u8").tobytes()),
            Segment(ACTIVATIONS, arena.size_bytes),
        ),
        relocations=tuple(commands.relocations),
        tasks=tuple(commands.tasks),
        steps=emitted,
        tensors=tuple(_entry(graph, tensor, places, images) for tensor in _visible(graph, emitted)),
        inputs=graph.inputs,
        outputs=graph.outputs,
        dissolved=dissolved,
        target=options.target,
    )


def emit_opaque(name: str, graph: Graph) -> Program:
    """The program of a graph that can only run as one piece on the CPU."""
    operators = tuple(OperatorEntry(op.name, op.kind, graph.opaque) for op in graph.operators)
    step = CpuStep(name, operators, graph.inputs, graph.outputs, graph.model, runtime=RUNTIMES[graph.format])
    tensors = tuple(_entry(graph, tensor, {}) for tensor in _visible(graph, [step]))
    return Program(
        name=name,
        segments=(),
        relocations=(),
        tasks=(),
        steps=(step,),
        tensors=tensors,
        inputs=graph.inputs,
        outputs=graph.outputs,
    )


def _emit_step(
    graph: Graph, step: StepPlan, places: Mapping[str, Address], commands: CommandSegment, pool: ConstantPool
) -> Step:
    operators = tuple(
        OperatorEntry(op.name, op.kind, item.reason) for item in step.placed for op in (*item.absorbed, item.operator)
    )
    name = step.placed[-1].operator.name
    if not step.on_npu:
        return CpuStep(name, operators, step.inputs, step.outputs, _piece(graph, step), runtime=RUNTIMES[graph.format])
    tasks = tuple(commands.append(task) for plan in step.plans for task in _emit_plan(plan, places, pool))
    return NpuStep(name, operators, step.inputs, step.outputs, {1: ((tasks,),)})


def _with_cores(
    plan: StepPlan,
    step: Step,
    options: Options,
    places: Mapping[str, Address],
    commands: CommandSegment,
    pool: ConstantPool,
) -> Step:
    """The step with task lists for 2 .. `options.cores` cores too: what is not split keeps its lists for one core."""
    if not isinstance(step, NpuStep):
        return step
    tasks = dict(step.tasks)
    for count in range(2, options.cores + 1):
        rest = list(step.tasks[1][0][0])
        parts: list[tuple[tuple[int, ...], ...]] = []
        for planned in plan.plans:
            alone = [rest.pop(0) for _ in _emit_plan(planned, places, pool)]
            shares = None
            if isinstance(planned, PlannedConvolution):
                shares = split_over_cores(planned.form, planned.tiles, count, options.optimize)
            if isinstance(planned, PlannedConvolution) and shares is not None:
                chains = (_emit_plan(replace(planned, tiles=share), places, pool) for share in shares)
                parts.append(tuple(_append_chain(chain, commands) for chain in chains))
            elif alone:
                parts.append((tuple(alone),))
        tasks[count] = tuple(parts)
    return replace(step, tasks=tasks)


def _append_chain(chain: Sequence[TaskRegisters], commands: CommandSegment) -> tuple[int, ...]:
    """Tasks that one core runs after one another, while other cores run theirs."""
    return tuple(commands.append(registers, linked=index > 0) for index, registers in enumerate(chain))


def _piece(graph: Graph, step: StepPlan) -> bytes:
    """A model of a step on the CPU, for the runtime of the graph's format."""
    if graph.format == "onnx":
        return ort.extract_piece(graph, step.inputs, step.outputs)
    return litert.extract_piece(graph, [item.operator.index for item in step.placed], step.inputs, step.outputs)


def _emit_plan(plan: Planned, places: Mapping[str, Address], pool: ConstantPool) -> list[TaskRegisters]:
    match plan:
        case PlannedConvolution(form, values, tiles):
            data, output = places[form.input], places[form.output]
            packed = place_constants(form, values, pool)
            residual = None if form.residual is None else places[form.residual]
            return [emit_convolution(form, values, tile, data, output, packed, residual) for tile in tiles]
        case PlannedElementwise(form, values):
            second = places[form.second] if form.second is not None else pool.add(_packed(form))
            return [emit_elementwise(form, values, places[form.first], second, places[form.output])]
        case PlannedWideSum(form):
            return [emit_wide_sum(form, places[form.first], places[form.second], places[form.output])]
        case PlannedRescale(form, values):
            return [emit_copy(form, values, places[form.input], places[form.output])]
        case PlannedTableLoad(form):
            return [emit_table_load(form, places[form.output])]
        case PlannedLookup(form):
            return [emit_lookup(form, places[form.input], places[form.output])]
        case PlannedMove(form):
            second = None if form.second is None else places[form.second]
            return [emit_move(form, places[form.first], second, places[form.output])]
        case PlannedPool(form, tiles):
            return [emit_pool(form, tile, places[form.input], places[form.output]) for tile in tiles]
        case PlannedUpsample(form):
            return list(emit_upsample(form, places[form.input], places[form.output]))
        case PlannedAlias():
            return []


def _packed(form: Elementwise) -> NDArray[np.uint8]:
    """A constant operand as a feature cube."""
    assert form.constant is not None
    shape = form.shape
    return FeatureCube(shape.height, shape.width, shape.channels).pack(form.constant)


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
