"""Degenerate channels: gains, weights and biases that no register has to hold as they are.

Published models have filters of zeros, scales of 1e-30 and biases of 2^31 steps. Each such channel is replaced by one
with the same results, so that it takes no part in the choice of multipliers and shifts.

1. *A gain above 256* becomes 256. Accumulators are whole numbers: all but 0 saturate with either gain.
2. *Weights that move the output by less than 2^-16 steps* (zeros, or a tiny gain) become zeros. The channel is a
   constant then. Its bias holds the constant, in steps of a gain that is near the other channels'.
3. *A bias beyond 32 bits that saturates the output for every input* becomes the smallest one that does.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.npu_ops import Convolution
from rocketnpu.compiler.requantize.registers import INT32_MAX, OUTPUT_SPAN, accumulator_ranges, bias_errors

SATURATING_GAIN = float(OUTPUT_SPAN + 1)
"""Output steps for 1 in the accumulator from which on all accumulators but 0 saturate."""
STILL = 2.0**-16
"""Output steps. The multipliers of a channel that moves are off by more (per_channel.py)."""
CONSTANT_GAIN = 2.0**-16
"""Output steps that 1 in the bias of a constant channel stands for, where the other channels' gains allow it."""
LEAST_CONSTANT_GAIN = 2.0**-22
"""With this gain, a bias of 32 bits reaches 512 steps, which is beyond every output."""
GAIN_BITS = 14
"""A constant channel's gain is at most this many octaves below the largest: multipliers of 15 bits hold both."""


def without_degenerate_channels(conv: Convolution) -> Convolution:
    """The convolution with rules 1 to 3 applied; the same object where none applies."""
    least, most = accumulator_ranges(conv)
    if conv.slopes is None:
        conv = _with_legal_biases(_with_saturating_gains(conv), least, most)
    still = _still(conv, least, most)
    uniform = float(np.ptp(conv.gains)) == 0.0
    return conv if not still.any() or (uniform and not still.all()) else _with_constants(conv, still)


def _with_saturating_gains(conv: Convolution) -> Convolution:
    """Rule 1. A bias that is no whole number decides what an accumulator of 0 gives: its channel stays as it is."""
    above = (conv.gains > SATURATING_GAIN) & (bias_errors(conv) < STILL)
    return replace(conv, gains=np.where(above, SATURATING_GAIN, conv.gains)) if above.any() else conv


def _with_legal_biases(conv: Convolution, least: NDArray[np.float64], most: NDArray[np.float64]) -> Convolution:
    """Rule 3."""
    large = np.abs(conv.bias) + np.maximum(-least, most) > INT32_MAX
    if not large.any():
        return conv
    enough = np.ceil(np.minimum((OUTPUT_SPAN + 1) / np.maximum(conv.gains, np.finfo(np.float64).tiny), 2.0**62))
    clipped = np.clip(conv.bias, -enough - most, enough - least)
    return replace(conv, bias=np.where(large, clipped, conv.bias))


def _still(conv: Convolution, least: NDArray[np.float64], most: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The channels of rule 2."""
    steepest = 1.0 if conv.slopes is None else np.maximum(np.abs(conv.slopes), 1.0)
    return conv.gains * steepest * np.maximum(-least, most) < STILL


def _with_constants(conv: Convolution, still: NDArray[np.bool_]) -> Convolution:
    """Rule 2."""
    gain = CONSTANT_GAIN if still.all() else _gain_beside(float(conv.gains[~still].max()))
    constants = conv.bias * conv.gains
    if conv.slopes is None:
        constants = np.clip(constants, -SATURATING_GAIN, SATURATING_GAIN)
    zeros = conv.weight_zero_points.astype(np.int8)[:, None, None, None]
    return replace(
        conv,
        weights=np.where(still[:, None, None, None], zeros, conv.weights),
        bias=np.where(still, constants / gain, conv.bias),
        gains=np.where(still, gain, conv.gains),
    )


def _gain_beside(largest: float) -> float:
    """The gain of constant channels, a power of two, beside others of up to `largest`."""
    exponent = math.frexp(largest)[1]
    below, smallest = math.ldexp(1.0, exponent - 1), math.ldexp(1.0, exponent - GAIN_BITS)
    return max(min(CONSTANT_GAIN, below), smallest, LEAST_CONSTANT_GAIN)
