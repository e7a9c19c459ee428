"""Multipliers of a convolution whose channels have gains of their own: BS and BN by channel, one OUT_CVT for all.

BS multiplies by C[c] and shifts by s, BN multiplies by B[c] without a shift, OUT_CVT shifts by R (hardware/dpu.md).

1. *The reference rounds twice* (TFLite): first to a grid of 2^-n[c] steps, where gain[c] = m * 2^-n[c], 0.5 <= m < 1,
   then to whole steps. BS does the first with C[c] = m * 2^15 and s = 15; B[c] = 2^(R - n[c]) brings all channels to
   one grid without a rounding, and OUT_CVT's is the second. What differs are results for which 15 bits of m decide.
2. *It rounds once* (ONNX): of all pairs, C[c] * B[c] is the one nearest to gain[c] * 2^(R + s). R keeps the bits that
   int32 holds; s is where the error of the pairs and BS's rounding, half of B[c] * 2^-R steps, are least in the mean.
3. A channel for which no multiplier is near enough beside the others takes a power of two, and its weights and bias
   are requantized to that. Real models have such channels, 10^7 below the largest of their layer.
4. Where that is not near enough, B[c] are powers of two of up to 2^14, and s and R are what the largest gain allows:
   gains 2^14 apart have all bits of C[c] so.
5. `residue` bounds the error of the value before the last rounding, and must stay below half a step for what the
   reference does not round: the result then differs by at most 1.

Evidence: C[c] from memory is the vendor's and measured (352 programs, silicon). B[c] from memory with BN_MUL_SRC and
shift 0 is the vendor's PReLU, there for negative values only (hardware/dpu.md, BN stage); nobody else has run it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.npu_ops import Convolution, Rounding
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.requantize.registers import (
    INT32_MAX,
    MULTIPLIER_BITS,
    MULTIPLIER_MAX,
    OUTPUT_SPAN,
    SHIFT_MAX,
    Requantization,
    accumulator_bounds,
    channel_of,
    effective_weights,
    gain_does_not_fit,
    input_folded,
)

FINEST_SHIFT = math.floor(math.log2(INT32_MAX / (OUTPUT_SPAN + 0.5)))
"""The most OUT_CVT shifts: a saturated int32 then lies beyond the output's range still."""
WIDEST = MULTIPLIER_BITS - 1
"""log2 of the largest B[c] that is a power of two."""
PAIR_BITS = range(5, 10)
"""Rule 2: bits of B of the largest gain; with 9 of them BS's rounding is 2^-16 steps."""
COARSE = 1 / 32
"""Steps of error from which on rule 3 is tried. 15 bits alone are 1/256 of a step off at most."""
MOST = 0.5
"""Steps of error from which on a result may be more than 1 off (rule 5)."""


@dataclass(frozen=True, eq=False)
class _Channels:
    """C and B (float64 (OC,)), s and R, the error in steps of each channel, and its part that the reference has too."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    shift: int
    out_shift: int
    errors: NDArray[np.float64]
    shared_errors: NDArray[np.float64]


def requantize_channels(conv: Convolution) -> Requantization:
    """Register values but for clamps; ConstraintError where a channel's gain fits no multiplier."""
    reach = np.minimum(accumulator_bounds(conv) * conv.gains, OUTPUT_SPAN)
    twice = conv.rounding is Rounding.TWICE
    found, weights, bias = _near(conv, (_rounded_twice if twice else _in_pairs)(conv.gains, reach))
    if found.errors.max() >= MOST:
        found, weights, bias = _near(conv, _in_octaves(conv.gains, reach))
    worst = int(found.errors.argmax())
    if found.errors[worst] >= MOST:
        which = f"{channel_of(conv, worst)} has the gain {conv.gains[worst]:.3g}, the largest is {conv.gains.max():.3g}"
        raise ConstraintError(
            f"the channels' gains fit one task: error {found.errors[worst]:.2f} steps, below half a step ({which})"
        )
    return Requantization(
        weights=weights,
        alu=np.clip(input_folded(conv, weights, bias), -INT32_MAX, INT32_MAX),
        multipliers=found.first.astype(np.int64),
        shift=found.shift,
        out_scale=1,
        out_shift=found.out_shift,
        ties_away=True,
        out_offset=conv.output_zero_point,
        per_channel=True,
        residue=float((found.errors + found.shared_errors).max()),
        bn_multipliers=None if (found.second == 1).all() else found.second.astype(np.int64),
    )


