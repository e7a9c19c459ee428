"""What a task runs on: memory, lookup tables, scratch; and the interface of a decoded task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from rocketnpu.emulator.lut import LutMemory
from rocketnpu.emulator.memory import Memory, Region
from rocketnpu.emulator.workspace import Workspace


@dataclass
class Buffer:
    """What the convolution buffer holds for the next task of the run: the last weights and features loaded, and into
    how many banks for data and for weights."""

    weights: Region | None = None
    features: Region | None = None
    banks: tuple[int, int] = (0, 0)


@dataclass
class Machine:
    """One core's surroundings. Tasks that break a rule add to `warnings` (broken_rules.py)."""

    memory: Memory
    workspace: Workspace
    lut: LutMemory = field(default_factory=LutMemory)
    buffer: Buffer = field(default_factory=Buffer)
    warnings: list[str] = field(default_factory=list[str])


class Task(Protocol):
    """A decoded task; it may be run many times, on any core."""

    @property
    def kept_bytes(self) -> int:
        """About what it keeps in memory between runs."""
        ...

    def run(self, machine: Machine) -> None:
        """Do all of the task's work; raises DeviceError for accesses outside the mapped memory."""
        ...
