"""What hypothesis draws for a test of one operator: grids, values, and how many cases.

`pytest --hypothesis-profile=search tests/operators` draws other cases each time, and 20 times as many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.models import Grid, ModelBuilder, random_values

DTYPES = st.sampled_from(("int8", "uint8"))
ACTIVATIONS = st.sampled_from(("NONE", "RELU", "RELU6", "RELU_N1_TO_1"))
PADDINGS = st.sampled_from(("SAME", "VALID"))
VALUES = st.sampled_from(("noise", "extremes", "few"))
SEEDS = st.integers(0, 1000)
CHANNELS = st.one_of(st.integers(1, 40), st.integers(1, 140))
"""Below and above one group of 64."""

REPEATABLE_EXAMPLES = 100
"""What hypothesis draws where nothing is said; a profile that draws more does so for every test alike."""


def examples(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Settings of a test that draws `count` cases in the ordinary run."""
    scaled = max(1, count * settings.default.max_examples // REPEATABLE_EXAMPLES)  # type: ignore[union-attr]
    return settings(max_examples=scaled, suppress_health_check=list(HealthCheck))


def scales(low: float = -3.0, high: float = 0.0) -> st.SearchStrategy[float]:
    """Scales between two powers of ten, as float32 holds them."""
    return st.floats(low, high).map(lambda power: float(np.float32(10.0**power)))


def grids(low: float = -3.0, high: float = 0.0) -> st.SearchStrategy[Grid]:
    """Grids of int8 tensors, with any zero point."""
    return st.builds(Grid, scales(low, high), st.integers(-128, 127))


def stored(grid: Grid, dtype: str) -> Grid:
    """An int8 grid for `dtype`: uint8 counts from 128 more."""
    return Grid(grid.scale, grid.zero + 128, grid.axis) if dtype == "uint8" else grid


def grid_input(model: ModelBuilder, shape: tuple[int, ...], grid: Grid, dtype: str = "int8") -> str:
    """A graph input on an int8 grid, of another dtype if given."""
    found = stored(grid, dtype)
    assert isinstance(found.scale, float)
    return model.input(shape, dtype, found.scale, found.zero)


def inputs_of(model: ModelBuilder, values: str) -> list[NDArray[Any]]:
    """Values for all graph inputs: noise; nothing but both ends and the zero point; or a few steps around that."""
    return [_filled(model, name, values) for name in model.inputs]


def _filled(model: ModelBuilder, name: str, values: str) -> NDArray[Any]:
    tensor = model.tensors[name]
    if values == "noise" or tensor.grid is None:
        return random_values(model.rng, tensor.shape, tensor.dtype)
    limits, zero = np.iinfo(tensor.dtype), tensor.grid.zero
    chosen = [limits.min, zero, limits.max] if values == "extremes" else np.arange(zero - 4, zero + 5)
    return model.rng.choice(np.clip(chosen, limits.min, limits.max), tensor.shape).astype(tensor.dtype)
