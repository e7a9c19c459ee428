"""Incremental task lists made self-contained: every register that a task's blocks hold is written in its own list.

The vendor's lists may write a few registers and rely on what the register group kept from two tasks earlier
(hardware/regcmd.md, Ping-pong and register persistence). A kernel driver that kicks each task on its own, or lets
other jobs run in between, needs full lists.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import DPU, PC, Block, Register, block_of_target, register_of
from rocketnpu.program.model import COMMANDS, NpuStep, Program, Relocation, Segment, Task

LUT_ACCESS = (DPU.LUT_ACCESS_CFG, DPU.LUT_ACCESS_DATA)
"""Writing these moves table entries: an inherited value must not be written again, so 0 is, as in full vendor lists
(hardware/dpu.md, LUT)."""


_Parts: TypeAlias = tuple[tuple[tuple[int, ...], ...], ...]
"""The tasks of a step on some number of cores, as in NpuStep.tasks."""


@dataclass(frozen=True)
class _Write:
    """One register write, and what is to be added to its value at load."""

    word: int
    relocation: Relocation | None


@dataclass
class _RegisterGroups:
    """The two register groups of one block of one core, and which one stream writes go to."""

    held: tuple[dict[Register, _Write], dict[Register, _Write]] = field(default_factory=lambda: ({}, {}))
    pointer: int = 0
    ping_pong: bool = True
    """CNA and CORE: the kernel drivers write 0x0e; the other blocks' lists write it themselves."""

    def write(self, register: Register, write: _Write) -> None:
        """With ping-pong on, POINTER is ignored; POINTER_PP_CLEAR acts either way."""
        if register.name.endswith("S_POINTER"):
            value = regcmd.decode(write.word).value
            self.ping_pong = bool(register.field_value(value, "POINTER_PP_EN"))
            if register.field_value(value, "POINTER_PP_CLEAR"):
                self.pointer = 0
            if not self.ping_pong:
                self.pointer = register.field_value(value, "POINTER")
        self.held[self.pointer][register] = write

    def start(self) -> None:
        """The enable entry starts the block: the pointer moves on."""
        if self.ping_pong:
            self.pointer ^= 1


