"""SPLIT, SPLIT_V, SLICE, STRIDED_SLICE, PAD, PADV2, MIRROR_PAD on the NPU against LiteRT's reference kernels.

They move bytes, so that nothing may differ. Every model starts with a convolution, as copies alone stay on the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import rocketnpu as rn
from support.agreement import Agreement, agreement, reason_on_cpu, run_on_npu
from support.models import Grid, ModelBuilder


def image(model: ModelBuilder, channels: int = 40, dtype: str = "int8") -> str:
    return model.max_pool(model.input((1, 9, 11, channels), dtype), 2, 1)


def tasks_of(result: Agreement, *names: str) -> int:
    return sum(task.name.split("#")[0] in names for task in result.program.tasks)


@pytest.mark.parametrize("sizes", [(16, 24), (32, 8), (16, 16, 8)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_channels_at_whole_planes_are_views(sizes: Sequence[int], dtype: str) -> None:
    model = ModelBuilder(seed=1)
    parts = model.split_v(image(model, dtype=dtype), sizes)
    result = run_on_npu(model, *parts)
    assert result.unequal == 0
    assert tasks_of(result, *parts) == 0


@pytest.mark.parametrize("sizes", [(20, 20), (1, 2, 37), (39, 1), (5, 16, 19)])
def test_channels_at_other_places_are_selected(sizes: Sequence[int]) -> None:
    model = ModelBuilder(seed=2)
    result = run_on_npu(model, *model.split_v(image(model), sizes))
    assert result.unequal == 0


@pytest.mark.parametrize(("axis", "parts"), [(1, 2), (1, 4), (2, 5), (2, 2), (3, 4)])
def test_split(axis: int, parts: int) -> None:
    model = ModelBuilder(seed=3)
    assert run_on_npu(model, *model.split(image(model), parts, axis)).unequal == 0


def test_views_are_read_where_they_are() -> None:
    """A shuffle block: one half is convolved, both are joined; the other half keeps the place of the whole."""
    model = ModelBuilder(seed=4)
    x = model.conv2d(model.input((1, 6, 6, 8)), 64, output=Grid(0.05, 4))
    left, right = model.split(x, 2)
    y = model.concat([left, model.depthwise(right, output=Grid(0.05, 4))])
    inputs = model.random_inputs()
    result = agreement(model.build(model.add(y, x)), inputs)
    assert not result.reasons()
    with rn.Session(result.program, device="emulator") as session:
        found = session.run(inputs, fetch="all")
    for name, values in found.items():
        difference = np.abs(values.astype(int) - result.expected[name].astype(int)).max()
        assert difference <= 3, f"{name} differs by up to {difference}"


@pytest.mark.parametrize(
    ("begin", "size"),
    [
        ((0, 2, 0, 0), (1, 3, -1, -1)),
        ((0, 2, 0, 16), (1, 3, -1, 20)),
        ((0, 1, 3, 0), (1, 5, 4, 40)),
        ((0, 0, 9, 32), (1, 8, 1, 8)),
        ((0, 7, 0, 3), (1, 1, -1, 21)),
        ((0, 0, 0, 17), (1, 8, 10, 1)),
    ],
)
def test_slice(begin: Sequence[int], size: Sequence[int]) -> None:
    model = ModelBuilder(seed=5)
    assert run_on_npu(model, model.slice(image(model), begin, size)).unequal == 0


@pytest.mark.parametrize(
    "ranges",
    [
        (slice(None), slice(None, None, 2), slice(1, None, 3), slice(None)),
        (slice(None), slice(1, -1), slice(-4, -1), slice(16, None)),
        (slice(None), slice(None), slice(None), slice(1, None, 2)),
        (slice(None), slice(3, 7, 8), slice(None), slice(5, 30, 5)),
        (slice(None), 3, slice(None), slice(None)),
        (slice(None), slice(1, 5), 4, slice(None)),
        (0, slice(None), slice(2, 4)),
    ],
)
def test_strided_slice(ranges: Sequence[slice | int]) -> None:
    model = ModelBuilder(seed=6)
    assert run_on_npu(model, model.strided_slice(image(model), ranges)).unequal == 0


def test_a_slice_of_single_channels_that_drops_them_stays_on_the_cpu() -> None:
    model = ModelBuilder(seed=7)
    y = model.strided_slice(model.input((1, 8, 8, 16)), (slice(None), slice(None), slice(None), 3))
    assert reason_on_cpu(model, y) == "the dimension of the channels is not dropped"


def test_a_step_back_stays_on_the_cpu() -> None:
    model = ModelBuilder(seed=8)
    y = model.strided_slice(model.input((1, 8, 8, 16)), (slice(None), slice(None, None, -1)))
    assert "it has a stride that is not positive" in reason_on_cpu(model, y)


@pytest.mark.parametrize(
    "pads",
    [
        ((0, 0), (1, 1), (1, 1), (0, 0)),
        ((0, 0), (0, 3), (2, 0), (0, 0)),
        ((0, 0), (0, 0), (0, 0), (0, 24)),
        ((0, 0), (2, 1), (0, 1), (7, 3)),
        ((0, 0), (15, 0), (0, 15), (0, 0)),
    ],
)
@pytest.mark.parametrize(("dtype", "value"), [("int8", None), ("uint8", None), ("int8", -77), ("uint8", 200)])
def test_pad(pads: Sequence[tuple[int, int]], dtype: str, value: int | None) -> None:
    model = ModelBuilder(seed=9)
    assert run_on_npu(model, model.pad(image(model, 20, dtype), pads, value)).unequal == 0


@pytest.mark.parametrize("mirror", ["REFLECT", "SYMMETRIC"])
@pytest.mark.parametrize("pads", [((1, 2), (3, 0)), ((0, 0), (1, 1)), ((7, 4), (0, 0))])
def test_mirrored_pad(mirror: str, pads: tuple[tuple[int, int], tuple[int, int]]) -> None:
    model = ModelBuilder(seed=10)
    assert run_on_npu(model, model.pad(image(model), ((0, 0), *pads, (0, 0)), mirror=mirror)).unequal == 0


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("depthwise", [False, True])
def test_a_convolution_pads_by_itself(stride: int, depthwise: bool) -> None:
    """Keras writes its strided layers this way."""
    model = ModelBuilder(seed=11)
    x = model.input((1, 12, 13, 24), "uint8")
    padded = model.pad(x, ((0, 0), (0, 1), (2, 1), (0, 0)), name="padded")
    layer = model.depthwise if depthwise else lambda x, **rest: model.conv2d(x, 16, **rest)
    y = layer(padded, kernel=3, stride=stride, padding="VALID")
    result = run_on_npu(model, y)
    assert result.program.dissolved == {"padded": y}
    assert len(result.program.tasks) == 1


def test_every_convolution_of_a_chain_pads_by_itself() -> None:
    model = ModelBuilder(seed=15)
    x = model.input((1, 9, 9, 16))
    for _ in range(3):
        x = model.conv2d(model.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 16, padding="VALID")
    result = run_on_npu(model, x)
    assert len(result.program.dissolved) == 3


def test_a_pad_that_others_read_or_that_is_kept_is_made() -> None:
    model = ModelBuilder(seed=12)
    x = model.pad(model.input((1, 6, 6, 16)), ((0, 0), (1, 1), (1, 1), (0, 0)), name="padded")
    y = model.conv2d(x, 8, padding="VALID")
    assert run_on_npu(model, y, keep=["padded"]).program.dissolved == {}
    assert run_on_npu(model, y, x).program.dissolved == {}


def test_a_pad_with_another_value_is_made() -> None:
    model = ModelBuilder(seed=13)
    x = model.pad(model.input((1, 6, 6, 16)), ((0, 0), (1, 1), (1, 1), (0, 0)), value=100)
    assert run_on_npu(model, model.conv2d(x, 8, padding="VALID")).program.dissolved == {}


@pytest.mark.parametrize("pads", [((0, 0), (16, 0), (0, 40), (0, 0)), ((0, 0), (3, 9), (50, 2), (5, 0))])
def test_padding_beyond_the_field_takes_steps(pads: Sequence[tuple[int, int]]) -> None:
    model = ModelBuilder(seed=14)
    assert run_on_npu(model, model.pad(image(model), pads)).unequal == 0


def test_channels_that_would_take_many_weights_to_move_are_moved_by_the_cpu() -> None:
    """8000 samples that get 50 more in front: each pair of channels would be a weight."""
    model = ModelBuilder(seed=31)
    x = model.input((1, 8000))
    reason = reason_on_cpu(model, model.pad(x, [(0, 0), (50, 50)]))
    assert reason == "channels that change their place take at most 16 MiB of weights"
