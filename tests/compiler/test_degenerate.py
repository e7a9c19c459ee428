"""Degenerate numbers: zero filters, scales and biases at the ends of their types, gains that no register holds."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from benchmarks.degenerate import WRONG, Case, outcome
from benchmarks.degenerate_draws import Grid, Layer, exact
from numpy.typing import NDArray

import rocketnpu as rn
from rocketnpu.compiler.npu_ops import Convolution, CubeShape, Rounding, Window
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.requantize.convolution import requantize
from rocketnpu.compiler.requantize.registers import Requantization
from rocketnpu.cpu.onnxruntime import Reference
from rocketnpu.frontends import load_model
from rocketnpu.hw import arithmetic
from support.agreement import assert_close, assert_sound
from support.onnx_models import OnnxBuilder

DRAWS = 90
"""Three for each kind of layer in each format (`python -m benchmarks.degenerate` has thousands)."""
ROUNDINGS = (Rounding.TWICE, Rounding.ONCE_TO_EVEN)


@pytest.mark.parametrize("number", range(DRAWS))
def test_drawn_layers_are_within_1_of_exact_arithmetic_or_named(number: int) -> None:
    layer, format_ = Case(17, number).layer()
    found = outcome(layer, format_)
    assert found.kind != WRONG, f"{format_} {layer.kind}: {found.words}"


def test_exact_arithmetic_by_hand() -> None:
    """0.5 * (3 - 1) * 0.25 * 6 + 10 * 0.125 = 2.75 is 5.5 steps of 0.5. Half goes to even, and the zero point is 5."""
    layer = Layer(
        "Conv",
        np.full((1, 1, 1, 1), 3),
        Grid(0.5, 1),
        Grid(0.5, 5),
        weights=np.full((1, 1, 1, 1), 6),
        weight_scales=(0.25,),
        bias=np.array([10]),
        bias_steps=(Fraction(1, 8),),
    )
    assert exact(layer).tolist() == [[[[11]]]]


@pytest.mark.parametrize("name", ["zero_filter", "denormal_scale", "tiny_gain"])
def test_published_files_have_such_channels(shared: Path, name: str) -> None:
    model = (shared / "cases" / f"{name}.onnx").read_bytes()
    assert_within_1(model)


def test_one_subnormal_scale_leaves_the_other_biases_as_they_are() -> None:
    """Taken as raw numbers, the biases would count 0.02 * 0.01 = 1/5000 as much."""
    scales = np.array([5e-38, *[0.01] * 7], np.float32)
    model = OnnxBuilder()
    x = model.real_input((1, 8, 4, 4), (0.02, 3))
    rng = np.random.default_rng(0)
    weights = model.weights(rng.integers(-127, 128, (8, 8, 1, 1), np.int8), scales)
    biases = model.weights(rng.integers(-2000, 2000, 8, np.int32), (0.02 * scales).astype(np.float32))
    conv = model.node("Conv", x, weights, biases)
    assert_within_1(model.build(model.quantized(conv, (0.05, 0))))


@pytest.mark.parametrize("strange", [1e-44, 1e-30, 1e20])
def test_a_zero_filter_in_a_sum_of_pieces(strange: float) -> None:
    """A kernel of 35 rows is two convolutions, whose units all channels share."""
    scales = np.array([0.01, strange, 0.02, 0.005], np.float32)
    weights = np.random.default_rng(0).integers(-127, 128, (4, 2, 35, 1)).astype(np.int8)
    weights[1] = 0
    model = OnnxBuilder()
    conv = model.node("Conv", model.real_input((1, 2, 40, 3), (0.02, 3)), model.weights(weights, scales))
    assert_within_1(model.build(model.quantized(conv, (0.9, 5))))


def test_gains_too_far_apart_in_a_sum_of_pieces_are_named() -> None:
    weights = np.random.default_rng(0).integers(-127, 128, (2, 2, 35, 1)).astype(np.int8)
    model = OnnxBuilder()
    x = model.real_input((1, 2, 40, 3), (0.02, 3))
    conv = model.node("Conv", x, model.weights(weights, np.array([1e-4, 50.0], np.float32)))
    (reason,) = [
        op.reason or ""
        for step in rn.compile(model.build(model.quantized(conv, (0.9, 5), name="result"))).steps
        for op in step.operators
        if op.kind == "CONV_2D"
    ]
    assert reason.endswith("(result has gains of 2.22e-06 to 1.11)")


def assert_within_1(model: bytes) -> None:
    """All convolutions are on the NPU, and each of their bytes is within 1 of ONNX Runtime's."""
    program = rn.compile(model)
    assert_sound(program)
    graph = load_model(model)
    values = [
        np.random.default_rng(1).integers(-128, 128, tensor.shape).astype(tensor.dtype)
        for tensor in (graph.tensors[name] for name in graph.inputs)
    ]
    with rn.Session(program, device="emulator") as session:
        expected = Reference(graph.model).tensors(values)
        assert [op.reason for step in session.steps for op in step.operators if op.kind == "CONV_2D"] == [None]
        assert_close(session.run_isolated(expected), expected, tolerance=1)


