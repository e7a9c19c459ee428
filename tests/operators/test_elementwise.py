"""ADD, SUB, MUL, MAXIMUM and MINIMUM of tensors and constants of any grid, against LiteRT's kernels."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from support.agreement import proven
from support.cases import ACTIVATIONS, DTYPES, SEEDS, VALUES, examples, grid_input, grids, inputs_of, stored
from support.models import Grid, ModelBuilder, random_values

ARITHMETIC = st.sampled_from(("ADD", "SUB", "MUL"))
EXTREMA = st.sampled_from(("MAXIMUM", "MINIMUM"))

SHAPES = st.one_of(
    st.tuples(st.just(1), st.integers(1, 20), st.integers(1, 20), st.integers(1, 70)),
    st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple),
    st.sampled_from([(1, 2, 8192, 3), (1, 8193, 1, 3), (1, 1, 2, 8193)]),
)
PIXEL = "one pixel"
"""Of the first operand, or the second: squeeze and excite."""

MOST_SPREAD = 8192
"""Values over which a test spreads one pixel: each 16 rows and columns take a task."""

SAME_SHAPE = (
    "operands that are not constants have the output's shape; one of two may be a single pixel of as many channels"
)
MINUEND = "what is subtracted from a constant tensor meets one value in each channel"

FINEST_ON_CPU = 0.4
"""Output steps in a step of sum or product above which LiteRT's optimized kernels may wrap around: the 2^16 steps of a
product are then more than 15 bits. Its reference ones do not."""


def overflows_on_cpu(kind: str, first: Grid, second: Grid, output: Grid) -> bool:
    a, b, step = (float(np.max(grid.scale)) for grid in (first, second, output))
    return (a * b if kind == "MUL" else max(a, b)) > FINEST_ON_CPU * step


@examples(25)
@given(
    kind=ARITHMETIC,
    shape=SHAPES,
    small=st.sampled_from(("none", "none", "first", "second")),
    dtype=DTYPES,
    first=grids(),
    second=grids(),
    output=grids(),
    activation=ACTIVATIONS,
    values=VALUES,
    seed=SEEDS,
)
def test_arithmetic_of_two_tensors(
    kind: str,
    shape: tuple[int, ...],
    small: str,
    dtype: str,
    first: Grid,
    second: Grid,
    output: Grid,
    activation: str,
    values: str,
    seed: int,
) -> None:
    assume(small == "none" or np.prod(shape) < MOST_SPREAD)
    model = ModelBuilder(seed)
    pixel = (*(1 for _ in shape[:-1]), shape[-1])
    a = grid_input(model, pixel if small == "first" else shape, first, dtype)
    b = grid_input(model, pixel if small == "second" else shape, second, dtype)
    y = model.elementwise(kind, a, b, activation, stored(output, dtype))
    proven(model.build(y), inputs_of(model, values))


@examples(20)
@given(
    kind=ARITHMETIC,
    shape=SHAPES,
    kept=st.lists(st.booleans(), min_size=5, max_size=5),
    rank=st.integers(0, 5),
    constant_first=st.booleans(),
    dtype=DTYPES,
    grid=grids(),
    fixed=grids(),
    output=grids(),
    activation=ACTIVATIONS,
    values=VALUES,
    seed=SEEDS,
)
def test_arithmetic_with_a_constant(
    kind: str,
    shape: tuple[int, ...],
    kept: list[bool],
    rank: int,
    constant_first: bool,
    dtype: str,
    grid: Grid,
    fixed: Grid,
    output: Grid,
    activation: str,
    values: str,
    seed: int,
) -> None:
    """The constant has any of the other operand's last dimensions, each of them whole or 1."""
    model = ModelBuilder(seed)
    x = grid_input(model, shape, grid, dtype)
    sizes = tuple(size if keep else 1 for size, keep in zip(shape, kept, strict=False))[-rank:] if rank else ()
    fixed_values = random_values(model.rng, sizes, dtype)
    constant = model.constant(fixed_values, stored(fixed, dtype))
    operands = (constant, x) if constant_first else (x, constant)
    y = model.elementwise(kind, *operands, activation, stored(output, dtype))
    pixels = np.broadcast_to(fixed_values, shape).reshape(-1, shape[-1])
    reason = MINUEND if kind == "SUB" and constant_first and (pixels != pixels[0]).any() else None
    assume(reason is None or not overflows_on_cpu(kind, grid, fixed, output))
    proven(model.build(y), inputs_of(model, values), reason)


@examples(20)
@given(kind=EXTREMA, shape=SHAPES, constant=st.booleans(), dtype=DTYPES, grid=grids(), values=VALUES, seed=SEEDS)
def test_extrema(
    kind: str, shape: tuple[int, ...], constant: bool, dtype: str, grid: Grid, values: str, seed: int
) -> None:
    model = ModelBuilder(seed)
    x = grid_input(model, shape, grid, dtype)
    if constant:
        other = model.constant(random_values(model.rng, shape[-1:], dtype), stored(grid, dtype))
    else:
        other = grid_input(model, shape, grid, dtype)
    result = proven(model.build(model.extremum(kind, x, other)), inputs_of(model, values))
    assert result.unequal == 0
