"""How a convolution's accumulator becomes int8: the choice of multipliers and shifts for BS, BN and OUT_CVT.

The chip computes y = sat8(round(BN(BS(acc + A)) * SCALE, SHIFT) + OFFSET) (hardware/dpu.md), where BS and BN each
multiply by 15 bits, shift, round half to even and saturate to int32; OUT_CVT rounds half to even or half away.

1. *One gain for all channels*: gain = G * 2^-SHIFT, OUT_CVT is a pure shift, and BS and BN together do G = C1 * C2 /
   2^s, with BS unshifted, so that C1 takes all bits of int32 that the accumulator leaves. The pair with the least error
   is nearer to G than 2^-24, as near as the reference's own 31-bit multiplier to the model's scales.
   Where the reference rounds twice (TFLite's convolutions), SHIFT is its second shift and BN's rounding its first: the
   results are equal but for exact ties of the first. Where it rounds once (average pool; everything of ONNX), BN keeps
   all bits that int32 holds; C1 * C2 is no smaller than G where an exact half goes away from zero, to stay there.
2. *One gain, with a clamp that is not at zero*: BN's ALU, which moves the clamp to zero, comes before its multiplier.
   BS alone does G with 15 bits: a relative error of 2^-16, the result differs by at most 1.
3. *Per channel*: C[c] = gain[c] * 2^s / G for one shared G = SCALE / 2^SHIFT, searched so that the worst channel's
   error in output steps is least. A channel whose gain has no good C[c] beside the others takes a larger C and its
   weights and bias are requantized to it. `residue` bounds the error of the value before the last rounding, and must
   stay below half a step; the result then differs from the reference by at most 1.
4. *Slopes* (the vendor's LeakyReLU and PReLU): BS multiplies by C[c], near 2^k, and shifts negative products by m; BN
   multiplies negative values by slope * 2^m; OUT_CVT takes 2^k off again. k is as large as lets saturated positive
   products lie beyond the output range; m (the vendor's is k) is where the error is least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints import ConstraintError
from rocketnpu.compiler.lowered import Convolution, Rounding
from rocketnpu.hw.arithmetic import output_convert

MULTIPLIER_BITS = 15
"""Magnitude bits of BS MUL operands and OUT_CVT SCALE, both signed 16 (hardware/dpu.md)."""
MULTIPLIER_MAX = (1 << MULTIPLIER_BITS) - 1
SHIFT_MAX = 63
INT32_MAX = (1 << 31) - 1
OUTPUT_SPAN = 255
"""Steps between the smallest and the largest int8: an accumulator beyond them saturates whatever its exact gain."""
SEARCH_CANDIDATES = 1024
"""Shared gains tried per layer, evenly over one octave; the worst error is flat well below this spacing."""


@dataclass(frozen=True)
class ResidualValues:
    """EW registers of a convolution that adds a tensor: q2 * scale + offset, then `relu` and `relux` as in BN."""

    scale: int
    offset: int
    relu: bool
    relux: int | None


@dataclass(frozen=True, eq=False)
class Requantization:
    """Register values for one convolution; arrays are per output channel.

    weights int8 as in Convolution (changed where recipe 3 requantized a channel); alu int64 (OC,) within int32;
    multipliers int64 (OC,). `per_channel` says that multipliers differ. In BN, `bn_offset` is added or
    `bn_multiplier` and `bn_shift` scale (None: they do not), then `relu` clamps at 0, `relux` from above (None: no
    upper clamp); or `slopes`, int64 (OC,), multiply negative values, which BS has shifted by `slope_shift` more.
    residue: bound on the error before the last rounding, in steps.
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
    bn_multiplier: int | None = None
    bn_shift: int = 0
    bn_offset: int = 0
    relu: bool = False
    relux: int | None = None
    slopes: NDArray[np.int64] | None = None
    slope_shift: int = 0
    residual: ResidualValues | None = None


