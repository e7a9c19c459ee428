"""MAX_POOL_2D, AVERAGE_POOL_2D and MEAN of any window, against LiteRT's kernels."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from support.agreement import proven
from support.cases import CHANNELS, DTYPES, PADDINGS, SEEDS, VALUES, examples, grid_input, grids, inputs_of, stored
from support.models import Grid, ModelBuilder

SIDES = st.one_of(st.integers(1, 20), st.integers(1, 70))
TAPS = st.one_of(st.integers(1, 6), st.integers(1, 6), st.sampled_from((13, 31, 32, 37, 64)))
STRIDES = st.one_of(st.integers(1, 3), st.integers(1, 9))
MOST_VALUES = 1 << 15
MOST_TASKS = 40
"""Ways in which an average's window overlaps the border; each is a task or more."""


def taps_inside(size: int, taps: int, stride: int, padding: str) -> set[int]:
    """How many of the window's taps lie inside the image, over all places."""
    count = -(-size // stride) if padding == "SAME" else -(-(size - taps + 1) // stride)
    before = max((count - 1) * stride + taps - size, 0) // 2 if padding == "SAME" else 0
    starts = [place * stride - before for place in range(count)]
    return {min(start + taps, size) - max(start, 0) for start in starts}


@examples(20)
@given(
    size=st.tuples(SIDES, SIDES),
    channels=CHANNELS,
    kernel=st.tuples(TAPS, TAPS),
    stride=st.tuples(STRIDES, STRIDES),
    padding=PADDINGS,
    dtype=DTYPES,
    grid=grids(),
    values=VALUES,
    seed=SEEDS,
)
def test_max_pool(
    size: tuple[int, int],
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: str,
    dtype: str,
    grid: Grid,
    values: str,
    seed: int,
) -> None:
    assume(padding == "SAME" or (kernel[0] <= size[0] and kernel[1] <= size[1]))
    assume(np.prod(size) * channels <= MOST_VALUES)
    model = ModelBuilder(seed)
    x = grid_input(model, (1, *size, channels), grid, dtype)
    moved = kernel == stride == (1, 1)  # which alone stays on the host
    y = model.max_pool(x, kernel, stride, padding)
    z = model.quantize(y, stored(Grid(0.7, 3), dtype), dtype) if moved else y
    result = proven(model.build(y, z) if moved else model.build(y), inputs_of(model, values))
    assert (result.found[y] == result.expected[y]).all()


@examples(20)
@given(
    size=st.tuples(SIDES, SIDES),
    channels=CHANNELS,
    kernel=st.tuples(TAPS, TAPS),
    stride=st.tuples(STRIDES, STRIDES),
    padding=PADDINGS,
    dtype=DTYPES,
    grid=grids(),
    values=VALUES,
    seed=SEEDS,
)
def test_average_pool(
    size: tuple[int, int],
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: str,
    dtype: str,
    grid: Grid,
    values: str,
    seed: int,
) -> None:
    assume(padding == "SAME" or (kernel[0] <= size[0] and kernel[1] <= size[1]))
    assume(np.prod(size) * channels <= MOST_VALUES)
    windows = [taps_inside(*side, padding) for side in zip(size, kernel, stride, strict=True)]
    assume(len(windows[0]) * len(windows[1]) <= MOST_TASKS)
    model = ModelBuilder(seed)
    x = grid_input(model, (1, *size, channels), grid, dtype)
    y = model.average_pool(x, kernel, stride, padding)
    proven(model.build(y), inputs_of(model, values))


@examples(20)
@given(
    size=st.tuples(SIDES, SIDES),
    channels=CHANNELS,
    kept=st.booleans(),
    dtype=DTYPES,
    grid=grids(-2, -1),
    output=grids(-3, 0),
    values=VALUES,
    seed=SEEDS,
)
def test_mean(
    size: tuple[int, int], channels: int, kept: bool, dtype: str, grid: Grid, output: Grid, values: str, seed: int
) -> None:
    assume(np.prod(size) * channels <= MOST_VALUES)
    model = ModelBuilder(seed)
    y = model.mean(grid_input(model, (1, *size, channels), grid, dtype), (1, 2), kept, stored(output, dtype))
    proven(model.build(y), inputs_of(model, values))
