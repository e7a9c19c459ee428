"""AVERAGE_POOL_2D and MEAN on the NPU against LiteRT's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest

from support.agreement import agreement, assert_mostly_equal, reason_on_cpu, run_on_npu
from support.models import Grid, ModelBuilder


@pytest.mark.parametrize("kernel", [2, 3, (2, 5), 7, 13, 30, (31, 31)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_windows(kernel: int | tuple[int, int], padding: str, dtype: str) -> None:
    model = ModelBuilder(seed=1)
    x = model.input((1, 33, 35, 20), dtype)
    run_on_npu(model, model.average_pool(x, kernel, 3, padding))


@pytest.mark.parametrize("stride", [1, 2, 4, 7, 8, 10])
def test_strides(stride: int) -> None:
    model = ModelBuilder(seed=2)
    x = model.input((1, 20, 24, 70), "uint8")
    assert_mostly_equal([run_on_npu(model, model.average_pool(x, 4, stride, "SAME"))])


@pytest.mark.parametrize("taps", [2, 3, 4, 6, 7])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_exact_halves_round_away_from_zero(taps: int, dtype: str) -> None:
    """Small numbers of both signs, so that sums are often odd multiples of half the window."""
    model = ModelBuilder(seed=3)
    x = model.input((1, 24, 24, 16), dtype)
    data = model.build(model.average_pool(x, taps, 1))
    low = 0 if dtype == "uint8" else -9
    values = model.rng.integers(low, 10, (1, 24, 24, 16)).astype(dtype)
    result = agreement(data, [values])
    assert not result.reasons()
    assert result.unequal == 0


def test_a_padded_window_is_averaged_over_the_taps_inside() -> None:
    """A constant input stays constant, which it would not if padding counted."""
    model = ModelBuilder(seed=4)
    x = model.input((1, 11, 9, 16))
    y = model.average_pool(x, 5, 2, "SAME")
    result = agreement(model.build(y), [np.full((1, 11, 9, 16), 93, np.int8)])
    assert not result.reasons()
    assert np.all(result.found[y] == 93)


@pytest.mark.parametrize("size", [32, 48, 64, (31, 62), (40, 1)])
def test_a_window_above_the_field_is_averaged_in_two_steps(size: int | tuple[int, int]) -> None:
    model = ModelBuilder(seed=5)
    height, width = (size, size) if isinstance(size, int) else size
    x = model.input((1, height, width, 18), "uint8")
    result = run_on_npu(model, model.average_pool(x, (height, width), 1))
    assert len(result.program.tasks) > 1


@pytest.mark.parametrize("keep_dims", [False, True])
@pytest.mark.parametrize(
    ("size", "channels"), [((1, 1), 5), ((7, 7), 1280), ((8, 5), 33), ((31, 3), 64), ((40, 62), 9)]
)
def test_mean_over_height_and_width(size: tuple[int, int], channels: int, keep_dims: bool) -> None:
    model = ModelBuilder(seed=6)
    run_on_npu(model, model.mean(model.input((1, *size, channels)), (1, 2), keep_dims))


@pytest.mark.parametrize(("scale", "zero"), [(0.02, 3), (0.005, -100), (0.0013, 60), (0.11, -128)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_mean_onto_another_grid(scale: float, zero: int, dtype: str) -> None:
    model = ModelBuilder(seed=7)
    x = model.input((1, 6, 7, 40), dtype)
    run_on_npu(model, model.mean(x, output=Grid(scale, zero if dtype == "int8" else zero + 128)))


def test_a_mean_that_magnifies_is_not_rounded_between() -> None:
    """Each 4 x 4 block averages to x.5, which a first step would round up: 4 output steps an input step make that 2."""
    model = ModelBuilder(seed=8)
    x = model.input((1, 64, 64, 16), scale=0.02, zero=0)
    y = model.mean(x, output=Grid(0.005, 0))
    values = np.zeros((1, 64, 64, 16), np.int8)
    values[:, :, ::2] = 1
    result = agreement(model.build(y), [values])
    assert not result.reasons()
    assert np.array_equal(result.found[y], result.expected[y])


@pytest.mark.parametrize("axes", [(1,), (2,), (3,), (1, 3), (1, 2, 3), (0, 1, 2, 3), (-1, -2)])
@pytest.mark.parametrize("keep_dims", [False, True])
def test_a_mean_over_other_axes(axes: tuple[int, ...], keep_dims: bool) -> None:
    model = ModelBuilder(seed=9)
    y = model.mean(model.input((1, 4, 5, 6)), axes, keep_dims)
    if keep_dims or 3 not in axes or len(axes) > 2 or axes == (3,):
        run_on_npu(model, y)
    else:  # what was a column or a row of pixels would have to become channels
        reason = (
            "what the mean leaves lies on the device as its result does (a mean over channels keeps their dimension)"
        )
        assert reason_on_cpu(model, y) == reason


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_a_mean_of_each_image_of_a_batch(batch: int) -> None:
    model = ModelBuilder(seed=10)
    run_on_npu(model, model.mean(model.input((batch, 4, 5, 6))))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("size", [37, 101])
def test_a_window_without_factors_is_a_sum_of_smaller_ones(size: int, dtype: str) -> None:
    model = ModelBuilder(seed=11)
    run_on_npu(model, model.average_pool(model.input((1, size, 8, 4), dtype), (size, 8), 1))


def test_a_large_window_slides() -> None:
    model = ModelBuilder(seed=12)
    run_on_npu(model, model.average_pool(model.input((1, 40, 40, 4)), 32, 1))


def test_a_large_window_that_is_padded_stays_on_the_cpu() -> None:
    model = ModelBuilder(seed=12)
    reason = reason_on_cpu(model, model.average_pool(model.input((1, 40, 40, 4)), 32, 1, "SAME"))
    assert reason == "a pooling window of more than 31 rows or columns lies inside the image"


def test_the_steps_of_a_large_mean_share_the_arena_with_their_neighbours() -> None:
    """The averages between the two steps must not lie where a residual tensor waits."""
    model = ModelBuilder(seed=14)
    x = model.conv2d(model.input((1, 64, 64, 8)), 16)
    small = model.mean(x, output=Grid(0.06, 0))
    y = model.conv2d(x, 16)
    result = agreement(model.build(small, y), model.random_inputs())
    assert not result.reasons()
