"""The integer stages of the DPU as steps, each in two forms that agree: exact int64, and fast float64 in place.

The int64 forms are the formulas of `hw.arithmetic` (hardware/dpu.md). The float64 forms give the same values while no
product reaches 2^52: scaling by a power of two is exact, and np.rint rounds half to even. Every step knows the bounds
of what it computes, so that the pipeline can choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.workers import Workspace
from rocketnpu.hw import arithmetic

Array: TypeAlias = NDArray[Any]
Integers: TypeAlias = NDArray[np.int64]

_INT32_MAX = (1 << 31) - 1
_INT32_MIN = -(1 << 31)


class Operand:
    """A number for all channels, or one for each: int64 [1] or [channels], and float64 rows of several pixels."""

    def __init__(self, values: Integers) -> None:
        self.values = values
        self._rows: dict[tuple[int, int], Array] = {}

    @property
    def magnitude(self) -> int:
        """Largest absolute value."""
        return max(abs(int(self.values.max())), abs(int(self.values.min())))

    def row(self, pixels: int, shift: int = 0) -> Array:
        """values * 2^-shift for `pixels` pixels in a row."""
        key = (pixels, shift)
        if key not in self._rows:
            scaled = np.ldexp(self.values.astype(np.float64), -shift)
            self._rows[key] = np.tile(scaled, pixels) if scaled.size > 1 else scaled
        return self._rows[key]


def scalar(value: int) -> Operand:
    """One number for all channels."""
    return Operand(np.array([value], np.int64))


@dataclass(frozen=True)
class Block:
    """Elements in the fast form: `v` float64 [rows, pixels*channels], changed in place; `operand` alike, or None."""

    v: Array
    operand: Array | None
    pixels: int
    workspace: Workspace

    def scratch(self, name: str, dtype: type = np.float64) -> Array:
        """A buffer of the same shape."""
        return self.workspace.take(name, self.v.shape, dtype)


Line: TypeAlias = tuple[Array, Array]
"""Slope and offset, float64 [1] or [channels] each."""


class Step(Protocol):
    """One arithmetic step."""

    def bounds(self, magnitude: int) -> tuple[int, int]:
        """For inputs up to `magnitude`: the largest magnitude computed on the way, and that of the result."""
        ...

    def fast(self, block: Block, magnitude: int) -> None:
        """Replace block.v, whose elements are at most `magnitude`."""
        ...

    def exact(self, v: Integers, operand: Integers | None) -> Integers:
        """The same on int64 [pixels, channels]."""
        ...

    def line(self, slope: Array, offset: Array) -> Line | None:
        """What becomes of slope*acc + offset but for rounding and clamps; None from a step that may not keep order."""
        ...


@dataclass(frozen=True)
class Add:
    """v + operand: the BS and BN ALU."""

    operand: Operand

    def bounds(self, magnitude: int) -> tuple[int, int]:
        """See Step."""
        total = magnitude + self.operand.magnitude
        return total, total

    def fast(self, block: Block, magnitude: int) -> None:  # noqa: ARG002
        """See Step."""
        np.add(block.v, self.operand.row(block.pixels), out=block.v)

    def exact(self, v: Integers, operand: Integers | None) -> Integers:  # noqa: ARG002
        """See Step."""
        return v + self.operand.values

    def line(self, slope: Array, offset: Array) -> Line | None:
        """See Step."""
        return slope, offset + self.operand.values


@dataclass(frozen=True)
class Multiply:
    """sat32(rne(v*operand, shift)), the shift chosen by the product's sign; PReLU multiplies negative values only."""

    operand: Operand
    shift_positive: int
    shift_negative: int
    prelu: bool

    def bounds(self, magnitude: int) -> tuple[int, int]:
        """See Step."""
        product = magnitude * self.operand.magnitude
        result = min(self._result(magnitude), _INT32_MAX + 1)
        return product, max(result, magnitude) if self.prelu else result

    def fast(self, block: Block, magnitude: int) -> None:
        """See Step."""
        v = block.v
        if not self.prelu and self.shift_positive == self.shift_negative:
            np.multiply(v, self.operand.row(block.pixels, self.shift_positive), out=v)
            np.rint(v, out=v)
            saturate(v, self._result(magnitude))
            return
        product = block.scratch("product")
        np.multiply(v, self.operand.row(block.pixels), out=product)
        factor: Array = np.where(product < 0, 0.5**self.shift_negative, 0.5**self.shift_positive)
        np.multiply(product, factor, out=product)
        np.rint(product, out=product)
        saturate(product, self._result(magnitude))
        np.copyto(v, product, where=v < 0 if self.prelu else np.True_)

    def _result(self, magnitude: int) -> int:
        """Largest result before saturation."""
        return (magnitude * self.operand.magnitude >> min(self.shift_positive, self.shift_negative)) + 1

    def exact(self, v: Integers, operand: Integers | None) -> Integers:  # noqa: ARG002
        """See Step."""
        formula = arithmetic.prelu_multiply if self.prelu else arithmetic.multiply_shift
        return formula(v, self.operand.values, self.shift_positive, self.shift_negative)

    def line(self, slope: Array, offset: Array) -> Line | None:
        """See Step."""
        if self.prelu or self.shift_positive != self.shift_negative or (self.operand.values <= 0).any():
            return None
        factor = np.ldexp(self.operand.values.astype(np.float64), -self.shift_positive)
        return slope * factor, offset * factor


