"""Tensors with more elements along one dimension than the chip's size fields hold: sound, anchors of a detector.

A length is drawn with or without factors that make rows of it; a prime one takes several tasks.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.agreement import proven
from support.cases import DTYPES, SEEDS, VALUES, examples, grid_input, grids, inputs_of, stored
from support.models import Grid, ModelBuilder, random_values

FIELD = 8192
"""Elements along one side of a cube that the chip's fields hold."""
PRIMES = (8209, 9973, 16411)
LENGTHS = st.one_of(st.integers(FIELD + 1, 9000), st.sampled_from((*PRIMES, 8400, 25200, 2 * 8209)))
CHANNELS = st.sampled_from((1, 3, 16, 20))
GRID = Grid(0.05, 4)


def long_input(model: ModelBuilder, shape: tuple[int, ...], dtype: str = "int8", grid: Grid = GRID) -> str:
    return grid_input(model, shape, grid, dtype)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, ...]:
    """A long tensor: anchors, one long column, or more channels than the field holds."""
    length = draw(LENGTHS)
    return draw(st.sampled_from(((1, length, draw(CHANNELS)), (1, length, 1, 2), (1, 1, length, 3), (1, length))))


@examples(15)
@given(
    kind=st.sampled_from(("ADD", "SUB", "MUL")),
    shape=shapes(),
    constant=st.sampled_from(("none", "channels", "pixels")),
    dtype=DTYPES,
    activation=st.sampled_from(("NONE", "RELU", "RELU6", "RELU_N1_TO_1")),
    first=grids(),
    second=grids(),
    output=grids(),
    values=VALUES,
    seed=SEEDS,
)
def test_arithmetic(
    kind: str,
    shape: tuple[int, ...],
    constant: str,
    dtype: str,
    activation: str,
    first: Grid,
    second: Grid,
    output: Grid,
    values: str,
    seed: int,
) -> None:
    model = ModelBuilder(seed)
    x = long_input(model, shape, dtype, first)
    if constant == "none":
        other = long_input(model, shape, dtype, second)
    else:
        sizes = shape[-1:] if constant == "channels" else shape
        other = model.constant(random_values(model.rng, sizes, dtype), stored(second, dtype))
    proven(model.build(model.elementwise(kind, x, other, activation, stored(output, dtype))), inputs_of(model, values))


@examples(8)
@given(kind=st.sampled_from(("MAXIMUM", "MINIMUM")), shape=shapes(), dtype=DTYPES, values=VALUES, seed=SEEDS)
def test_extrema(kind: str, shape: tuple[int, ...], dtype: str, values: str, seed: int) -> None:
    model = ModelBuilder(seed)
    y = model.extremum(kind, long_input(model, shape, dtype), long_input(model, shape, dtype))
    assert proven(model.build(y), inputs_of(model, values)).unequal == 0


@examples(12)
@given(
    kind=st.sampled_from(("LOGISTIC", "TANH", "HARD_SWISH", "RELU", "RELU6", "RELU_N1_TO_1", "QUANTIZE", "PRELU")),
    shape=shapes(),
    dtype=DTYPES,
    output=grids(-2, -1),
    values=VALUES,
    seed=SEEDS,
)
def test_functions(kind: str, shape: tuple[int, ...], dtype: str, output: Grid, values: str, seed: int) -> None:
    model = ModelBuilder(seed)
    x = long_input(model, shape, dtype)
    if kind == "QUANTIZE":
        y = model.quantize(x, stored(output, dtype))
    elif kind == "PRELU":
        y = model.prelu(x, model.constant(random_values(model.rng, shape[-1:], dtype), stored(Grid(0.01), dtype)))
    else:
        y = model.unary(kind, x)
    proven(model.build(y), inputs_of(model, values))


@st.composite
def parts(draw: st.DrawFn) -> list[int]:
    """Lengths whose sum is beyond the field; one may be so itself."""
    return draw(st.lists(st.sampled_from((1, 400, 1600, 6400, 8209)), min_size=2, max_size=4).filter(_is_long))


