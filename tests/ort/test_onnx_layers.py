"""ONNX layers that TFLite has in another form, or not at all, on the NPU against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.onnx_models import Grid, OnnxBuilder, normal
from support.onnx_runs import IN, OUT, noise, on_npu, onnx_agreement

FEW = settings(max_examples=12)
"""Each example compiles and runs a model."""


def weights_of(model: OnnxBuilder, values: NDArray[Any], axis: int, *, per_channel: bool, zero: int = 0) -> str:
    scales = np.geomspace(0.002, 0.02, values.shape[axis]) if per_channel else 0.01
    return model.weights(values, scales, zero, axis)


@FEW
@given(
    channels=st.sampled_from([(3, 5), (16, 16), (20, 35)]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    cut=st.tuples(*[st.integers(0, 2)] * 4),
    extra=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    per_channel=st.booleans(),
    dtype=st.sampled_from([np.int8, np.uint8]),
)
def test_transposed_convolutions_of_any_size(
    channels: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    cut: tuple[int, int, int, int],
    extra: tuple[int, int],
    per_channel: bool,
    dtype: Any,
) -> None:
    size = (4, 5)
    pads = [min(pad, kernel[index % 2] - 1) for index, pad in enumerate(cut)]
    extra = (min(extra[0], strides[0] - 1), min(extra[1], strides[1] - 1))
    model = OnnxBuilder()
    zero = 5 if dtype == np.int8 else 140
    x = model.real_input((1, channels[0], *size), (0.03, zero), dtype)
    values = noise((*channels, *kernel), seed=1)
    weights = weights_of(model, values, 1, per_channel=per_channel)
    bias = model.constant(normal((channels[1],), 3.0, seed=2))
    attributes = {"strides": strides, "pads": pads, "output_padding": extra}
    result = model.quantized(model.node("ConvTranspose", x, weights, bias, **attributes), (0.4, zero), dtype)
    found = onnx_agreement(model.build(result, dtype=dtype), [noise((1, channels[0], *size), dtype)])
    assert not found.reasons(), f"on the CPU: {found.reasons()}"


@pytest.mark.parametrize("attributes", [{"group": 4}, {"dilations": [2, 3]}, {"group": 2, "strides": [2, 2]}], ids=str)
@pytest.mark.parametrize("zero", [0, 17])
def test_transposed_convolutions_with_groups_and_dilations(attributes: dict[str, Any], zero: int) -> None:
    model = OnnxBuilder()
    values = noise((16, 16 // attributes.get("group", 1), 3, 3), seed=1)
    weights = weights_of(model, values, 1, per_channel=zero == 0, zero=zero)
    conv = model.node("ConvTranspose", model.real_input((1, 16, 5, 6), IN), weights, **attributes)
    on_npu(model.build(model.quantized(conv, (0.4, 3))), noise((1, 16, 5, 6)))


@pytest.mark.parametrize("auto_pad", ["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("shape", [None, [9, 12], [10, 11]])
@pytest.mark.parametrize("kernel", [3, 4])
def test_transposed_convolutions_that_leave_the_padding_to_the_runtime(
    auto_pad: str, shape: list[int] | None, kernel: int
) -> None:
    model = OnnxBuilder()
    weights = weights_of(model, noise((16, 16, kernel, kernel), seed=1), 1, per_channel=True)
    attributes: dict[str, Any] = {"auto_pad": auto_pad, "strides": [2, 2]}
    if shape is not None:
        attributes["output_shape"] = shape
    conv = model.node("ConvTranspose", model.real_input((1, 16, 5, 6), IN), weights, **attributes)
    onnx_agreement(model.build(model.quantized(conv, (0.4, 3))), [noise((1, 16, 5, 6))])


def test_a_transposed_convolution_takes_its_activation_along() -> None:
    model = OnnxBuilder()
    weights = weights_of(model, noise((16, 16, 2, 2), seed=1), 1, per_channel=True)
    conv = model.node("ConvTranspose", model.real_input((1, 16, 5, 6), IN), weights, strides=[2, 2])
    result = on_npu(model.build(model.quantized(model.node("Relu", conv), (0.2, -100), name="y")), noise((1, 16, 5, 6)))
    assert int(result.found["y"].min()) == -100


@FEW
@given(
    block=st.integers(1, 4),
    channels=st.sampled_from([1, 3, 16, 20]),
    mode=st.sampled_from(["DCR", "CRD"]),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
)
def test_blocks_of_pixels_come_from_the_depth_in_both_orders(
    block: int, channels: int, mode: str, size: tuple[int, int]
) -> None:
    model = OnnxBuilder()
    depth = channels * block * block
    x = model.quantized(model.node("Relu", model.real_input((1, depth, *size), IN)), OUT)
    result = model.quantized(model.node("DepthToSpace", model.real(x, OUT), blocksize=block, mode=mode), OUT, name="y")
    found = onnx_agreement(model.build(result), [noise((1, depth, *size))])
    assert not found.reasons(), f"on the CPU: {found.reasons()}"
    assert np.array_equal(found.found["y"], found.expected["y"])


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("shape", [(16, 1, 1), (1, 16, 1, 1), (1,)])
def test_slopes_below_zero_for_each_channel(shape: tuple[int, ...], real: bool) -> None:
    model = OnnxBuilder()
    values = noise(shape, seed=1)
    slopes = model.constant(normal(shape, 0.3, seed=1)) if real else model.weights(values, 0.004)
    result = model.node("PRelu", model.real_input((1, 16, 5, 6), IN), slopes)
    on_npu(model.build(model.quantized(result, (0.03, -3))), noise((1, 16, 5, 6)))


@FEW
@given(
    channels=st.sampled_from([1, 16, 24]),
    spread=st.floats(0.01, 3),
    offset=st.floats(-4, 4),
    relu=st.booleans(),
)
def test_normalizations_of_each_channel(channels: int, spread: float, offset: float, relu: bool) -> None:
    model = OnnxBuilder()
    random = np.random.default_rng(channels)
    gamma = random.uniform(-spread, spread, channels).astype(np.float32)
    gamma[0] = 0
    parts = [gamma, offset + normal((channels,), 1, 1), normal((channels,), 1, 2), random.uniform(0.1, 2, channels)]
    operands = [model.constant(part.astype(np.float32)) for part in parts]
    result = model.node("BatchNormalization", model.real_input((1, channels, 5, 6), IN), *operands)
    if relu:
        result = model.node("Relu", result)
    found = onnx_agreement(model.build(model.quantized(result, (0.05, -20))), [noise((1, channels, 5, 6))])
    assert not found.reasons(), f"on the CPU: {found.reasons()}"


@pytest.mark.parametrize("op_type", ["GlobalMaxPool", "ReduceMax"])
@pytest.mark.parametrize("grid", [IN, OUT])
def test_the_largest_of_an_image(op_type: str, grid: Grid) -> None:
    model = OnnxBuilder()
    attributes = {"axes": [2, 3]} if op_type == "ReduceMax" else {}
    result = model.node(op_type, model.real_input((1, 20, 9, 7), IN), **attributes)
    found = onnx_agreement(model.build(model.quantized(result, grid, name="y")), [noise((1, 20, 9, 7))])
    assert not found.reasons(), f"on the CPU: {found.reasons()}"
    assert np.array_equal(found.found["y"], found.expected["y"])


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        {"kernel_shape": [2, 3], "pads": [1, 0, 0, 2], "strides": [2, 1], "count_include_pad": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [4, 3], "strides": [3, 2], "pads": [1, 0, 1, 1], "ceil_mode": 1},
    ],
    ids=str,
)
def test_averages_with_and_without_their_padding(attributes: dict[str, Any]) -> None:
    model = OnnxBuilder(19)
    pool = model.node("AveragePool", model.real_input((1, 20, 10, 8), IN), **attributes)
    found = onnx_agreement(model.build(model.quantized(pool, (0.017, 12))), [noise((1, 20, 10, 8))])
    assert not found.reasons(), f"on the CPU: {found.reasons()}"


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_maxima_whose_last_window_ends_beyond_the_image(pads: list[int]) -> None:
    model = OnnxBuilder()
    x = model.real_input((1, 20, 10, 8), IN)
    pool = model.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=pads, ceil_mode=1)
    on_npu(model.build(model.quantized(pool, IN)), noise((1, 20, 10, 8)))


@pytest.mark.parametrize("quantized_bias", [True, False])
def test_products_and_their_bias_have_factors(quantized_bias: bool) -> None:
    model = OnnxBuilder()
    weights = model.weights(noise((40, 12), seed=1), np.geomspace(0.002, 0.02, 12), axis=1)
    bias = model.weights(noise((12,), np.int8, 2).astype(np.int32), 0.01) if quantized_bias else ""
    bias = bias or model.constant(normal((12,), 2.0, 2))
    product = model.node("Gemm", model.real_input((6, 40), IN), weights, bias, alpha=0.5, beta=3.0)
    on_npu(model.build(model.quantized(product, OUT)), noise((6, 40)))


def test_weights_may_have_further_dimensions_of_one() -> None:
    model = OnnxBuilder()
    weights = model.weights(noise((1, 40, 12), seed=1), np.geomspace(0.002, 0.02, 12), axis=2)
    product = model.node("MatMul", model.real_input((1, 6, 40), IN), weights)
    on_npu(model.build(model.quantized(product, OUT)), noise((1, 6, 40)))


@pytest.mark.parametrize("value", [0.0, 1.5, float("-inf")])
@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_borders_of_every_kind(value: float, mode: str) -> None:
    model = OnnxBuilder(19)
    pads = model.constant(np.array([1, 1, 0, 1]))
    operands = [model.constant(np.float32(value)) if mode == "constant" else "", model.constant(np.array([2, 3]))]
    x = model.quantized(model.node("Relu", model.real_input((1, 16, 5, 6), IN)), OUT)
    result = model.quantized(model.node("Pad", model.real(x, OUT), pads, *operands, mode=mode), OUT, name="y")
    found = on_npu(model.build(result), noise((1, 16, 5, 6)))
    assert np.array_equal(found.found["y"], found.expected["y"])


def test_sums_of_two() -> None:
    model = OnnxBuilder()
    first, second = model.real_input((1, 20, 6, 5), (0.03, 7)), model.real_input((1, 20, 6, 5), (0.011, -3))
    shape = (1, 20, 6, 5)
    on_npu(model.build(model.quantized(model.node("Sum", first, second), OUT)), noise(shape), noise(shape, seed=1))
