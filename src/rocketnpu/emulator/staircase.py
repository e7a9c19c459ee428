"""A whole DPU pipeline as one multiply-add and a truncation in floating point, where that is proven to give the same bytes.

Without an element-wise operand the stages map each accumulator to an int8 in a staircase: scales, offsets, rounding and
clamps all keep order. The form low + truncate(clip(acc * slope + offset)) is a staircase too, since rounding to a float
keeps order. Two staircases are equal everywhere if they are equal on both sides of every rise of one of them: between
two rises both lie between equal values. So the rises of the exact stages are found, a line is laid between them, and
its float32 or float64 form is compared with the exact stages at every rise; any difference, and there is no fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Exact: TypeAlias = Callable[[Array], Array]
"""The exact stages: whole numbers in float64 [n, channels] to int8 of the same shape."""

_EXACT_BITS = {np.float32: 24, np.float64: 53}
_NEAR = (-2, -1, 0, 1, 2)
"""Where a rise may lie, from where the line without any rounding puts it; rounding before the last moves it by 1 or 2."""


@dataclass(frozen=True, eq=False)
class Staircase:
    """y = low + truncate(clip(acc * slope + offset, floor, ceiling)); arrays [channels], all float32 or all float64."""

    slope: Array
    offset: Array
    floor: Array
    ceiling: Array
    low: int

    def repeated(self, pixels: int) -> Staircase:
        """The same for rows of several pixels."""
        parts = (np.tile(part, pixels) for part in (self.slope, self.offset, self.floor, self.ceiling))
        return Staircase(*parts, self.low)

    def run(self, acc: Array, v: Array, out: NDArray[np.int8]) -> None:
        """Write to `out` the output of `acc` [rows, channels]; `v` is scratch of the slope's dtype, or `acc` itself."""
        np.multiply(acc, self.slope, out=v)
        np.add(v, self.offset, out=v)
        np.clip(v, self.floor, self.ceiling, out=v)
        steps = out.view(np.uint8)
        np.copyto(steps, v, casting="unsafe")
        np.add(steps, np.uint8(self.low & 0xFF), out=steps)


def fit_staircase(exact: Exact, slope: Array, offset: Array, bound: int) -> Staircase | None:
    """The staircase of `exact` for accumulators of -bound..bound, or None if none fits.

    `exact` must keep order; without its roundings and clamps it would be acc * slope + offset (float64 [channels]).
    """
    ends = exact(np.array([[-bound], [bound]], np.float64) * np.ones_like(slope)).astype(np.int64)
    floor, ceiling = ends
    low = int(floor.min())
    levels = np.arange(low + 1, int(ceiling.max()) + 1)[:, None]
    live = (levels > floor) & (levels <= ceiling)
    rises = _rises(exact, slope, offset, levels, live, bound)
    if rises is None:
        return None
    least = np.where(live, levels - slope * rises, -np.inf).max(axis=0, initial=-np.inf)
    most = np.where(live, levels - slope * (rises - 1), np.inf).min(axis=0, initial=np.inf)
    middle = np.where(np.isfinite(least), (least + most) / 2, floor) - low
    for kind, bits in _EXACT_BITS.items():
        if bound < 1 << bits:
            parts = (part.astype(kind) for part in (slope, middle, floor - low, ceiling - low))
            fitted = Staircase(*parts, low)
            if _agrees(fitted, exact, rises, live):
                return fitted
    return None


def _rises(
    exact: Exact, slope: Array, offset: Array, levels: Array, live: NDArray[np.bool_], bound: int
) -> Array | None:
    """The smallest accumulator that reaches each level, [levels, channels]; None if one is not where it should be."""
    if (slope <= 0).any():
        return None
    expected = np.clip(np.ceil((levels - 0.5 - offset) / slope), 2 - bound, bound - 2)
    reached = np.array([exact(expected + step) >= levels for step in _NEAR])
    if (reached[0] & live).any() or not (reached[-1] | ~live).all():
        return None
    return expected + np.array(_NEAR)[reached.argmax(axis=0)]


def _agrees(fitted: Staircase, exact: Exact, rises: Array, live: NDArray[np.bool_]) -> bool:
    """Whether both give the same just before and at every rise."""
    for accumulators in (rises - 1, rises):
        out = np.empty(rises.shape, np.int8)
        v = accumulators.astype(fitted.slope.dtype)
        fitted.run(v, v, out)
        if not np.array_equal(out[live], exact(accumulators)[live]):
            return False
    return True
