"""CONV_2D on the NPU against LiteRT's reference kernels; any shape: tests/operators."""

from __future__ import annotations

import numpy as np
import pytest

from support.agreement import assert_mostly_equal, run_on_npu
from support.models import Grid, ModelBuilder

KINDS = ("uint8", "int8", "int8 per channel")
"""LiteRT knows per-channel weights for int8 only."""
ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")

OPEN_GRID = Grid(0.05, -20)
"""Zero lies inside and 6 below the top, so that saturation implies neither bound of an activation."""


@pytest.mark.parametrize("stride", range(1, 10))
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_strides_up_to_the_field_and_beyond_it(stride: int, padding: str) -> None:
    model = ModelBuilder(seed=stride)
    x = model.input((1, 23, 20, 7))
    result = run_on_npu(model, model.conv2d(x, 5, kernel=3, stride=stride, padding=padding))
    assert_mostly_equal([result])


def test_strides_differ_between_rows_and_columns() -> None:
    model = ModelBuilder()
    run_on_npu(model, model.conv2d(model.input((1, 17, 29, 5)), 8, kernel=(3, 5), stride=(2, 8)))


@pytest.mark.parametrize("kernel", [1, 2, (1, 7), (7, 1), (2, 9), 5, 11, (31, 1), (1, 31), 31])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_kernels_of_every_shape(kernel: int | tuple[int, int], padding: str) -> None:
    model = ModelBuilder(seed=5)
    x = model.input((1, 33, 32, 3))
    result = run_on_npu(model, model.conv2d(x, 6, kernel=kernel, padding=padding))
    assert_mostly_equal([result])


