"""What ONNX's operators do and TFLite's do not, against ONNX Runtime: grids that change, counted padding."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.agreement import proven
from support.cases import SEEDS, examples, scales
from support.models import UNIFORM_SIGMA
from support.onnx_models import Grid, OnnxBuilder

DTYPES = st.sampled_from((np.int8, np.uint8))
SIDES = st.integers(1, 20)
MOST_VALUES = 1 << 14


def onnx_grids(low: float = -3.0, high: float = 0.0) -> st.SearchStrategy[Grid]:
    """Scale and zero point of an int8 tensor; a uint8 one has its zero point 128 higher."""
    return st.tuples(scales(low, high), st.integers(-128, 127))


def stored(grid: Grid, dtype: Any) -> Grid:
    return (grid[0], grid[1] + 128) if dtype == np.uint8 else grid


def noise(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


@examples(20)
@given(
    size=st.tuples(SIDES, SIDES),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    groups=st.sampled_from((1, 1, 1, 2, 3)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 4)] * 4),
    dtype=DTYPES,
    weights=DTYPES,
    per_channel=st.booleans(),
    grid=onnx_grids(),
    output=onnx_grids(),
    seed=SEEDS,
)
def test_convolution_with_counted_padding(
    size: tuple[int, int],
    channels: tuple[int, int],
    groups: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pads: tuple[int, int, int, int],
    dtype: Any,
    weights: Any,
    per_channel: bool,
    grid: Grid,
    output: Grid,
    seed: int,
) -> None:
    """Weights have a zero point each; bias is float until it is folded."""
    reach = [(taps - 1) * spread + 1 for taps, spread in zip(kernel, dilation, strict=True)]
    # A window that lies in the padding alone sees nothing: that is no layer of a network.
    pads = (*(min(pad, span - 1) for pad, span in zip(pads, (*reach, *reach), strict=True)),)
    assume(all(room + pads[axis] + pads[axis + 2] >= reach[axis] for axis, room in enumerate(size)))
    rng, model = np.random.default_rng(seed), OnnxBuilder()
    inner, outer = channels[0], channels[1] * groups
    shape = (1, inner * groups, *size)
    x = model.real_input(shape, stored(grid, dtype), dtype)
    scale = UNIFORM_SIGMA * output[0] / (np.sqrt(inner * np.prod(kernel)) * UNIFORM_SIGMA**2 * grid[0])
    count = outer if per_channel else 1
    steps = (scale * rng.uniform(0.1, 1, count)).astype(np.float32)
    zeros = rng.integers(-9, 10, count) + (128 if weights == np.uint8 else 0)
    values = noise(rng, (outer, inner, *kernel), weights)
    constant = model.weights(values, steps if per_channel else steps[0], zeros if per_channel else zeros[0])
    bias = np.rint(rng.normal(0, 30 * output[0] / (grid[0] * steps), outer)) * (grid[0] * steps)
    conv = model.node(
        "Conv",
        x,
        constant,
        model.constant(bias.astype(np.float32)),
        group=groups,
        strides=stride,
        dilations=dilation,
        pads=pads,
    )
    proven(model.build(model.quantized(conv, stored(output, dtype), dtype), dtype=dtype), [noise(rng, shape, dtype)])


@examples(20)
@given(
    kind=st.sampled_from(("AveragePool", "MaxPool", "GlobalAveragePool")),
    size=st.tuples(SIDES, SIDES),
    channels=st.integers(1, 40),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 4)] * 4),
    counted=st.booleans(),
    dtype=DTYPES,
    grid=onnx_grids(-2, -1),
    output=onnx_grids(-2, -1),
    seed=SEEDS,
)
def test_pools_onto_another_grid(
    kind: str,
    size: tuple[int, int],
    channels: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    counted: bool,
    dtype: Any,
    grid: Grid,
    output: Grid,
    seed: int,
) -> None:
    """A MaxPool keeps its grid, as quantizers leave it; other grids are tasks of their own."""
    pads = (*(min(pad, taps - 1) for pad, taps in zip(pads, (*kernel, *kernel), strict=True)),)
    assume(all(room + pads[axis] + pads[axis + 2] >= kernel[axis] for axis, room in enumerate(size)))
    rng, model = np.random.default_rng(seed), OnnxBuilder()
    shape = (1, channels, *size)
    x = model.real_input(shape, stored(grid, dtype), dtype)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "pads": pads}
    if kind == "GlobalAveragePool":
        attributes = {}
    elif kind == "AveragePool":
        attributes["count_include_pad"] = int(counted)
    pool = model.node(kind, x, **attributes)
    result = model.quantized(pool, stored(grid if kind == "MaxPool" else output, dtype), dtype)
    if kind == "MaxPool":  # behind it, something that computes in any case
        result = model.quantized(model.real(result, stored(grid, dtype), dtype), stored((0.71, 3), dtype), dtype)
    proven(model.build(result, dtype=dtype), [noise(rng, shape, dtype)])


@examples(20)
@given(
    kind=st.sampled_from(("Add", "Sub", "Mul", "Max", "Min")),
    shape=st.tuples(st.just(1), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12)),
    channel_constant=st.booleans(),
    dtype=DTYPES,
    first=onnx_grids(),
    second=onnx_grids(),
    output=onnx_grids(),
    seed=SEEDS,
)
def test_two_operands_on_any_grids(
    kind: str,
    shape: tuple[int, ...],
    channel_constant: bool,
    dtype: Any,
    first: Grid,
    second: Grid,
    output: Grid,
    seed: int,
) -> None:
    """Real numbers are compared, and not what is stored for them, as TFLite does."""
    rng, model = np.random.default_rng(seed), OnnxBuilder()
    inputs = [noise(rng, shape, dtype)]
    a = model.real_input(shape, stored(first, dtype), dtype)
    if channel_constant:
        zero = stored(second, dtype)[1]
        b = model.weights(noise(rng, (1, shape[1], 1, 1), dtype), second[0], zero)
    else:
        inputs.append(noise(rng, shape, dtype))
        b = model.real_input(shape, stored(second, dtype), dtype)
    result = model.quantized(model.node(kind, a, b), stored(output, dtype), dtype)
    proven(model.build(result, dtype=dtype), inputs)


@examples(20)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    axis=st.integers(1, 3),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    drawn=st.lists(onnx_grids(-2, -1), min_size=5, max_size=5),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_concatenation_of_any_grids(
    size: tuple[int, int], axis: int, sizes: list[int], drawn: list[Grid], dtype: Any, seed: int
) -> None:
    rng, model = np.random.default_rng(seed), OnnxBuilder()
    shapes = [tuple(count if place == axis else each for place, each in enumerate((1, 7, *size))) for count in sizes]
    parts = [
        model.real_input(shape, stored(grid, dtype), dtype) for shape, grid in zip(shapes, drawn[1:], strict=False)
    ]
    whole = model.quantized(model.node("Concat", *parts, axis=axis), stored(drawn[0], dtype), dtype)
    # Behind it, something that computes in any case: what only copies stays on the host.
    both = model.quantized(model.real(whole, stored(drawn[0], dtype), dtype), stored((0.71, 3), dtype), dtype)
    proven(model.build(both, dtype=dtype), [noise(rng, shape, dtype) for shape in shapes])
