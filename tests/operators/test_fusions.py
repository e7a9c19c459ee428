"""What shares a task: activations, changes of grid, slopes and sums behind a convolution, on any grids.

Each operator's own result is what LiteRT's kernels make of the one before it, which rounds on the grid between; a
fused task is fed what the first operator reads, and is within 1 all the same.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from support.agreement import proven
from support.cases import SEEDS, VALUES, examples, grid_input, grids, inputs_of
from support.models import UNIFORM_SIGMA, Grid, ModelBuilder

KINDS = st.sampled_from(("RELU", "RELU6", "RELU_0_TO_1", "QUANTIZE", "LEAKY_RELU", "PRELU"))
SHAPE = st.tuples(st.just(1), st.integers(1, 12), st.integers(1, 12), st.integers(1, 40))


def convolution(
    model: ModelBuilder, x: str, channels: int, grid: Grid, output: Grid, *, depthwise: bool, per_channel: bool
) -> str:
    """A layer whose results spread over the range of its output."""
    taps = 9 if depthwise else 9 * model.tensors[x].shape[3]
    assert isinstance(output.scale, float)
    assert isinstance(grid.scale, float)
    scale = output.scale / (taps**0.5 * UNIFORM_SIGMA * grid.scale)
    scales = tuple((scale * model.rng.uniform(0.1, 1, channels)).tolist()) if per_channel else scale
    if depthwise:
        return model.depthwise(x, weight_grid=Grid(scales, 0, 3), output=output, bias=False)
    return model.conv2d(x, channels, weight_grid=Grid(scales, 0, 0), output=output)


@examples(25)
@given(
    kind=KINDS,
    shape=SHAPE,
    channels=st.integers(1, 80),
    depthwise=st.booleans(),
    per_channel=st.booleans(),
    grid=grids(-2, -1),
    between=grids(-2, 0),
    output=grids(-2, 0),
    same=st.booleans(),
    alpha=st.floats(0, 1, width=32),
    values=VALUES,
    seed=SEEDS,
)
def test_what_follows_a_convolution(
    kind: str,
    shape: tuple[int, ...],
    channels: int,
    depthwise: bool,
    per_channel: bool,
    grid: Grid,
    between: Grid,
    output: Grid,
    same: bool,
    alpha: float,
    values: str,
    seed: int,
) -> None:
    model = ModelBuilder(seed)
    x = grid_input(model, shape, grid)
    y = convolution(
        model, x, shape[3] if depthwise else channels, grid, between, depthwise=depthwise, per_channel=per_channel
    )
    output = between if same else output
    match kind:
        case "QUANTIZE":
            z = model.quantize(y, output)
        case "PRELU":
            slopes = model.rng.integers(0, 128, model.tensors[y].shape[3:]).astype("int8")
            z = model.prelu(y, model.constant(slopes, Grid(1 / 128, 0)), output)
        case "LEAKY_RELU":
            z = model.unary(kind, y, output, alpha=alpha)
        case _:
            z = model.unary(kind, y, output)
    moved = kind == "QUANTIZE" and same
    proven(model.build(model.quantize(z, Grid(0.71, 3)) if moved else z), inputs_of(model, values))


@examples(20)
@given(
    shape=SHAPE,
    channels=st.one_of(st.integers(17, 32), st.integers(1, 80)),
    per_channel=st.sampled_from((True, True, False)),
    other_first=st.booleans(),
    grid=grids(-2, -1),
    between=grids(-2, -1),
    other=grids(-2, -1),
    output=grids(-2, 0),
    activation=st.sampled_from(("NONE", "RELU", "RELU6")),
    values=VALUES,
    seed=SEEDS,
)
def test_a_residual_sum(
    shape: tuple[int, ...],
    channels: int,
    per_channel: bool,
    other_first: bool,
    grid: Grid,
    between: Grid,
    other: Grid,
    output: Grid,
    activation: str,
    values: str,
    seed: int,
) -> None:
    model = ModelBuilder(seed)
    x = grid_input(model, shape, grid)
    a = grid_input(model, (*shape[:3], channels), other)
    y = convolution(model, x, channels, grid, between, depthwise=False, per_channel=per_channel)
    operands = (a, y) if other_first else (y, a)
    proven(model.build(model.add(*operands, activation, output)), inputs_of(model, values))
