"""Which tasks of a program the mainline driver does not see the end of (hardware/regcmd.md, What completes a task)."""

from __future__ import annotations

from collections.abc import Iterator

from rocketnpu.hw.registers import PC
from rocketnpu.program.model import NpuStep, Program

SEEN_BY_ROCKET = PC.INTERRUPT_MASK.encode(DPU_0=1, DPU_1=1)
"""The only interrupts that rocket takes for a task's completion; the pooling unit alone raises others."""


def unseen_by_rocket(program: Program) -> Iterator[int]:
    """Indices of the tasks for one core, which is what rocket runs, that end without an interrupt it looks for."""
    for step in program.steps:
        if isinstance(step, NpuStep):
            for task in (task for part in step.tasks.get(1, ()) for core in part for task in core):
                if not program.tasks[task].interrupt_mask & SEEN_BY_ROCKET:
                    yield task
