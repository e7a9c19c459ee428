"""A program's tasks as the hardware sees them: register values with what they inherit, addresses as places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import Register, register_of
from rocketnpu.hw.rules import RegisterTask, task_of
from rocketnpu.program.model import COMMANDS, NpuStep, Program, Task
from rocketnpu.rknn import materialise


@dataclass(frozen=True)
class Place:
    """A byte of device memory: `offset_bytes` into a segment."""

    segment: str
    offset_bytes: int


@dataclass(frozen=True, eq=False)
class TaskView:
    """Task `index` of a program.

    `words` is its list with the trailer; `relocated` are the places that its words hold, by index into `words`.
    `registers` and `addresses` are what the hardware works with: the list's own values, and those that its register
    group kept from earlier tasks (hardware/regcmd.md, Ping-pong and register persistence).
    """

    index: int
    task: Task
    step: NpuStep | None
    words: regcmd.Words
    relocated: Mapping[int, Place]
    registers: RegisterTask
    addresses: Mapping[Register, Place]

    def __str__(self) -> str:
        return f"task {self.index} ({self.task.name})"


@dataclass(frozen=True, eq=False)
class ProgramView:
    """A program and its tasks; `incomplete` says why inherited registers are not known, if they are not."""

    program: Program
    tasks: tuple[TaskView, ...]
    incomplete: str | None = None

    @property
    def is_bare(self) -> bool:
        """Whether it is nothing but commands, whose addresses therefore lead nowhere known."""
        return not self.program.relocations and all(segment.name == COMMANDS for segment in self.program.segments)


def view(program: Program) -> ProgramView:
    """All tasks of a program. Raises ModelError for a task whose list lies outside the commands."""
    if not program.tasks:
        return ProgramView(program, ())
    own = _lists(program)
    steps = {index: step for step in reversed(program.steps) if isinstance(step, NpuStep) for index in tasks_of(step)}
    incomplete, full, twin = None, own, {}
    try:
        complete = materialise(program)
        full, twin = _lists(complete), _twins(program, complete)
    except ModelError as error:
        incomplete = str(error)
    views: list[TaskView] = []
    for index, (task, (words, relocated)) in enumerate(zip(program.tasks, own, strict=True)):
        written, addresses = task_of(words.tolist(), task.enable_mask), _addresses(words, relocated)
        inherited: dict[Register, int] = {}
        if index in twin:
            full_words, full_relocated = full[twin[index]]
            inherited = dict(task_of(full_words[: -regcmd.TRAILER_ENTRIES].tolist(), task.enable_mask).written)
            addresses = {**_addresses(full_words, full_relocated), **addresses}
        registers = RegisterTask(written.written, task.enable_mask, inherited, written.undocumented)
        views.append(TaskView(index, task, steps.get(index), words, relocated, registers, addresses))
    return ProgramView(program, tuple(views), incomplete)


def tasks_of(step: NpuStep) -> list[int]:
    """The task indices of a step, for every number of cores."""
    return [index for segments in step.tasks.values() for cores in segments for core in cores for index in core]


def _lists(program: Program) -> list[tuple[regcmd.Words, dict[int, Place]]]:
    """Each task's words with the trailer, and the places that they hold."""
    data = next((segment.data for segment in program.segments if segment.name == COMMANDS), None) or b""
    places = {item.word: Place(item.segment, item.addend_bytes) for item in program.relocations}
    lists: list[tuple[regcmd.Words, dict[int, Place]]] = []
    for task in program.tasks:
        end = task.first_word + task.body_entries + regcmd.TRAILER_ENTRIES
        if not 0 <= task.first_word < end <= len(data) // regcmd.WORD_BYTES:
            raise ModelError(f"task {task.name!r}: its list of words {task.first_word}..{end} is not in the commands")
        words = np.frombuffer(data, "<u8", end - task.first_word, task.first_word * regcmd.WORD_BYTES)
        inside = range(task.first_word, end)
        lists.append((words, {word - task.first_word: places[word] for word in inside if word in places}))
    return lists


def _addresses(words: regcmd.Words, relocated: Mapping[int, Place]) -> dict[Register, Place]:
    """The place of each address register; a later write wins, also one that holds no place."""
    found: dict[Register, Place] = {}
    for index, word in enumerate(words[: -regcmd.TRAILER_ENTRIES].tolist()):
        command = regcmd.decode(word)
        register = register_of(command.target, command.offset)
        if register is None:
            continue
        if index in relocated:
            found[register] = relocated[index]
        else:
            found.pop(register, None)
    return found


def _twins(program: Program, full: Program) -> dict[int, int]:
    """Each task that a step runs, with the task of the materialised program that has its full list."""
    twins: dict[int, int] = {}
    for step, other in zip(program.steps, full.steps, strict=True):
        if isinstance(step, NpuStep) and isinstance(other, NpuStep):
            for original, new in zip(tasks_of(step), tasks_of(other), strict=True):
                twins.setdefault(original, new)
    return twins
