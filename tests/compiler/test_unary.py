"""Activations and other functions of one tensor on the NPU against LiteRT's reference kernels, over every byte."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.program.model import NpuStep
from support.agreement import Agreement, agreement, run_on_npu
from support.models import Grid, ModelBuilder

FUNCTIONS: dict[str, dict[str, Any]] = {
    "ABS": {},
    "EXP": {},
    "GELU": {"approximate": False},
    "HARD_SWISH": {},
    "LEAKY_RELU": {"alpha": 0.1},
    "LOG": {},
    "LOGISTIC": {},
    "RELU": {},
    "RELU6": {},
    "RELU_0_TO_1": {},
    "RELU_N1_TO_1": {},
    "TANH": {},
}
INT8_ONLY = {"ABS", "EXP", "LOG"}
"""Kinds that LiteRT has no uint8 kernel for."""
OUTPUTS = [Grid(0.0078, -3), Grid(0.055, 20), Grid(0.3, -100)]


def every_byte(kind: str, grid: Grid, output: Grid, dtype: str = "int8", **options: Any) -> Agreement:
    """All 256 values through the operator; every result within 1 of LiteRT's."""
    model = ModelBuilder()
    assert isinstance(grid.scale, float)
    flip = 128 if dtype == "uint8" else 0
    x = model.input((1, 16, 16, 1), dtype, grid.scale, grid.zero + flip)
    y = model.unary(kind, x, Grid(output.scale, output.zero + flip), **options)
    result = agreement(model.build(y), [np.arange(256).astype(np.uint8).view(dtype).reshape(1, 16, 16, 1)])
    assert not result.reasons()
    return result


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("grid", [Grid(0.004, 0), Grid(0.0313, -128), Grid(0.05, 40), Grid(0.3, 127)])
def test_every_byte(kind: str, grid: Grid) -> None:
    for output in OUTPUTS:
        every_byte(kind, grid, output, **FUNCTIONS[kind])


@pytest.mark.parametrize("kind", sorted(FUNCTIONS.keys() - INT8_ONLY))
def test_every_uint8(kind: str) -> None:
    every_byte(kind, Grid(0.05, -20), Grid(0.03, -60), "uint8", **FUNCTIONS[kind])


@pytest.mark.parametrize("kind", ["LOGISTIC", "TANH", "EXP", "LOG"])
@pytest.mark.parametrize("scale", [0.0117, 0.05, 0.2])
def test_functions_that_litert_rounds_once_are_exact(kind: str, scale: float) -> None:
    result = every_byte(kind, Grid(scale, -7), Grid(0.041, -30))
    assert result.unequal == 0, f"{kind}: {result.unequal:.3%} of bytes differ"


@pytest.mark.parametrize("options", [{"approximate": True}, {"approximate": False}])
def test_both_formulas_of_gelu(options: dict[str, bool]) -> None:
    every_byte("GELU", Grid(0.04, 3), Grid(0.03, -100), **options)


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.01, 1.0, 2.5])
def test_slopes_of_leaky_relu(alpha: float) -> None:
    every_byte("LEAKY_RELU", Grid(0.04, 3), Grid(0.03, -10), alpha=alpha)


@pytest.mark.parametrize("shape", [(5,), (3, 7), (1, 5, 7, 40), (2, 3, 4, 17)])
def test_shapes(shape: tuple[int, ...]) -> None:
    model = ModelBuilder(seed=1)
    run_on_npu(model, model.unary("LOGISTIC", model.input(shape, scale=0.05)))


def test_tables_of_operators_that_follow_one_another() -> None:
    """Each task uses the table loaded just before, and an ordinary task after a lookup works on either group."""
    model = ModelBuilder(seed=2)
    x = model.input((1, 8, 8, 20), scale=0.05)
    a, b = model.unary("TANH", x), model.unary("LOGISTIC", x)
    y = model.conv2d(model.add(a, b, output=Grid(0.012, -5)), 24)
    result = run_on_npu(model, model.unary("HARD_SWISH", y, Grid(0.05, -100)))
    assert all(isinstance(step, NpuStep) for step in result.program.steps)


@pytest.mark.parametrize("cores", [2, 3])
def test_a_table_is_loaded_on_the_core_that_uses_it(cores: int) -> None:
    model = ModelBuilder(seed=4)
    y = model.conv2d(model.input((1, 40, 40, 32)), 64, output=Grid(0.05, 0))
    z = model.conv2d(model.unary("TANH", y), 64, output=Grid(0.05, 0))
    data, inputs = model.build(model.unary("GELU", z, Grid(0.03, -100), approximate=True)), model.random_inputs()
    outputs = []
    for count in (1, cores):
        with rn.Session(rn.compile(data, cores=count), device="emulator", cores=count) as session:
            outputs.append(next(iter(session.run(inputs).values())))
    assert np.array_equal(*outputs)


def test_a_lookup_of_a_width_beyond_4096_has_other_rows() -> None:
    model = ModelBuilder(seed=3)
    y = model.unary("TANH", model.input((1, 2, 5000, 3), scale=0.05))
    run_on_npu(model, y)
