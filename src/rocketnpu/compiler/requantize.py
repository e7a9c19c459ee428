"""How a convolution's accumulator becomes int8: the choice of multipliers and shifts for BS and OUT_CVT.

The chip computes y = sat8(round2(round1((acc + A) * C, s) * SCALE, SHIFT) + OFFSET) (hardware/dpu.md), with 15-bit C
and SCALE; round1 is half to even, round2 half to even or half away. Three recipes:

1. *Per tensor, reference rounds twice* (TFLite's convolutions): gain = m * 2^-rs with m in [0.5, 1). BS does m with
   C = round(m * 2^15), OUT_CVT is a pure shift by rs with ties away. Differs from the reference by at most 1, and
   only where the 15-bit m (relative error 2^-16) or the tie rule of round1 shows.
2. *Per tensor, reference rounds once* (average pool; everything of ONNX): BS keeps as many bits as int32 takes,
   OUT_CVT is a pure shift. C is rounded up where the reference rounds an exact half away from zero, so that it stays on
   that side, and to nearest where it rounds ties to even.
3. *Per channel*: C[c] = gain[c] * 2^s / G for one shared G = SCALE / 2^SHIFT, searched so that the worst channel's
   error in output steps is least. A channel whose gain has no good C[c] beside the others takes a larger C and its
   weights and bias are requantized to it. `residue` bounds the error of the value before the last rounding, and must
   stay below half a step; the result then differs from the reference by at most 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints import ConstraintError
from rocketnpu.compiler.lowered import Addition, Convolution, Rounding
from rocketnpu.errors import Error
from rocketnpu.hw.arithmetic import multiplier_from_scale, output_convert

MULTIPLIER_BITS = 15
"""Magnitude bits of BS MUL operands and OUT_CVT SCALE, both signed 16 (hardware/dpu.md)."""
MULTIPLIER_MAX = (1 << MULTIPLIER_BITS) - 1
SHIFT_MAX = 63
INT32_MAX = (1 << 31) - 1
OUTPUT_SPAN = 255
"""Steps between the smallest and the largest int8: an accumulator beyond them saturates whatever its exact gain."""
SEARCH_CANDIDATES = 1024
"""Shared gains tried per layer, evenly over one octave; the worst error is flat well below this spacing."""


@dataclass(frozen=True, eq=False)
class Requantization:
    """Register values for one convolution; arrays are per output channel.

    weights int8 as in Convolution (changed where recipe 3 requantized a channel); alu int64 (OC,) within int32;
    multipliers int64 (OC,). `per_channel` says that multipliers differ. `bn_offset` is added in BN before the
    clamps; `relu` clamps at 0 there, `relux` from above (None: no upper clamp). residue: bound on the error before
    the last rounding, in steps.
    """

    weights: NDArray[np.int8]
    alu: NDArray[np.int64]
    multipliers: NDArray[np.int64]
    shift: int
    out_scale: int
    out_shift: int
    ties_away: bool
    out_offset: int
    per_channel: bool
    residue: float
    bn_offset: int = 0
    relu: bool = False
    relux: int | None = None


def requantize(conv: Convolution) -> Requantization:
    """Choose the recipe for `conv` and return its register values; ConstraintError if none is accurate enough."""
    uniform = float(np.ptp(conv.gains)) == 0.0
    needs_offset_clamp = (conv.low > -128 or conv.high < 127) and conv.low != conv.output_zero_point
    if uniform and conv.rounding is Rounding.TWICE:
        result = _twice(conv)
    elif uniform:
        result = _once(conv)
    else:
        result = _per_channel(conv, pure_shift=needs_offset_clamp)
    result = replace(result, ties_away=conv.rounding is not Rounding.ONCE_TO_EVEN)
    if np.any(np.abs(result.alu) > INT32_MAX):
        raise ConstraintError("the bias with the input zero point folded in fits 32 bits")
    return _with_clamp(conv, result, needs_offset_clamp)


def accumulator_bounds(conv: Convolution) -> NDArray[np.float64]:
    """The largest |sum((x - zx) * (w - zw)) + bias| over all int8 inputs, per output channel: float64 (OC,)."""
    effective = _effective(conv)
    low, high = -128 - conv.input_zero_point, 127 - conv.input_zero_point
    most = np.maximum(effective * low, effective * high).sum(axis=1) + conv.bias
    least = np.minimum(effective * low, effective * high).sum(axis=1) + conv.bias
    return np.maximum(np.abs(most), np.abs(least))


def _effective(conv: Convolution) -> NDArray[np.float64]:
    flat = conv.weights.reshape(conv.output_channels, -1).astype(np.float64)
    return flat - conv.weight_zero_points[:, None]


def _alu(conv: Convolution, weights: NDArray[np.int8], bias: NDArray[np.int64]) -> NDArray[np.int64]:
    """BS ALU operand: bias - zx * sum(w - zw) (hardware/dpu.md, Requantization parameters)."""
    sums = weights.reshape(conv.output_channels, -1).astype(np.int64).sum(axis=1)
    taps = weights[0].size
    return bias - conv.input_zero_point * (sums - taps * conv.weight_zero_points)


def _uniform(conv: Convolution, multiplier: int, shift: int, out_shift: int, residue: float) -> Requantization:
    if not (0 <= shift <= SHIFT_MAX and out_shift <= SHIFT_MAX):
        raise ConstraintError(f"the gain {conv.gains[0]:.3g} fits the multiplier and shift fields")
    return Requantization(
        weights=conv.weights,
        alu=_alu(conv, conv.weights, conv.bias),
        multipliers=np.full(conv.output_channels, multiplier, np.int64),
        shift=shift,
        out_scale=1,
        out_shift=out_shift,
        ties_away=True,
        out_offset=conv.output_zero_point,
        per_channel=False,
        residue=residue,
    )


def _twice(conv: Convolution) -> Requantization:
    mantissa, exponent = math.frexp(float(conv.gains[0]))
    multiplier, shift = round(mantissa * (1 << MULTIPLIER_BITS)), MULTIPLIER_BITS - max(exponent, 0)
    if multiplier > MULTIPLIER_MAX:
        multiplier, shift = multiplier // 2, shift - 1
    out_shift = max(-exponent, 0)
    # Relative error of C over the whole output range, and half a unit of the intermediate rounding.
    residue = OUTPUT_SPAN * 2.0 ** -(MULTIPLIER_BITS + 1) + 0.5 * 2.0**-out_shift * (out_shift > 0)
    return _uniform(conv, multiplier, shift, out_shift, residue)


def _once(conv: Convolution) -> Requantization:
    mantissa, exponent = math.frexp(float(conv.gains[0]))
    exact = mantissa * (1 << MULTIPLIER_BITS)
    multiplier = math.ceil(exact) if conv.rounding is Rounding.ONCE else round(exact)
    total_shift = MULTIPLIER_BITS - exponent
    if multiplier > MULTIPLIER_MAX:
        multiplier, total_shift = multiplier // 2, total_shift - 1
    product_bound = float(accumulator_bounds(conv).max()) * multiplier
    shift = max(0, math.ceil(math.log2(max(product_bound, 1.0) / INT32_MAX)))
    return _uniform(conv, multiplier, shift, total_shift - shift, OUTPUT_SPAN * 2.0**-MULTIPLIER_BITS)


def _split_gain(gain: float) -> tuple[int, int]:
    """(SCALE, SHIFT) with SCALE / 2^SHIFT nearest to gain and 15 significant bits."""
    mantissa, exponent = math.frexp(gain)
    scale, shift = round(mantissa * (1 << MULTIPLIER_BITS)), MULTIPLIER_BITS - exponent
    return (scale // 2, shift - 1) if scale > MULTIPLIER_MAX else (scale, shift)


def _per_channel(conv: Convolution, *, pure_shift: bool) -> Requantization:
    gains, bounds = conv.gains, accumulator_bounds(conv)
    largest = float(gains.max())
    reach = np.minimum(bounds * gains, OUTPUT_SPAN)
    # The smallest s with which a saturated int32 still lies beyond the output range: v keeps the most bits.
    shift = max(0, math.ceil(math.log2((OUTPUT_SPAN + 1) * MULTIPLIER_MAX / (INT32_MAX * largest))))
    if shift > SHIFT_MAX:
        raise ConstraintError(f"the largest gain {largest:.3g} fits the multiplier and shift fields")

    candidates = _shared_gains(largest, shift, pure_shift)
    shared = np.array([scale / 2.0**out_shift for scale, out_shift in candidates])
    steps = shared * 2.0**-shift  # gain of one unit of C
    multipliers = np.clip(np.rint(gains / steps[:, None]), 1, MULTIPLIER_MAX)
    rounding = reach * np.abs(multipliers * steps[:, None] / gains - 1)
    finest = _requantized_channels(conv, float(steps[0]))
    best = int(np.argmin(np.minimum(rounding, finest.residues).max(axis=1)))

    (out_scale, out_shift), step = candidates[best], float(steps[best])
    requantized = _requantized_channels(conv, step)
    coarse = requantized.residues < rounding[best]
    chosen = np.where(coarse, requantized.multipliers, multipliers[best]).astype(np.int64)
    weights = np.where(coarse[:, None, None, None], requantized.weights, conv.weights)
    bias = np.where(coarse, requantized.bias, conv.bias)
    residue = float(np.where(coarse, requantized.residues, rounding[best]).max()) + 0.5 * float(shared[best])
    if residue >= 0.5:
        raise ConstraintError(f"the channels' gains fit one task: error {residue:.2f} steps, below half a step")
    return Requantization(
        weights=weights,
        alu=_alu(conv, weights, bias),
        multipliers=chosen,
        shift=shift,
        out_scale=out_scale,
        out_shift=out_shift,
        ties_away=True,
        out_offset=conv.output_zero_point,
        per_channel=True,
        residue=residue,
    )


def _shared_gains(largest: float, shift: int, pure_shift: bool) -> list[tuple[int, int]]:
    """OUT_CVT (SCALE, SHIFT) pairs under which the largest channel's multiplier uses at least 14 of its 15 bits."""
    if pure_shift:
        out_shift = math.floor(math.log2(MULTIPLIER_MAX / (largest * 2.0**shift)))
        return [(1, out_shift)]
    tops = np.linspace(1 << (MULTIPLIER_BITS - 1), MULTIPLIER_MAX, SEARCH_CANDIDATES)
    pairs = (_split_gain(largest * 2.0**shift / float(top)) for top in tops)
    return [
        pair for pair in pairs if pair[1] <= SHIFT_MAX and round(largest * 2.0 ** (shift + pair[1]) / pair[0]) < 1 << 15
    ]


