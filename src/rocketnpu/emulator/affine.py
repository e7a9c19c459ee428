"""What integer stages come to but for their roundings: a multiply-add, with a bound of how far the roundings stray.

Most pipelines scale, add and round a few times; their output is round(exact multiply-add ± a small error). Such a form
can be computed in float32 by a library, twice: once with everything that may be missing taken off, once with it added.
Where both give the same byte, it is the exact one; where they differ, the exact stages decide (pipeline.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Affine:
    """A value v that is (acc + bias)*slope + e*weight + offset but for roundings.

    `acc` is the accumulator, `e` the element of a second tensor. Arrays are [1] or [channels]: `bias` int64, the others
    float64. If `rounded`, v is the argument, at most `error` off, rounded to nearest (ties either way); else v is a
    whole number at most `error` off. Where a stage has saturated, v and the argument are at least `reach` from zero, on
    the same side.
    """

    bias: Integers
    slope: Array
    offset: Array
    error: Array
    weight: Array
    rounded: bool
    reach: Array

    @property
    def _spread(self) -> Array:
        """How far v may be from the argument."""
        return self.error + 0.5 if self.rounded else self.error

    def plus(self, values: Integers) -> Affine:
        """v + values: before the first scaling in whole numbers."""
        if (self.slope == 1).all() and not self.rounded and not self.offset.any() and not self.weight.any():
            return replace(self, bias=self.bias + values if self.bias.any() else values)
        return replace(self, offset=self.offset + values, reach=self.reach - np.abs(values))

    def times(self, factor: Array, *, rounds: bool) -> Affine:
        """v * factor, rounded to nearest if the product `rounds`, else whole."""
        if not rounds and (factor == 1).all():
            return self
        return Affine(
            self.bias,
            self.slope * factor,
            self.offset * factor,
            self._spread * np.abs(factor),
            self.weight * factor,
            rounds,
            np.where(factor == 0, np.inf, self.reach) * np.where(factor == 0, 1, np.abs(factor)),
        )

    def halved(self, times: int, side: int) -> Affine:
        """round(v / 2^times) where v is rounded and halves go to one `side`, 1 up or -1 down.

        The result rises where v does, at a half of v's own grid before the middle: v's rounding leaves no error.
        """
        factor = np.ldexp(np.ones(1), -times)
        exact = replace(self.times(factor, rounds=True), error=self.error * factor)
        return replace(exact, offset=exact.offset + side * factor / 2)

    def plus_element(self, weight: float, offset: float, magnitude: int, *, rounds: bool) -> Affine:
        """v + (e*weight + offset), the addend rounded to nearest if it `rounds`, else whole; |e| <= `magnitude`."""
        error = self.error + 0.5 if self.rounded and rounds else self.error
        return replace(
            self,
            offset=self.offset + offset,
            weight=self.weight + weight,
            error=error,
            rounded=self.rounded or rounds,
            reach=self.reach - abs(weight) * magnitude - abs(offset) - 1,
        )

    def saturated(self, limit: int) -> Affine:
        """v within -limit-1..limit."""
        return replace(self, reach=np.minimum(self.reach, limit))


def identity() -> Affine:
    """The accumulator itself."""
    zero = np.zeros(1)
    return Affine(np.zeros(1, np.int64), np.ones(1), zero, zero, zero, rounded=False, reach=np.full(1, np.inf))


@dataclass(frozen=True, eq=False)
class Bracket:
    """Two float32 forms that the exact output byte lies between; arrays float32, [1] or [channels].

    With t = (acc + bias)*slope + e*weight, limited to `floor`..`ceiling`: round(t + least) and round(t + most),
    saturated to int8. `bias` is int64; `weight` is None without a second tensor, a limit None where int8 is narrower.
    """

    bias: Integers
    slope: Array
    weight: Array | None
    least: Array
    most: Array
    floor: Array | None
    ceiling: Array | None


_INT8 = np.iinfo(np.int8)
_UNIT_ROUNDOFF = 2.0**-24
_ROUNDINGS = 16
"""Twice the float32 roundings on the way: of slope, weight and offset, of three products or sums, and of the result."""
_LARGEST_BYTE = 130
"""An output this large is saturated, whatever its error."""
_WIDEST = 2.0**-5
"""Errors above which too many elements would be left to the exact stages."""


def bracket(v: Affine, limits: tuple[Integers, Integers] | None, element_magnitude: int | None) -> Bracket | None:
    """The bracket of an int8 output that clamps keep within `limits`; None if it would be wide.

    `element_magnitude` bounds the second tensor, None without one.
    """
    terms = _LARGEST_BYTE + np.abs(v.offset) + np.abs(v.weight) * (element_magnitude or 0)
    margin = v.error + _ROUNDINGS * _UNIT_ROUNDOFF * terms
    if margin.max() > _WIDEST or v.reach.min() < _LARGEST_BYTE:
        return None
    floor, ceiling = limits or (None, None)
    return Bracket(
        v.bias,
        v.slope.astype(np.float32),
        None if element_magnitude is None else v.weight.astype(np.float32),
        (v.offset - margin).astype(np.float32),
        (v.offset + margin).astype(np.float32),
        None if floor is None or floor.max() <= _INT8.min else (floor - v.offset).astype(np.float32),
        None if ceiling is None or ceiling.min() >= _INT8.max else (ceiling - v.offset).astype(np.float32),
    )
