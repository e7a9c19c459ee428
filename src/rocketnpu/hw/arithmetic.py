"""The integer arithmetic of DPU and PPU as formulas on int64 arrays.

Source: hardware/dpu.md and hardware/ppu.md. Inputs broadcast against one another; results are int64. Intermediate
products stay exact: the widest is a 36-bit accumulator times a 16-bit operand. Shifts outside 0..63, which no
register field can hold, raise Error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocketnpu.errors import Error

Integers: TypeAlias = NDArray[np.int64]

MAX_SHIFT = 63
"""Six effective bits of every right shift (hardware/dpu.md, OUT_CVT)."""

POOL_RECIPROCAL_BITS = 16
"""Fraction bits of the PPU's reciprocals, floor(65536 / k) (hardware/ppu.md)."""


def round_half_even(value: ArrayLike, shift: ArrayLike) -> Integers:
    """value / 2^shift rounded to nearest, ties to even: rne(p, s) of hardware/dpu.md. |value| must be below 2^62."""
    p, s = _value_and_shift(value, shift)
    # Adding half - 1 rounds ties down; the quotient's own low bit turns them up when it is odd.
    bias = np.maximum(_half(s) - 1, 0)
    odd = (p >> s) & 1 & (s > 0)
    return (p + bias + odd) >> s


def round_half_away(value: ArrayLike, shift: ArrayLike) -> Integers:
    """value / 2^shift rounded to nearest, ties away from zero (OUT_CVT_SHIFT bit 30). |value| must be below 2^62."""
    p, s = _value_and_shift(value, shift)
    magnitude = (np.abs(p) + _half(s)) >> s
    return np.where(p < 0, -magnitude, magnitude)


