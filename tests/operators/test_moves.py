"""Operators that move bytes, of any shape: CONCATENATION, splits, slices, pads, blocks, changes of shape.

They stay on the host where nothing beside them computes on the NPU, so that all of them have a change of grid in
front. Nothing but a rescaled part of a concatenation may differ by a bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.agreement import proven
from support.cases import DTYPES, SEEDS, examples, grids
from support.models import Grid, ModelBuilder, schema

SHAPES = st.one_of(
    st.tuples(st.just(1), st.integers(1, 12), st.integers(1, 12), st.integers(1, 70)),
    st.lists(st.integers(1, 9), min_size=1, max_size=5).map(tuple),
)
GRID = Grid(0.05, 4)

AXIS = "the axis is the channel, the width, or the height of one image"
SLICE = "the slice takes a part of channels, width, or the height of one image, and all of the other dimensions"
PAD = "channels, width, or the height of one image are padded, and no other dimension"
GATHER = "the indices are constant and choose channels"
RESHAPE = "the reshape keeps each pixel's channels together, so that no byte moves"
TRANSPOSE = "on the device all elements keep their places, as from NCHW to NHWC"


def computed(model: ModelBuilder, shape: tuple[int, ...], dtype: str = "int8", grid: Grid = GRID) -> str:
    """A tensor that the NPU computes."""
    flip = 128 if dtype == "uint8" else 0
    x = model.input(shape, dtype, 0.0371, -20 + flip)
    return model.quantize(x, Grid(grid.scale, grid.zero + flip), dtype)


def is_side(shape: Sequence[int], axis: int) -> bool:
    """Whether a dimension is the channel, the width, or all there is of the height."""
    return axis >= len(shape) - 2 or (axis == len(shape) - 3 and np.prod(shape[:axis]) == 1)


def exact(model: ModelBuilder, *outputs: str, unmet: str | None = None, or_on_npu: bool = False) -> None:
    result = proven(model.build(*outputs), model.random_inputs(), unmet, or_on_npu=or_on_npu)
    for name in outputs:
        if name.startswith("quantize"):  # what `computed` made, which LiteRT's uint8 kernel rounds in its own way
            continue
        unequal = int((result.found[name] != result.expected[name]).sum())
        assert not unequal, f"{name}: {unequal} bytes differ"


@examples(20)
@given(
    shape=SHAPES,
    axis=st.integers(-5, -1),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    other=st.lists(grids(-2, -1), max_size=1),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_concatenation(
    shape: tuple[int, ...], axis: int, sizes: list[int], other: list[Grid], dtype: str, seed: int
) -> None:
    """Of parts on one grid; or the last one on another, which LiteRT takes for uint8 only."""
    assume(len(shape) >= -axis)
    dtype = "uint8" if other else dtype
    model, place = ModelBuilder(seed), len(shape) + axis
    parts = [computed(model, (*shape[:place], size, *shape[place + 1 :]), dtype) for size in sizes]
    if other:
        parts[-1] = computed(model, model.tensors[parts[-1]].shape, dtype, other[0])
    y = model.concat(parts, axis, model.tensors[parts[0]].grid)
    unmet = None if is_side(model.tensors[y].shape, place) else AXIS
    if other and len(parts) > 1:
        proven(model.build(y, *parts), model.random_inputs(), unmet, or_on_npu=True)
    else:
        exact(model, y, *parts, unmet=unmet, or_on_npu=True)


@examples(20)
@given(
    shape=SHAPES,
    axis=st.integers(-5, -1),
    parts=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    equal=st.booleans(),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_split(shape: tuple[int, ...], axis: int, parts: list[int], equal: bool, dtype: str, seed: int) -> None:
    assume(len(shape) >= -axis)
    model, place = ModelBuilder(seed), len(shape) + axis
    sizes = parts[:1] * len(parts) if equal else parts
    x = computed(model, (*shape[:place], sum(sizes), *shape[place + 1 :]), dtype)
    pieces = model.split(x, len(sizes), axis) if equal else model.split_v(x, sizes, axis)
    exact(model, x, *pieces, unmet=None if is_side(model.tensors[pieces[0]].shape, place) else AXIS, or_on_npu=True)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[tuple[int, ...], list[slice | int]]:
    """A shape, and a part of it: from, up to, step; or one index, whose dimension goes."""
    shape = draw(SHAPES)
    items: list[slice | int] = []
    for size in shape:
        first = draw(st.integers(0, size - 1))
        last = draw(st.integers(first + 1, size))
        step = draw(st.sampled_from((1, 1, 1, 2, 3, 8)))
        part = draw(st.sampled_from((slice(None), slice(None), slice(first, last, step), first)))
        items.append(part)
    return shape, items


@examples(25)
@given(drawn=ranges(), dtype=DTYPES, seed=SEEDS)
def test_strided_slice(drawn: tuple[tuple[int, ...], list[slice | int]], dtype: str, seed: int) -> None:
    shape, items = drawn
    assume(any(isinstance(item, slice) for item in items))
    model = ModelBuilder(seed)
    x = computed(model, shape, dtype)
    y = model.strided_slice(x, items)
    taken = [len(range(size)[item]) if isinstance(item, slice) else 1 for item, size in zip(items, shape, strict=True)]
    steps = [item.step or 1 if isinstance(item, slice) else 1 for item in items]
    whole = [count == size and 1 in (size, step) for count, size, step in zip(taken, shape, steps, strict=True)]
    unmet = None
    if not all(whole[axis] or is_side(shape, axis) for axis in range(len(shape))):
        unmet = SLICE
    elif isinstance(items[-1], int):
        unmet = "the dimension of the channels is not dropped"
    exact(model, x, y, unmet=unmet, or_on_npu=True)


@examples(20)
@given(drawn=ranges(), dtype=DTYPES, seed=SEEDS)
def test_slice(drawn: tuple[tuple[int, ...], list[slice | int]], dtype: str, seed: int) -> None:
    shape, items = drawn
    model = ModelBuilder(seed)
    x = computed(model, shape, dtype)
    spans = [slice(item, item + 1) if isinstance(item, int) else item for item in items]
    begins = [span.start or 0 for span in spans]
    sizes = [(span.stop or size) - begin for span, begin, size in zip(spans, begins, shape, strict=True)]
    y = model.slice(x, begins, sizes)
    fits = all(sizes[axis] == shape[axis] or is_side(shape, axis) for axis in range(len(shape)))
    exact(model, x, y, unmet=None if fits else SLICE, or_on_npu=True)


@examples(20)
@given(shape=SHAPES, axis=st.integers(-5, -1), count=st.integers(1, 40), dtype=DTYPES, seed=SEEDS)
def test_gather(shape: tuple[int, ...], axis: int, count: int, dtype: str, seed: int) -> None:
    assume(-axis <= len(shape))
    model = ModelBuilder(seed)
    x = computed(model, shape, dtype)
    y = model.gather(x, model.rng.integers(0, shape[axis], count).tolist(), axis)
    exact(model, x, y, unmet=None if axis == -1 else GATHER, or_on_npu=True)


@examples(20)
@given(
    shape=SHAPES,
    pads=st.lists(st.sampled_from(((0, 0), (0, 0), (1, 1), (0, 3), (2, 0), (17, 5), (5, 40))), min_size=5, max_size=5),
    value=st.one_of(st.none(), st.integers(0, 127)),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_pad(shape: tuple[int, ...], pads: list[tuple[int, int]], value: int | None, dtype: str, seed: int) -> None:
    assume(np.prod(shape) <= 1 << 12)
    model = ModelBuilder(seed)
    x = computed(model, shape, dtype)
    chosen = [pair if is_side(shape, axis) or not axis else (0, 0) for axis, pair in enumerate(pads[: len(shape)])]
    y = model.pad(x, chosen, value)
    out = model.tensors[y].shape
    fits = all(is_side(out, axis) or pair == (0, 0) for axis, pair in enumerate(chosen))
    exact(model, x, y, unmet=None if fits else PAD, or_on_npu=True)


@examples(12)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.integers(1, 70),
    pads=st.tuples(*[st.integers(0, 9)] * 4),
    thicker=st.sampled_from((False, False, False, True)),
    mirror=st.sampled_from(("REFLECT", "SYMMETRIC")),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_mirrored_pad(
    size: tuple[int, int],
    channels: int,
    pads: tuple[int, int, int, int],
    thicker: bool,
    mirror: str,
    dtype: str,
    seed: int,
) -> None:
    model, edge = ModelBuilder(seed), mirror == "REFLECT"
    room = [size[0] - edge, size[0] - edge, size[1] - edge, size[1] - edge]
    top, bottom, left, right = (min(pair) for pair in zip(pads, room, strict=True))
    channel = 1 if thicker and channels > 1 else 0
    x = computed(model, (1, *size, channels), dtype)
    y = model.pad(x, ((0, 0), (top, bottom), (left, right), (0, channel)), mirror=mirror)
    exact(model, x, y, unmet="no channels are added" if channel else None)


@examples(25)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    block=st.integers(1, 5),
    channels=st.one_of(st.integers(1, 20), st.sampled_from((32, 64, 128))),
    to_depth=st.booleans(),
    dtype=DTYPES,
    seed=SEEDS,
)
def test_blocks(size: tuple[int, int], block: int, channels: int, to_depth: bool, dtype: str, seed: int) -> None:
    """SPACE_TO_DEPTH and DEPTH_TO_SPACE."""
    model = ModelBuilder(seed)
    height, width = size
    if to_depth:
        x = computed(model, (1, height * block, width * block, channels), dtype)
        y = model.space_to_depth(x, block)
    else:
        x = computed(model, (1, height, width, channels * block * block), dtype)
        y = model.depth_to_space(x, block)
    exact(model, x, y)


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes of as many elements; the factors of one are spread over the dimensions of the other."""
    factors = draw(st.lists(st.sampled_from((1, 2, 2, 3, 5, 7)), min_size=1, max_size=7))
    both: list[tuple[int, ...]] = []
    for _ in range(2):
        cuts = sorted(draw(st.lists(st.integers(0, len(factors)), max_size=4)))
        edges = [0, *cuts, len(factors)]
        both.append(tuple(int(np.prod(factors[a:b])) for a, b in pairwise(edges)))
    return both[0], both[1]


