"""Tasks that write the same bytes, and writes to bytes that something still needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rocketnpu.inspect.findings import Finding, finding
from rocketnpu.inspect.liveness import Life, lives
from rocketnpu.inspect.memory import Area, TaskMemory, combined, common, first_place, without
from rocketnpu.inspect.view import tasks_of
from rocketnpu.program.model import COMMANDS, NpuStep, Program
from rocketnpu.program.schedule import kicks


def overlaps(program: Program, memories: Sequence[TaskMemory]) -> Iterator[Finding]:
    """All findings of this module.

    Bytes that nothing reads and no tensor holds don't count: the vendor's cores end their segments with pools that
    write one scratch place (hardware/convolution.md, Multi-core).
    """
    everything = _Everything(program, memories)
    for on_npu, run in groupby(program.steps, key=lambda step: isinstance(step, NpuStep)):
        steps = [step for step in run if isinstance(step, NpuStep)]
        for count in steps[0].tasks if on_npu else ():
            for kick in kicks([step for step in steps if count in step.tasks], count):
                yield from everything.between_cores(count, kick)
    for position, step in enumerate(program.steps):
        if isinstance(step, NpuStep):
            for segments in step.tasks.values():
                order = [index for cores in segments for core in cores for index in core]
                yield from everything.one_after_another(order)
            yield from everything.live_tensors(position, step)
    yield from everything.host_writes()
    yield from everything.constants()


@dataclass(frozen=True, eq=False)
class _Pending:
    """Bytes that a task has written and nothing has read yet."""

    writer: TaskMemory
    area: Area


class _Everything:
    """A program with what all its tasks touch."""

    def __init__(self, program: Program, memories: Sequence[TaskMemory]) -> None:
        self._memories = memories
        self._lives = lives(program)
        self._observed = combined([*map(_held, self._lives), *(memory.reads for memory in memories)])

    def between_cores(self, count: int, cores: Sequence[Sequence[int]]) -> Iterator[Finding]:
        """Cores run at the same time: none may touch what another writes."""
        for number, core in enumerate(cores):
            others = [index for position, other in enumerate(cores) if position != number for index in other]
            for memory in (self._memories[index] for index in core):
                for other in (self._memories[index] for index in others):
                    where = f"{other.view}, which runs on another core of {count} at the same time"
                    written = common(common(memory.all_writes, other.all_writes), self._observed)
                    if written and other.view.index < memory.view.index:
                        yield finding(
                            memory.view, "cores_write_apart", f"writes {_say(written)}, and so does {where}", "corrupt"
                        )
                    read = common(memory.reads, other.all_writes)
                    if read:
                        text = f"reads {_say(read)}, written by {where}"
                        yield finding(memory.view, "cores_read_what_is_finished", text, "corrupt")

    def one_after_another(self, order: Sequence[int]) -> Iterator[Finding]:
        """A result is read before it is overwritten. Bytes of channels that only fill a group may be overwritten."""
        pending: list[_Pending] = []
        for index in order:
            memory = self._memories[index]
            pending = [_Pending(item.writer, without(item.area, memory.reads)) for item in pending]
            for item in pending:
                area = common(item.area, memory.all_writes)
                if area:
                    text = f"overwrites {_say(area)}, which {item.writer.view} wrote and nothing has read"
                    yield finding(memory.view, "results_are_read_before_they_are_overwritten", text, "corrupt")
            pending.append(_Pending(memory, common(memory.writes, self._observed)))

    def live_tensors(self, position: int, step: NpuStep) -> Iterator[Finding]:
        """A step leaves tensors alone that are still needed; its own inputs may only be replaced in place."""
        for life in self._lives:
            if not life.survives(position) or life.tensor.name in step.outputs:
                continue
            for index in tasks_of(step):
                memory = self._memories[index]
                area = common(memory.all_writes, _held(life))
                if area and not (life.last == position and memory.is_in_place):
                    text = f"writes {_say(area)}, where tensor {life.tensor.name} is still needed"
                    yield finding(memory.view, "live_tensors_are_left_alone", text, "corrupt")

    def host_writes(self) -> Iterator[Finding]:
        """What the host writes before a run of steps has a place that nothing else needs at that time."""
        for life in (life for life in self._lives if life.by_host):
            for other in self._lives:
                if not _comes_before(other, life):
                    continue
                both = common(_held(life), _held(other))
                if both:
                    text = f"the host writes it over {_say(both)}, where tensor {other.tensor.name} is still needed"
                    yield Finding(None, f"tensor {life.tensor.name}", "live_tensors_are_left_alone", text, "corrupt")

    def constants(self) -> Iterator[Finding]:
        """No task writes weights, operands or commands."""
        constants = combined(memory.constants for memory in self._memories)
        for memory in self._memories:
            area = common(memory.all_writes, constants)
            if area:
                yield finding(
                    memory.view, "constants_are_not_written", f"writes {_say(area)}, read as weights", "corrupt"
                )
            if COMMANDS in memory.all_writes:
                yield finding(memory.view, "constants_are_not_written", "writes command lists", "corrupt")


def _comes_before(other: Life, life: Life) -> bool:
    """Whether the host must not write over `other` when it writes `life`; of two that it writes, one comes first."""
    if other.by_host and other.first == life.first:
        return other.tensor.name < life.tensor.name
    return other.first < life.first <= other.last


def _held(life: Life) -> Area:
    return {life.tensor.cube.segment: life.tensor.spans}


def _say(area: Area) -> str:
    place, size = first_place(area)
    return f"{size} bytes from {place.segment}+{place.offset_bytes:#x}"
