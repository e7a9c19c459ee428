"""CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV and FULLY_CONNECTED of any shape and grid, against LiteRT's kernels.

None is left to the CPU. Kernels, strides and dilations beyond a task's fields take several tasks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from support.agreement import proven
from support.cases import (
    ACTIVATIONS,
    CHANNELS,
    PADDINGS,
    SEEDS,
    VALUES,
    examples,
    grid_input,
    grids,
    inputs_of,
    stored,
)
from support.models import UNIFORM_SIGMA, Grid, ModelBuilder

KINDS = st.sampled_from(("uint8", "int8", "int8 per channel"))
"""LiteRT knows weights with a scale for each channel for int8 only."""
MOST_WEIGHTS = 1 << 20
MOST_VALUES = 1 << 16

BATCHES = st.sampled_from((1, 1, 1, 2, 3))
SIDES = st.integers(1, 40)
TAPS = st.one_of(st.integers(1, 7), st.integers(1, 7), st.sampled_from((8, 16, 31, 32, 40)))
STRIDES = st.one_of(st.integers(1, 3), st.integers(1, 10))
DILATIONS = st.one_of(st.just(1), st.integers(1, 4), st.sampled_from((16, 32, 33)))


def pairs(values: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(values, values)


def weights_of(
    model: ModelBuilder, shape: tuple[int, ...], axis: int, kind: str, x: Grid, y: Grid, gain: float, decades: float
) -> dict[str, Any]:
    """Weights whose products span the output's range, times `gain`; scales of channels lie `decades` apart."""
    taps = np.prod(shape) / shape[axis]
    scale = gain * UNIFORM_SIGMA * y.scale / (np.sqrt(taps) * UNIFORM_SIGMA**2 * x.scale)
    dtype = kind.split()[0]
    low, high = (0, 255) if dtype == "uint8" else (-127, 127)
    zero = int(model.rng.integers(0, 256)) if dtype == "uint8" else 0
    scales: Any = float(scale)
    if "channel" in kind:
        scales = tuple((scale * 10.0 ** -model.rng.uniform(0, decades, shape[axis])).tolist())
    steps = model.rng.normal(0, UNIFORM_SIGMA * y.scale / 2, shape[axis]) / (x.scale * np.array(scales))
    return {
        "weights": model.rng.integers(low, high, shape, endpoint=True).astype(dtype),
        "weight_grid": Grid(scales, zero, axis),
        "bias": np.clip(np.rint(steps), -(1 << 30), 1 << 30).astype(np.int32),
    }


