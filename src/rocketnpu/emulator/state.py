"""The registers of one task as its units see them: values by register and field name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.faults import unsupported
from rocketnpu.hw.registers import Block, Register

RegisterWords = NDArray[np.uint32]
"""The words of one block's register group, indexed by (offset - base) / 4."""


S_POINTER_OFFSET = 0x4
"""Where a block with two register groups has its S_POINTER, from the block's base."""
FIRST_GROUPED_OFFSET = 0x8
"""OPERATION_ENABLE and everything after it exists once per group (hardware/registers.md, S_POINTER)."""


def group_words(block: Block) -> int:
    """Number of words that hold a register group of the block."""
    return (max(register.offset for register in block) - block.base) // 4 + 1


class TaskState:
    """The register groups of the blocks that a task enables."""

    def __init__(self, groups: Mapping[Block, RegisterWords]) -> None:
        self.words = {
            register: int(words[(register.offset - block.base) // 4])
            for block, words in groups.items()
            for register in block
            if register.offset - block.base >= FIRST_GROUPED_OFFSET
        }

    def word(self, register: Register) -> int:
        """The whole register."""
        return self.words[register]

    def value(self, register: Register, field: str) -> int:
        """One field, sign-extended if signed."""
        return register.field_value(self.words[register], field)

    def flag(self, register: Register, field: str) -> bool:
        """One field as a truth value."""
        return self.value(register, field) != 0

    def expect(self, register: Register, field: str, expected: int, why: str) -> None:
        """Raise DeviceError unless the field has the one value whose effect is known."""
        value = self.value(register, field)
        if value != expected:
            raise unsupported(register, field, value, f"{why}; expected {expected}")