def convolution(gains: list[float], rounding: Rounding, weights: list[int], bias: list[float]) -> Convolution:
    """A 1x1 convolution on 16 channels of up to 255, with one weight for all taps of a channel."""
    channels = len(gains)
    stored = np.repeat(np.array(weights, np.int8), 16).reshape(channels, 1, 1, 16)
    return Convolution(
        input="x",
        output="y",
        input_shape=CubeShape(1, 1, 16),
        output_shape=CubeShape(1, 1, channels),
        depthwise=False,
        weights=stored,
        weight_zero_points=np.zeros(channels, np.int64),
        bias=np.array(bias, np.float64),
        gains=np.array(gains),
        input_zero_point=-128,
        output_zero_point=3,
        stride_h=1,
        stride_w=1,
        dilation_h=1,
        dilation_w=1,
        origin_h=0,
        origin_w=0,
        window=Window(0, 1, 0, 1),
        rounding=rounding,
    )


def results(values: Requantization, channel: int, sums: NDArray[np.int64]) -> NDArray[np.int64]:
    """What the stages make of sums of inputs from 0 to 255, each times the channel's stored weight."""
    weight = int(values.weights[channel].reshape(-1)[0])
    raw = (sums - 16 * 128) * weight + int(values.alu[channel])
    v = arithmetic.multiply_shift(raw, values.multipliers[channel], values.shift, values.shift)
    if values.bn_multipliers is not None:
        v = arithmetic.multiply_shift(v, values.bn_multipliers[channel], 0, 0)
    elif values.bn_multiplier is not None:
        v = arithmetic.multiply_shift(v, values.bn_multiplier, values.bn_shift, values.bn_shift)
    return arithmetic.output_convert(
        v, values.out_scale, values.out_shift, values.out_offset, ties_away=values.ties_away
    )


def assert_exact(conv: Convolution) -> None:
    """Every channel is within 1 of exact arithmetic for sums over the whole range."""
    values = requantize(conv)
    sums = np.unique(np.linspace(0, 16 * 255, 500).astype(np.int64))
    for channel, gain in enumerate(conv.gains.tolist()):
        weight, bias = int(conv.weights[channel].reshape(-1)[0]), Fraction(float(conv.bias[channel]))
        reals = [Fraction(gain) * (int(total) * weight + bias) + 3 for total in sums]
        expected = np.array([min(max(round(real), -128), 127) for real in reals])
        difference = np.abs(results(values, channel, sums) - expected)
        assert difference.max() <= 1, f"channel {channel}: {difference.max()} off with the gain {gain:.3g}"


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("strange", [1e-300, 1e-30, 0.3, 1e6, 1e60])
def test_a_zero_filter_has_no_say_in_the_registers_of_others(strange: float, rounding: Rounding) -> None:
    gains, weights, bias = [0.003, 0.0007, 0.0011], [90, -17, 55], [100.0, -2000.0, 0.0]
    plain = requantize(convolution([*gains, 0.001], rounding, [*weights, 0], [*bias, 0.0]))
    odd = requantize(convolution([*gains, strange], rounding, [*weights, 0], [*bias, 0.0]))
    assert np.array_equal(odd.multipliers, plain.multipliers)
    assert (odd.shift, odd.out_shift) == (plain.shift, plain.out_shift)
    assert_exact(convolution([*gains, strange], rounding, [*weights, 0], [*bias, 40.0]))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("gain", [1e-14, 1e-12, 1e-10, 1e-9, 1e-8])
@pytest.mark.parametrize("bias", [-(2.0**31), -2.1e9, 2.0**31 - 1])
def test_tiny_gains_with_the_largest_biases(gain: float, bias: float, rounding: Rounding) -> None:
    assert_exact(convolution([gain, 0.003, 0.0007], rounding, [127, 90, -17], [bias, 100.0, -2000.0]))
    assert_exact(convolution([gain, gain], rounding, [127, -127], [bias, bias]))


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("gain", [200.0, 300.0, 1e3, 2.0**60, 1e100])
def test_gains_that_saturate_all_but_zero(gain: float, rounding: Rounding) -> None:
    assert_exact(convolution([gain, gain], rounding, [1, -1], [0.0, 7.0]))
    assert_exact(convolution([gain, 0.004], rounding, [1, -100], [-3.0, 7.0]))


def test_a_bias_beyond_32_bits_saturates() -> None:
    assert_exact(convolution([1e-3, 2e-3], Rounding.ONCE_TO_EVEN, [10, -20], [1e18, -5e12]))


def test_a_bias_between_two_steps_is_refused_where_a_step_is_large() -> None:
    conv = convolution([40.0, 0.01], Rounding.ONCE_TO_EVEN, [1, 1], [0.5, 0.5])
    with pytest.raises(ConstraintError, match=r"whole number.*channel 0 of y has the bias 0\.5 and the gain 40"):
        requantize(conv)
    requantize(replace(conv, bias=np.array([1.0, 0.5])))


def test_gains_too_far_apart_are_named() -> None:
    conv = convolution([256.0, 2.05e-5], Rounding.ONCE_TO_EVEN, [1, 1], [0.0, 0.0])
    weights = np.random.default_rng(0).integers(-127, 128, (2, 1, 1, 4096)).astype(np.int8)
    conv = replace(conv, weights=weights, input_shape=CubeShape(1, 1, 4096))
    with pytest.raises(ConstraintError, match=r"channel 1 of y has the gain 2\.05e-05, the largest is 256"):
        requantize(conv)
