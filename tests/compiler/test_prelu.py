"""PRELU, and slopes in the tasks of convolutions, against LiteRT's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest

import rocketnpu as rn
from support.agreement import Agreement, agreement, reason_on_cpu, run_on_npu
from support.models import Grid, ModelBuilder, random_values

SHAPE = (1, 9, 10, 40)


def every_byte(alphas: list[int], alpha_grid: Grid, grid: Grid, output: Grid, dtype: str = "int8") -> Agreement:
    """All 256 values in each channel, each channel with a slope of its own."""
    model = ModelBuilder()
    flip = 128 if dtype == "uint8" else 0
    assert isinstance(grid.scale, float)
    channels = len(alphas)
    x = model.input((1, 16, 16, channels), dtype, grid.scale, grid.zero + flip)
    alpha = model.constant((np.array(alphas) + flip).astype(dtype), Grid(alpha_grid.scale, alpha_grid.zero + flip))
    y = model.prelu(x, alpha, Grid(output.scale, output.zero + flip))
    values = np.repeat(np.arange(256).astype(np.uint8).view(dtype), channels).reshape(1, 16, 16, channels)
    result = agreement(model.build(y), [values])
    assert not result.reasons()
    return result


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("grid", [Grid(0.0313, 0), Grid(0.05, 40), Grid(0.1, 127)])
@pytest.mark.parametrize("output", [Grid(0.0278, -3), Grid(0.055, 20), Grid(0.11, -100)])
def test_every_byte_at_slopes_from_minus_one_to_one(dtype: str, grid: Grid, output: Grid) -> None:
    every_byte(list(range(-128, 128, 7)), Grid(1 / 128, 3), grid, output, dtype)


@pytest.mark.parametrize("shape", [(), (40,), (1, 1, 40), (1, 1, 1)])
def test_shapes_of_alpha(shape: tuple[int, ...]) -> None:
    model = ModelBuilder(seed=1)
    alpha = model.constant(random_values(model.rng, shape, "int8"), Grid(0.004, 0))
    run_on_npu(model, model.prelu(model.input(SHAPE), alpha))


def test_steep_slopes() -> None:
    every_byte([127, -128, 60, 5], Grid(0.05, 0), Grid(0.02, 10), Grid(0.1, 0))


def test_slopes_beyond_the_multiplier_stay_on_the_cpu() -> None:
    model = ModelBuilder(seed=3)
    alpha = model.constant(np.array([127], np.int8), Grid(1000.0, 0))
    reason = reason_on_cpu(model, model.prelu(model.input(SHAPE), alpha))
    assert reason.startswith("slopes of negative values are at most 16383 (prelu has one of ")


def test_an_alpha_larger_than_the_data_stays_on_the_cpu() -> None:
    model = ModelBuilder(seed=4)
    alpha = model.constant(random_values(model.rng, (1, 3, 2, 5), "int8"), Grid(0.004, 0))
    y = model.operator("PRELU", [model.input((1, 1, 1, 5)), alpha], (1, 3, 2, 5), Grid(0.02, 3))
    (step,) = rn.compile(model.build(y)).steps  # LiteRT refuses to run it
    assert [op.reason for op in step.operators] == ["the constant broadcasts to the other operand's shape"]


def test_an_alpha_for_each_pixel_stays_on_the_cpu() -> None:
    model = ModelBuilder(seed=2)
    alpha = model.constant(random_values(model.rng, SHAPE[1:], "int8"), Grid(0.004, 0))
    assert reason_on_cpu(model, model.prelu(model.input(SHAPE), alpha)) == "alpha is the same for every pixel"
