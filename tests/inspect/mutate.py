"""Programs with something wrong planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import Register, register_of
from rocketnpu.program.model import COMMANDS, Program, Relocation


def words_of(program: Program) -> regcmd.Words:
    """A copy of the command words."""
    data = next(segment.data for segment in program.segments if segment.name == COMMANDS)
    return np.frombuffer(data or b"", "<u8").copy()


def with_words(program: Program, words: regcmd.Words) -> Program:
    """The program with other command words."""
    data = words.tobytes()
    segments = [replace(item, data=data) if item.name == COMMANDS else item for item in program.segments]
    return replace(program, segments=tuple(segments))


def word_of(program: Program, task: int, register: Register) -> int:
    """The last word of a task's list that writes a register."""
    words, entry = words_of(program), program.tasks[task]
    found = [
        index
        for index in range(entry.first_word, entry.first_word + entry.body_entries + regcmd.TRAILER_ENTRIES)
        if register_of((command := regcmd.decode(int(words[index]))).target, command.offset) is register
    ]
    return found[-1]


def with_value(program: Program, task: int, register: Register, change: Callable[[int], int]) -> Program:
    """One register of one task changed."""
    words, index = words_of(program), word_of(program, task, register)
    command = regcmd.decode(int(words[index]))
    words[index] = regcmd.encode(replace(command, value=change(command.value)))
    return with_words(program, words)


def with_fields(program: Program, task: int, register: Register, **fields: int) -> Program:
    """Some fields of one register of one task changed."""
    return with_value(program, task, register, lambda value: register.encode(**{**register.decode(value), **fields}))


def with_place(program: Program, task: int, register: Register, segment: str, offset_bytes: int) -> Program:
    """An address register of one task led elsewhere."""
    index = word_of(program, task, register)
    kept = [item for item in program.relocations if item.word != index]
    return replace(program, relocations=(*kept, Relocation(index, segment, offset_bytes)))


def place_of(program: Program, task: int, register: Register) -> Relocation:
    """Where an address register of a task leads."""
    index = word_of(program, task, register)
    return next(item for item in program.relocations if item.word == index)