def limited(count: int, each: float, most: int) -> int:
    """As many of `count` as keep a test short, where every one costs `each`."""
    return max(1, min(count, int(most // each)))


def sensible(
    kernel: tuple[int, int], dilation: tuple[int, int], size: tuple[int, int], padding: str
) -> tuple[int, int]:
    """The kernel, with at most 6 taps a side where they are far apart, and none that sees padding alone: a kernel that
    takes several tasks is cut into at most 64."""
    taps: list[int] = []
    for count, spread, room in zip(kernel, dilation, size, strict=True):
        most = 6 if spread > 4 else count
        taps.append(min(count, most if padding == "VALID" else max(min(most, (2 * room - 1) // spread + 1), 1)))
    return taps[0], taps[1]


def window_sizes(size: tuple[int, int], reach: list[int], padding: str) -> tuple[int, int]:
    """Sizes in which the window fits, where nothing is padded."""
    if padding == "SAME":
        return size
    return max(size[0], reach[0]), max(size[1], reach[1])


@examples(20)
@given(
    batch=BATCHES,
    size=pairs(SIDES),
    channels=st.tuples(CHANNELS, CHANNELS),
    groups=st.sampled_from((1, 1, 1, 1, 2, 3, 5)),
    kernel=pairs(TAPS),
    stride=pairs(STRIDES),
    dilation=pairs(DILATIONS),
    padding=PADDINGS,
    activation=ACTIVATIONS,
    kind=KINDS,
    grid=grids(),
    output=grids(),
    gain=st.floats(-2, 1).map(lambda power: 10.0**power),
    decades=st.floats(0, 2),
    values=VALUES,
    seed=SEEDS,
)
def test_convolution(
    batch: int,
    size: tuple[int, int],
    channels: tuple[int, int],
    groups: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: str,
    activation: str,
    kind: str,
    grid: Grid,
    output: Grid,
    gain: float,
    decades: float,
    values: str,
    seed: int,
) -> None:
    kernel = sensible(kernel, dilation, size, padding)
    reach = [(taps - 1) * spread + 1 for taps, spread in zip(kernel, dilation, strict=True)]
    size = window_sizes(size, reach, padding)
    inner, outer = (-(-count // groups) for count in channels)
    inner = limited(inner, np.prod(size) * groups, MOST_VALUES)
    outer = limited(outer, np.prod(kernel) * inner * groups, MOST_WEIGHTS)
    model, dtype = ModelBuilder(seed), kind.split()[0]
    x = grid_input(model, (batch, *size, inner * groups), grid, dtype)
    shape = (outer * groups, *kernel, inner)
    y = model.conv2d(
        x,
        outer * groups,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        activation=activation,
        output=stored(output, dtype),
        **weights_of(model, shape, 0, kind, grid, output, gain, decades),
    )
    proven(model.build(y), inputs_of(model, values))


@examples(20)
@given(
    batch=BATCHES,
    size=pairs(SIDES),
    channels=CHANNELS,
    multiplier=st.sampled_from((1, 1, 1, 2, 5)),
    kernel=pairs(TAPS),
    stride=pairs(STRIDES),
    dilation=pairs(DILATIONS),
    padding=PADDINGS,
    activation=ACTIVATIONS,
    kind=KINDS,
    grid=grids(),
    output=grids(),
    gain=st.floats(-2, 1).map(lambda power: 10.0**power),
    decades=st.floats(0, 2),
    values=VALUES,
    seed=SEEDS,
)
def test_depthwise_convolution(
    batch: int,
    size: tuple[int, int],
    channels: int,
    multiplier: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: str,
    activation: str,
    kind: str,
    grid: Grid,
    output: Grid,
    gain: float,
    decades: float,
    values: str,
    seed: int,
) -> None:
    kernel = sensible(kernel, dilation, size, padding)
    reach = [(taps - 1) * spread + 1 for taps, spread in zip(kernel, dilation, strict=True)]
    size = window_sizes(size, reach, padding)
    channels = limited(channels, np.prod(size) * multiplier, MOST_VALUES)
    model, dtype = ModelBuilder(seed), kind.split()[0]
    x = grid_input(model, (batch, *size, channels), grid, dtype)
    y = model.depthwise(
        x,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        multiplier=multiplier,
        activation=activation,
        output=stored(output, dtype),
        **weights_of(model, (1, *kernel, channels * multiplier), 3, kind, grid, output, gain, decades),
    )
    proven(model.build(y), inputs_of(model, values))


@examples(12)
@given(
    size=pairs(st.integers(1, 12)),
    channels=st.tuples(CHANNELS, CHANNELS),
    kernel=pairs(st.one_of(st.integers(1, 6), st.sampled_from((9, 31, 32)))),
    stride=pairs(st.integers(1, 4)),
    padding=PADDINGS,
    activation=st.sampled_from(("NONE", "RELU", "RELU6")),
    kind=KINDS,
    grid=grids(),
    output=grids(),
    gain=st.floats(-2, 1).map(lambda power: 10.0**power),
    decades=st.floats(0, 2),
    values=VALUES,
    seed=SEEDS,
)
def test_transposed_convolution(
    size: tuple[int, int],
    channels: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: str,
    activation: str,
    kind: str,
    grid: Grid,
    output: Grid,
    gain: float,
    decades: float,
    values: str,
    seed: int,
) -> None:
    outer = limited(channels[1], np.prod(kernel) * channels[0], MOST_WEIGHTS >> 2)
    outer = limited(outer, np.prod(size) * np.prod(stride), MOST_VALUES)
    model, dtype = ModelBuilder(seed), kind.split()[0]
    x = grid_input(model, (1, *size, channels[0]), grid, dtype)
    shape = (outer, *kernel, channels[0])
    y = model.transpose_conv(
        x,
        outer,
        kernel=kernel,
        stride=stride,
        padding=padding,
        activation=activation,
        output=stored(output, dtype),
        **weights_of(model, shape, 0, kind, grid, output, gain, decades),
    )
    proven(model.build(y), inputs_of(model, values))


@examples(12)
@given(
    rows=st.one_of(st.just(1), st.integers(1, 40)),
    shape=st.one_of(st.tuples(st.integers(1, 700)), st.tuples(st.integers(1, 33), st.integers(1, 33), CHANNELS)),
    units=st.integers(1, 200),
    kept=st.booleans(),
    bias=st.booleans(),
    activation=ACTIVATIONS,
    kind=KINDS,
    grid=grids(),
    output=grids(),
    gain=st.floats(-2, 1).map(lambda power: 10.0**power),
    decades=st.floats(0, 2),
    values=VALUES,
    seed=SEEDS,
)
def test_fully_connected(
    rows: int,
    shape: tuple[int, ...],
    units: int,
    kept: bool,
    bias: bool,
    activation: str,
    kind: str,
    grid: Grid,
    output: Grid,
    gain: float,
    decades: float,
    values: str,
    seed: int,
) -> None:
    depth = shape[-1] if kept else int(np.prod(shape))
    units = limited(units, depth, MOST_WEIGHTS)
    model, dtype = ModelBuilder(seed), kind.split()[0]
    rows = rows if len(shape) == 1 or kept else 1
    x = grid_input(model, (rows, *shape), grid, dtype)
    made = weights_of(model, (units, depth), 0, kind, grid, output, gain, decades)
    y = model.fully_connected(
        x,
        units,
        activation=activation,
        keep_num_dims=kept,
        output=stored(output, dtype),
        **(made if bias else {**made, "bias": False}),
    )
    proven(model.build(y), inputs_of(model, values))
