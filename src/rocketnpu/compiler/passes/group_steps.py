"""Grouping placed operators into steps, and the lifetime of every tensor on the device.

1. An operator on the NPU is a step of its own; operators on the CPU that follow one another share one. Outputs of the
   graph that are constants come from a step on the CPU without operators.
2. A tensor has a place on the device if a step on the NPU reads or writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, Alias, Convolution, Part, image_row_pitch
from rocketnpu.compiler.passes.allocate import Lifetime
from rocketnpu.compiler.passes.assign import Placed, Planned, PlannedConvolution
from rocketnpu.compiler.tiling.convolution import aligned_channels
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.sizes import align
from rocketnpu.ir import Graph


@dataclass(frozen=True, eq=False)
class StepPlan:
    """Operators that run together on one side, with the tensors that go in and out."""

    on_npu: bool
    placed: tuple[Placed, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def plans(self) -> tuple[Planned, ...]:
        """What the NPU does for this step."""
        return tuple(plan for item in self.placed for plan in item.plan)


def group_steps(graph: Graph, placed: Sequence[Placed]) -> tuple[StepPlan, ...]:
    """The steps in order (rule 1). A step's outputs are what later steps, or the user, need of it."""
    groups: list[tuple[Placed, ...]] = []
    for on_cpu, run in groupby(placed, key=lambda item: item.reason is not None):
        members = tuple(run)
        groups += [members] if on_cpu else [(item,) for item in members]

    origins = {*graph.inputs, *(name for item in placed for name in item.operator.outputs)}
    steps: list[StepPlan] = []
    constants = tuple(name for name in dict.fromkeys(graph.outputs) if name not in origins)
    if constants:
        steps.append(StepPlan(False, (), (), constants))
    needed = set(graph.outputs)
    for members in reversed(groups):
        made = [name for item in members for name in item.operator.outputs]
        read = [name for item in members for name in item.operator.inputs if name is not None]
        variable = [name for name in dict.fromkeys(read) if name in origins and name not in made]
        on_npu = members[0].reason is None
        outputs = tuple(made) if on_npu else tuple(name for name in made if name in needed)
        steps.append(StepPlan(on_npu, members, tuple(variable), outputs))
        needed.update(variable)
    return tuple(reversed(steps))


@dataclass(frozen=True)
class Location:
    """Where a tensor starts: `offset_bytes` into the place of `place`, which is itself or a tensor it shares with."""

    place: str
    offset_bytes: int = 0

    def __add__(self, size_bytes: int) -> Location:
        return Location(self.place, self.offset_bytes + size_bytes)


def storage(steps: Sequence[StepPlan]) -> dict[str, Location]:
    """Where each tensor on the device lies: in a place of its own, in that of what it is an alias of, or inside the
    tensor that it is a part of."""
    plans = [plan for step in steps for plan in step.plans]
    parts = {plan.form.input: plan.form for plan in plans if isinstance(plan.form, Part)}
    found: dict[str, Location] = {}

    def locate(name: str) -> Location:
        part = parts.get(name)
        return Location(name) if part is None else locate(part.output) + part.offset_bytes

    for plan in plans:
        form = plan.form
        for name in form.inputs:
            found.setdefault(name, locate(name))
        shared = found[form.input] + form.offset_bytes if isinstance(form, Alias) else locate(form.output)
        found.setdefault(form.output, shared)
    return found


def lifetimes(graph: Graph, steps: Sequence[StepPlan], together: Sequence[tuple[int, int]] = ()) -> list[Lifetime]:
    """Size and lifetime of every place on the device (allocate.py, rules 1 to 3).

    `together` are the first and last steps of groups that several cores work through.
    """
    locations = storage(steps)
    start, stop = _runs(steps)
    sizes: dict[str, int] = {}
    used: dict[str, list[int]] = {}
    for index, step in enumerate(steps):
        for plan in step.plans:
            for name in (*plan.form.inputs, plan.form.output):
                at = locations[name]
                sizes[at.place] = max(sizes.get(at.place, 0), at.offset_bytes + _size_bytes(plan, name))
                used.setdefault(at.place, []).append(index)
        for name in step.inputs:
            if step.on_npu and not _made_on_npu(steps[:index], name):
                used[locations[name].place].append(start[index])
            if not step.on_npu and _made_on_npu(steps, name):
                used[locations[name].place].append(stop[_maker(steps, name)])
    for name in graph.outputs:
        if _made_on_npu(steps, name):
            used[locations[name].place].append(stop[_maker(steps, name)])
    for indices in used.values():
        touching = [group for group in together if any(group[0] <= index <= group[1] for index in indices)]
        indices += [edge for group in touching for edge in group]
    return [Lifetime(name, sizes[name], min(indices), max(indices)) for name, indices in used.items()]


def _runs(steps: Sequence[StepPlan]) -> tuple[list[int], list[int]]:
    """For each step, the first and last step of the run on the same side that it belongs to."""
    start, stop = list(range(len(steps))), list(range(len(steps)))
    for index in range(1, len(steps)):
        if steps[index].on_npu and steps[index - 1].on_npu:
            start[index] = start[index - 1]
    for index in range(len(steps) - 2, -1, -1):
        if steps[index].on_npu and steps[index + 1].on_npu:
            stop[index] = stop[index + 1]
    return start, stop


def _maker(steps: Sequence[StepPlan], name: str) -> int:
    return next(index for index, step in enumerate(steps) if name in step.outputs)


def _made_on_npu(steps: Sequence[StepPlan], name: str) -> bool:
    return any(step.on_npu and name in step.outputs for step in steps)


def _size_bytes(plan: Planned, name: str) -> int:
    """Room for a tensor: whole atoms, and where this plan writes it, the whole groups that the writer fills."""
    form = plan.form
    is_residual = isinstance(form, Convolution) and name == form.residual
    shape = form.output_shape if name == form.output or is_residual else form.input_shape
    channels = shape.channels
    if isinstance(plan, PlannedConvolution) and name == plan.form.input and plan.form.image_input:
        return shape.height * image_row_pitch(shape) * channels
    if name == form.output and isinstance(plan, PlannedConvolution):
        written = (tile.c0 + aligned_channels(plan.form, tile) for tile in plan.tiles)
        channels = max(channels, plan.form.first_output_channel + max(written))
    return align(channels, ATOM_CHANNELS) // ATOM_CHANNELS * shape.pixels * ATOM_BYTES
