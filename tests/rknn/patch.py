"""Programs with something changed: what negative controls run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import Register, register_of
from rocketnpu.program.model import COMMANDS, Program


def segment_data(program: Program, name: str) -> NDArray[np.uint8]:
    """A copy of a segment's bytes."""
    data = next(segment.data for segment in program.segments if segment.name == name)
    return np.frombuffer(data or b"", np.uint8).copy()


def with_segment(program: Program, name: str, data: NDArray[np.uint8]) -> Program:
    """The program with other bytes in a segment."""
    segments = tuple(replace(item, data=data.tobytes()) if item.name == name else item for item in program.segments)
    return replace(program, segments=segments)


def body(program: Program, number: int) -> list[regcmd.Command]:
    """The entries of a task's list without its trailer."""
    task = program.tasks[number]
    words = segment_data(program, COMMANDS).view("<u8")[task.first_word : task.first_word + task.body_entries]
    return [regcmd.decode(int(word)) for word in words]


def with_register(
    program: Program, register: Register, change: Callable[[int], int], tasks: tuple[int, ...] | None = None
) -> Program:
    """The program with every value of one register changed, in all tasks or in some."""
    words = segment_data(program, COMMANDS).view("<u8")
    lists = {
        (task.first_word, task.first_word + task.body_entries)
        for number, task in enumerate(program.tasks)
        if tasks is None or number in tasks
    }
    for start, end in lists:
        for word in range(start, end):
            command = regcmd.decode(int(words[word]))
            if register_of(command.target, command.offset) is register:
                words[word] = regcmd.encode(replace(command, value=change(command.value)))
    return with_segment(program, COMMANDS, words.view(np.uint8))


def constant_offset(program: Program, number: int, register: Register) -> int:
    """Where the constants begin that an address register of a task points to."""
    task = program.tasks[number]
    word = task.first_word + [command.offset for command in body(program, number)].index(register.offset)
    relocation = next(relocation for relocation in program.relocations if relocation.word == word)
    assert relocation.segment == "constants"
    return relocation.addend_bytes
