"""What a program costs by two models that are kept apart: the vendor compiler's formula, and times measured on silicon.

1. Both are computed from the tasks as they stand in the program, with their halos and with weights that are read again.
   The groups of channels that a writer only fills up count for nothing (hardware/layouts.md, Buffer sizes).
2. The formula (hw/cost.py) gives cycles at 1 GHz: of each task the larger of compute and memory cycles, of cores that
   work at the same time the busiest one's, or what their traffic takes together. It knows no time between tasks.
3. The measured model adds that: for each task and each kick (hardware/performance.md, Calibration advice). Its author
   expects it to be within 40 %.
4. The bound of several cores is that of the formula for layers that are shared out evenly and read every byte once:
   sum of max(compute, memory) over sum of max(compute / cores, memory).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from rocketnpu.errors import ModelError
from rocketnpu.hw import cost
from rocketnpu.hw.codes import DEPTHWISE
from rocketnpu.hw.cost import TaskCost, chain_cost, kick_cycles
from rocketnpu.hw.registers import CNA, CORE, DPU
from rocketnpu.hw.rules import RegisterTask
from rocketnpu.inspect.extents import accesses
from rocketnpu.inspect.memory import Area, TaskMemory, combined, program_memory
from rocketnpu.inspect.spans import size_bytes
from rocketnpu.inspect.summary import operation
from rocketnpu.inspect.view import TaskView, view
from rocketnpu.program.model import NpuStep, Program
from rocketnpu.program.schedule import kicks


@dataclass(frozen=True)
class Layer:
    """Tasks of a step that follow one another and make one tensor, on one core."""

    step: str
    operation: str
    tasks: int
    mac_cycles: int
    memory_cycles: float
    cycles: float
    """The sum of the larger one of each task."""
    read_bytes: int
    written_bytes: int
    once_bytes: int
    """The same with every byte read once, however many tasks read it."""

    @property
    def bound(self) -> Literal["compute", "memory"]:
        """What takes longer."""
        return "compute" if self.mac_cycles >= self.memory_cycles else "memory"


@dataclass(frozen=True)
class Total:
    """One inference on `cores` cores."""

    cores: int
    kicks: int
    tasks: int
    cycles: float
    mac_cycles: int
    """Of the busiest core of every kick, summed."""
    moved_bytes: int
    gain: float
    """Cycles of one core over these."""
    gain_bound: float
    cost: float
    """What the compiler's search minimises: cycles with what tasks take, or, of several cores, kicks."""
    rknpu_seconds: float
    """By the measured model: chained tasks at 1 GHz."""
    rocket_seconds: float | None
    """The same at 600 MHz, each task kicked by itself; None on several cores, which rocket does not give a frame."""


@dataclass(frozen=True)
class Profile:
    """What the layers of a program cost, and one inference for each number of cores that it has lists for."""

    name: str
    layers: tuple[Layer, ...]
    totals: tuple[Total, ...]


def profile(program: Program) -> Profile:
    """The profile of a program. Raises ModelError for a task whose registers or accesses are not known."""
    complete = view(program)
    if complete.incomplete:
        raise ModelError(f"{program.name}: {complete.incomplete}")
    costs = [task_cost(task) for task in complete.tasks]
    memory = program_memory(complete)
    steps = [step for step in program.steps if isinstance(step, NpuStep)]
    layers = tuple(layer for step in steps for layer in _layers(step, complete.tasks, costs, memory))
    totals: list[Total] = []
    for count in [n for n in sorted(steps[0].tasks) if all(n in step.tasks for step in steps)] if steps else ():
        chains = [
            [[costs[task] for task in chain] for chain in kick]
            for _, run in groupby(program.steps, key=lambda step: step.place)
            for kick in kicks([step for step in run if isinstance(step, NpuStep)], count)
        ]
        totals.append(_total(count, chains, layers, totals[0].cycles if totals else None))
    return Profile(program.name, layers, tuple(totals))


def task_cost(task: TaskView) -> TaskCost:
    """What one task costs by the formula. Raises ModelError for a register or an access that is not known."""
    read = written = 0
    try:
        for access in accesses(task.registers):
            size = access.planes.size * access.rows * access.run_bytes
            if not access.writes:
                read += size
            elif access.role == "output":
                written += size
        return TaskCost(_mac_cycles(task.registers), read, written)
    except ModelError as error:
        raise ModelError(f"{task}: {error}") from error


def _mac_cycles(task: RegisterTask) -> int:
    """Convolutions alone have any."""
    if not (task.enables(CNA) and task.enables(CORE)):
        return 0
    height = task.get(DPU.DATA_CUBE_HEIGHT, "HEIGHT") + 1
    width = task.get(DPU.DATA_CUBE_WIDTH, "WIDTH") + 1
    outputs = task.get(DPU.DATA_CUBE_CHANNEL, "ORIG_CHANNEL") + 1
    kernel_h = task.get(CNA.WEIGHT_SIZE2, "WEIGHT_HEIGHT")
    kernel_w = task.get(CNA.WEIGHT_SIZE2, "WEIGHT_WIDTH")
    if task.get(CNA.CONV_CON1, "CONV_MODE") == DEPTHWISE:
        return cost.depthwise_cycles(height, width, outputs, kernel_h, kernel_w)
    inputs = task.get(CNA.DATA_SIZE1, "DATAIN_CHANNEL")
    return cost.direct_cycles(height, width, outputs, inputs, kernel_h, kernel_w)


