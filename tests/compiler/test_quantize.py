"""QUANTIZE between integer grids on the NPU against LiteRT's reference kernels, over every byte."""

from __future__ import annotations

import numpy as np
import pytest

from support.agreement import Agreement, agreement, run_on_npu
from support.models import Grid, ModelBuilder


def every_byte(before: tuple[str, Grid], after: tuple[str, Grid]) -> Agreement:
    """All 256 values through QUANTIZE, twice: an alias alone would stay on the host."""
    model = ModelBuilder()
    dtype, grid = before
    assert isinstance(grid.scale, float)
    x = model.input((1, 16, 16, 1), dtype, grid.scale, grid.zero)
    y = model.quantize(x, after[1], after[0])
    z = model.quantize(y, Grid(0.0317, 3), "int8")
    result = agreement(model.build(y, z), [np.arange(256).astype(np.uint8).view(dtype).reshape(1, 16, 16, 1)])
    assert not result.reasons()
    return result


@pytest.mark.parametrize("before", ["int8", "uint8"])
@pytest.mark.parametrize("after", ["int8", "uint8"])
@pytest.mark.parametrize("scale", [0.0113, 0.02, 0.037, 0.9])
def test_every_byte_on_another_grid(before: str, after: str, scale: float) -> None:
    middle = {"int8": 0, "uint8": 128}
    every_byte((before, Grid(0.02, middle[before] + 5)), (after, Grid(scale, middle[after] - 9)))


@pytest.mark.parametrize(("before", "after"), [("uint8", "int8"), ("int8", "uint8")])
def test_a_sign_flip_takes_no_task(before: str, after: str) -> None:
    zeros = {"int8": -3, "uint8": 125}
    result = every_byte((before, Grid(0.02, zeros[before])), (after, Grid(0.02, zeros[after])))
    first, second = result.program.steps
    assert first.place == second.place == "npu"
    assert first.tasks[1] == (((),),)
    assert result.unequal == 0


def test_a_model_with_uint8_ends_runs_on_the_npu() -> None:
    model = ModelBuilder(seed=1)
    x = model.input((1, 12, 12, 3), "uint8", 1 / 255, 0)
    inner = model.conv2d(model.quantize(x, Grid(1 / 255, -128), "int8"), 16, per_channel=True)
    grid = model.tensors[inner].grid
    assert grid is not None
    run_on_npu(model, model.quantize(inner, Grid(grid.scale, grid.zero + 128), "uint8"))