def moves_no_byte(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Whether a reshape keeps the channels of the tensor that decides: one of at most two dimensions, else the first.

    Its channels are its last dimension. They must become the last one of the other tensor, or its second one.
    """
    given, other = (before, after) if len(before) <= 2 or len(after) > 2 else (after, before)
    places = (len(other) - 1,) if len(other) <= 2 else (len(other) - 1, 1)
    return any(
        place >= 0 and other[place] == given[-1] and np.prod(other[:place]) == np.prod(given[:-1]) for place in places
    )


@examples(25)
@given(shapes=reshapes(), dtype=DTYPES, seed=SEEDS)
def test_reshape(shapes: tuple[tuple[int, ...], tuple[int, ...]], dtype: str, seed: int) -> None:
    before, after = shapes
    model = ModelBuilder(seed)
    x = computed(model, before, dtype)
    exact(model, x, model.reshape(x, after), unmet=None if moves_no_byte(before, after) else RESHAPE)


@examples(20)
@given(
    shape=st.lists(st.sampled_from((1, 1, 2, 5, 20)), min_size=1, max_size=4).map(tuple),
    where=st.integers(0, 4),
    expand=st.booleans(),
    seed=SEEDS,
)
def test_dimensions_of_size_one(shape: tuple[int, ...], where: int, expand: bool, seed: int) -> None:
    """SQUEEZE and EXPAND_DIMS are free while one dimension can be the channels of both tensors."""
    where = min(where, len(shape))
    model, longer = ModelBuilder(seed), (*shape[:where], 1, *shape[where:])
    x = computed(model, shape if expand else longer)
    if expand:
        axis: NDArray[np.int32] = np.array(where, np.int32)
        y = model.operator("EXPAND_DIMS", [x, model.constant(axis)], longer, GRID)
    else:
        options = schema.SqueezeOptionsT(squeezeDims=[where])
        y = model.operator("SQUEEZE", [x], shape, GRID, options, "SqueezeOptions")
    before, after = (shape, longer) if expand else (longer, shape)
    exact(model, x, y, unmet=None if moves_no_byte(before, after) else RESHAPE)


def turns_no_byte(shape: tuple[int, ...], axes: list[int]) -> bool:
    """Whether a transposition keeps pixels and channels in their places on the device.

    The channels are the operand's last dimension. In a result of more than two dimensions they may become the second.
    """
    last = len(shape) - 1
    found = axes.index(last)
    rest = [axis for axis in axes if axis != last and shape[axis] > 1]
    channel = found if last > 1 and found in (1, last) and rest == sorted(rest) else last
    on_device = [axis for place, axis in enumerate(axes) if place != channel]
    moved = [axis for axis in (*on_device, axes[channel]) if shape[axis] > 1]
    return moved == sorted(moved) and shape[axes[channel]] == shape[last]


@examples(25)
@given(
    shape=st.lists(st.sampled_from((1, 1, 2, 5, 20)), min_size=2, max_size=5).map(tuple),
    order=st.randoms(use_true_random=False),
    seed=SEEDS,
)
def test_transpose(shape: tuple[int, ...], order: np.random.RandomState, seed: int) -> None:
    model, axes = ModelBuilder(seed), list(range(len(shape)))
    order.shuffle(axes)
    x = computed(model, shape)
    exact(model, x, model.transpose(x, axes), unmet=None if turns_no_byte(shape, axes) else TRANSPOSE)