def _layers(
    step: NpuStep, views: Sequence[TaskView], costs: Sequence[TaskCost], memory: Sequence[TaskMemory]
) -> list[Layer]:
    order = [task for segment in step.tasks.get(1, ()) for chain in segment for task in chain]
    layers: list[Layer] = []
    for _, run in groupby(order, key=lambda task: views[task].task.name):
        tasks = list(run)
        total = chain_cost(costs[task] for task in tasks)
        once = combined(memory[task].reads for task in tasks), combined(memory[task].writes for task in tasks)
        layers.append(
            Layer(
                step=step.name,
                operation=operation(views[tasks[0]].registers),
                tasks=len(tasks),
                mac_cycles=total.mac_cycles,
                memory_cycles=cost.ddr_cycles(total.moved_bytes),
                cycles=total.cycles,
                read_bytes=sum(costs[task].read_bytes for task in tasks),
                written_bytes=sum(costs[task].written_bytes for task in tasks),
                once_bytes=sum(map(_area_bytes, once)),
            )
        )
    return layers


def _area_bytes(area: Area) -> int:
    return sum(size_bytes(spans) for spans in area.values())


def _total(
    cores: int, chains: Sequence[Sequence[Sequence[TaskCost]]], layers: Sequence[Layer], one_core: float | None
) -> Total:
    by_kick = [[chain_cost(chain) for chain in kick] for kick in chains]
    cycles = sum(map(kick_cycles, by_kick))
    tasks = sum(len(chain) for kick in chains for chain in kick)
    longest = sum(max(map(len, kick)) for kick in chains)
    between = len(chains) * cost.KICK_SECONDS
    return Total(
        cores=cores,
        kicks=len(chains),
        tasks=tasks,
        cycles=cycles,
        mac_cycles=sum(max(chain.mac_cycles for chain in kick) for kick in by_kick),
        moved_bytes=sum(chain.moved_bytes for kick in by_kick for chain in kick),
        gain=1.0 if one_core is None or not cycles else one_core / cycles,
        gain_bound=gain_bound(layers, cores),
        cost=cycles + tasks * cost.CHAINED_TASK_CYCLES if cores == 1 else sum(map(cost.kick_cost, by_kick)),
        rknpu_seconds=cycles / cost.VENDOR_CLOCK_HZ + longest * cost.CHAINED_TASK_SECONDS + between,
        rocket_seconds=_rocket_seconds(chains) if cores == 1 else None,
    )


def gain_bound(layers: Sequence[Layer], cores: int) -> float:
    """The largest gain that `cores` cores can have by rule 4."""
    pairs = [(layer.mac_cycles, cost.ddr_cycles(layer.once_bytes)) for layer in layers]
    shared = sum(cost.layer_cycles(macs / cores, memory) for macs, memory in pairs)
    return sum(cost.layer_cycles(macs, memory) for macs, memory in pairs) / shared if shared else 1.0


def _rocket_seconds(chains: Sequence[Sequence[Sequence[TaskCost]]]) -> float:
    """Traffic takes the time that it takes at any clock."""
    clock = cost.MAINLINE_CLOCK_HZ
    tasks = [task for kick in chains for chain in kick for task in chain]
    cycles = sum(cost.layer_cycles(task.mac_cycles, cost.ddr_cycles(task.moved_bytes, clock)) for task in tasks)
    return cycles / clock + len(tasks) * cost.KICKED_TASK_SECONDS + len(chains) * cost.KICK_SECONDS


def to_json(found: Profile) -> Mapping[str, object]:
    """The profile as JSON values."""
    return {
        "name": found.name,
        "layers": [{**vars(layer), "bound": layer.bound} for layer in found.layers],
        "totals": [dict(vars(total)) for total in found.totals],
    }


def to_trace(program: Program, cores: int) -> Mapping[str, object]:
    """One inference by the formula as a timeline, in the format of Chrome's trace viewer and Perfetto.

    A track for each core; microseconds at 1 GHz. Where a kick waits for the DRAM, its tasks are stretched to its end.
    Raises ModelError for a program without lists for `cores` cores.
    """
    complete = view(program)
    steps = [step for step in program.steps if isinstance(step, NpuStep)]
    if any(cores not in step.tasks for step in steps):
        raise ModelError(f"{program.name} has no task lists for {cores} cores")
    events: list[Mapping[str, object]] = []
    start = 0.0
    for _, run in groupby(program.steps, key=lambda step: step.place):
        for kick in kicks([step for step in run if isinstance(step, NpuStep)], cores):
            chains = [[task_cost(complete.tasks[task]) for task in chain] for chain in kick]
            sums = [chain_cost(chain) for chain in chains]
            length = kick_cycles(sums)
            stretch = length / (max(chain.cycles for chain in sums) or 1.0)
            for core, (indices, chain) in enumerate(zip(kick, chains, strict=True)):
                at = start
                for index, task in zip(indices, chain, strict=True):
                    events.append(_event(complete.tasks[index], task, core, at, stretch * task.cycles))
                    at += stretch * task.cycles
            start += length
    return {"traceEvents": events, "displayTimeUnit": "ns"}


def _event(task: TaskView, found: TaskCost, core: int, start: float, cycles: float) -> Mapping[str, object]:
    cycles_a_microsecond = cost.VENDOR_CLOCK_HZ / 1e6
    return {
        "name": task.task.name,
        "ph": "X",
        "pid": 0,
        "tid": core,
        "ts": start / cycles_a_microsecond,
        "dur": cycles / cycles_a_microsecond,
        "args": {"task": task.index, "operation": operation(task.registers), **vars(found)},
    }