def saturate(v: Array, magnitude: int) -> None:
    """Clamp float64 `v`, whose elements are at most `magnitude`, to int32 in place."""
    if magnitude > _INT32_MAX:
        np.clip(v, _INT32_MIN, _INT32_MAX, out=v)


@dataclass(frozen=True)
class Clamp:
    """max(v, 0), and min(v, ceiling) if there is one: ReLU and ReLUX."""

    ceiling: int | None

    def bounds(self, magnitude: int) -> tuple[int, int]:
        """See Step."""
        return magnitude, magnitude if self.ceiling is None else max(min(magnitude, self.ceiling), abs(self.ceiling))

    def fast(self, block: Block, magnitude: int) -> None:  # noqa: ARG002
        """See Step."""
        np.maximum(block.v, 0, out=block.v)
        if self.ceiling is not None:
            np.minimum(block.v, self.ceiling, out=block.v)

    def exact(self, v: Integers, operand: Integers | None) -> Integers:  # noqa: ARG002
        """See Step."""
        return arithmetic.relu(v) if self.ceiling is None else arithmetic.relux(v, self.ceiling)

    def line(self, slope: Array, offset: Array) -> Line | None:
        """See Step."""
        return slope, offset


@dataclass(frozen=True)
class Truncate:
    """CLIP_TRUNCATE: the accumulator shifted right, half to even or half up (hardware/dpu.md, Accumulator; TRM)."""

    shift: int
    half_up: bool

    def bounds(self, magnitude: int) -> tuple[int, int]:
        """See Step."""
        return magnitude, (magnitude >> self.shift) + 1

    def fast(self, block: Block, magnitude: int) -> None:  # noqa: ARG002
        """See Step."""
        np.multiply(block.v, np.ldexp(1.0, -self.shift), out=block.v)
        if self.half_up:
            np.add(block.v, 0.5, out=block.v)
            np.floor(block.v, out=block.v)
        else:
            np.rint(block.v, out=block.v)

    def exact(self, v: Integers, operand: Integers | None) -> Integers:  # noqa: ARG002
        """See Step."""
        if self.half_up:
            return (v + (1 << self.shift >> 1)) >> self.shift
        return arithmetic.round_half_even(v, self.shift)

    def line(self, slope: Array, offset: Array) -> Line | None:
        """See Step."""
        return np.ldexp(slope, -self.shift), np.ldexp(offset, -self.shift)


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
        return max(inner, result), min(result, _INT32_MAX + 1)

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

    def line(self, slope: Array, offset: Array) -> Line | None:  # noqa: ARG002
        """See Step."""
        return None


def round_half_away(v: Array, half: Array) -> None:
    """Round float64 `v` to nearest in place, ties away from zero; `half` is scratch. v has a spare bit for the half."""
    np.copysign(0.5, v, out=half)
    np.add(v, half, out=v)
    np.trunc(v, out=v)


@dataclass(frozen=True)
class Lookup:
    """Interpolation in the lookup table."""

    table: arithmetic.LookupTable

    def bounds(self, magnitude: int) -> tuple[int, int]:
        """See Step."""
        slope = max(abs(self.table.underflow.scale), abs(self.table.overflow.scale))
        beyond = (magnitude + arithmetic.LUT_LIMIT) * slope + (1 << 15)
        return max(magnitude, beyond), beyond

    def fast(self, block: Block, magnitude: int) -> None:  # noqa: ARG002
        """See Step."""
        block.v[...] = arithmetic.look_up(block.v.astype(np.int64), self.table)

    def exact(self, v: Integers, operand: Integers | None) -> Integers:  # noqa: ARG002
        """See Step."""
        return arithmetic.look_up(v, self.table)

    def line(self, slope: Array, offset: Array) -> Line | None:  # noqa: ARG002
        """See Step."""
        return None


@dataclass(frozen=True)
class OutputConverter:
    """OUT_CVT: sat(round(v*scale / 2^shift) + offset) to the output's integer type."""

    scale: int
    shift: int
    offset: int
    ties_away: bool
    bits: int

    def bounds(self, magnitude: int) -> tuple[int, int]:
        """See Step."""
        product = magnitude * abs(self.scale)
        return max(product, (product >> self.shift) + 1 + abs(self.offset)), 1 << (self.bits - 1)

    def fast(self, block: Block, magnitude: int) -> None:  # noqa: ARG002
        """See Step."""
        v = block.v
        if (self.scale, self.shift) != (1, 0):
            np.multiply(v, np.ldexp(float(self.scale), -self.shift), out=v)
            if self.ties_away:
                round_half_away(v, block.scratch("product"))
            else:
                np.rint(v, out=v)
        half = 1 << (self.bits - 1)
        np.clip(v, -half - self.offset, half - 1 - self.offset, out=v)
        if self.offset:
            np.add(v, self.offset, out=v)

    def exact(self, v: Integers, operand: Integers | None) -> Integers:  # noqa: ARG002
        """See Step."""
        return arithmetic.output_convert(
            v, self.scale, self.shift, self.offset, ties_away=self.ties_away, bits=self.bits
        )

    def line(self, slope: Array, offset: Array) -> Line | None:
        """See Step."""
        if self.scale <= 0:
            return None
        factor = np.ldexp(float(self.scale), -self.shift)
        return slope * factor, offset * factor + self.offset
