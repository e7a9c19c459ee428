"""RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR of any factor, against LiteRT's kernels."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from support.agreement import proven
from support.cases import DTYPES, SEEDS, VALUES, examples, grid_input, grids, inputs_of, stored
from support.models import Grid, ModelBuilder

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MODES = st.sampled_from(((False, False), (True, False), (False, True)))
"""Aligned corners, half pixel centers."""
MOST_VALUES = 1 << 16

DRIFTS = "factors of an int8 TFLite operator are powers of two (its reference rounds the step to 10 bits, and drifts)"


@examples(20)
@given(
    size=SIZES,
    factor=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    channels=st.integers(1, 40),
    mode=MODES,
    dtype=DTYPES,
    grid=grids(),
    values=VALUES,
    seed=SEEDS,
)
def test_nearest_neighbours(
    size: tuple[int, int],
    factor: tuple[int, int],
    channels: int,
    mode: tuple[bool, bool],
    dtype: str,
    grid: Grid,
    values: str,
    seed: int,
) -> None:
    model = ModelBuilder(seed)
    x = grid_input(model, (1, *size, channels), grid, dtype)
    y = model.resize(x, factor, align_corners=mode[0], half_pixel_centers=mode[1])
    # The chip repeats pixels a whole number of times; the change of grid has the image computed on the NPU.
    z = model.quantize(y, stored(Grid(0.7, 3), dtype), dtype)
    repeats = all(step == 1 or count == 1 or not mode[0] for step, count in zip(factor, size, strict=True))
    unmet = None if repeats else "height and width grow by whole factors"
    if not repeats and all(((count - 1) * step + 1) % count == 0 for step, count in zip(factor, size, strict=True)):
        unmet = "every pixel is repeated the same number of times (corners are not aligned)"
    result = proven(model.build(y, z), inputs_of(model, values), unmet)
    assert (result.found[y] == result.expected[y]).all()


@examples(20)
@given(
    size=SIZES,
    factor=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.integers(1, 40),
    mode=MODES,
    dtype=DTYPES,
    grid=grids(),
    values=VALUES,
    seed=SEEDS,
)
def test_bilinear(
    size: tuple[int, int],
    factor: tuple[int, int],
    channels: int,
    mode: tuple[bool, bool],
    dtype: str,
    grid: Grid,
    values: str,
    seed: int,
) -> None:
    assume(np.prod(size) * np.prod(factor) * channels <= MOST_VALUES)
    model = ModelBuilder(seed)
    x = grid_input(model, (1, *size, channels), grid, dtype)
    y = model.resize(x, factor, bilinear=True, align_corners=mode[0], half_pixel_centers=mode[1])
    z = model.quantize(y, stored(Grid(0.7, 3), dtype), dtype)
    proven(model.build(y, z), inputs_of(model, values), unmet(size, factor, mode, dtype))


def unmet(size: tuple[int, int], factor: tuple[int, int], mode: tuple[bool, bool], dtype: str) -> str | None:
    if size == (1, 1):
        return None
    steps = [1 if mode[0] and count == 1 else step for step, count in zip(factor, size, strict=True)]
    if math.prod(steps) > 64:
        return "at most 64 output pixels lie around an input pixel, or the input is a single one"
    return DRIFTS if dtype == "int8" and any(step & (step - 1) for step in steps) else None
