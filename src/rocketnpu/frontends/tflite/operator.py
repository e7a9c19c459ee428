"""How an operator looks in a TFLite file: what a reader of its options may look at, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rocketnpu.errors import ModelError
from rocketnpu.frontends.tflite.flatbuffer import Reader, enum_names
from rocketnpu.ir import Activation, Options, Padding, Tensor

_ACTIVATION_NAMES = enum_names("ActivationFunctionType")
_PADDING_NAMES = enum_names("Padding")


@dataclass(frozen=True)
class Context:
    """What an options reader may look at: the options table and the operator's operands."""

    reader: Reader
    table: Any
    where: str
    inputs: Sequence[Tensor | None]
    outputs: Sequence[Tensor]

    def operand(self, index: int) -> Tensor:
        """An operand that is not optional."""
        tensor = self.inputs[index]
        if tensor is None:
            raise ModelError(f"{self.where} leaves out its input {index}, which is not optional")
        return tensor

    def activation(self) -> Activation:
        """The fused activation."""
        number = self.table.FusedActivationFunction()
        name = _ACTIVATION_NAMES.get(number)
        if name is None:
            raise ModelError(f"{self.where} has unknown activation number {number}")
        return Activation(name)

    def padding(self) -> Padding:
        """The padding scheme."""
        number = self.table.Padding()
        name = _PADDING_NAMES.get(number)
        if name is None:
            raise ModelError(f"{self.where} has unknown padding number {number}")
        return Padding(name)

    def positive(self, field: str) -> int:
        """A number that must be at least 1."""
        value: int = getattr(self.table, field)()
        if value < 1:
            raise ModelError(f"{self.where} has {field} {value}; it must be positive")
        return value


Result: TypeAlias = tuple[Options, str | None]
"""The options, and why the compiler can't analyse this instance (None when it can)."""


@dataclass(frozen=True)
class Kind:
    """How one kind of operator looks in the file; `table` None: its options table is not needed."""

    table: str | None
    inputs: range
    read: Callable[[Context], Result]
    required: bool = True
    outputs: range = range(1, 2)
