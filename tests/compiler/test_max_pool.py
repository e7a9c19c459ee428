"""MAX_POOL_2D on the NPU against LiteRT's reference kernels: maxima are exact, so nothing may differ."""

from __future__ import annotations

import numpy as np
import pytest

from support.agreement import agreement, run_on_npu
from support.models import Grid, ModelBuilder, schema


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, (1, 4), (6, 1), (7, 13)])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_windows(kernel: int | tuple[int, int], stride: int, padding: str) -> None:
    model = ModelBuilder(seed=1)
    y = model.max_pool(model.input((1, 15, 17, 20)), kernel, stride, padding)
    assert run_on_npu(model, y).unequal == 0


@pytest.mark.parametrize("channels", [1, 16, 33, 70])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_channels_and_dtypes(channels: int, dtype: str) -> None:
    model = ModelBuilder(seed=2)
    y = model.max_pool(model.input((1, 9, 8, channels), dtype), 3, 2, "SAME")
    assert run_on_npu(model, y).unequal == 0


def test_padding_never_wins() -> None:
    """All values are the lowest but one: real zero, or the lowest byte plus one, would show."""
    model = ModelBuilder(seed=3)
    y = model.max_pool(model.input((1, 6, 6, 16), zero=0), 3, 1, "SAME")
    result = agreement(model.build(y), [np.full((1, 6, 6, 16), -128, np.int8)])
    assert not result.reasons()
    assert np.all(result.found[y] == -128), f"found {np.unique(result.found[y])}"


def test_the_largest_value_wins_wherever_it_is() -> None:
    """One high pixel: exactly the windows that hold it see it, none across the ends of rows."""
    model = ModelBuilder(seed=4)
    y = model.max_pool(model.input((1, 5, 7, 16)), 3, 1, "SAME")
    data = model.build(y)
    for row in range(5):
        for column in range(7):
            values = np.full((1, 5, 7, 16), -100, np.int8)
            values[0, row, column] = 50
            assert agreement(data, [values]).unequal == 0, f"pixel {row}, {column}"


def test_a_window_of_k_rows_takes_log2_k_maxima() -> None:
    model = ModelBuilder(seed=5)
    result = run_on_npu(model, model.max_pool(model.input((1, 20, 8, 16)), (13, 1), 1))
    assert len(result.program.tasks) == 4


def test_pixels_that_fill_no_whole_rows_take_a_task_of_their_own() -> None:
    model = ModelBuilder(seed=6)
    assert run_on_npu(model, model.max_pool(model.input((1, 70, 130, 8)), 2, 2)).unequal == 0


def test_a_pool_of_a_pool_of_a_convolution() -> None:
    model = ModelBuilder(seed=7)
    x = model.conv2d(model.input((1, 12, 12, 3)), 40, stride=2)
    y = model.max_pool(model.max_pool(x, 5, 1, "SAME"), 2, 2)
    run_on_npu(model, model.add(y, model.max_pool(x, 2, 2)))


@pytest.mark.parametrize(("activation", "grid"), [("RELU", Grid(0.02, 3)), ("RELU6", Grid(0.05, -20))])
def test_a_fused_activation_clamps(activation: str, grid: Grid) -> None:
    model = ModelBuilder(seed=8)
    x = model.input((1, 6, 6, 16), scale=float(np.max(grid.scale)), zero=grid.zero)
    options = schema.Pool2DOptionsT(filterHeight=2, filterWidth=1, strideH=1, strideW=1)
    options.padding = schema.Padding.VALID
    options.fusedActivationFunction = getattr(schema.ActivationFunctionType, activation)
    y = model.operator("MAX_POOL_2D", [x], (1, 5, 6, 16), grid, options, "Pool2DOptions")
    assert run_on_npu(model, y).unequal == 0


def test_padding_above_the_field_takes_steps() -> None:
    model = ModelBuilder(seed=9)
    y = model.max_pool(model.input((1, 40, 20, 4)), (33, 40), 1, "SAME")
    assert run_on_npu(model, y).unequal == 0
