"""Programs for drivers that share the NPU with others: every task's list must stand on its own."""

from __future__ import annotations

import numpy as np

from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import Block, Register, block_of_target, register_of
from rocketnpu.program.model import COMMANDS, Program, Task
from rocketnpu.rknn.materialise import materialise


def self_contained(program: Program) -> Program:
    """The program, with full lists if it has incremental ones.

    An incremental list relies on what its core's registers hold from two tasks earlier (hardware/regcmd.md, Ping-pong
    and register persistence). Between two kicks a driver may run the task of another process, or change the core.
    """
    return materialise(program) if _is_incremental(program) else program


def _is_incremental(program: Program) -> bool:
    """Whether some task leaves out a register that other tasks write in a block that it enables."""
    data = next((segment.data for segment in program.segments if segment.name == COMMANDS), None)
    words = np.frombuffer(data or b"", "<u8")
    lists = [_registers(words, task) for task in program.tasks]
    known: dict[Block, set[Register]] = {}
    for registers in lists:
        for block, own in registers.items():
            known.setdefault(block, set()).update(own)
    return any(
        registers.get(block, set()) != known.get(block, set())
        for task, registers in zip(program.tasks, lists, strict=True)
        for block in regcmd.enabled_blocks(task.enable_mask)
    )


def _registers(words: regcmd.Words, task: Task) -> dict[Block, set[Register]]:
    """The registers that a list writes, by block."""
    body = words[task.first_word : task.first_word + task.body_entries]
    targets, _, offsets = regcmd.split(body)
    found: dict[Block, set[Register]] = {}
    for target, offset in set(zip(targets.tolist(), offsets.tolist(), strict=True)):
        block, register = block_of_target(target), register_of(target, offset)
        if block is not None and register is not None:
            found.setdefault(block, set()).add(register)
    return found
