"""Gains as multipliers and shifts, against TFLite's own fixed-point arithmetic and against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rocketnpu.compiler.npu_ops import Convolution, CubeShape, Elementwise, Operation, Rounding, Window
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.requantize.convolution import requantize
from rocketnpu.compiler.requantize.elementwise import requantize_elementwise
from rocketnpu.compiler.requantize.registers import Requantization
from rocketnpu.hw import arithmetic


def convolution(
    gains: list[float], rounding: Rounding = Rounding.TWICE, low: int = -128, high: int = 127, zero: int = 3
) -> Convolution:
    """A 1x1 convolution of 64 channels, whose accumulator reaches 64 * 255 * 127 = 2^21."""
    channels = len(gains)
    return Convolution(
        input="x",
        output="y",
        input_shape=CubeShape(1, 1, 64),
        output_shape=CubeShape(1, 1, channels),
        depthwise=False,
        weights=np.full((channels, 1, 1, 64), 127, np.int8),
        weight_zero_points=np.zeros(channels, np.int64),
        bias=np.zeros(channels, np.int64),
        gains=np.array(gains),
        input_zero_point=-128,
        output_zero_point=zero,
        stride_h=1,
        stride_w=1,
        dilation_h=1,
        dilation_w=1,
        origin_h=0,
        origin_w=0,
        window=Window(0, 1, 0, 1),
        low=low,
        high=high,
        rounding=rounding,
    )


def chip(values: Requantization, accumulators: NDArray[np.int64], channel: int = 0) -> NDArray[np.int64]:
    """The stages as hardware/dpu.md has them, from the register values."""
    v = arithmetic.multiply_shift(accumulators, values.multipliers[channel], values.shift, values.shift)
    v = v + values.bn_offset
    if values.bn_multipliers is not None:
        v = arithmetic.multiply_shift(v, values.bn_multipliers[channel], 0, 0)
    elif values.bn_multiplier is not None:
        v = arithmetic.multiply_shift(v, values.bn_multiplier, values.bn_shift, values.bn_shift)
    if values.relu:
        v = np.maximum(v, 0)
    if values.relux is not None:
        v = np.minimum(v, values.relux)
    return arithmetic.output_convert(
        v, values.out_scale, values.out_shift, values.out_offset, ties_away=values.ties_away
    )


def tflite(accumulators: NDArray[np.int64], gain: float, zero: int, low: int, high: int) -> NDArray[np.int64]:
    """MultiplyByQuantizedMultiplier: a 31-bit multiplier rounded half up, then a shift rounded half away from zero."""
    mantissa, exponent = math.frexp(gain)
    multiplier = round(mantissa * 2**31)
    results: list[int] = []
    for value in accumulators.tolist():
        product = value * 2 ** max(exponent, 0) * multiplier
        once = (product + (1 << 30)) >> 31
        shift = max(-exponent, 0)
        twice = (abs(once) + ((1 << shift) >> 1)) >> shift
        results.append(min(max((twice if once >= 0 else -twice) + zero, low), high))
    return np.array(results)


def accumulators(gain: float, seed: int = 0) -> NDArray[np.int64]:
    """Values over the whole output range and some beyond it, and all small ones."""
    reach = min(1 << 21, int(300 / gain) + 2)
    some = np.random.default_rng(seed).integers(-reach, reach, 3000)
    return np.concatenate([some, np.arange(-64, 65), [1 << 21, -(1 << 21)]])


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.floats(2.0**-24, 4.0), st.integers(-128, 127))
def test_one_gain_is_tflite_s_arithmetic(base: float, zero: int) -> None:
    gain = base * 1.00001371  # no short fraction, which would have exact ties in TFLite's first rounding
    values = requantize(convolution([gain, gain], zero=zero))
    inputs = accumulators(gain)
    found, expected = chip(values, inputs), tflite(inputs, gain, zero, -128, 127)
    assert np.abs(found - expected).max() <= 1
    assert np.mean(found != expected) <= 0.001, f"gain {gain}: {np.count_nonzero(found != expected)} differ"
    # 64 channels of 127 * 255 leave 10 bits to the first multiplier; among 512 of them the best is this near.
    exact = values.multipliers[0] * (values.bn_multiplier or 1) / 2.0 ** (values.bn_shift + values.out_shift)
    assert abs(exact / gain - 1) < 2.0**-22


@pytest.mark.parametrize(("low", "high"), [(3, 127), (3, 60), (3, 3)])
@pytest.mark.parametrize("gain", [0.9, 0.037, 0.0021, 0.0003])
@pytest.mark.parametrize("channels", [1, 2])
def test_clamps_are_exact(low: int, high: int, gain: float, channels: int) -> None:
    gains = [gain, gain * 1.37][:channels]
    values = requantize(convolution(gains, low=low, high=high))
    for channel, each in enumerate(gains):
        found = chip(values, accumulators(each), channel)
        assert (found.min(), found.max()) == (low, high)
        assert np.abs(found - tflite(accumulators(each), each, 3, low, high)).max() <= 1


@pytest.mark.parametrize(("low", "high"), [(-128, 60), (-17, 23), (-17, 127)])
@pytest.mark.parametrize("gains", [[0.037], [0.037, 0.05]])
def test_a_clamp_that_is_not_at_zero_is_a_constraint(low: int, high: int, gains: list[float]) -> None:
    with pytest.raises(ConstraintError, match="clamps at zero"):
        requantize(convolution(gains, low=low, high=high))


@pytest.mark.parametrize("taps", [*range(2, 50), 169, 225, 400, 784, 961])
def test_averages_round_exact_halves_away_from_zero(taps: int) -> None:
    """Every sum of a pool: (sum + taps / 2) / taps in integers, as TFLite has it."""
    conv = convolution([1 / taps], Rounding.ONCE, zero=0)
    conv = Convolution(**{**vars(conv), "weights": np.ones((1, 1, 1, taps), np.int8), "input_zero_point": 0})
    sums = np.unique(np.linspace(-128 * taps, 127 * taps, 20011).astype(np.int64))
    halves = np.arange(-255, 255, 2) * taps // 2
    sums = np.concatenate([sums, halves])
    expected = np.sign(sums) * ((np.abs(sums) * 2 + taps) // (2 * taps))
    found = chip(requantize(conv), sums)
    assert np.array_equal(found, np.clip(expected, -128, 127))


def test_onnx_rounds_once_with_ties_to_even() -> None:
    gain = 2.0**-7
    sums = np.arange(-20000, 20000)
    found = chip(requantize(convolution([gain], Rounding.ONCE_TO_EVEN, zero=0)), sums)
    expected = [round(Fraction(int(value), 128)) for value in sums]
    assert np.array_equal(found, np.clip(expected, -128, 127))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.floats(-7, 0), min_size=2, max_size=12), st.floats(0.001, 1))
def test_per_channel_gains_are_within_1(decades: list[float], largest: float) -> None:
    """Up to seven decades apart; a channel's own weights may have been requantized, which the bound includes."""
    gains = [largest * 10.0**power for power in decades]
    if len(set(gains)) == 1:
        gains[0] *= 1.01
    conv = convolution(gains)
    try:
        values = requantize(conv)
    except ConstraintError:
        reject()  # hypothesis fails the test when that is the rule and not the exception
    # Half a step may be the reference's own: its first rounding, where a gain is near 1.
    assert values.residue < 1
    for channel, gain in enumerate(gains):
        original = conv.weights[channel].reshape(-1).astype(np.int64)
        stored = values.weights[channel].reshape(-1).astype(np.int64)
        pixels = np.random.default_rng(channel).integers(0, 256, (400, 64))
        found = chip(values, pixels @ stored, channel)
        assert np.abs(found - tflite(pixels @ original, gain, 3, -128, 127)).max() <= 1