def _near(conv: Convolution, found: _Channels) -> tuple[_Channels, NDArray[np.int8], NDArray[np.float64]]:
    """Multipliers with rule 3 applied where they are off, and the weights and biases that belong to them."""
    if not (0 <= found.shift <= SHIFT_MAX and 0 <= found.out_shift <= SHIFT_MAX):
        raise gain_does_not_fit(conv)
    # A bias beyond the register ends at its last value.
    excess = np.maximum(np.abs(input_folded(conv).astype(np.float64)) - INT32_MAX, 0)
    found = replace(found, errors=found.errors + excess * conv.gains)
    return _with_coarse(conv, found) if found.errors.max() > COARSE else (found, conv.weights, conv.bias)


def _rounded_twice(gains: NDArray[np.float64], reach: NDArray[np.float64]) -> _Channels:
    """Rule 1."""
    exponents = np.frexp(gains)[1]
    shift = MULTIPLIER_BITS - max(int(exponents.max()), 0)
    grids = np.maximum(-exponents, 0)
    out_shift = min(int(grids.max()), int(grids.min()) + WIDEST, FINEST_SHIFT)
    grids = np.minimum(grids, out_shift)
    exact = np.ldexp(gains, grids + shift)
    first = np.clip(np.rint(exact), 1, MULTIPLIER_MAX)
    second = np.ldexp(1.0, out_shift - grids)
    return _Channels(first, second, shift, out_shift, reach * np.abs(first / exact - 1), np.ldexp(0.5, -grids))


def _in_pairs(gains: NDArray[np.float64], reach: NDArray[np.float64]) -> _Channels:
    """Rule 2."""
    out_shift = min(FINEST_SHIFT, finest_pairs(gains))
    pairs = pairs_of(gains, out_shift, reach)
    errors = reach * pairs.relative_errors + pairs.roundings
    return _Channels(pairs.first, pairs.second, pairs.shift, out_shift, errors, np.zeros_like(errors))


def _in_octaves(gains: NDArray[np.float64], reach: NDArray[np.float64]) -> _Channels:
    """Rule 4."""
    bits = MULTIPLIER_BITS + WIDEST - math.frexp(float(gains.max()))[1]
    out_shift = min(bits, FINEST_SHIFT)
    exact = np.ldexp(gains, bits)
    second = np.ldexp(1.0, np.maximum(np.frexp(exact / MULTIPLIER_MAX)[1], 0))
    first = np.maximum(np.rint(exact / second), 1)
    rounding = 0.5 * np.ldexp(second, -out_shift) if bits > out_shift else np.zeros_like(second)
    errors = reach * np.abs(first * second / exact - 1) + rounding
    return _Channels(first, second, bits - out_shift, out_shift, errors, np.zeros_like(errors))