@pytest.mark.parametrize("dilation", [2, 3, (1, 5), (7, 2), (14, 15)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_dilation(dilation: int | tuple[int, int], padding: str) -> None:
    model = ModelBuilder(seed=6)
    x = model.input((1, 33, 35, 9))
    run_on_npu(model, model.conv2d(x, 12, kernel=3, dilation=dilation, padding=padding))


@pytest.mark.parametrize("channels_in", [1, 2, 15, 16, 17, 31, 33, 48, 64, 65, 100])
@pytest.mark.parametrize("channels_out", [1, 31, 32, 33, 100])
def test_channel_counts_that_do_not_fill_groups(channels_in: int, channels_out: int) -> None:
    model = ModelBuilder(seed=channels_in * 101 + channels_out)
    x = model.input((1, 6, 5, channels_in), "uint8")
    run_on_npu(model, model.conv2d(x, channels_out, kernel=3))


@pytest.mark.parametrize(("groups", "channels_in", "channels_out"), [(2, 8, 6), (3, 48, 96), (5, 20, 40), (34, 68, 68)])
@pytest.mark.parametrize("per_channel", [False, True])
def test_groups(groups: int, channels_in: int, channels_out: int, per_channel: bool) -> None:
    model = ModelBuilder(seed=groups)
    x = model.input((1, 9, 8, channels_in))
    weights = model.rng.integers(-127, 128, (channels_out, 3, 3, channels_in // groups)).astype(np.int8)
    run_on_npu(model, model.conv2d(x, channels_out, weights=weights, per_channel=per_channel))


@pytest.mark.parametrize("zero", [0, 1, 119, 200, 255])
def test_asymmetric_uint8_weights(zero: int) -> None:
    model = ModelBuilder(seed=zero)
    x = model.input((1, 10, 10, 21), "uint8", zero=77)
    run_on_npu(model, model.conv2d(x, 40, weight_grid=Grid(0.004, zero), padding="SAME"))


@pytest.mark.parametrize("zero", [-128, -1, 127])
def test_padding_is_the_input_zero_point(zero: int) -> None:
    """A kernel of ones over a constant input: only the padding can change the sum."""
    model = ModelBuilder()
    x = model.input((1, 6, 6, 4), zero=zero, scale=0.1)
    weights = np.ones((4, 3, 3, 4), np.int8)
    run_on_npu(model, model.conv2d(x, 4, weights=weights, weight_grid=Grid(0.5), bias=np.zeros(4, np.int32)))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_activations_clamp_where_saturation_does_not(activation: str, kind: str) -> None:
    model = ModelBuilder(seed=3)
    x = model.input((1, 12, 12, 16), kind.split()[0])
    grid = Grid(0.05, 108) if kind == "uint8" else OPEN_GRID
    y = model.conv2d(x, 24, activation=activation, per_channel="channel" in kind, output=grid)
    result = run_on_npu(model, y)
    reference = result.expected[y].astype(int) - grid.zero
    if activation != "NONE":
        assert reference.min() == (-20 if activation == "RELU_N1_TO_1" else 0), "the case does not reach the clamp"


@pytest.mark.parametrize(("scale", "zero"), [(2.0, 3), (4.0, 100), (12.0, -128), (0.4, 127), (0.1, 120)])
@pytest.mark.parametrize("activation", ["RELU6", "RELU_N1_TO_1"])
def test_clamps_round_like_the_reference(scale: float, zero: int, activation: str) -> None:
    """-1 / 2.0 and 6 / 4.0 are halves: TFLite rounds them away from zero, and then nothing differs."""
    model = ModelBuilder(seed=4)
    x = model.input((1, 9, 9, 8), scale=1.0)
    y = model.conv2d(x, 16, activation=activation, output=Grid(scale, zero), weight_grid=Grid(0.01))
    assert run_on_npu(model, y).unequal == 0


@pytest.mark.parametrize("exponent", [-40, -31, -20, -8, -1, 0, 1, 5])
@pytest.mark.parametrize("activation", ["NONE", "RELU6"])
def test_gains_from_vanishing_to_above_one(exponent: int, activation: str) -> None:
    model = ModelBuilder(seed=9)
    x = model.input((1, 8, 8, 4), scale=0.02)
    weight_scale = 1.37 * 2.0**exponent * OPEN_GRID.scale / 0.02
    y = model.conv2d(
        x, 8, activation=activation, output=OPEN_GRID, weight_grid=Grid(weight_scale), bias=np.zeros(8, np.int32)
    )
    run_on_npu(model, y)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("decades", [0.3, 2, 4, 7])
def test_per_channel_gains_apart_by_decades(decades: float, activation: str) -> None:
    model = ModelBuilder(seed=12)
    x = model.input((1, 8, 8, 24))
    scales = 0.004 * 10 ** np.linspace(-decades, 0, 48)
    y = model.conv2d(
        x,
        48,
        activation=activation,
        weight_grid=Grid(tuple(scales.tolist()), 0, 0),
        output=OPEN_GRID,
        bias=model.rng.integers(-2000, 2000, 48).astype(np.int32),
    )
    run_on_npu(model, y)


def test_one_channel_of_tiny_gain_keeps_its_large_bias() -> None:
    """Its weights hardly count; its bias, thousands of units of its fine grid, is all of its output."""
    model = ModelBuilder(seed=13)
    x = model.input((1, 6, 6, 16))
    scales = np.full(32, 0.01)
    scales[5] = 1e-9
    bias = np.zeros(32, np.int32)
    bias[5] = 2**31 - 2**24
    y = model.conv2d(x, 32, weight_grid=Grid(tuple(scales.tolist()), 0, 0), bias=bias, output=Grid(0.05, 3))
    run_on_npu(model, y)


def test_equal_per_channel_scales_are_one_scale() -> None:
    model = ModelBuilder(seed=14)
    x = model.input((1, 12, 12, 32))
    grid = Grid((0.001,) * 40, 0, 0)
    assert_mostly_equal([run_on_npu(model, model.conv2d(x, 40, weight_grid=grid))])


LARGE = {
    "row tiles": ((1, 200, 150, 32), 32, 3, 1),
    "column tiles": ((1, 5, 700, 256), 8, 3, 1),
    "wider than a task": ((1, 3, 2500, 8), 8, 3, 1),
    "taller than a task": ((1, 2500, 3, 8), 8, 3, 1),
    "channel splits": ((1, 2, 2, 16), 9000, 1, 1),
    "streamed weights": ((1, 6, 6, 1024), 1001, 1, 1),
    "streamed weights and row tiles": ((1, 40, 40, 384), 320, 3, 1),
    "strided row tiles": ((1, 199, 151, 48), 40, 5, 2),
    "width 1": ((1, 1900, 1, 64), 32, (3, 1), 1),
    "width 1, nearly full banks": ((1, 1277, 1, 48), 32, 1, 1),
    "weights of most banks": ((1, 40, 40, 32), 8, 31, 1),
}


@pytest.mark.parametrize("name", LARGE)
def test_layers_that_one_task_cannot_hold(name: str) -> None:
    shape, channels, kernel, stride = LARGE[name]
    model = ModelBuilder(seed=21)
    x = model.input(shape, "uint8")
    result = run_on_npu(model, model.conv2d(x, channels, kernel=kernel, stride=stride))
    assert_mostly_equal([result])
    tiled = name not in ("width 1", "width 1, nearly full banks", "weights of most banks", "streamed weights")
    assert len(result.program.tasks) > 1 or not tiled, f"{name} was one task"


@pytest.mark.parametrize("rate", [16, 18, 31])
@pytest.mark.parametrize("depthwise", [False, True])
def test_padding_beyond_the_field_is_made_first(rate: int, depthwise: bool) -> None:
    """The dilated layers of a segmenter's head reach further than the chip pads."""
    model = ModelBuilder(seed=40)
    x = model.input((1, 33, 20, 24))
    y = model.depthwise(x, dilation=rate) if depthwise else model.conv2d(x, 16, dilation=rate)
    assert_mostly_equal([run_on_npu(model, y)])


def test_groups_share_the_padded_input() -> None:
    model = ModelBuilder(seed=41)
    weights = model.rng.integers(-127, 128, (64, 3, 3, 16)).astype(np.int8)
    x = model.input((1, 20, 20, 32))
    result = run_on_npu(model, model.conv2d(x, 64, dilation=17, weights=weights, weight_grid=Grid(0.002)))
    assert len(result.program.tasks) == 4
