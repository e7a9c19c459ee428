"""What integer stages come to but for their roundings: a multiply-add, with a bound of how far the roundings stray.

Most pipelines scale, add and round a few times; their output is round(exact multiply-add ± a small error). Such a form
can be computed in float32 by a library, twice: once with everything that may be missing taken off, once with it added.
Where both give the same byte, it is the exact one; where they differ, the exact stages decide (pipeline.py).
"""

from __future__ import annotations

import math
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
    """Two float32 forms that the exact output byte lies between; arrays are [1] or [channels].

    With t = (acc + bias + shift)*slope + e*weight + offset, limited to `floor`..`ceiling`: round(t) and
    round(t + width), saturated to int8. `bias` is int64, `shift` float64, the others float32. `weight` is None without
    a second tensor, `offset` where `shift` stands for it, a limit where int8 is narrower.
    """

    bias: Integers
    shift: Array
    slope: Array
    weight: Array | None
    offset: Array | None
    floor: Array | None
    ceiling: Array | None
    width: float

    @property
    def is_multiple(self) -> bool:
        """Whether t is a positive multiple of the sum, the same for all channels."""
        plain = self.weight is None and self.offset is None and self.floor is None and self.ceiling is None
        return plain and self.slope.size == 1 and bool(self.slope[0] > 0)


_FLOAT32_EXACT = 1 << 24
_ROUNDINGS = 16 / _FLOAT32_EXACT
"""Twice the float32 roundings on the way: of slope, weight, offset and width, of two products and three sums."""
_INT8 = np.iinfo(np.int8)
_LARGEST_TERM = 130
"""A sum beyond this is saturated, whatever its float32 errors."""
_SATURATED = 127.75
"""What rounds to a saturated byte, with any error that a bracket may have."""
_WIDEST = 2.0**-4
"""Brackets wider than this leave too many elements to the exact stages."""
_STEEPEST = 2.0**-6
"""Slopes above which a whole number of grid units is too coarse to stand for the offset."""


def bracket(
    v: Affine, bound: int, limits: tuple[Integers, Integers] | None, element_magnitude: int | None
) -> Bracket | None:
    """The bracket of an int8 output that clamps keep within `limits`; None if it would be wide.

    `bound` limits accumulators. `element_magnitude` bounds the second tensor, None without one.
    """
    element = np.abs(v.weight) * (element_magnitude or 0)
    shift: Array = np.zeros(1)
    offset: Array | None = v.offset
    margin = v.error + _ROUNDINGS * (_LARGEST_TERM + element + np.abs(v.offset))
    width: Array = 2 * margin
    if (v.slope != 0).all():
        # The finest grid on which all sums are exact: what is lost on it widens the bracket.
        largest = bound + float((np.abs(v.bias) + (np.abs(v.offset) + 1) / np.abs(v.slope)).max()) + 1
        grid = 2.0 ** math.floor(math.log2(_FLOAT32_EXACT / largest))
        if grid >= 1 and (np.abs(v.slope) <= grid * _STEEPEST).all():
            margin = v.error + _ROUNDINGS * (_LARGEST_TERM + element)
            steps = (v.offset - margin) / v.slope * grid
            shift = np.where(v.slope > 0, np.floor(steps), np.ceil(steps)) / grid
            offset, width = None, v.offset + margin - shift * v.slope
    if width.max() > _WIDEST or v.reach.min() < _SATURATED or bound + np.abs(v.bias).max() > _FLOAT32_EXACT:
        return None
    floor, ceiling = limits or (None, None)
    return Bracket(
        v.bias,
        shift,
        v.slope.astype(np.float32),
        None if element_magnitude is None else v.weight.astype(np.float32),
        None if offset is None else (offset - margin).astype(np.float32),
        None if floor is None or floor.max() <= _INT8.min else floor.astype(np.float32),
        None if ceiling is None or ceiling.min() >= _INT8.max else ceiling.astype(np.float32),
        float(width.max()),
    )
