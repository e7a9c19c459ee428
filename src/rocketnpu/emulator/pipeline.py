"""All integer stages of a task in a row, in the fastest form that gives the exact values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.stages import Block, Line, Step
from rocketnpu.emulator.staircase import Staircase, fit_staircase
from rocketnpu.emulator.workers import Workspace, pixels_per_row
from rocketnpu.errors import DeviceError

Array: TypeAlias = NDArray[Any]

_FLOAT64_EXACT = 1 << 52
"""A float64 holds one bit more, which rounding needs: it adds a half."""
_BYTE_MAGNITUDE = 1 << 7
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
        self._staircase: Staircase | None = None

    def refine(self, channels: int) -> None:
        """Look for a faster form that gives the same bytes; worth it for a task that runs again and again."""
        if not self.fits_float64 or self._dtype != np.int8:
            return
        line: Line | None = np.ones(channels), np.zeros(channels)
        for step, _ in self._steps:
            line = line and step.line(*line)
        if line is not None:
            self._staircase = fit_staircase(self._output, *line, self._bound)

    def _output(self, accumulators: Array) -> Array:
        out = np.empty(accumulators.shape, self._dtype)
        self._fast(accumulators, None, out, Workspace())
        return out

    def run(self, values: Array, operand: Array | None, workspace: Workspace) -> Array:
        """Output elements [pixels, channels] of `values` and the EW operand, both [pixels, channels]."""
        out: Array = workspace.take("out", values.shape, self._dtype)
        if self._staircase is not None:
            self._staircase.run(values, out, workspace)
        elif self.fits_float64:
            self._fast(values, operand, out, workspace)
        else:
            self.exact(values, operand, out)
        return out

    def byte_table(self) -> bytes | None:
        """The output byte of every input byte, from 0 to 255; None unless int8 becomes int8.

        For steps without an operand that treat all channels alike.
        """
        if self._dtype != np.int8 or self._bound > _BYTE_MAGNITUDE:
            return None
        values = np.arange(256, dtype=np.uint8).view(np.int8)[:, None]
        return self.run(values, None, Workspace()).tobytes()

    def exact(self, values: Array, operand: Array | None, out: Array) -> None:
        """The reference: every step on int64."""
        v = values.astype(np.int64)
        o = None if operand is None else operand.astype(np.int64)
        for step, _ in self._steps:
            v = step.exact(v, o)
        np.copyto(out, v, casting="unsafe")

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
