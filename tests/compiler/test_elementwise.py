"""SUB, MUL, MAXIMUM, MINIMUM and constant operands on the NPU against LiteRT's reference kernels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from support.agreement import agreement, assert_mostly_equal, reason_on_cpu, run_on_npu
from support.models import Grid, ModelBuilder, random_values

SHAPE = (1, 9, 10, 24)


def every_pair() -> list[np.ndarray]:
    """All 65536 pairs of bytes, as two images."""
    first, second = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")
    return [grid.astype(np.int8).reshape(1, 256, 256, 1) for grid in (first, second)]


@pytest.mark.parametrize("kind", ["SUB", "MUL"])
@pytest.mark.parametrize("scales", [(0.0173, 0.0091, 0.0211), (0.0091, 0.0173, 0.0113), (0.023, 0.023, 0.041)])
def test_every_pair_of_bytes(kind: str, scales: tuple[float, float, float]) -> None:
    model = ModelBuilder()
    first, second, output = scales
    a, b = model.input((1, 256, 256, 1), scale=first, zero=-3), model.input((1, 256, 256, 1), scale=second, zero=11)
    result = agreement(model.build(model.elementwise(kind, a, b, output=Grid(output, 7))), every_pair())
    assert not result.reasons()
    # LiteRT rounds a product twice: to 2^-r steps, r from the gain, and from there to a step, ties away from zero. A
    # share of 2^-r lies on such a tie after the first rounding, half of it on the other side before; plus a hair.
    ties = 2.0 ** (math.frexp(first * second / output)[1] - 1) if kind == "MUL" else 0.0
    assert_mostly_equal([result], ties + 0.001)


@pytest.mark.parametrize("kind", ["MAXIMUM", "MINIMUM"])
def test_every_extremum_of_two_bytes_is_exact(kind: str) -> None:
    model = ModelBuilder()
    a, b = (model.input((1, 256, 256, 1), scale=0.03, zero=5) for _ in range(2))
    result = agreement(model.build(model.extremum(kind, a, b)), every_pair())
    assert not result.reasons()
    assert result.unequal == 0, f"{kind}: {result.unequal:.4%} of bytes differ"


@pytest.mark.parametrize("kind", ["SUB", "MUL"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6"])
def test_dtypes_and_activations(kind: str, dtype: str, activation: str) -> None:
    model = ModelBuilder(seed=1)
    a, b = model.input(SHAPE, dtype, 0.05), model.input(SHAPE, dtype, 0.03)
    run_on_npu(model, model.elementwise(kind, a, b, activation=activation))


@pytest.mark.parametrize("power", [-10, -5, 5, 10])
def test_a_difference_of_scales_up_to_1024_apart(power: int) -> None:
    model = ModelBuilder(seed=2)
    a, b = model.input(SHAPE, scale=0.02, zero=-5), model.input(SHAPE, scale=0.02 * 2.0**power, zero=17)
    top = 1.3017 * 0.02 * max(1.0, 2.0**power)
    assert_mostly_equal([run_on_npu(model, model.elementwise("SUB", a, b, output=Grid(top, -9)))])


def test_a_square() -> None:
    model = ModelBuilder(seed=3)
    a = model.input(SHAPE, scale=0.02)
    run_on_npu(model, model.elementwise("MUL", a, a))


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("shape", [(), (24,), (1, 1, 1, 24), (9, 10, 1), (1, 9, 10, 24)])
def test_constant_operands_that_broadcast(kind: str, dtype: str, shape: tuple[int, ...]) -> None:
    model = ModelBuilder(seed=4)
    a = model.input(SHAPE, dtype, 0.03, zero=100)
    grid = Grid(0.03, 100) if kind in ("MAXIMUM", "MINIMUM") else Grid(0.017, 77)
    constant = model.constant(random_values(model.rng, shape, dtype), grid)
    if kind == "ADD":
        y = model.add(a, constant, output=Grid(0.04, 111))
    elif kind in ("SUB", "MUL"):
        y = model.elementwise(kind, a, constant, output=Grid(0.04, 111))
    else:
        y = model.extremum(kind, a, constant)
    run_on_npu(model, y)


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6", "RELU_N1_TO_1"])
def test_a_constant_minus_a_tensor(activation: str) -> None:
    model = ModelBuilder(seed=5)
    a = model.input(SHAPE, scale=0.03, zero=4)
    one = model.constant(np.array(127, np.int8), Grid(1 / 127, 0))
    run_on_npu(model, model.elementwise("SUB", one, a, activation=activation))


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("shape", [(1, 9, 10, 24), (1, 1, 16, 17), (1, 17, 1, 40), (1, 33, 50, 16)])
@pytest.mark.parametrize("pixel_first", [False, True])
def test_one_pixel_meets_all(kind: str, shape: tuple[int, ...], pixel_first: bool) -> None:
    model = ModelBuilder(seed=8)
    image, pixel = model.input(shape, scale=0.03, zero=5), model.input((1, 1, 1, shape[3]), scale=0.011, zero=-100)
    operands = (pixel, image) if pixel_first else (image, pixel)
    y = model.add(*operands) if kind == "ADD" else model.elementwise(kind, *operands)
    run_on_npu(model, y)


def test_squeeze_and_excite_stays_on_the_npu() -> None:
    model = ModelBuilder(seed=9)
    x = model.conv2d(model.input((1, 14, 14, 16)), 32, output=Grid(0.03, -110))
    squeezed = model.mean(x)
    inner = model.conv2d(model.conv2d(squeezed, 8, kernel=1, activation="RELU"), 32, kernel=1)
    run_on_npu(model, model.elementwise("MUL", x, model.unary("LOGISTIC", inner), output=Grid(0.02, -100)))


def test_a_constant_image_minus_a_tensor_stays_on_the_cpu() -> None:
    model = ModelBuilder(seed=6)
    image = model.constant(random_values(model.rng, SHAPE, "int8"), Grid(0.02, 3))
    reason = reason_on_cpu(model, model.elementwise("SUB", image, model.input(SHAPE)))
    assert reason == "what is subtracted from a constant tensor meets one value in each channel"


def test_extrema_on_different_grids_stay_on_the_cpu() -> None:
    """LiteRT compares stored numbers, whatever they stand for."""
    model = ModelBuilder(seed=7)
    y = model.extremum("MAXIMUM", model.input(SHAPE, scale=0.02), model.input(SHAPE, scale=0.03))
    assert reason_on_cpu(model, y) == "in a TFLite model, operands and output have the same scale and zero point"