@dataclass(frozen=True, eq=False)
class _Coarse:
    """Every channel with its weights rounded onto a coarser grid, at the multiplier where that costs least."""

    multipliers: NDArray[np.int64]
    weights: NDArray[np.int8]
    bias: NDArray[np.int64]
    residues: NDArray[np.float64]


def _requantized_channels(conv: Convolution, step: float) -> _Coarse:
    """For each channel the power-of-two multiplier, above its exact one, that keeps most accuracy; residues in
    steps."""
    effective = _effective(conv)
    low, high = -128 - conv.input_zero_point, 127 - conv.input_zero_point
    channels = conv.output_channels
    residues = np.full(channels, np.inf)
    multipliers = np.ones(channels, np.int64)
    weights, bias = effective.copy(), conv.bias.copy()
    for power in range(MULTIPLIER_BITS):
        gain = step * (1 << power)
        ratio = conv.gains / gain
        better_weights, better_bias = np.rint(effective * ratio[:, None]), np.rint(conv.bias * ratio)
        slack = better_weights - effective * ratio[:, None]
        above = np.maximum(slack * low, slack * high).sum(axis=1)
        below = -np.minimum(slack * low, slack * high).sum(axis=1)
        error = gain * (np.maximum(above, below) + np.abs(better_bias - conv.bias * ratio))
        better = (ratio <= 1) & (error < residues)
        residues[better], multipliers[better] = error[better], 1 << power
        weights[better], bias[better] = better_weights[better], better_bias[better].astype(np.int64)
    stored = (weights + conv.weight_zero_points[:, None]).astype(np.int8).reshape(conv.weights.shape)
    return _Coarse(multipliers, stored, bias, residues)