def saturate(value: ArrayLike, bits: int) -> Integers:
    """`value` clamped to a signed integer of `bits` bits."""
    return np.clip(np.asarray(value, np.int64), -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def multiply_shift(
    value: ArrayLike, operand: ArrayLike, shift_positive: ArrayLike, shift_negative: ArrayLike
) -> Integers:
    """BS and BN multiplier: sat32(rne(value*operand, shift)), the shift chosen by the sign of the product.

    hardware/dpu.md, BS stage (silicon, each clause isolated); the shifts are BS_MUL_CFG[13:8] and DATA_FORMAT[9:4].
    """
    product = np.asarray(value, np.int64) * np.asarray(operand, np.int64)
    if np.array_equal(shift_positive, shift_negative):
        return saturate(round_half_even(product, shift_positive), 32)
    shift = np.where(product >= 0, shift_positive, shift_negative)
    return saturate(round_half_even(product, shift), 32)


def prelu_multiply(
    value: ArrayLike, operand: ArrayLike, shift_positive: ArrayLike, shift_negative: ArrayLike
) -> Integers:
    """The multiplier in PReLU mode: only negative values are multiplied (hardware/dpu.md, BS stage bit 5)."""
    v = np.asarray(value, np.int64)
    return np.where(v < 0, multiply_shift(v, operand, shift_positive, shift_negative), v)


def relu(value: ArrayLike) -> Integers:
    """max(value, 0) (hardware/dpu.md, BS stage bit 6)."""
    return np.maximum(np.asarray(value, np.int64), 0)


def relux(value: ArrayLike, ceiling: ArrayLike) -> Integers:
    """min(max(value, 0), ceiling), the upper clamp at RELUX_CMP (hardware/dpu.md, BS stage bit 7)."""
    return np.minimum(relu(value), np.asarray(ceiling, np.int64))


def operand_convert(value: ArrayLike, offset: ArrayLike, scale: ArrayLike, shift: ArrayLike) -> Integers:
    """EW operand, adding first (EW_CVT_TYPE 1): rne((value + offset)*scale, shift).

    hardware/dpu.md, EW stage. The tie rule is unmeasured; with an odd scale and a shift of 10 or more an int8 operand
    never meets a tie.
    """
    total = np.asarray(value, np.int64) + np.asarray(offset, np.int64)
    return round_half_even(total * np.asarray(scale, np.int64), shift)


def output_convert(
    value: ArrayLike,
    scale: ArrayLike,
    shift: ArrayLike,
    offset: ArrayLike,
    *,
    ties_away: bool = False,
    bits: int = 8,
) -> Integers:
    """OUT_CVT: sat(round(value*scale / 2^shift) + offset) to `bits` bits (hardware/dpu.md, OUT_CVT; silicon)."""
    product = np.asarray(value, np.int64) * np.asarray(scale, np.int64)
    rounded = round_half_away(product, shift) if ties_away else round_half_even(product, shift)
    return saturate(rounded + np.asarray(offset, np.int64), bits)


def average_pool(window_sum: ArrayLike, kernel_w: int, kernel_h: int) -> Integers:
    """PPU average of an int8 window sum, padding included: the divisor is always kernel_w*kernel_h.

    Half away from zero, but an exact half steps back toward zero when a reciprocal is inexact, and to even when both
    are exact. hardware/ppu.md, Arithmetic: vendor simulator on 3x3, silicon on 2x2, 4x4 and 2x3; others extrapolate.
    """
    total = np.asarray(window_sum, np.int64)
    taps = kernel_w * kernel_h
    magnitude = np.abs(total)
    quotient = (2 * magnitude + taps) // (2 * taps)
    tie = 2 * (magnitude % taps) == taps
    exact = all((1 << POOL_RECIPROCAL_BITS) % kernel == 0 for kernel in (kernel_w, kernel_h))
    steps_back = tie & (quotient % 2 == 1) if exact else tie
    return np.sign(total) * (quotient - steps_back)


def pool_reciprocal(kernel: int) -> int:
    """RECIP_KERNEL_WIDTH or RECIP_KERNEL_HEIGHT of an int8 average (hardware/ppu.md, int8 support; silicon)."""
    return (1 << POOL_RECIPROCAL_BITS) // kernel


@dataclass(frozen=True)
class Slope:
    """How the lookup table goes on past an end: (distance * scale) >> shift, rounded half up."""

    scale: int
    shift: int


@dataclass(frozen=True, eq=False)
class LookupTable:
    """The DPU's two tables in the vendor's settings: `le` for -16384..0 and `lo` for 0..16384 in steps of 32.

    le, lo: int16 [513]. `underflow` and `overflow` extrapolate below and above. Raises Error for other lengths.
    """

    le: NDArray[np.int16]
    lo: NDArray[np.int16]
    underflow: Slope = Slope(0, 0)
    overflow: Slope = Slope(0, 0)

    def __post_init__(self) -> None:
        if self.le.shape != (LUT_ENTRIES,) or self.lo.shape != (LUT_ENTRIES,):
            raise Error(f"lookup tables of shape {self.le.shape} and {self.lo.shape}: both hold {LUT_ENTRIES} entries")


LUT_ENTRIES = 513
LUT_LIMIT = 16384
"""The tables span -LUT_LIMIT..LUT_LIMIT (LUT_LE_START, LUT_LO_END in every vendor program)."""
LUT_STEP_SHIFT = 5
"""log2 of the distance of two entries (LUT_INFO 0x50500)."""


def look_up(index: ArrayLike, table: LookupTable) -> Integers:
    """Linear interpolation: (T[k]*(32-f) + T[k+1]*f) / 32 rounded half up, k = i >> 5, f = i & 31, i = index + 16384.

    T is le[0..511] followed by lo. hardware/dpu.md, LUT (vendor simulator, at most 1 apart); the rounding is not
    measured on silicon.
    """
    position = np.asarray(index, np.int64)
    entries = np.concatenate([table.le[:-1], table.lo]).astype(np.int64)
    inside = np.clip(position, -LUT_LIMIT, LUT_LIMIT - 1) + LUT_LIMIT
    step = 1 << LUT_STEP_SHIFT
    k, f = inside >> LUT_STEP_SHIFT, inside & (step - 1)
    result = _round_half_up(entries[k] * (step - f) + entries[k + 1] * f, LUT_STEP_SHIFT)
    over, under = table.overflow, table.underflow
    beyond = entries[-1] + _round_half_up((position - LUT_LIMIT) * over.scale, over.shift)
    below = entries[0] + _round_half_up((position + LUT_LIMIT) * under.scale, under.shift)
    return np.where(position >= LUT_LIMIT, beyond, np.where(position < -LUT_LIMIT, below, result))


def _value_and_shift(value: ArrayLike, shift: ArrayLike) -> tuple[Integers, Integers]:
    s = np.asarray(shift, np.int64)
    if s.size and (s.min() < 0 or s.max() > MAX_SHIFT):
        raise Error(f"a right shift of {s.min()}..{s.max()} is outside 0..{MAX_SHIFT}")
    return np.asarray(value, np.int64), s


def _half(shift: Integers) -> Integers:
    """2^(shift-1), and 0 for a shift of 0, without passing through 2^63."""
    return np.where(shift > 0, np.int64(1) << np.maximum(shift - 1, 0), 0)


def _round_half_up(value: Integers, shift: int) -> Integers:
    return (value + ((1 << shift) >> 1)) >> shift
