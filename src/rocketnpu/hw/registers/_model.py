"""The nouns of the register table: Field, Register and Block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

from rocketnpu.errors import CompileError

Access: TypeAlias = Literal["RO", "RW", "WO", "W1C"]


@dataclass(frozen=True, eq=False)
class Field:
    """Bits `msb`:`lsb` of a register.

    `reset` is the raw value after reset, None where no source states it. `signed` fields hold two's complement.
    `unknown` fields have a name but no published working use: software writes 0 (hardware/registers.md,
    Not documented anywhere).
    """

    name: str
    msb: int
    lsb: int
    access: Access = "RW"
    reset: int | None = 0
    note: str = ""
    signed: bool = False
    unknown: bool = False

    @cached_property
    def width(self) -> int:
        """Number of bits."""
        return self.msb - self.lsb + 1

    @cached_property
    def mask(self) -> int:
        """The field's bits, in place."""
        return ((1 << self.width) - 1) << self.lsb

    @cached_property
    def minimum(self) -> int:
        """Smallest value that fits."""
        return -(1 << (self.width - 1)) if self.signed else 0

    @cached_property
    def maximum(self) -> int:
        """Largest value that fits."""
        return (1 << (self.width - self.signed)) - 1

    @property
    def is_reserved(self) -> bool:
        """Whether the bits have no name of their own."""
        return self.name.startswith("RESERVED_")

    def extract(self, word: int) -> int:
        """The field's value in a 32-bit register value; sign-extended if signed."""
        raw = (word & self.mask) >> self.lsb
        return raw - (1 << self.width) if raw > self.maximum else raw


@dataclass(frozen=True, eq=False)
class Register:
    """One 32-bit register at `offset` of the core's window; usable as a mapping key (compared by identity).

    `target` is the target a command stream reaches it with, None where only the CPU can (hardware/regcmd.md).
    """

    name: str
    offset: int
    fields: tuple[Field, ...]
    block: str = ""
    target: int | None = None

    def __str__(self) -> str:
        return f"{self.block}.{self.name}"

    def __repr__(self) -> str:
        return f"<Register {self} at {self.offset:#06x}>"

    @cached_property
    def _by_name(self) -> dict[str, Field]:
        return {field.name: field for field in self.fields}

    @cached_property
    def _layout(self) -> tuple[tuple[str, int, int, int], ...]:
        """Name, lowest bit, value mask and sign bit of each field: `decode` is called for every task that runs."""
        return tuple(
            (field.name, field.lsb, field.mask >> field.lsb, 1 << field.width - 1 if field.signed else 0)
            for field in self.fields
        )

    @property
    def reset(self) -> int:
        """Value after reset; fields whose reset value no source states count as 0."""
        return sum((field.reset or 0) << field.lsb for field in self.fields)

    def field(self, name: str) -> Field:
        """The field of that name; raises CompileError if there is none."""
        try:
            return self._by_name[name]
        except KeyError:
            names = ", ".join(field.name for field in self.fields if not field.is_reserved)
            raise CompileError(f"{self} has no field {name}; it has {names}") from None

    def encode(self, **fields: int) -> int:
        """The 32-bit value with these fields, all others 0 (not their reset value).

        Raises CompileError for an unknown name, or a value that does not fit: the silicon would truncate it silently
        (hardware/registers.md).
        """
        word = 0
        for name, value in fields.items():
            field = self.field(name)
            if not field.minimum <= value <= field.maximum:
                raise CompileError(f"{self}.{name} = {value} is outside {field.minimum}..{field.maximum}")
            word |= (value << field.lsb) & field.mask
        return word

    def decode(self, word: int) -> dict[str, int]:
        """All fields of a register value by name, reserved ones included; signed ones sign-extended."""
        values = ((name, word >> lsb & mask, sign) for name, lsb, mask, sign in self._layout)
        return {name: value - ((value & sign) << 1) for name, value, sign in values}

    def field_value(self, word: int, name: str) -> int:
        """One field of a register value; raises CompileError if there is no such field."""
        return self.field(name).extract(word)


@dataclass(frozen=True, eq=False)
class Block:
    """A hardware block: registers by attribute (`CNA.CONV_CON1`), by item (`CNA["CONV_CON1"]`), or iterated over.

    `enable_bit` is the block's bit in the enable entry and in GLOBAL.OPERATION_ENABLE, None if it has none.
    """

    name: str
    base: int
    target: int | None
    enable_bit: int | None
    registers: tuple[Register, ...]

    @cached_property
    def _by_name(self) -> dict[str, Register]:
        return {register.name: register for register in self.registers}

    def __iter__(self) -> Iterator[Register]:
        return iter(self.registers)

    def __getitem__(self, name: str) -> Register:
        try:
            return self._by_name[name]
        except KeyError:
            raise CompileError(f"block {self.name} has no register {name}") from None

    def __getattr__(self, name: str) -> Register:
        # Registers are upper case; anything else is a probe of Python's own, as by copy, before the attributes exist.
        if not name.isupper():
            raise AttributeError(name)
        if name not in self._by_name:
            raise AttributeError(f"block {self.name} has no register {name}")
        return self._by_name[name]

    def __repr__(self) -> str:
        return f"<Block {self.name} at {self.base:#06x}>"