def _is_long(sizes: list[int]) -> bool:
    return FIELD < sum(sizes) < 4 * FIELD


@examples(10)
@given(sizes=parts(), channels=CHANNELS, image=st.booleans(), dtype=DTYPES, seed=SEEDS)
def test_concatenation_and_split(sizes: list[int], channels: int, image: bool, dtype: str, seed: int) -> None:
    """The scales of a detector's anchors put together, and taken apart again."""
    model, lead = ModelBuilder(seed), (1, 1) if image else (1,)
    grid = stored(GRID, dtype)
    ins = [model.quantize(long_input(model, (*lead, size, channels), dtype, Grid(0.04, 1)), grid) for size in sizes]
    whole = model.concat(ins, axis=-2)
    apart = model.split_v(whole, sizes, axis=-2)
    result = proven(model.build(whole, *apart), model.random_inputs())
    for name in (whole, *apart):
        np.testing.assert_array_equal(result.found[name], result.expected[name])


@examples(10)
@given(
    length=LENGTHS,
    channels=CHANNELS,
    first=st.integers(0, 4000),
    count=st.integers(1, 4000),
    step=st.sampled_from((1, 1, 2, 3)),
    pads=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_slices_and_pads(
    length: int, channels: int, first: int, count: int, step: int, pads: tuple[int, int], dtype: str, seed: int
) -> None:
    model = ModelBuilder(seed)
    x = model.quantize(long_input(model, (1, length, channels), dtype, Grid(0.04, 1)), stored(GRID, dtype))
    part = model.strided_slice(x, (slice(None), slice(first, first + count, step), slice(None)))
    last = model.strided_slice(x, (slice(None), slice(None), slice(channels - 1, channels)))
    wider = model.pad(x, ((0, 0), pads, (0, 0)))
    result = proven(model.build(part, last, wider), model.random_inputs())
    for name in (part, last, wider):
        np.testing.assert_array_equal(result.found[name], result.expected[name])


@examples(10)
@given(
    length=LENGTHS,
    channels=st.sampled_from((1, 3, 20)),
    kernel=st.integers(1, 9),
    stride=st.integers(1, 4),
    padding=st.sampled_from(("SAME", "VALID")),
    kind=st.sampled_from(("CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "AVERAGE_POOL_2D")),
    seed=SEEDS,
)
def test_windows(length: int, channels: int, kernel: int, stride: int, padding: str, kind: str, seed: int) -> None:
    """Sound: one row of a quarter of a second and more."""
    model = ModelBuilder(seed)
    x = long_input(model, (1, 1, length, channels))
    size, step = (1, kernel), (1, stride)
    match kind:
        case "CONV_2D":
            y = model.conv2d(x, 5, size, step, padding)
        case "DEPTHWISE_CONV_2D":
            y = model.depthwise(x, size, step, padding)
        case "MAX_POOL_2D":
            y = model.max_pool(x, size, step, padding)
        case _:
            y = model.average_pool(x, size, step, padding)
    proven(model.build(y), model.random_inputs())


@pytest.mark.parametrize("length", [8400, PRIMES[0]])
def test_a_layer_over_anchors(length: int) -> None:
    model = ModelBuilder(1)
    y = model.fully_connected(long_input(model, (1, length, 20)), 6, keep_num_dims=True)
    proven(model.build(y), model.random_inputs())


def test_rows_of_an_image_beyond_the_field() -> None:
    """Four long rows: one task writes a single row, as the gap behind it is beyond its field."""
    model = ModelBuilder(1)
    y = model.conv2d(long_input(model, (1, 4, 8400, 16)), 4, kernel=(3, 3))
    proven(model.build(y), model.random_inputs())


def test_a_flattened_detector() -> None:
    """705,600 elements in one dimension."""
    model = ModelBuilder(1)
    x = long_input(model, (1, 84 * 8400))
    y = model.unary("LOGISTIC", model.add(x, long_input(model, (1, 84 * 8400))))
    proven(model.build(y), model.random_inputs())
