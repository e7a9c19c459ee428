"""All integer stages of a task in a row, in the fastest form that gives the exact values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.affine import Affine, Bracket, bracket, identity
from rocketnpu.emulator.byte_table import ByteTable, every_byte, every_pair
from rocketnpu.emulator.element_wise import ElementWise
from rocketnpu.emulator.stages import Add, Block, Clamp, Integers, Step
from rocketnpu.emulator.workspace import Workspace, pixels_per_row
from rocketnpu.errors import DeviceError

Array: TypeAlias = NDArray[Any]

_FLOAT64_EXACT = 1 << 52
"""A float64 holds one bit more, which rounding needs: it adds a half."""
_BYTE_MAGNITUDE = 1 << 7
_WORD_BYTES = 8
_INT64_EXACT = 1 << 62
"""What the formulas of hw.arithmetic take."""


class Pipeline:
    """Steps from accumulators (or read elements) to output elements."""

    def __init__(self, steps: Sequence[Step], magnitude: int, dtype: np.dtype[Any]) -> None:
        """`magnitude` bounds the input; `dtype` is that of the output. Raises DeviceError for values past 62 bits."""
        self._dtype = dtype
        self._steps: list[tuple[Step, int]] = []
        largest = magnitude
        for step in steps:
            self._steps.append((step, magnitude))
            inner, magnitude = step.bounds(magnitude)
            largest = max(largest, inner)
        if largest >= _INT64_EXACT:
            raise DeviceError(f"the DPU's scales and offsets make values of {largest.bit_length()} bits: not modelled")
        self.fits_float64 = largest < _FLOAT64_EXACT
        self._bound = self._steps[0][1] if self._steps else magnitude

    def run(self, values: Array, operand: Array | None, workspace: Workspace) -> Array:
        """Output elements [pixels, channels] of `values` and the EW operand, both [pixels, channels]."""
        out: Array = workspace.take("out", values.shape, self._dtype)
        if self.fits_float64:
            self._fast(values, operand, out, workspace)
        else:
            self.exact(values, operand, out)
        return out

    def bracket(self) -> Bracket | None:
        """What a library may compute instead of the steps, if `settle` has the last word; None if it can't."""
        if self._dtype != np.int8:
            return None
        v: Affine | None = identity()
        # The steps keep order, so that what the ends become is where clamps hold the output.
        ends: list[Integers] = [np.full(1, -self._bound), np.full(1, self._bound)]
        element_magnitude, clamped = None, False
        for step, magnitude in self._steps:
            if isinstance(step, ElementWise) and step.constant is None:
                if clamped:
                    return None
                element_magnitude = step.operand_magnitude
                ends = [np.full(1, -step.bounds(magnitude)[1]), np.full(1, step.bounds(magnitude)[1])]
            else:
                ends = [step.exact(end, None) for end in ends]
            clamped = clamped or isinstance(step, Clamp)
            v = step.affine(v, magnitude)
            if v is None:
                return None
        limits = (np.minimum(*ends), np.maximum(*ends)) if clamped else None
        return bracket(v, self._bound, limits, element_magnitude)

    def settle(self, bracket: Bracket, outcome: Sequence[Array], operand: Array | None, workspace: Workspace) -> Array:
        """The exact output: the low end of the bracket, set right in place where it differs from the high end.

        `outcome` is the sums that the bracket names, its low and its high end; they and `operand` are
        [pixels, channels] and contiguous.
        """
        sums, low, high = outcome
        doubtful = _different(low.reshape(-1), high.reshape(-1))
        if not doubtful.size:
            return low
        channels = doubtful % low.shape[1]
        v: Array = sums.reshape(-1)[doubtful].astype(np.float64) - _of_channels(bracket.shift, channels)
        remaining = self._steps[1:]
        if not self._starts_with(bracket.bias):
            v -= _of_channels(bracket.bias, channels)
            remaining = self._steps
        o = None if operand is None else operand.reshape(-1)[doubtful]
        steps = [(step.of_channels(channels), magnitude) for step, magnitude in remaining]
        if self.fits_float64:
            block = Block(v, None if o is None else o.astype(np.float64), 1, workspace)
            for step, magnitude in steps:
                step.fast(block, magnitude)
        else:
            v = _exact(steps, v, o)
        low.reshape(-1)[doubtful] = v
        return low

    def _starts_with(self, bias: Integers) -> bool:
        """Whether the first step does nothing but add the bias of a bracket."""
        first = self._steps[0][0] if self._steps else None
        return isinstance(first, Add) and first.operand.values is bias

    def byte_table(self) -> ByteTable | None:
        """The output of every input byte; None unless int8 becomes int8.

        For steps without an operand that treat all channels alike.
        """
        return self._tabulated(every_byte(), None)

    def pair_table(self) -> ByteTable | None:
        """The output of every pair of an input byte and an operand byte, under the same conditions."""
        return self._tabulated(*every_pair())

    def _tabulated(self, values: Array, operand: Array | None) -> ByteTable | None:
        if self._dtype != np.int8 or self._bound > _BYTE_MAGNITUDE:
            return None
        return ByteTable(self.run(values, operand, Workspace()).reshape(-1).view(np.uint8))

    def exact(self, values: Array, operand: Array | None, out: Array) -> None:
        """The reference: every step on int64."""
        np.copyto(out, _exact(self._steps, values, operand), casting="unsafe")

    def _fast(self, values: Array, operand: Array | None, out: Array, workspace: Workspace) -> None:
        pixels, channels = values.shape
        group = pixels_per_row(pixels, channels)
        shape = (pixels // group, group * channels)
        v: Array = workspace.take("v", shape, np.float64)
        np.copyto(v, values.reshape(shape))
        o: Array | None = None
        if operand is not None:
            o = workspace.take("operand", shape, np.float64)
            np.copyto(o, operand.reshape(shape))
        block = Block(v, o, group, workspace)
        for step, magnitude in self._steps:
            step.fast(block, magnitude)
        np.copyto(out.reshape(shape), v, casting="unsafe")


def _different(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.intp]:
    """Indices where two rows of bytes differ, few as a rule; whole words are compared first."""
    if a.size % _WORD_BYTES:
        return np.flatnonzero(a != b)
    words = np.flatnonzero(a.view(np.uint64) != b.view(np.uint64))
    nearby = (words[:, None] * _WORD_BYTES + np.arange(_WORD_BYTES)).reshape(-1)
    return nearby[a[nearby] != b[nearby]]


def _of_channels(values: Array, channels: NDArray[np.intp]) -> Array:
    return values[channels] if values.size > 1 else values


def _exact(steps: Sequence[tuple[Step, int]], values: Array, operand: Array | None) -> Integers:
    v = values.astype(np.int64)
    o = None if operand is None else operand.astype(np.int64)
    for step, _ in steps:
        v = step.exact(v, o)
    return v
