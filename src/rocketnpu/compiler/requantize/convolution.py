"""How a convolution's accumulator becomes int8: the choice of multipliers and shifts for BS, BN and OUT_CVT.

The chip computes y = sat8(round(BN(BS(acc + A)) * SCALE, SHIFT) + OFFSET) (hardware/dpu.md), where BS and BN each
multiply by 15 bits, shift, round half to even and saturate to int32; OUT_CVT rounds half to even or half away.

1. *One gain for all channels*: gain = G * 2^-SHIFT, OUT_CVT is a pure shift, and BS and BN together do G = C1 * C2 /
   2^s, with BS unshifted, so that C1 takes all bits of int32 that the accumulator leaves. The pair with the least error
   is nearer to G than 2^-24, as near as the reference's own 31-bit multiplier to the model's scales.
   Where the reference rounds twice (TFLite's convolutions), SHIFT is its second shift and BN's rounding its first: the
   results are equal but for exact ties of the first. Where it rounds once (average pool; everything of ONNX), BN keeps
   all bits that int32 holds; C1 * C2 is no smaller than G where an exact half goes away from zero, to stay there.
   Gains and biases that leave C1 or C2 no bit take the other recipe.
2. *Per channel*: per_channel.py.
3. *Slopes* (the vendor's LeakyReLU and PReLU): BS multiplies by C[c], near 2^k, and shifts negative products by m; BN
   multiplies negative values by slope * 2^m; OUT_CVT takes 2^k off again. k is as large as lets saturated positive
   products lie beyond the output range; m (the vendor's is k) is where the error is least.

Before any of them, degenerate.py takes the channels away that have no say in the choice.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from rocketnpu.compiler.npu_ops import Convolution, Rounding
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.requantize.degenerate import without_degenerate_channels
from rocketnpu.compiler.requantize.per_channel import requantize_channels, requantize_piece
from rocketnpu.compiler.requantize.registers import (
    INT32_MAX,
    MULTIPLIER_BITS,
    MULTIPLIER_MAX,
    OUTPUT_SPAN,
    SHIFT_MAX,
    Requantization,
    accumulator_bounds,
    bias_errors,
    channel_of,
    gain_does_not_fit,
    input_folded,
    split_gain,
)
from rocketnpu.hw.arithmetic import output_convert


def requantize(conv: Convolution) -> Requantization:
    """Choose the recipe for `conv` and return its register values; ConstraintError if none is accurate enough."""
    if conv.fraction_bits is not None:
        result = requantize_piece(conv)
        _check_biases(conv, result)
        return result
    conv = without_degenerate_channels(conv)
    if conv.slopes is not None:
        result = _sloped(conv)
    else:
        result = (_uniform(conv) if float(np.ptp(conv.gains)) == 0.0 else None) or requantize_channels(conv)
    _check_biases(conv, result)
    result = replace(result, ties_away=conv.rounding is not Rounding.ONCE_TO_EVEN)
    return _with_clamp(conv, result)


def _check_biases(conv: Convolution, values: Requantization) -> None:
    """Raise ConstraintError for a bias that no register holds, or that is too far from a whole number."""
    beyond = np.abs(values.alu) > INT32_MAX
    if beyond.any():
        channel = int(beyond.argmax())
        found = f"{channel_of(conv, channel)} has the bias {conv.bias[channel]:.6g}"
        raise ConstraintError(f"the bias with the input zero point folded in fits 32 bits ({found})")
    off = bias_errors(conv) + values.residue
    if conv.rounding is not Rounding.TWICE and off.max() >= 1:
        channel = int(off.argmax())
        found = (
            f"{channel_of(conv, channel)} has the bias {conv.bias[channel]:.6g} and the gain {conv.gains[channel]:.3g}"
        )
        raise ConstraintError(f"a bias is near a whole number of the accumulator's steps ({found})")


def _sloped(conv: Convolution) -> Requantization:
    """Recipe 3."""
    wanted = conv.slopes
    assert wanted is not None
    if conv.low > -128 or conv.high < 127:
        raise ConstraintError("a convolution with slopes has no clamp")
    largest, steepest = float(conv.gains.max()), float(np.abs(wanted).max())
    room = INT32_MAX * min(1.0, largest / (OUTPUT_SPAN + 1))
    power = math.floor(math.log2(min(room, MULTIPLIER_MAX)))
    if power < 1:
        raise gain_does_not_fit(conv)
    out_scale, out_shift = split_gain(math.ldexp(largest, -power))
    if not 0 <= out_shift <= SHIFT_MAX:
        raise gain_does_not_fit(conv)
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
        raise ConstraintError(
            f"slopes of negative values are at most {MULTIPLIER_MAX // 2} ({conv.output} has one of {steepest:.3g})"
        )
    slope_shift = min(shifts, key=negative_error)
    slopes = np.rint(np.ldexp(wanted, slope_shift))
    residue = max(float((np.minimum(reach, OUTPUT_SPAN) * gain_error).max()), negative_error(slope_shift))
    if residue >= 0.5:
        raise ConstraintError(
            f"gains and slopes of the channels fit one task: error {residue:.2f} steps, below half a step"
            f" ({conv.output} has gains of {conv.gains.min():.3g} to {largest:.3g}, slopes of up to {steepest:.3g})"
        )
    return Requantization(
        weights=conv.weights,
        alu=input_folded(conv),
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


def _uniform(conv: Convolution) -> Requantization | None:
    """Recipe 1; None where it has no register values."""
    gain = float(conv.gains[0])
    # Saturated values lie beyond the output range, whatever their exact gain.
    bound = max(1.0, min(float(accumulator_bounds(conv).max()), (OUTPUT_SPAN + 1) / gain))
    once = conv.rounding is not Rounding.TWICE
    out_shift = math.floor(math.log2(INT32_MAX / (bound * gain))) if once else max(-math.frexp(gain)[1], 0)
    if once:
        out_shift = min(max(out_shift, 0), SHIFT_MAX)
    if out_shift > SHIFT_MAX:
        return None
    target = math.ldexp(gain, out_shift)
    most = min(MULTIPLIER_MAX, int(INT32_MAX / bound))
    pair = two_multipliers(target, most, at_least=conv.rounding is Rounding.ONCE)
    alu = input_folded(conv)
    if pair is None or np.any(np.abs(alu) > INT32_MAX):
        return None
    multiplier, bn_multiplier, bn_shift = pair
    error = abs(multiplier * bn_multiplier / 2.0**bn_shift / target - 1)
    return Requantization(
        weights=conv.weights,
        alu=alu,
        multipliers=np.full(conv.output_channels, multiplier, np.int64),
        shift=0,
        out_scale=1,
        out_shift=out_shift,
        ties_away=True,
        out_offset=conv.output_zero_point,
        per_channel=False,
        residue=OUTPUT_SPAN * error + (0.5 * 2.0**-out_shift if out_shift else 0.0),
        bn_multiplier=bn_multiplier,
        bn_shift=bn_shift,
    )


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


def _with_clamp(conv: Convolution, plain: Requantization) -> Requantization:
    """Add the activation's bounds, as ReLU and ReLUX of the BN stage, where saturation does not imply them.

    ReLU at 0 is exact for low = zero point, since OUT_CVT maps 0 there and is monotonic; so is ReLUX at the largest
    value that OUT_CVT does not map beyond `high`. Other bounds are not BN's (lower/clamps.py).
    """
    if conv.low <= -128 and conv.high >= 127:
        return plain
    if conv.low != conv.output_zero_point:
        raise ConstraintError("a convolution clamps at zero")
    relux = None
    if conv.high < 127:
        output = (plain.out_scale, plain.out_shift, plain.out_offset)
        relux = largest_below(*output, conv.high, ties_away=plain.ties_away)
    return replace(plain, relu=True, relux=relux)


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
