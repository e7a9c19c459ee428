"""The integer stages of the DPU as steps, each in two forms that agree: exact int64, and fast float64 in place.

The int64 forms are the formulas of `hw.arithmetic` (hardware/dpu.md). The float64 forms give the same values while no
product reaches 2^52: scaling by a power of two is exact, and np.rint rounds half to even. Every step knows the bounds
of what it computes, so that the pipeline can choose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.affine import Affine
from rocketnpu.emulator.workspace import Workspace
from rocketnpu.hw import arithmetic

Array: TypeAlias = NDArray[Any]
Integers: TypeAlias = NDArray[np.int64]

INT32_MAX = (1 << 31) - 1
INT32_MIN = -(1 << 31)


class Operand:
    """A number for all channels, or one for each: int64 [1] or [channels], and float64 rows of several pixels."""

    def __init__(self, values: Integers) -> None:
        self.values = values
        self._rows: dict[tuple[int, int], Array] = {}

    @cached_property
    def magnitude(self) -> int:
        """Largest absolute value."""
        return max(abs(int(self.values.max())), abs(int(self.values.min())))

    def of_channels(self, channels: Integers) -> Operand:
        """One number for each of a row of elements, of these channels; `values` must have more than one."""
        return Operand(self.values[channels])

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


class Step(Protocol):
    """One arithmetic step."""

    def bounds(self, magnitude: int) -> tuple[int, int]:
        """For inputs up to `magnitude`: the largest magnitude computed on the way, and that of the result."""
        ...

    def fast(self, block: Block, magnitude: int) -> None:
        """Replace block.v, whose elements are at most `magnitude`."""
        ...

    def exact(self, v: Integers, operand: Integers | None) -> Integers:
        """The same on int64 [pixels, channels] or [elements]."""
        ...

    def affine(self, v: Affine, magnitude: int) -> Affine | None:
        """The same on a multiply-add of at most `magnitude`, but for clamps; None from a step that is none."""
        ...

    def of_channels(self, channels: Integers) -> Step:
        """The same for a row of elements, of these channels."""
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

    def affine(self, v: Affine, magnitude: int) -> Affine | None:  # noqa: ARG002
        """See Step."""
        return v.plus(self.operand.values)

    def of_channels(self, channels: Integers) -> Add:
        """See Step."""
        return replace(self, operand=self.operand.of_channels(channels)) if self.operand.values.size > 1 else self


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
        result = min(self._result(magnitude), INT32_MAX + 1)
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

    def affine(self, v: Affine, magnitude: int) -> Affine | None:
        """See Step."""
        if self.prelu or self.shift_positive != self.shift_negative:
            return None
        factor = np.ldexp(self.operand.values.astype(np.float64), -self.shift_positive)
        product = v.times(factor, rounds=self.shift_positive > 0)
        return product.saturated(INT32_MAX) if self._result(magnitude) > INT32_MAX else product

    def of_channels(self, channels: Integers) -> Multiply:
        """See Step."""
        return replace(self, operand=self.operand.of_channels(channels)) if self.operand.values.size > 1 else self


def _clamp(v: Array, low: int, high: int) -> None:
    """np.clip in place, without its overhead on short arrays."""
    np.maximum(v, low, out=v)
    np.minimum(v, high, out=v)


def saturate(v: Array, magnitude: int) -> None:
    """Clamp float64 `v`, whose elements are at most `magnitude`, to int32 in place."""
    if magnitude > INT32_MAX:
        _clamp(v, INT32_MIN, INT32_MAX)


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

    def affine(self, v: Affine, magnitude: int) -> Affine | None:  # noqa: ARG002
        """See Step."""
        return v

    def of_channels(self, channels: Integers) -> Clamp:  # noqa: ARG002
        """See Step."""
        return self


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

    def affine(self, v: Affine, magnitude: int) -> Affine | None:  # noqa: ARG002
        """See Step."""
        return v.times(np.ldexp(np.ones(1), -self.shift), rounds=True)

    def of_channels(self, channels: Integers) -> Truncate:  # noqa: ARG002
        """See Step."""
        return self


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

    def affine(self, v: Affine, magnitude: int) -> Affine | None:  # noqa: ARG002
        """See Step."""
        return None

    def of_channels(self, channels: Integers) -> Lookup:  # noqa: ARG002
        """See Step."""
        return self


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
        _clamp(v, -half - self.offset, half - 1 - self.offset)
        if self.offset:
            np.add(v, self.offset, out=v)

    def exact(self, v: Integers, operand: Integers | None) -> Integers:  # noqa: ARG002
        """See Step."""
        return arithmetic.output_convert(
            v, self.scale, self.shift, self.offset, ties_away=self.ties_away, bits=self.bits
        )

    def affine(self, v: Affine, magnitude: int) -> Affine | None:  # noqa: ARG002
        """See Step."""
        half = 1 << (self.bits - 1)
        side = 1 if self.offset <= -half else -1 if self.offset >= half - 1 else 0
        if v.rounded and self.scale == 1 and self.shift and self.ties_away and side:
            # What is not saturated lies on one side of zero, so that all halves go the same way.
            return v.halved(self.shift, side).plus(np.full(1, self.offset))
        factor = np.ldexp(np.full(1, float(self.scale)), -self.shift)
        return v.times(factor, rounds=self.shift > 0).plus(np.full(1, self.offset))

    def of_channels(self, channels: Integers) -> OutputConverter:  # noqa: ARG002
        """See Step."""
        return self