def _with_clamp(conv: Convolution, plain: Requantization, needs_offset_clamp: bool) -> Requantization:
    """Add the activation's bounds, as ReLU and ReLUX of the BN stage, where saturation does not imply them.

    ReLU at 0 is exact for low = zero point, since OUT_CVT maps 0 there and is monotonic; so is ReLUX at the largest
    value that OUT_CVT does not map beyond `high`. Another lower bound (RELU_N1_TO_1) becomes 0 by adding a whole
    number of steps.
    """
    if conv.low <= -128 and conv.high >= 127:
        return plain
    shifted = plain
    if needs_offset_clamp:
        if plain.out_scale != 1:
            raise ConstraintError("a clamp that is not at zero goes with a power-of-two output gain")
        bn_offset = (conv.output_zero_point - conv.low) << plain.out_shift
        if bn_offset > INT32_MAX // 2:
            raise ConstraintError(f"the clamp at {conv.low} fits 32 bits before the output shift")
        shifted = replace(plain, bn_offset=bn_offset, out_offset=conv.low)
    relux = None
    if conv.high < 127:
        output = (shifted.out_scale, shifted.out_shift, shifted.out_offset)
        relux = _largest_below(*output, conv.high, ties_away=plain.ties_away)
    return replace(shifted, relu=True, relux=relux)


