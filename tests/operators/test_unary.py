"""Functions of one tensor, PRELU and QUANTIZE on any grids, over every byte, against LiteRT's kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.agreement import proven
from support.cases import DTYPES, SEEDS, VALUES, examples, grid_input, grids, inputs_of, stored
from support.models import Grid, ModelBuilder, random_values

INT8_ONLY = ("ABS", "ELU", "EXP", "LOG", "SQRT")
"""Kinds that LiteRT has no uint8 kernel for."""
CLAMPS = ("RELU", "RELU6", "RELU_0_TO_1")
LOOKUPS = ("GELU", "HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "RELU_N1_TO_1", "TANH")


def every_byte(dtype: str, channels: int = 1) -> NDArray[Any]:
    """All 256 values in each channel: (1, 16, 16, channels)."""
    return np.repeat(np.arange(256).astype(np.uint8).view(dtype), channels).reshape(1, 16, 16, channels)


@examples(25)
@given(
    kind=st.sampled_from((*LOOKUPS, *CLAMPS, *INT8_ONLY)),
    flipped=st.booleans(),
    grid=grids(-3, 0),
    output=grids(-3, 0),
    alpha=st.floats(-2, 2, width=32),
    approximate=st.booleans(),
)
def test_function_of_every_byte(
    kind: str, flipped: bool, grid: Grid, output: Grid, alpha: float, approximate: bool
) -> None:
    dtype = "uint8" if flipped and kind not in INT8_ONLY else "int8"
    model = ModelBuilder()
    x = grid_input(model, (1, 16, 16, 1), grid, dtype)
    options: dict[str, Any] = {"GELU": {"approximate": approximate}, "LEAKY_RELU": {"alpha": alpha}}.get(kind, {})
    proven(model.build(model.unary(kind, x, stored(output, dtype), **options)), [every_byte(dtype)])


@examples(20)
@given(scale=st.floats(1 / 1024, 8, width=32), output=grids(-3, 0))
def test_reciprocal_square_root_of_numbers_above_zero(scale: float, output: Grid) -> None:
    """LiteRT refuses other numbers while it runs."""
    model = ModelBuilder()
    x = grid_input(model, (1, 16, 16, 1), Grid(scale, -128), "int8")
    above_zero = every_byte("int8")
    above_zero[above_zero == -128] = 1
    proven(model.build(model.unary("RSQRT", x, output)), [above_zero])


@examples(20)
@given(
    kind=st.sampled_from(("TANH", "RELU6", "HARD_SWISH")),
    shape=st.one_of(
        st.lists(st.integers(1, 12), min_size=1, max_size=5).map(tuple),
        st.sampled_from([(1, 2, 4096, 3), (1, 1, 4097, 2), (8193, 1, 2), (1, 2, 8192)]),
    ),
    dtype=DTYPES,
    grid=grids(-2, -1),
    output=grids(-2, -1),
    seed=SEEDS,
)
def test_function_of_any_shape(
    kind: str, shape: tuple[int, ...], dtype: str, grid: Grid, output: Grid, seed: int
) -> None:
    """The chip's lookup reads rows of 16-bit pairs, so that its rows are half as long."""
    model = ModelBuilder(seed)
    y = model.unary(kind, grid_input(model, shape, grid, dtype), stored(output, dtype))
    proven(model.build(y), inputs_of(model, "noise"))


@examples(20)
@given(
    shared=st.booleans(),
    channels=st.integers(1, 70),
    dtype=DTYPES,
    grid=grids(-3, 0),
    alpha=grids(-4, -1),
    output=grids(-3, 0),
    seed=SEEDS,
)
def test_prelu(shared: bool, channels: int, dtype: str, grid: Grid, alpha: Grid, output: Grid, seed: int) -> None:
    model = ModelBuilder(seed)
    x = grid_input(model, (1, 16, 16, channels), grid, dtype)
    slopes = model.constant(random_values(model.rng, (1, 1, 1 if shared else channels), dtype), stored(alpha, dtype))
    proven(model.build(model.prelu(x, slopes, stored(output, dtype))), [every_byte(dtype, channels)])


@examples(20)
@given(
    shape=st.lists(st.integers(1, 16), min_size=1, max_size=5).map(tuple),
    before=DTYPES,
    after=DTYPES,
    grid=grids(-4, 0),
    output=grids(-4, 0),
    same=st.booleans(),
    values=VALUES,
    seed=SEEDS,
)
def test_change_of_grid(
    shape: tuple[int, ...], before: str, after: str, grid: Grid, output: Grid, same: bool, values: str, seed: int
) -> None:
    """A change that moves no byte would stay on the host; the one behind it computes in any case."""
    model = ModelBuilder(seed)
    x = grid_input(model, shape, grid, before)
    output = grid if same else output
    y = model.quantize(x, stored(output, after), after)
    assert isinstance(output.scale, float)
    z = model.quantize(y, Grid(output.scale * 1.37, output.zero), "int8")
    proven(model.build(y, z), inputs_of(model, values))