def spread_gains(largest: float) -> list[float]:
    """Of 96 channels, over five octaves as in trained models."""
    return (largest * 2.0 ** np.random.default_rng(5).uniform(-5, 0, 96)).tolist()


@pytest.mark.parametrize("largest", [0.4, 0.037, 0.0021])
def test_channels_are_rounded_where_tflite_rounds_them(largest: float) -> None:
    """15 bits of multiplier are 2^-17 of the value off in the mean, which decides 1 result in 1000 or fewer; one
    rounding in the place of TFLite's two would change 2^-(n + 1) of a channel with a gain near 2^-n, as much as 1 in
    50."""
    gains = spread_gains(largest)
    values = requantize(convolution(gains))
    unequal = total = 0
    for channel, gain in enumerate(gains):
        inputs = accumulators(gain, channel)
        inputs = inputs[np.abs(inputs * gain) < 120]
        unequal += np.count_nonzero(chip(values, inputs, channel) != tflite(inputs, gain, 3, -128, 127))
        total += inputs.size
    assert unequal / total < 0.001, f"{unequal} of {total} differ"


@pytest.mark.parametrize("largest", [0.4, 0.037, 0.0021])
def test_channels_of_onnx_models_have_20_bits_of_gain(largest: float) -> None:
    gains = spread_gains(largest)
    conv = convolution(gains, Rounding.ONCE_TO_EVEN)
    values = requantize(conv)
    assert values.bn_multipliers is not None
    products = values.multipliers * values.bn_multipliers / 2.0 ** (values.shift + values.out_shift)
    errors = np.abs(products / conv.gains - 1)
    assert np.median(errors) < 2.0**-20, f"median error {np.median(errors):.3g}"
    assert values.residue < 2.0**-7


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.floats(-3, 3), st.floats(0, 3))
def test_sums_are_within_a_hair_of_the_exact_one(output: float, apart: float) -> None:
    first, second, out = 0.02, 0.02 / 10**apart, 0.02 * 10**output
    add = Elementwise(Operation.SUM, "a", "b", "y", CubeShape(1, 1, 1), first, second, out, -5, 17, 3)
    scales = requantize_elementwise(add)
    a, b = np.meshgrid(np.arange(-128, 128, 3), np.arange(-128, 128, 5))
    operand = arithmetic.operand_convert(b, -17, scales.ew_scale, scales.ew_shift)
    total = (a + 5) * scales.first_multiplier + operand
    found = arithmetic.output_convert(total, scales.out_scale, scales.out_shift, 3, ties_away=True)
    exact = ((a + 5) * first + (b - 17) * second) / out + 3
    assert np.abs(found - np.clip(exact, -128, 127)).max() <= 0.5 + 0.5 * first / out / 2**13 + 2.0**-10