def _largest_below(out_scale: int, out_shift: int, out_offset: int, high: int, *, ties_away: bool) -> int:
    """The largest v with OUT_CVT(v) <= high, found from the real inverse and settled exactly."""
    v = min(((2 * (high - out_offset) + 1) << out_shift) // (2 * out_scale), INT32_MAX)

    def beyond(value: int) -> bool:
        return int(output_convert(value, out_scale, out_shift, out_offset, ties_away=ties_away, bits=32)) > high

    while beyond(v):
        v -= 1
    while v < INT32_MAX and not beyond(v + 1):
        v += 1
    return v


FIRST_OPERAND_BITS = 14
"""An addition scales its first operand by 2^14 in BS, as the vendor does; the sum stays far within 32 bits."""


@dataclass(frozen=True)
class AdditionScales:
    """Register values of an addition: EW operand converter, OUT_CVT and the upper clamp (None: saturation does it)."""

    ew_scale: int
    ew_shift: int
    out_scale: int
    out_shift: int
    relux: int | None


def requantize_addition(add: Addition) -> AdditionScales:
    """The gains of both operands with 15 bits each; ConstraintError when one does not fit its field."""
    try:
        ew_scale, ew_shift = multiplier_from_scale(add.second_scale / add.first_scale * 2**FIRST_OPERAND_BITS)
        out_scale, out_shift = multiplier_from_scale(add.first_scale / add.output_scale / 2**FIRST_OPERAND_BITS)
    except Error as error:
        raise ConstraintError("the scales of operands and output fit multiplier and shift fields") from error
    relux = None
    if add.high < 127:
        relux = _largest_below(out_scale, out_shift, add.output_zero_point, add.high, ties_away=add.ties_away)
    return AdditionScales(ew_scale, ew_shift, out_scale, out_shift, relux)
