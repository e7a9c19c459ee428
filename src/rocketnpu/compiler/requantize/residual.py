"""Multipliers of a convolution that adds a second tensor in its own task (hardware/dpu.md, Residual add fused).

The task does what the two tasks of convolution and sum would, rounding between them included:

1. BS brings the accumulator to whole steps t of the grid between, with 15 bits and one rounding.
2. BN adds L, so that the lower end of that grid is 0, multiplies by the sum's C, and clamps at both ends.
3. EW adds the second operand, OUT_CVT leads to the output, both as in the sum (requantize/elementwise.py). The L * C
   too much goes off in the EW converter, which multiplies first: q2 * EW_SCALE + OFFSET, without a shift.
"""

from __future__ import annotations

import math

import numpy as np

from rocketnpu.compiler.npu_ops import Convolution, Elementwise
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.requantize.degenerate import without_degenerate_channels
from rocketnpu.compiler.requantize.elementwise import requantize_elementwise
from rocketnpu.compiler.requantize.registers import (
    INT32_MAX,
    MULTIPLIER_MAX,
    OUTPUT_SPAN,
    SHIFT_MAX,
    Requantization,
    ResidualValues,
    accumulator_bounds,
    bias_errors,
    gain_does_not_fit,
    input_folded,
)

MAX_ERROR = 0.25
"""Steps of the grid between that BS may be off, before its rounding."""
MAX_OPERAND_ERROR = 1 / 64
"""Output steps that the second operand may be off by, as its scale is a whole number here."""


def requantize_residual(conv: Convolution, add: Elementwise) -> Requantization:
    """Register values of a convolution that makes the first operand of `add`; ConstraintError where they do not fit."""
    conv = without_degenerate_channels(conv)
    largest = float(conv.gains.max())
    shift = math.floor(math.log2(MULTIPLIER_MAX / largest))
    if not 0 <= shift <= SHIFT_MAX:
        raise gain_does_not_fit(conv)
    multipliers = np.rint(np.ldexp(conv.gains, shift))
    reach = np.minimum(accumulator_bounds(conv) * conv.gains, OUTPUT_SPAN)
    error = float((reach * np.abs(np.ldexp(multipliers, -shift) / conv.gains - 1) + bias_errors(conv)).max())
    alu = input_folded(conv)
    if error > MAX_ERROR or np.any(np.abs(alu) > INT32_MAX):
        raise ConstraintError(f"the channels' gains and biases fit one task: error {error:.2f} steps")

    values = requantize_elementwise(add)
    exact = math.ldexp(values.ew_scale, -values.ew_shift)
    ew_scale, output_step = round(exact), math.ldexp(1.0, values.out_shift) / values.out_scale
    if OUTPUT_SPAN * abs(ew_scale - exact) > MAX_OPERAND_ERROR * output_step or ew_scale > MULTIPLIER_MAX:
        raise ConstraintError("the second operand's gain is a whole number of units")
    raised = add.first_zero_point - conv.low
    return Requantization(
        weights=conv.weights,
        alu=alu,
        multipliers=multipliers.astype(np.int64),
        shift=shift,
        out_scale=values.out_scale,
        out_shift=values.out_shift,
        ties_away=add.ties_away,
        out_offset=values.out_offset,
        per_channel=bool(np.ptp(multipliers) > 0),
        residue=error,
        bn_multiplier=values.first_multiplier,
        bn_offset=raised,
        relu=True,
        relux=(conv.high - conv.low) * values.first_multiplier,
        residual=ResidualValues(
            scale=ew_scale,
            offset=values.second_offset * ew_scale - raised * values.first_multiplier,
            relu=add.low > -128,
        ),
    )
