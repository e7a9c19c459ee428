"""Register command lists with relocatable addresses: one full list per task, chained in order (hardware/regcmd.md).

Every list writes every register of the blocks it enables, so no task depends on what an earlier one left behind.
Left out are only the registers that the CPU owns: S_POINTER of CNA and CORE and OPERATION_ENABLE, clock gating, and
status.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import CNA, CORE, DPU, DPU_RDMA, PC, PPU, PPU_RDMA, Block, Register
from rocketnpu.program.model import COMMANDS, Relocation, Task

S_POINTER_PING_PONG = DPU.S_POINTER.encode(POINTER_PP_EN=1, EXECUTER_PP_EN=1, POINTER_PP_MODE=1)
"""The two register groups alternate task by task."""
S_POINTER_CLEARED = DPU.S_POINTER.encode(POINTER_PP_CLEAR=1, EXECUTER_PP_CLEAR=1)
"""Both pointers on group 0, no ping-pong. The vendor's for a task that uses a
table which the task before it loaded (hardware/regcmd.md)."""
DPU_INTERRUPTS = PC.INTERRUPT_MASK.encode(DPU_0=1, DPU_1=1)
"""DPU group 0 and 1: what convolution and DPU-only tasks complete with."""
PPU_INTERRUPTS = PC.INTERRUPT_MASK.encode(PPU_0=1, PPU_1=1)
"""PPU group 0 and 1: what pools complete with (hardware/regcmd.md, What completes a task)."""
ADDRESS_PLACEHOLDER = 16
"""Any non-zero aligned address makes the trailer's address word; relocation replaces its value."""

_OWNED_BY_CPU = frozenset(
    {
        *(block[name] for block in (CNA, CORE) for name in ("S_STATUS", "S_POINTER", "OPERATION_ENABLE")),
        *(block[name] for block in (DPU, PPU) for name in ("S_STATUS", "S_POINTER", "OPERATION_ENABLE")),
        *(
            block[f"RDMA_{name}"]
            for block in (DPU_RDMA, PPU_RDMA)
            for name in ("S_STATUS", "S_POINTER", "OPERATION_ENABLE")
        ),
        CNA.CLK_GATE,
        CORE.MAC_GATING,
    }
)


@dataclass(frozen=True)
class Address:
    """A place in device memory, known before the program is loaded."""

    segment: str
    offset_bytes: int

    def __add__(self, size_bytes: int) -> Address:
        return Address(self.segment, self.offset_bytes + size_bytes)


class TaskRegisters:
    """The register values of one task while it is being written; all registers of its blocks start at 0."""

    def __init__(self, name: str, blocks: tuple[Block, ...]):
        self.name = name
        self.blocks = blocks
        self.s_pointer = S_POINTER_PING_PONG
        self._values: dict[Register, int] = {
            register: 0 for block in blocks for register in block if register not in _OWNED_BY_CPU
        }
        self._addresses: dict[Register, Address] = {}
        self._appended: list[int] = []

    def set(self, register: Register, **fields: int) -> None:
        """Write a register through its fields, those not named are 0. Raises CompileError if a value does not fit."""
        assert register in self._values, f"{register} is not a register of this task"
        self._values[register] = register.encode(**fields)

    def point(self, register: Register, address: Address) -> None:
        """Let an address register hold `address`."""
        assert register in self._values, f"{register} is not a register of this task"
        self._addresses[register] = address

    def append(self, register: Register, **fields: int) -> None:
        """Write a register once more, after all others: what counts of it is the sequence of its values."""
        assert register in self._values, f"{register} is not a register of this task"
        self._appended.append(regcmd.write(register, register.encode(**fields)))

    def words(self) -> tuple[list[int], list[tuple[int, Address]]]:
        """The list's body, and the addresses with the index of the word that holds each."""
        words = [
            regcmd.write(pointer, self.s_pointer)
            for pointer in (DPU.S_POINTER, DPU_RDMA.RDMA_S_POINTER, PPU.S_POINTER, PPU_RDMA.RDMA_S_POINTER)
            if any(pointer in tuple(block) for block in self.blocks)
        ]
        addresses: list[tuple[int, Address]] = []
        for register, value in self._values.items():
            if register in self._addresses:
                addresses.append((len(words), self._addresses[register]))
            words.append(regcmd.write(register, value))
        return words + self._appended, addresses


@dataclass
class CommandSegment:
    """All command lists of a program, growing task by task."""

    tasks: list[Task] = field(default_factory=list[Task])
    relocations: list[Relocation] = field(default_factory=list[Relocation])
    _words: list[int] = field(default_factory=list[int])

    def append(self, registers: TaskRegisters, *, linked: bool = True) -> int:
        """Add a task's list; returns the task's index. `linked`: the list before it leads on to it."""
        body, addresses = registers.words()
        first = len(self._words)
        if self.tasks and linked:
            self._link_last_to(first, len(body))
        self._words += body
        self._words += regcmd.trailer(0, 0, regcmd.enable_mask(registers.blocks))
        self._words += [regcmd.EMPTY] * (-len(self._words) % regcmd.LIST_ALIGNMENT_WORDS)
        self.relocations += [Relocation(first + word, to.segment, to.offset_bytes) for word, to in addresses]
        interrupts = PPU_INTERRUPTS if PPU in registers.blocks else DPU_INTERRUPTS
        self.tasks.append(Task(registers.name, first, len(body), regcmd.enable_mask(registers.blocks), interrupts))
        return len(self.tasks) - 1

    def _link_last_to(self, first_word: int, body_entries: int) -> None:
        last = self.tasks[-1]
        start = last.first_word + last.body_entries
        self._words[start : start + regcmd.TRAILER_ENTRIES] = regcmd.trailer(
            ADDRESS_PLACEHOLDER, body_entries, last.enable_mask
        )
        self.relocations.append(Relocation(start, COMMANDS, first_word * 8))

    def words(self) -> NDArray[np.uint64]:
        """The segment's content before relocation."""
        return np.array(self._words, np.uint64)
