"""Multipliers and shifts of DPU-only tasks: element-wise operators on two tensors, and copies onto another grid.

The chip computes y = sat8(round(((q1 + A) * C op rne((q2 + B) * EW_SCALE, EW_SHIFT)) * SCALE, SHIFT) + OFFSET)
(hardware/dpu.md, EW stage), C in BS without shift, so that nothing is rounded before OUT_CVT but the second operand.

1. *Sum*: C * SCALE / 2^SHIFT = s1 / so and EW_SCALE / 2^EW_SHIFT * SCALE / 2^SHIFT = s2 / so. The
   larger of both operands takes 14 bits; SCALE is chosen so that both gains, of 15 bits each, hold best.
2. *Product*: C * SCALE / 2^SHIFT = s1 * s2 / so, nearer than 2^-20; the operands' own values are exact.
3. *Copy*: C * SCALE / 2^SHIFT = gain, likewise.
4. *Maximum and minimum* are of grids that are all alike, and need no arithmetic.
5. Gains beyond 256 or below 2^-32 take these values instead: all results but zero saturate, or all round to zero.
6. Sums and products clamp at zero from below, copies also from above (lower/clamps.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.npu_ops import Elementwise, Operation, Rescale
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.requantize.convolution import largest_below, two_multipliers
from rocketnpu.compiler.requantize.registers import INT32_MAX, MULTIPLIER_BITS, MULTIPLIER_MAX, OUTPUT_SPAN, SHIFT_MAX
from rocketnpu.hw.arithmetic import operand_convert, output_convert, relu, relux

SATURATING_GAIN, VANISHING_GAIN = 2.0**8, 2.0**-32
"""Rule 5. Values are whole numbers, and a product of two bytes is at most 2^16."""
OPERAND_BITS = 14
"""A sum scales its larger operand by about 2^14, as the vendor does; the sum stays far within 32 bits."""


@dataclass(frozen=True)
class ElementwiseValues:
    """Register values: A and C of the first operand in BS, B and EW converter of the second, OUT_CVT, and the upper
    clamp of a copy (None: saturation does it)."""

    first_offset: int = 0
    first_multiplier: int = 1
    second_offset: int = 0
    ew_scale: int = 1
    ew_shift: int = 0
    out_scale: int = 1
    out_shift: int = 0
    out_offset: int = 0
    relux: int | None = None


def requantize_elementwise(form: Elementwise) -> ElementwiseValues:
    """Register values of two-operand forms (rules 1, 2, 4 to 6); ConstraintError when a gain or clamp does not fit."""
    unclamped = form.low <= -128 and form.high >= 127
    if form.operation in (Operation.MAXIMUM, Operation.MINIMUM):
        if len(grids(form)) > 1 or not unclamped:
            raise ConstraintError("a maximum is of operands and an output on one grid, without a clamp")
        return ElementwiseValues()
    if form.high < 127 or form.low not in (-128, form.output_zero_point):
        raise ConstraintError("an element-wise task clamps at zero from below alone")
    return _product(form) if form.operation is Operation.PRODUCT else _sum(form)


def grids(form: Elementwise) -> set[tuple[float, int]]:
    """The different scales and zero points of both operands and the output."""
    return {
        (form.first_scale, form.first_zero_point),
        (form.second_scale, form.second_zero_point),
        (form.output_scale, form.output_zero_point),
    }


def requantize_copy(form: Rescale) -> ElementwiseValues:
    """Register values of a copy (rule 3); ConstraintError when the gain does not fit."""
    if (form.gain, form.low, form.high) == (1.0, -128, 127):
        return ElementwiseValues(first_offset=-form.input_zero_point, out_offset=form.output_zero_point)
    multiplier, out_scale, out_shift = _gain(form.gain, OUTPUT_SPAN)
    return ElementwiseValues(
        first_offset=-form.input_zero_point,
        first_multiplier=multiplier,
        out_scale=out_scale,
        out_shift=out_shift,
        out_offset=form.output_zero_point,
        relux=_relux(form, out_scale, out_shift),
    )


def copied_bytes(form: Rescale, values: ElementwiseValues, data: NDArray[np.int8]) -> NDArray[np.int8]:
    """What the chip makes of int8 `data`, of the same shape."""
    return _output(form, values, (data.astype(np.int64) + values.first_offset) * values.first_multiplier)


def combined_bytes(
    form: Elementwise, values: ElementwiseValues, first: NDArray[np.int8], second: NDArray[np.int8]
) -> NDArray[np.int8]:
    """What the chip makes of two int8 arrays of one shape."""
    left = (first.astype(np.int64) + values.first_offset) * values.first_multiplier
    right = operand_convert(second, values.second_offset, values.ew_scale, values.ew_shift)
    return _output(form, values, _UFUNCS[form.operation](left, right))


_UFUNCS = {
    Operation.SUM: np.add,
    Operation.PRODUCT: np.multiply,
    Operation.MAXIMUM: np.maximum,
    Operation.MINIMUM: np.minimum,
}


def _output(form: Elementwise | Rescale, values: ElementwiseValues, v: NDArray[np.int64]) -> NDArray[np.int8]:
    if values.relux is not None:
        v = relux(v, values.relux)
    elif form.low > -128:
        v = relu(v)
    scale, shift, offset = values.out_scale, values.out_shift, values.out_offset
    return output_convert(v, scale, shift, offset, ties_away=form.ties_away).astype(np.int8)


def _gain(gain: float, bound: int) -> tuple[int, int, int]:
    """C, SCALE and SHIFT of a gain for values up to `bound` (rule 5)."""
    legal = min(max(gain, VANISHING_GAIN), SATURATING_GAIN)
    pair = two_multipliers(legal, min(MULTIPLIER_MAX, INT32_MAX // bound), at_least=False)
    assert pair is not None, "every gain between these bounds has a pair"
    return pair


def _relux(form: Rescale, out_scale: int, out_shift: int) -> int | None:
    if form.high >= 127:
        return None
    return largest_below(out_scale, out_shift, form.output_zero_point, form.high, ties_away=form.ties_away)


def _product(form: Elementwise) -> ElementwiseValues:
    gain = form.first_scale * form.second_scale / form.output_scale
    multiplier, out_scale, out_shift = _gain(gain, OUTPUT_SPAN**2)
    return ElementwiseValues(
        first_offset=-form.first_zero_point,
        first_multiplier=multiplier,
        second_offset=-form.second_zero_point,
        out_scale=out_scale,
        out_shift=out_shift,
        out_offset=form.output_zero_point,
    )


def _sum(form: Elementwise) -> ElementwiseValues:
    first, second = form.first_scale / form.output_scale, abs(form.second_scale) / form.output_scale
    first, second = (max(gain, VANISHING_GAIN) for gain in (first, second))
    out_scales = np.arange(1 << OPERAND_BITS, 1 << MULTIPLIER_BITS, dtype=np.float64)
    out_shifts = np.floor(np.log2(out_scales / max(first, second))) + OPERAND_BITS
    units = np.exp2(out_shifts) / out_scales  # units of the sum in an output step
    multipliers = np.rint(first * units)
    mantissas, exponents = np.frexp(second * units)
    ew_scales = np.minimum(np.rint(mantissas * (1 << MULTIPLIER_BITS)), MULTIPLIER_MAX)
    ew_shifts = MULTIPLIER_BITS - exponents
    legal = (out_shifts >= 0) & (out_shifts <= SHIFT_MAX) & (ew_shifts >= 0) & (ew_shifts <= SHIFT_MAX)
    errors = np.abs(multipliers - first * units) + np.abs(np.ldexp(ew_scales, -ew_shifts) - second * units)
    best = int(np.argmin(np.where(legal, errors / units, np.inf)))
    off = (OUTPUT_SPAN * errors[best] + 0.5) / units[best] if legal[best] else math.inf
    if off >= 0.5:
        named = ((form.first, first), (form.second or "the constant", second))
        gains = " and ".join(f"a step of {name} is {gain:.3g}" for name, gain in named)
        raise ConstraintError(f"a sum is less than half a step off: {off:.2g} steps ({gains} steps of {form.output})")
    out_scale, out_shift = int(out_scales[best]), int(out_shifts[best])
    return ElementwiseValues(
        first_offset=-form.first_zero_point,
        first_multiplier=int(multipliers[best]),
        second_offset=-form.second_zero_point,
        ew_scale=int(ew_scales[best]) * (-1 if form.second_scale < 0 else 1),
        ew_shift=int(ew_shifts[best]),
        out_scale=out_scale,
        out_shift=out_shift,
        out_offset=form.output_zero_point,
    )