class _Output:
    """The new command words, tasks and relocations as they grow."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.tasks: list[Task] = []
        self.relocations: list[Relocation] = []
        self._multi_core_counts: list[int] = []

    def append(self, task: Task, body: list[_Write], multi_core_count: int) -> int:
        """Adds a list that ends a chain; returns its task number."""
        start = len(self.words)
        self.words += [write.word for write in body]
        self.relocations += [
            replace(write.relocation, word=start + index) for index, write in enumerate(body) if write.relocation
        ]
        self.words += regcmd.trailer(0, 0, task.enable_mask, cores=multi_core_count + 1)
        self.words += [regcmd.EMPTY] * (-len(self.words) % regcmd.LIST_ALIGNMENT_WORDS)
        self.tasks.append(replace(task, first_word=start, body_entries=len(body)))
        self._multi_core_counts.append(multi_core_count)
        return len(self.tasks) - 1

    def link(self, number: int, successor: int) -> None:
        """Makes the trailer of one task lead to another."""
        task, following = self.tasks[number], self.tasks[successor]
        end, address = task.first_word + task.body_entries, regcmd.WORD_BYTES * following.first_word
        self.words[end : end + regcmd.TRAILER_ENTRIES] = regcmd.trailer(
            address, following.body_entries, task.enable_mask, cores=self._multi_core_counts[number] + 1
        )
        self.relocations.append(Relocation(end, COMMANDS, address))


def materialise(program: Program) -> Program:
    """The same program with full lists: same results, each task on its own.

    Registers are followed through the steps in order, separately for each core of each number of cores. Raises
    ModelError if a task relies on registers that no earlier task of its core has written.
    """
    segment = next(segment for segment in program.segments if segment.name == COMMANDS)
    source = _Source(program, np.frombuffer(segment.data or b"", "<u8"))
    output = _Output()
    npu_steps = [step for step in program.steps if isinstance(step, NpuStep)]
    by_cores = {
        cores: _full_tasks([step.tasks[cores] for step in npu_steps], cores, source, output)
        for cores in (npu_steps[0].tasks if npu_steps else ())
    }
    tasks = [{cores: parts[index] for cores, parts in by_cores.items()} for index in range(len(npu_steps))]
    full_steps = iter([replace(step, tasks=own) for step, own in zip(npu_steps, tasks, strict=True)])
    steps = tuple(next(full_steps) if isinstance(step, NpuStep) else step for step in program.steps)
    data = np.array(output.words, "<u8").tobytes()
    segments = tuple(
        Segment(COMMANDS, len(data), data) if segment.name == COMMANDS else segment for segment in program.segments
    )
    return replace(
        program,
        segments=segments,
        relocations=tuple(output.relocations),
        tasks=tuple(output.tasks),
        steps=steps,
    )


class _Source:
    """The incremental program's lists."""

    def __init__(self, program: Program, words: regcmd.Words) -> None:
        self._words = words
        self._relocations = {relocation.word: relocation for relocation in program.relocations}
        self._tasks = program.tasks
        writes = itertools.chain.from_iterable(self.body(number) for number in range(len(program.tasks)))
        self.registers: dict[Block, set[Register]] = {}
        for block, register, _ in writes:
            self.registers.setdefault(block, set()).add(register)

    def task(self, number: int) -> Task:
        """A task of the incremental program."""
        return self._tasks[number]

    def body(self, number: int) -> list[tuple[Block, Register, _Write]]:
        """The register writes of a task's list; ModelError for an entry that is none."""
        task = self._tasks[number]
        writes: list[tuple[Block, Register, _Write]] = []
        for word in range(task.first_word, task.first_word + task.body_entries):
            value = int(self._words[word])
            command = regcmd.decode(value)
            register, block = register_of(command.target, command.offset), block_of_target(command.target)
            if register is None or block is None:
                raise ModelError(f"task {task.name!r}: command word {word} is {value:#x}, not a register write")
            writes.append((block, register, _Write(value, self._relocations.get(word))))
        return writes

    def multi_core_count(self, number: int) -> int:
        """The cores field of a task's trailer, which is kept."""
        task = self._tasks[number]
        command = regcmd.decode(int(self._words[task.first_word + task.body_entries + 1]))
        return PC.REGISTER_AMOUNTS.field_value(command.value, "MULTI_CORE_COUNT")


def _full_tasks(steps: list[_Parts], cores: int, source: _Source, output: _Output) -> list[_Parts]:
    """The tasks of all steps on `cores` cores, each list made full.

    As in the vendor's programs, a chain goes on from step to step on one core, and ends with each part on more.
    """
    groups: list[dict[Block, _RegisterGroups]] = [{} for _ in range(cores)]
    last: int | None = None
    full: list[_Parts] = []
    for parts in steps:
        new_parts: list[tuple[tuple[int, ...], ...]] = []
        for part in parts:
            new_part: list[tuple[int, ...]] = []
            for core, numbers in enumerate(part):
                new = [
                    output.append(
                        source.task(number),
                        _full_body(source, number, groups[core]),
                        source.multi_core_count(number),
                    )
                    for number in numbers
                ]
                chain = [last, *new] if cores == 1 and last is not None else new
                for number, successor in itertools.pairwise(chain):
                    output.link(number, successor)
                last = chain[-1] if chain else None
                new_part.append(tuple(new))
            new_parts.append(tuple(new_part))
        full.append(tuple(new_parts))
    return full


def _full_body(source: _Source, number: int, blocks: dict[Block, _RegisterGroups]) -> list[_Write]:
    """A task's own writes in their order, then those its register groups held before."""
    task, own = source.task(number), source.body(number)
    for block, register, write in own:
        blocks.setdefault(block, _RegisterGroups()).write(register, write)
    written = {register for _, register, _ in own}
    inherited: list[_Write] = []
    for block in regcmd.enabled_blocks(task.enable_mask):
        groups = blocks.setdefault(block, _RegisterGroups())
        held = groups.held[groups.pointer]
        missing = source.registers.get(block, set()) - held.keys()
        if missing:
            names = ", ".join(sorted(map(str, missing)))
            raise ModelError(f"task {task.name!r} relies on registers that no earlier task wrote: {names}")
        inherited += [
            _Write(regcmd.write(register, 0), None) if register in LUT_ACCESS else write
            for register, write in held.items()
            if register not in written
        ]
        groups.start()
    return [*(write for _, _, write in own), *inherited]