@dataclass(frozen=True, eq=False)
class Pairs:
    """C[c] * B[c] / 2^shift near gains times 2^bits: float64 (OC,) each, how far they are, and BS's rounding in
    steps."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    shift: int
    relative_errors: NDArray[np.float64]
    roundings: NDArray[np.float64]


def finest_pairs(gains: NDArray[np.float64]) -> int:
    """The most bits of a step for which `pairs_of` finds pairs."""
    return MULTIPLIER_BITS + PAIR_BITS.start - math.frexp(float(gains.max()))[1]


def pairs_of(gains: NDArray[np.float64], bits: int, reach: NDArray[np.float64] | float = OUTPUT_SPAN) -> Pairs:
    """The best pairs for values of up to `reach` steps, in units of 2^-bits steps."""
    top = math.frexp(float(gains.max()))[1]
    second = np.arange(1.0, 1 << PAIR_BITS[-1])
    rounding = 0.5 * np.ldexp(second, -bits)
    rows, reaches = np.arange(gains.size), np.broadcast_to(reach, gains.shape)
    best: Pairs | None = None
    least = math.inf
    for size in PAIR_BITS:
        shift = MULTIPLIER_BITS + size - top - bits
        exact = np.ldexp(gains, bits + shift)[:, None] / second
        first = np.maximum(np.rint(exact), 1)
        relative = np.where(first <= MULTIPLIER_MAX, np.abs(first / exact - 1), np.inf)
        # A channel that is off by more than it reaches is requantized (rule 3), and has no say here.
        errors = reaches[:, None] * np.minimum(relative, 1) + rounding
        chosen = errors.argmin(axis=1)
        mean = float(errors[rows, chosen].mean())
        if mean < least:
            picked = np.minimum(first[rows, chosen], MULTIPLIER_MAX)
            relative_errors = np.abs(picked / exact[rows, chosen] - 1)
            best, least = Pairs(picked, second[chosen], shift, relative_errors, rounding[chosen]), mean
    assert best is not None
    return best


def requantize_piece(conv: Convolution) -> Requantization:
    """Register values of a convolution with int32 output (lower/pieces.py): rule 2, without OUT_CVT."""
    assert conv.fraction_bits is not None
    pairs = pairs_of(conv.gains, conv.fraction_bits)
    if not 0 <= pairs.shift <= SHIFT_MAX:
        raise gain_does_not_fit(conv)
    return Requantization(
        weights=conv.weights,
        alu=input_folded(conv),
        multipliers=pairs.first.astype(np.int64),
        shift=pairs.shift,
        out_scale=1,
        out_shift=0,
        ties_away=False,
        out_offset=0,
        per_channel=True,
        residue=0.0,
        bn_multipliers=pairs.second.astype(np.int64),
    )


def _with_coarse(conv: Convolution, found: _Channels) -> tuple[_Channels, NDArray[np.int8], NDArray[np.float64]]:
    """Rule 3: for the channels that are off, the power of two above the exact multiplier that keeps most accuracy."""
    effective = effective_weights(conv)
    low, high = -128 - conv.input_zero_point, 127 - conv.input_zero_point
    step = math.ldexp(1.0, -found.shift - found.out_shift)
    errors, first, second = found.errors.copy(), found.first.copy(), found.second.copy()
    weights, bias = effective.copy(), conv.bias.copy()
    for power in range(MULTIPLIER_BITS):
        gain = math.ldexp(step, power)
        ratio = conv.gains / gain
        coarse_weights, coarse_bias = np.rint(effective * ratio[:, None]), np.rint(conv.bias * ratio)
        slack = coarse_weights - effective * ratio[:, None]
        above = np.maximum(slack * low, slack * high).sum(axis=1)
        below = -np.minimum(slack * low, slack * high).sum(axis=1)
        alu = coarse_bias - conv.input_zero_point * coarse_weights.sum(axis=1)
        excess = np.maximum(np.abs(alu) - INT32_MAX, 0)
        error = gain * (np.maximum(above, below) + np.abs(coarse_bias - conv.bias * ratio) + excess)
        better = (ratio <= 1) & (error < errors) & (found.errors > COARSE)
        errors[better], first[better], second[better] = error[better], 1 << power, 1
        weights[better], bias[better] = coarse_weights[better], coarse_bias[better]
    stored = (weights + conv.weight_zero_points[:, None]).astype(np.int8).reshape(conv.weights.shape)
    return replace(found, first=first, second=second, errors=errors), stored, bias
