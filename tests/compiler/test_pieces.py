"""Convolutions that no single pass takes: sums of smaller ones in 32 bits, against LiteRT's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest

from rocketnpu.hw.codes import INT32
from rocketnpu.hw.registers import CNA, DPU
from support.agreement import proven, run_on_npu
from support.models import Grid, ModelBuilder
from support.traffic import register_tasks


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((33, 3), 1, "SAME"), ((3, 40), 2, "SAME"), ((32, 32), 1, "VALID"), ((1, 70), 3, "SAME")],
)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_kernels_beyond_31(kernel: tuple[int, int], stride: int, padding: str, dtype: str) -> None:
    model = ModelBuilder(seed=kernel[0])
    x = model.input((1, 36, 75, 3), dtype)
    y = model.conv2d(x, 5, kernel=kernel, stride=stride, padding=padding)
    proven(model.build(y), model.random_inputs())


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_kernels_beyond_31(per_channel: bool, multiplier: int) -> None:
    model = ModelBuilder(seed=2)
    x = model.input((1, 12, 40, 37))
    run_on_npu(model, model.depthwise(x, (3, 33), multiplier=multiplier, per_channel=per_channel, activation="RELU6"))


@pytest.mark.parametrize("dilation", [(33, 1), (2, 40)])
def test_dilations_beyond_32(dilation: tuple[int, int]) -> None:
    model = ModelBuilder(seed=3)
    x = model.input((1, 50, 48, 20))
    y = model.conv2d(x, 40, kernel=(2, 3), dilation=dilation, per_channel=True, activation="RELU_N1_TO_1")
    proven(model.build(y), model.random_inputs())


def test_a_tap_alone_has_no_dilation() -> None:
    model = ModelBuilder(seed=4)
    y = model.conv2d(model.input((1, 5, 9, 4)), 6, kernel=(1, 3), dilation=(40, 2))
    result = run_on_npu(model, y)
    assert len(result.program.tasks) == 1


@pytest.mark.parametrize("depthwise", [False, True])
def test_taps_that_see_padding_alone_are_left_out(depthwise: bool) -> None:
    """A 3x3 kernel with a dilation of 36 on 33 x 33 pixels is its middle tap (DeepLab's widest pyramid)."""
    model = ModelBuilder(seed=10)
    x = model.input((1, 33, 33, 32))
    y = model.depthwise(x, dilation=36) if depthwise else model.conv2d(x, 32, dilation=36)
    result = run_on_npu(model, y)
    assert [task.get(CNA.WEIGHT_SIZE2, "WEIGHT_WIDTH") for task in register_tasks(result.program)] == [1]


def test_an_image_of_a_fully_connected_layer_beyond_31() -> None:
    model = ModelBuilder(seed=5)
    run_on_npu(model, model.fully_connected(model.input((1, 40, 33, 20)), 37, per_channel=True))


def test_inputs_deeper_than_the_cbuf() -> None:
    """One pixel's window of 24 x 24 x 640 int8 is 369 kB, one kernel as much, of 384 KiB in all.

    Weights of at most 1 keep the emulator's exact sums in float32 few.
    """
    model = ModelBuilder(seed=6)
    weights = model.rng.integers(-1, 2, (4, 24 * 24 * 640)).astype(np.int8)
    y = model.fully_connected(model.input((1, 24, 24, 640)), 4, weights=weights, weight_grid=Grid(0.0027))
    result = run_on_npu(model, y)
    outputs = [task.get(DPU.DATA_FORMAT, "OUT_PRECISION") for task in register_tasks(result.program)]
    assert outputs.count(INT32) >= 3, "two pieces and their sum"


def test_weights_as_far_from_their_zero_point_as_can_be() -> None:
    """255 steps take three symmetric weights: 127 + 127 + 1."""
    model = ModelBuilder(seed=7)
    x = model.input((1, 2, 40, 3), "uint8")
    weights = np.full((4, 1, 33, 3), 255, np.uint8)
    weights[2:] = 0
    y = model.conv2d(x, 4, kernel=(1, 33), weights=weights, weight_grid=Grid(0.0001, 0))
    proven(model.build(y), model.random_inputs())
    z = ModelBuilder(seed=8)
    x = z.input((1, 2, 40, 3), "uint8")
    y = z.conv2d(x, 4, kernel=(1, 33), weights=255 - weights, weight_grid=Grid(0.0001, 255))
    proven(z.build(y), z.random_inputs())


def test_sums_saturate_as_int8_does() -> None:
    """Pieces of opposite sign, each far beyond int8, and outputs far beyond it on either side."""
    model = ModelBuilder(seed=9)
    x = model.input((1, 3, 64, 16))
    weights = np.full((3, 1, 64, 16), 127, np.int8)
    weights[0, :, 32:] = -127
    weights[2] = -127
    y = model.conv2d(x, 3, kernel=(1, 64), padding="VALID", weights=weights, output=Grid(0.02, 7))
    result = proven(model.build(y), [np.full((1, 3, 64, 16), 100, np.int8)])
    assert result.found[y][0, 0, 0].tolist() == result.expected[y][0, 0, 0].tolist()
    assert {127, -128} <= set(result.found[y].reshape(-1).tolist())
