"""What an ONNX operator is translated from and to: the nouns of operators.py and data_movement.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rocketnpu.errors import ModelError
from rocketnpu.ir import Activation, Options, Tensor


@dataclass(frozen=True, eq=False)
class Call:
    """A quantized operator as the file has it: one operand for each input of the node, None where it is left out.

    `where` names the node for error messages.
    """

    op_type: str
    where: str
    attributes: Mapping[str, Any]
    operands: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    activation: Activation

    @property
    def output(self) -> Tensor:
        """The first result."""
        return self.outputs[0]

    @property
    def data(self) -> Tensor:
        """The first operand."""
        first = self.operands[0]
        if first is None:
            raise ModelError(f"{self.where} leaves out its first input")
        return first

    def operand(self, index: int) -> Tensor | None:
        """An operand, None when it is left out."""
        return self.operands[index] if index < len(self.operands) else None

    def integers(self, index: int) -> list[int] | None:
        """The values of a constant operand of integers, None when it is computed or left out."""
        operand = self.operand(index)
        if operand is None or operand.data is None or operand.dtype.kind not in "iu":
            return None
        values: list[int] = operand.data.reshape(-1).tolist()
        return values

    def text(self, attribute: str, default: str) -> str:
        """An attribute that is a string."""
        value: bytes = self.attributes.get(attribute, default.encode())
        return value.decode()


@dataclass(frozen=True, eq=False)
class Translation:
    """The operator for the compiler; `unsupported` says why it can't analyse this one.

    `is_mapped` is False for an operator that TFLite has no equal for.
    """

    kind: str
    operands: tuple[Tensor | None, ...]
    options: Options = None
    unsupported: str | None = None
    is_mapped: bool = True


def as_it_is(call: Call) -> Translation:
    """ONNX's own operator, which runs on the CPU."""
    return Translation(call.op_type, call.operands, is_mapped=False)