def requantize(conv: Convolution) -> Requantization:
    """Choose the recipe for `conv` and return its register values; ConstraintError if none is accurate enough."""
    uniform = float(np.ptp(conv.gains)) == 0.0
    needs_offset_clamp = (conv.low > -128 or conv.high < 127) and conv.low != conv.output_zero_point
    if conv.slopes is not None:
        result = _sloped(conv)
    elif uniform:
        result = _uniform(conv, offset_clamp=needs_offset_clamp)
    else:
        result = _per_channel(conv, pure_shift=needs_offset_clamp)
    result = replace(result, ties_away=conv.rounding is not Rounding.ONCE_TO_EVEN)
    if np.any(np.abs(result.alu) > INT32_MAX):
        raise ConstraintError("the bias with the input zero point folded in fits 32 bits")
    return _with_clamp(conv, result, needs_offset_clamp)


def _sloped(conv: Convolution) -> Requantization:
    """Recipe 4."""
    wanted = conv.slopes
    assert wanted is not None
    if conv.low > -128 or conv.high < 127:
        raise ConstraintError("a convolution with slopes has no clamp")
    largest, steepest = float(conv.gains.max()), float(np.abs(wanted).max())
    room = INT32_MAX * min(1.0, largest / (OUTPUT_SPAN + 1))
    power = math.floor(math.log2(min(room, MULTIPLIER_MAX)))
    if power < 1:
        raise _gain_does_not_fit(largest)
    out_scale, out_shift = _split_gain(math.ldexp(largest, -power))
    if not 0 <= out_shift <= SHIFT_MAX:
        raise _gain_does_not_fit(largest)
    multipliers = np.rint(conv.gains / largest * (1 << power))
    reach = accumulator_bounds(conv) * conv.gains
    gain_error = np.abs(multipliers / (1 << power) * largest / conv.gains - 1) + 2.0 ** -(MULTIPLIER_BITS + 1)
    steep = np.abs(wanted)
    unsaturated = np.minimum(reach, OUTPUT_SPAN / np.maximum(steep, 1 / MULTIPLIER_MAX))

    def negative_error(slope_shift: int) -> float:
        """Of all channels: of gain and slope, and of what BS rounds where it shifts out more than C brings in."""
        slope_error = np.abs(np.rint(np.ldexp(wanted, slope_shift)) - np.ldexp(wanted, slope_shift))
        exact = slope_shift <= power and float(np.ptp(conv.gains)) == 0.0
        rounding = 0.0 if exact else 0.5 * 2.0 ** (slope_shift - power) * largest * steep
        return float((unsaturated * (steep * gain_error + np.ldexp(slope_error, -slope_shift)) + rounding).max())

    shifts = range(1, 1 + min(SHIFT_MAX, math.floor(math.log2(MULTIPLIER_MAX / max(steepest, 1 / MULTIPLIER_MAX)))))
    if not shifts:
        raise ConstraintError(f"slopes of negative values are at most {MULTIPLIER_MAX // 2}")
    slope_shift = min(shifts, key=negative_error)
    slopes = np.rint(np.ldexp(wanted, slope_shift))
    residue = max(float((np.minimum(reach, OUTPUT_SPAN) * gain_error).max()), negative_error(slope_shift))
    if residue >= 0.5:
        raise ConstraintError(f"gains and slopes of the channels fit one task: error {residue:.2f}, below half a step")
    return Requantization(
        weights=conv.weights,
        alu=_alu(conv, conv.weights, conv.bias),
        multipliers=multipliers.astype(np.int64),
        shift=0,
        out_scale=out_scale,
        out_shift=out_shift,
        ties_away=True,
        out_offset=conv.output_zero_point,
        per_channel=bool(np.ptp(multipliers) > 0),
        residue=residue,
        slopes=slopes.astype(np.int64),
        slope_shift=slope_shift,
    )


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


def input_folded(conv: Convolution) -> NDArray[np.int64]:
    """BS ALU operand of the convolution as it is: int64 (OC,)."""
    return _alu(conv, conv.weights, conv.bias)


