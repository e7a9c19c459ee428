"""A whole DPU pipeline as one multiply-add and a truncation of floats, where that is proven to give the same bytes.

Without an element-wise operand the stages map each accumulator to an int8 in a staircase: scales, offsets, rounding and
clamps all keep order. The form low + truncate(clip(acc * slope + offset)) is a staircase too, since rounding to a float
keeps order. Two staircases are equal everywhere if they are equal at both ends and on both sides of every rise of
one of them: between two rises both lie between equal values. So the rises of the exact stages are found, a line is
laid between them, and its float32 or float64 form is compared with the exact stages at all these points; any
difference, no fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.workers import Workspace, pixels_per_row

Array: TypeAlias = NDArray[Any]
Exact: TypeAlias = Callable[[Array], Array]
"""The exact stages: whole numbers in float64 [n, channels] to int8 of the same shape."""

_EXACT_BITS = ((np.dtype(np.float32), 24), (np.dtype(np.float64), 53))
"""Whole numbers of so many bits are exact; the narrower type is the faster."""
_NEAR = (-2, -1, 0, 1, 2)
"""Where a rise may lie, from where the line without roundings puts it: those before the last move it by 1 or 2."""


@dataclass(frozen=True, eq=False)
class Staircase:
    """y = low + truncate(clip(acc * slope + offset, 0, span)); slope and offset [channels], both float32 or float64."""

    slope: Array
    offset: Array
    low: int
    span: int

    @cached_property
    def _rows(self) -> dict[int, tuple[Array, Array]]:
        return {}

    def run(self, acc: Array, out: NDArray[np.int8], workspace: Workspace) -> None:
        """Write to `out` the output of `acc`, both [pixels, channels]; `acc` may be overwritten."""
        group = pixels_per_row(*acc.shape)
        row_shape = (acc.shape[0] // group, group * acc.shape[1])
        if group not in self._rows:
            self._rows[group] = np.tile(self.slope, group), np.tile(self.offset, group)
        slope, offset = self._rows[group]
        kind = slope.dtype.type
        v: Array = acc.reshape(row_shape)
        if acc.dtype != slope.dtype:
            # numpy is slow where it converts while it multiplies.
            v = workspace.take("v", row_shape, slope.dtype)
            np.copyto(v, acc.reshape(row_shape))
        np.multiply(v, slope, out=v)
        np.add(v, offset, out=v)
        np.clip(v, kind(0), kind(self.span), out=v)
        steps = out.reshape(row_shape).view(np.uint8)
        np.copyto(steps, v, casting="unsafe")
        np.add(steps, np.uint8(self.low & 0xFF), out=steps)


def fit_staircase(exact: Exact, slope: Array, offset: Array, bound: int) -> Staircase | None:
    """The staircase of `exact` for accumulators of -bound..bound, or None if none fits.

    `exact` must keep order; without its roundings and clamps it would be acc * slope + offset (float64 [channels]).
    """
    ends = np.array([[-bound], [bound]], np.float64) * np.ones_like(slope)
    floor, ceiling = exact(ends).astype(np.int64)
    low, high = int(floor.min()), int(ceiling.max())
    levels = np.arange(low + 1, high + 1)[:, None]
    live = (levels > floor) & (levels <= ceiling)
    rises = _rises(exact, slope, offset, levels, live, bound)
    if rises is None:
        return None
    least = np.where(live, levels - slope * rises, -np.inf).max(axis=0, initial=-np.inf)
    most = np.where(live, levels - slope * (rises - 1), np.inf).min(axis=0, initial=np.inf)
    flat = ~live.any(axis=0)
    middle = np.where(flat, floor + 0.5, (np.where(flat, 0, least) + np.where(flat, 0, most)) / 2) - low
    inclined = np.where(flat, 0, slope)
    points = np.concatenate([ends, np.where(live, rises, -bound), np.where(live, rises - 1, bound)])
    expected = exact(points)
    for kind, bits in _EXACT_BITS:
        fitted = Staircase(inclined.astype(kind), middle.astype(kind), low, high - low)
        if bound < 1 << bits and _agrees(fitted, points.astype(kind), expected):
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


def _agrees(fitted: Staircase, points: Array, expected: Array) -> bool:
    """Whether the fit gives `expected` for the accumulators `points`, which it overwrites."""
    out = np.empty(points.shape, np.int8)
    fitted.run(points, out, Workspace())
    return np.array_equal(out, expected)
