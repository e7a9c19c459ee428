"""Register values of BS, BN and OUT_CVT for a convolution, and what choosing them asks of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.npu_ops import Convolution
from rocketnpu.compiler.npu_ops.error import ConstraintError

MULTIPLIER_BITS = 15
"""Magnitude bits of BS MUL operands and OUT_CVT SCALE, both signed 16 (hardware/dpu.md)."""
MULTIPLIER_MAX = (1 << MULTIPLIER_BITS) - 1
SHIFT_MAX = 63
INT32_MAX = (1 << 31) - 1
OUTPUT_SPAN = 255
"""Steps between the smallest and the largest int8: an accumulator beyond them saturates whatever its exact gain."""


@dataclass(frozen=True)
class ResidualValues:
    """EW registers of a convolution that adds a tensor: q2 * scale + offset, then `relu` as in BN."""

    scale: int
    offset: int
    relu: bool


@dataclass(frozen=True, eq=False)
class Requantization:
    """Register values for one convolution; arrays are per output channel.

    weights int8 as in Convolution (changed where a channel was requantized); alu int64 (OC,) within int32;
    multipliers int64 (OC,). `per_channel` says that multipliers differ. In BN, `bn_offset` is added or
    `bn_multiplier` and `bn_shift` scale (None: they do not) or `bn_multipliers`, int64 (OC,), multiply without a
    shift, then `relu` clamps at 0, `relux` from above (None: no upper clamp); or `slopes`, int64 (OC,), multiply
    negative values, which BS has shifted by `slope_shift` more.
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
    bn_multipliers: NDArray[np.int64] | None = None
    bn_offset: int = 0
    relu: bool = False
    relux: int | None = None
    slopes: NDArray[np.int64] | None = None
    slope_shift: int = 0
    residual: ResidualValues | None = None


def accumulator_ranges(conv: Convolution) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The least and the largest sum((x - zx) * (w - zw)) over all int8 inputs, per output channel: float64 (OC,)."""
    effective = effective_weights(conv)
    low, high = -128 - conv.input_zero_point, 127 - conv.input_zero_point
    least = np.minimum(effective * low, effective * high).sum(axis=1)
    return least, np.maximum(effective * low, effective * high).sum(axis=1)


def accumulator_bounds(conv: Convolution) -> NDArray[np.float64]:
    """The largest |sum((x - zx) * (w - zw)) + bias| over all int8 inputs, per output channel: float64 (OC,)."""
    least, most = accumulator_ranges(conv)
    return np.maximum(np.abs(least + conv.bias), np.abs(most + conv.bias))


def bias_errors(conv: Convolution) -> NDArray[np.float64]:
    """Output steps that rounding the bias to whole numbers costs, per output channel: float64 (OC,).

    It costs nothing where the output saturates for every input.
    """
    least, most = accumulator_ranges(conv)
    nearest = np.maximum(least + conv.bias, -(most + conv.bias)) - 1
    moves = nearest * conv.gains <= OUTPUT_SPAN
    return np.where(moves, conv.gains * np.abs(np.rint(conv.bias) - conv.bias), 0.0)


def effective_weights(conv: Convolution) -> NDArray[np.float64]:
    """w - zw of every tap: float64 (OC, taps)."""
    flat = conv.weights.reshape(conv.output_channels, -1).astype(np.float64)
    return flat - conv.weight_zero_points[:, None]


def input_folded(
    conv: Convolution, weights: NDArray[np.int8] | None = None, bias: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """BS ALU operand: bias - zx * sum(w - zw), int64 (OC,) (hardware/dpu.md, Requantization parameters).

    `weights` and `bias` stand for those of the convolution. What is beyond 2^62 becomes 2^62: no operand holds it.
    """
    weights = conv.weights if weights is None else weights
    sums = weights.reshape(conv.output_channels, -1).astype(np.int64).sum(axis=1)
    taps = weights[0].size
    whole = np.rint(np.clip(conv.bias if bias is None else bias, -(2.0**62), 2.0**62)).astype(np.int64)
    return whole - conv.input_zero_point * (sums - taps * conv.weight_zero_points)


def channel_of(conv: Convolution, channel: int) -> str:
    """An output channel as messages name it."""
    return f"channel {conv.first_output_channel + channel} of {conv.output}"


def gain_does_not_fit(conv: Convolution) -> ConstraintError:
    """What is wrong with gains, of which the largest has no register value."""
    channel = int(conv.gains.argmax())
    found = f"{channel_of(conv, channel)} has the gain {conv.gains[channel]:.3g}"
    return ConstraintError(f"the gains fit the multiplier and shift fields ({found})")


def split_gain(gain: float) -> tuple[int, int]:
    """(SCALE, SHIFT) with SCALE / 2^SHIFT nearest to gain and 15 significant bits."""
    mantissa, exponent = math.frexp(gain)
    scale, shift = round(mantissa * (1 << MULTIPLIER_BITS)), MULTIPLIER_BITS - exponent
    return (scale // 2, shift - 1) if scale > MULTIPLIER_MAX else (scale, shift)