def _alu(conv: Convolution, weights: NDArray[np.int8], bias: NDArray[np.int64]) -> NDArray[np.int64]:
    """BS ALU operand: bias - zx * sum(w - zw) (hardware/dpu.md, Requantization parameters)."""
    sums = weights.reshape(conv.output_channels, -1).astype(np.int64).sum(axis=1)
    taps = weights[0].size
    return bias - conv.input_zero_point * (sums - taps * conv.weight_zero_points)


def _uniform(conv: Convolution, *, offset_clamp: bool) -> Requantization:
    """Recipes 1 and 2."""
    gain = float(conv.gains[0])
    # Saturated values lie beyond the output range, whatever their exact gain.
    bound = max(1.0, min(float(accumulator_bounds(conv).max()), (OUTPUT_SPAN + 1) / gain))
    once = conv.rounding is not Rounding.TWICE and not offset_clamp
    out_shift = math.floor(math.log2(INT32_MAX / (bound * gain))) if once else max(-math.frexp(gain)[1], 0)
    if once:
        out_shift = min(max(out_shift, 0), SHIFT_MAX)
    if out_shift > SHIFT_MAX:
        raise _gain_does_not_fit(gain)
    target = math.ldexp(gain, out_shift)
    bn_multiplier, bn_shift = None, 0
    if offset_clamp:
        multiplier, shift = _split_gain(target)
        if not 0 <= shift <= SHIFT_MAX:
            raise _gain_does_not_fit(gain)
        error = 2.0 ** -(MULTIPLIER_BITS + 1)
    else:
        most = min(MULTIPLIER_MAX, int(INT32_MAX / bound))
        pair = two_multipliers(target, most, at_least=conv.rounding is Rounding.ONCE)
        if pair is None:
            raise _gain_does_not_fit(gain)
        multiplier, bn_multiplier, bn_shift = pair
        shift = 0
        error = abs(multiplier * bn_multiplier / 2.0**bn_shift / target - 1)
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
        residue=OUTPUT_SPAN * error + (0.5 * 2.0**-out_shift if out_shift else 0.0),
        bn_multiplier=bn_multiplier,
        bn_shift=bn_shift,
    )


def _gain_does_not_fit(gain: float) -> ConstraintError:
    return ConstraintError(f"the gain {gain:.3g} fits the multiplier and shift fields")


def two_multipliers(target: float, most: int, *, at_least: bool) -> tuple[int, int, int] | None:
    """(C1, C2, s) with C1 * C2 / 2^s nearest to `target`, and not below it if `at_least`; None if no shift fits.

    C1 is between half of `most` and `most`, C2 has 15 bits.
    """
    first = np.arange(most // 2 + 1, most + 1, dtype=np.float64)
    shifts = np.floor(np.log2(MULTIPLIER_MAX / target * first))
    exact = target * np.exp2(shifts) / first
    second = np.ceil(exact) if at_least else np.rint(exact)
    legal = (second <= MULTIPLIER_MAX) & (shifts >= 0) & (shifts <= SHIFT_MAX)
    if not legal.any():
        return None
    best = int(np.argmin(np.where(legal, np.abs(second / exact - 1), np.inf)))
    return int(first[best]), int(second[best]), int(shifts[best])


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
        relux = largest_below(*output, conv.high, ties_away=plain.ties_away)
    return replace(shifted, relu=True, relux=relux)


def largest_below(out_scale: int, out_shift: int, out_offset: int, high: int, *, ties_away: bool) -> int:
    """The largest v with OUT_CVT(v) <= high, found from the real inverse and settled exactly."""
    v = min(((2 * (high - out_offset) + 1) << out_shift) // (2 * out_scale), INT32_MAX)

    def beyond(value: int) -> bool:
        return int(output_convert(value, out_scale, out_shift, out_offset, ties_away=ties_away, bits=32)) > high

    while beyond(v):
        v -= 1
    while v < INT32_MAX and not beyond(v + 1):
        v += 1
    return v
