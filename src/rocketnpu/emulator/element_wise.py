"""EW as a step: an operation with the elements of a second tensor or a constant (hardware/dpu.md, EW stage)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from rocketnpu.emulator.affine import Affine
from rocketnpu.emulator.stages import INT32_MAX, Array, Block, Integers, round_half_away, saturate
from rocketnpu.hw import arithmetic


class ElementOp(Enum):
    """What EW does with its operand."""

    ADD = "add"
    MINUS = "minus"
    MUL = "mul"
    MAX = "max"
    MIN = "min"


_UFUNCS: dict[ElementOp, np.ufunc] = {
    ElementOp.ADD: np.add,
    ElementOp.MINUS: np.subtract,
    ElementOp.MUL: np.multiply,
    ElementOp.MAX: np.maximum,
    ElementOp.MIN: np.minimum,
}


@dataclass(frozen=True)
class OperandConverter:
    """The EW operand's way in: rne((e + offset)*scale, shift), or multiplied first (hardware/dpu.md, EW stage)."""

    offset: int
    scale: int
    shift: int
    add_first: bool
    ties_away: bool

    def convert(self, e: Integers) -> Integers:
        """The converted operand, int64."""
        rounding = arithmetic.round_half_away if self.ties_away else arithmetic.round_half_even
        if self.add_first:
            return rounding((e + self.offset) * self.scale, self.shift)
        return rounding(e * self.scale, self.shift) + self.offset


@dataclass(frozen=True)
class ElementWise:
    """sat32(v op o), o the converted element of a second tensor, or a constant when `constant` is given.

    `narrow` elements are the low 16 bits of what is read.
    """

    operation: ElementOp
    converter: OperandConverter | None
    operand_magnitude: int
    constant: int | None = None
    narrow: bool = False

    def _converted_magnitude(self) -> tuple[int, int]:
        size = self.operand_magnitude if self.constant is None else abs(self.constant)
        if self.converter is None:
            return size, size
        c = self.converter
        product = (size + abs(c.offset) if c.add_first else size) * abs(c.scale)
        return product, (product >> c.shift) + 1 + (0 if c.add_first else abs(c.offset))

    def bounds(self, magnitude: int) -> tuple[int, int]:
        """See Step."""
        inner, _ = self._converted_magnitude()
        result = self._result(magnitude)
        return max(inner, result), min(result, INT32_MAX + 1)

    def _result(self, magnitude: int) -> int:
        """Largest result before saturation."""
        _, operand = self._converted_magnitude()
        if self.operation is ElementOp.MUL:
            return magnitude * operand
        return magnitude + operand if self.operation in (ElementOp.ADD, ElementOp.MINUS) else max(magnitude, operand)

    def fast(self, block: Block, magnitude: int) -> None:
        """See Step."""
        v = block.v
        ufunc = _UFUNCS[self.operation]
        if self.constant is not None:
            ufunc(v, float(self._constant()), out=v)
        else:
            ufunc(v, self._convert(block), out=v)
        saturate(v, self._result(magnitude))

    def _constant(self) -> int:
        value = np.array([self.constant], np.int64)
        return int((value if self.converter is None else self.converter.convert(value))[0])

    def _convert(self, block: Block) -> Array:
        assert block.operand is not None
        o = block.operand
        if self.narrow:
            o[...] = o.astype(np.int64).astype(np.int16)
        c = self.converter
        if c is None:
            return o
        if c.add_first:
            np.add(o, c.offset, out=o)
        np.multiply(o, np.ldexp(float(c.scale), -c.shift), out=o)
        if c.ties_away:
            round_half_away(o, block.scratch("product"))
        else:
            np.rint(o, out=o)
        if not c.add_first:
            np.add(o, c.offset, out=o)
        return o

    def exact(self, v: Integers, operand: Integers | None) -> Integers:
        """See Step."""
        if self.constant is not None:
            o = np.array(self._constant(), np.int64)
        else:
            assert operand is not None
            o = operand.astype(np.int16).astype(np.int64) if self.narrow else operand
            o = o if self.converter is None else self.converter.convert(o)
        return arithmetic.saturate(_UFUNCS[self.operation](v, o), 32)

    def affine(self, v: Affine, magnitude: int) -> Affine | None:
        """See Step."""
        if self.operation not in (ElementOp.ADD, ElementOp.MINUS) or self.narrow:
            return None
        sign, size, c = -1 if self.operation is ElementOp.MINUS else 1, self.operand_magnitude, self.converter
        if self.constant is not None:
            total = v.plus(np.full(1, sign * self._constant()))
        elif c is None:
            total = v.plus_element(sign, 0, size, rounds=False)
        else:
            weight = sign * math.ldexp(c.scale, -c.shift)
            offset = weight * c.offset if c.add_first else sign * c.offset
            total = v.plus_element(weight, offset, size, rounds=c.shift > 0)
        return total.saturated(INT32_MAX) if self._result(magnitude) > INT32_MAX else total

    def of_channels(self, channels: Integers) -> ElementWise:  # noqa: ARG002
        """See Step."""
        return self
