"""Any file that can be inspected as a Program: .rnpu, .rknn, a record of jobs, or bare register command words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.frontends.files import open_model
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import BLOCK_BYTES, PC, block_of_target, register_of
from rocketnpu.program.model import COMMANDS, NpuStep, Program, Segment, Task
from rocketnpu.runtime.load import is_compiled, load
from rocketnpu.virtual.record import MAGIC as RECORD_MAGIC
from rocketnpu.virtual.record import Record

NO_INTERRUPTS = 0
"""Bare commands don't say which interrupts a driver would wait for."""


def read_program(path: Path) -> Program:
    """The program in a file, named after the file.

    Raises ModelError for a file that is none, OSError for an unreadable one.
    """
    with path.open("rb") as file:
        is_record = file.read(len(RECORD_MAGIC)) == RECORD_MAGIC
    if is_record:
        with Record(path) as record:
            return command_program(record.all_commands(), path.name)
    found = open_model(path)
    if is_compiled(found.data):
        return replace(load(found), name=path.name)
    return command_program(found.data, path.name)


def command_program(data: bytes, name: str) -> Program:
    """A program of bare command words: every list is a task, and one step runs them in the order of the file.

    A list ends with its enable entry; entries of zeros after it are padding. Raises ModelError for bytes that are no
    command words, and for a list without an enable entry.
    """
    if not data:
        raise ModelError(f"{name} is empty; inspect takes .rnpu and .rknn files, records of jobs and bare commands")
    if len(data) % regcmd.WORD_BYTES:
        raise ModelError(
            f"{name} is neither .rnpu nor .rknn, and its {len(data)} bytes are no whole number of 64-bit commands; "
            "compile models with `rocketnpu compile` first"
        )
    tasks: list[Task] = []
    start: int | None = None
    for number, word in enumerate(np.frombuffer(data, "<u8").tolist()):
        if word == regcmd.EMPTY:
            continue
        _check_command(word, number, name)
        start = number if start is None else start
        command = regcmd.decode(word)
        if register_of(command.target, command.offset) is PC.TARGET_BROADCAST:
            body = number + 1 - regcmd.TRAILER_ENTRIES - start
            if body < 1:
                raise ModelError(f"{name}: the list at word {start} has no room for a trailer before word {number}")
            tasks.append(Task(f"list {len(tasks)}", start, body, command.value, NO_INTERRUPTS))
            start = None
    if start is not None or not tasks:
        raise ModelError(f"{name}: the command list at word {start or 0} has no enable entry")
    step = NpuStep("commands", (), (), (), {1: ((tuple(range(len(tasks))),),)})
    return Program(name, (Segment(COMMANDS, len(data), data),), (), tuple(tasks), (step,), (), (), ())


def _check_command(word: int, number: int, name: str) -> None:
    command = regcmd.decode(word)
    if register_of(command.target, command.offset) or (command.target == regcmd.MARKER_TARGET and not command.offset):
        return
    block = block_of_target(command.target)
    if block is None or command.offset % 4 or not 0 <= command.offset - block.base < BLOCK_BYTES:
        raise ModelError(
            f"{name} is neither .rnpu nor .rknn, and word {number} ({word:#018x}) is no register command; "
            "compile models with `rocketnpu compile` first"
        )
