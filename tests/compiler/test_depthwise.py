"""DEPTHWISE_CONV_2D on the NPU against LiteRT's reference kernels; any shape: tests/operators."""

from __future__ import annotations

import numpy as np
import pytest

from support.agreement import assert_mostly_equal, reason_on_cpu, run_on_npu
from support.models import Grid, ModelBuilder


@pytest.mark.parametrize("channels", [1, 2, 15, 16, 17, 32, 33, 63, 64, 65, 96, 100, 130])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_channel_counts_that_do_not_fill_groups(channels: int, dtype: str) -> None:
    model = ModelBuilder(seed=channels)
    x = model.input((1, 9, 10, channels), dtype)
    assert_mostly_equal([run_on_npu(model, model.depthwise(x))])


@pytest.mark.parametrize("multiplier", [1, 2, 3, 8])
@pytest.mark.parametrize("channels", [1, 3, 16, 40])
@pytest.mark.parametrize("per_channel", [False, True])
def test_multipliers(multiplier: int, channels: int, per_channel: bool) -> None:
    model = ModelBuilder(seed=multiplier)
    x = model.input((1, 8, 7, channels))
    run_on_npu(model, model.depthwise(x, multiplier=multiplier, per_channel=per_channel))


@pytest.mark.parametrize("stride", [1, 2, 3, 7, 8, (2, 1), (1, 9)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_strides(stride: int | tuple[int, int], padding: str) -> None:
    model = ModelBuilder(seed=2)
    x = model.input((1, 21, 22, 20), "uint8")
    run_on_npu(model, model.depthwise(x, kernel=5, stride=stride, padding=padding))


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 2), (3, 15), (5, (3, 7)), ((1, 3), (1, 6)), (31, 1)])
def test_kernels_and_dilation(kernel: int | tuple[int, int], dilation: int | tuple[int, int]) -> None:
    model = ModelBuilder(seed=3)
    x = model.input((1, 34, 36, 18))
    run_on_npu(model, model.depthwise(x, kernel=kernel, dilation=dilation))


@pytest.mark.parametrize("zero", [-100, -2, 37, 100])
def test_padding_is_the_input_zero_point_in_every_lane(zero: int) -> None:
    """Two groups of 64 channels, one tap in the corner: the first output shows the pad value of each channel."""
    model = ModelBuilder()
    x = model.input((1, 6, 10, 128), zero=zero, scale=0.1)
    weights = np.zeros((1, 3, 3, 128), np.int8)
    weights[0, 0, 0] = 1
    bias = np.zeros(128, np.int32)
    y = model.depthwise(x, weights=weights, weight_grid=Grid(1.0), bias=bias, output=Grid(0.1, zero))
    result = run_on_npu(model, y)
    assert np.all(result.found[y][0, 0, 0] == zero)


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6", "RELU_N1_TO_1"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_activations_clamp_where_saturation_does_not(activation: str, per_channel: bool) -> None:
    model = ModelBuilder(seed=4)
    x = model.input((1, 12, 12, 70))
    run_on_npu(model, model.depthwise(x, activation=activation, per_channel=per_channel, output=Grid(0.05, -20)))


def test_per_channel_gains_apart_by_seven_decades() -> None:
    model = ModelBuilder(seed=5)
    x = model.input((1, 10, 10, 64))
    scales = 0.02 * 10 ** np.linspace(-7, 0, 64)
    bias = model.rng.integers(-1000, 1000, 64).astype(np.int32)
    grid = Grid(tuple(scales.tolist()), 0, 3)
    run_on_npu(model, model.depthwise(x, weight_grid=grid, bias=bias, output=Grid(0.05, 3)))


def test_int8_weights_with_a_zero_point_stay_on_the_cpu() -> None:
    """LiteRT ignores the zero point there, against the format's rule that it is 0: no meaning to agree on."""
    model = ModelBuilder(seed=6)
    x = model.input((1, 4, 4, 4))
    y = model.depthwise(x, weight_grid=Grid(0.02, 5, 3))
    assert reason_on_cpu(model, y) == "int8 weights have the zero point 0"


@pytest.mark.parametrize("shape", [(1, 150, 160, 64), (1, 3, 2500, 20), (1, 30, 30, 1280), (1, 1500, 1, 130)])
def test_layers_that_one_task_cannot_hold(shape: tuple[int, ...]) -> None:
    model = ModelBuilder(seed=7)
    result = run_on_npu(model, model.depthwise(model.input(shape, "uint8")))
    assert len(result.program.tasks) > 1
