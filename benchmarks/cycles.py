"""Cycles of a compiled program by the vendor compiler's formulas (hw/cost.py), from the register lists it emits."""

from __future__ import annotations

from rocketnpu.hw import cost
from rocketnpu.hw.registers import CNA, CORE, DPU
from rocketnpu.hw.rules import RegisterTask
from rocketnpu.inspect.extents import accesses
from rocketnpu.inspect.view import TaskView, view
from rocketnpu.program.model import NpuStep, Program

DEPTHWISE = 3
"""CONV_MODE."""


def cycles(program: Program, cores: int) -> float:
    """NPU cycles at 1 GHz of one inference on `cores` cores: of tasks that run at the same time the busiest core's, or
    what all their traffic takes, since cores share the DRAM."""
    tasks = view(program).tasks
    total = 0.0
    for step in program.steps:
        if isinstance(step, NpuStep):
            for chains in step.tasks[cores]:
                busiest = max(sum(_task_cycles(tasks[index]) for index in chain) for chain in chains)
                moved = sum(_moved_bytes(tasks[index]) for chain in chains for index in chain)
                total += max(busiest, cost.ddr_cycles(moved))
    return total


def _task_cycles(task: TaskView) -> float:
    return cost.layer_cycles(_mac_cycles(task.registers), cost.ddr_cycles(_moved_bytes(task)))


def _moved_bytes(task: TaskView) -> int:
    return sum(access.planes.size * access.rows * access.run_bytes for access in accesses(task.registers))


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
