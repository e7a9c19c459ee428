"""Where the tasks of a program touch memory: byte spans by segment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.hw.registers import DPU_RDMA
from rocketnpu.inspect.extents import CONSTANT_ROLES, Access, accesses
from rocketnpu.inspect.spans import EMPTY, Spans, difference, intersection, size_bytes, union
from rocketnpu.inspect.view import Place, ProgramView, TaskView

DPU_READERS = (DPU_RDMA.RDMA_SRC_BASE_ADDR, DPU_RDMA.RDMA_EW_BASE_ADDR)

Area: TypeAlias = Mapping[str, Spans]
"""Bytes by segment; segments without any are left out."""


@dataclass(frozen=True, eq=False)
class Touch:
    """An access with the place that its register points to (None if it holds none), in a segment of `size_bytes`."""

    access: Access
    place: Place | None
    size_bytes: int

    @property
    def is_inside(self) -> bool:
        """Whether every byte is in the segment."""
        if self.place is None:
            return False
        low, high = self.access.bounds(self.place.offset_bytes)
        return low >= 0 and high <= self.size_bytes

    @cached_property
    def spans(self) -> Spans:
        """The bytes of the segment; empty unless all are inside, so that registers of any value cost no memory."""
        return self.access.spans(self.place.offset_bytes) if self.place and self.is_inside else EMPTY


@dataclass(frozen=True, eq=False)
class TaskMemory:
    """All that one task touches; `problem` says why it is not known, if it is not."""

    view: TaskView
    touches: tuple[Touch, ...]
    problem: str | None = None

    @cached_property
    def writes(self) -> Area:
        """The bytes of real output channels."""
        return self._area(lambda access: access.role == "output")

    @cached_property
    def all_writes(self) -> Area:
        """`writes`, and the bytes of the channels that fill the last group (hardware/layouts.md, Buffer sizes)."""
        return self._area(lambda access: access.writes)

    @cached_property
    def reads(self) -> Area:
        """Everything read."""
        return self._area(lambda access: not access.writes)

    @cached_property
    def constants(self) -> Area:
        """Weights and operands, which no task may write."""
        return self._area(lambda access: access.role in CONSTANT_ROLES)

    @property
    def is_in_place(self) -> bool:
        """Whether it writes exactly the atoms that the DPU's readers give it, each after it was read."""
        return any(
            same(self.all_writes, {touch.place.segment: touch.spans})
            for touch in self.touches
            if touch.place and touch.access.register in DPU_READERS
        )

    def _area(self, wanted: Callable[[Access], bool]) -> Area:
        return combined(
            {touch.place.segment: touch.spans} for touch in self.touches if touch.place and wanted(touch.access)
        )


def task_memory(view: TaskView, segments: Mapping[str, int]) -> TaskMemory:
    """What the task touches, as far as its registers tell; `segments` are the sizes in bytes."""
    try:
        found = accesses(view.registers)
    except ModelError as error:
        return TaskMemory(view, (), str(error))
    places = [view.addresses.get(access.register) for access in found]
    sizes = [segments.get(place.segment, 0) if place else 0 for place in places]
    return TaskMemory(view, tuple(map(Touch, found, places, sizes)))


def program_memory(program: ProgramView) -> list[TaskMemory]:
    """What each task of a program touches."""
    segments = {segment.name: segment.size_bytes for segment in program.program.segments}
    return [task_memory(view, segments) for view in program.tasks]


def combined(areas: Iterable[Area]) -> Area:
    """The bytes of all areas."""
    parts: dict[str, list[Spans]] = {}
    for area in areas:
        for segment, spans in area.items():
            parts.setdefault(segment, []).append(spans)
    return {segment: union(spans) for segment, spans in parts.items() if sum(map(len, spans))}


def common(a: Area, b: Area) -> Area:
    """The bytes in both areas."""
    both = {segment: intersection(a[segment], b[segment]) for segment in a.keys() & b.keys()}
    return {segment: spans for segment, spans in both.items() if len(spans)}


def without(a: Area, b: Area) -> Area:
    """The bytes of `a` that are not in `b`."""
    rest = {segment: difference(spans, b.get(segment, EMPTY)) for segment, spans in a.items()}
    return {segment: spans for segment, spans in rest.items() if len(spans)}


def same(a: Area, b: Area) -> bool:
    """Whether both areas are the same bytes."""
    return a.keys() == b.keys() and all(np.array_equal(a[segment], b[segment]) for segment in a)


def first_place(area: Area) -> tuple[Place, int]:
    """Where an area that is not empty begins, and its size in bytes."""
    segment = min(area)
    return Place(segment, int(area[segment][0, 0])), sum(size_bytes(spans) for spans in area.values())
