"""CONCATENATION on the NPU against LiteRT's reference kernels: parts made in place, copied, spread or rescaled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import rocketnpu as rn
from support.agreement import Agreement, agreement, reason_on_cpu, run_on_npu
from support.models import Grid, ModelBuilder


def concat_tasks(result: Agreement, name: str = "concatenation") -> int:
    return sum(task.name.startswith(name) for task in result.program.tasks)


def assert_end_to_end(result: Agreement, inputs: Sequence[np.ndarray], name: str, tolerance: int = 2) -> None:
    """Run as one piece, the tensors in one place do not disturb one another."""
    with rn.Session(result.program, device="emulator") as session:
        found = session.run(list(inputs))[name]
    difference = np.abs(found.astype(int) - result.expected[name].astype(int)).max()
    assert difference <= tolerance, f"{name} differs by up to {difference}"


def convolutions(model: ModelBuilder, channels: Sequence[int]) -> list[str]:
    x = model.input((1, 6, 7, 8))
    return [model.conv2d(x, count, output=Grid(0.05, 4)) for count in channels]


@pytest.mark.parametrize("channels", [(32, 64), (64, 32, 5), (16, 16), (48, 16, 20), (16, 32, 48, 7)])
def test_parts_of_whole_planes_are_made_in_place(channels: tuple[int, ...]) -> None:
    model = ModelBuilder(seed=1)
    y = model.concat(convolutions(model, channels))
    inputs = model.random_inputs()
    result = agreement(model.build(model.conv2d(y, 24)), inputs)
    assert not result.reasons()
    assert concat_tasks(result) == 0
    assert_end_to_end(result, inputs, "conv_2d_" + str(len(channels) + 1))


def test_a_part_that_reaches_into_an_older_one_is_copied() -> None:
    """The part in front fills 32 channels, of which 16 belong to a part that was written before it."""
    model = ModelBuilder(seed=2)
    a, b = convolutions(model, (16, 16))
    y = model.concat([b, a])
    inputs = model.random_inputs()
    result = agreement(model.build(y), inputs)
    assert not result.reasons()
    assert concat_tasks(result) == 1
    assert_end_to_end(result, inputs, y)


def test_a_depthwise_part_fills_64_channels() -> None:
    model = ModelBuilder(seed=3)
    x = model.conv2d(model.input((1, 6, 7, 8)), 32, output=Grid(0.05, 4))
    y = model.concat([model.depthwise(x, output=Grid(0.05, 4)), x])
    inputs = model.random_inputs()
    result = agreement(model.build(y), inputs)
    assert not result.reasons()
    assert concat_tasks(result) == 1
    assert_end_to_end(result, inputs, y)


@pytest.mark.parametrize("channels", [(20, 12), (3, 5, 40), (16, 7, 9, 32), (1, 1, 1), (24, 24, 17)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_parts_that_share_planes_are_spread(channels: tuple[int, ...], dtype: str) -> None:
    model = ModelBuilder(seed=4)
    parts = [model.input((1, 5, 9, count), dtype) for count in channels]
    y = model.concat(parts)
    result = run_on_npu(model, y)
    assert result.unequal == 0


def test_a_part_on_another_grid_is_rescaled_into_its_place() -> None:
    model = ModelBuilder(seed=5)
    parts = [model.conv2d(model.input((1, 4, 5, 8), "uint8"), 32, output=Grid(0.03 + i / 100, 120)) for i in range(3)]
    result = run_on_npu(model, model.concat(parts, output=Grid(0.05, 130)))
    assert concat_tasks(result) == 3


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("channels", [5, 40])
def test_height_and_width(axis: int, channels: int) -> None:
    model = ModelBuilder(seed=6)
    shapes = [(1, 3, 7, channels), (1, 5, 7, channels)] if axis == 1 else [(1, 4, 2, channels), (1, 4, 9, channels)]
    parts = [model.conv2d(model.input(shape), channels, 1, output=Grid(0.05, 4)) for shape in shapes]
    y = model.concat(parts, axis)
    assert run_on_npu(model, y, *parts).unequal < 0.01


def test_one_tensor_twice() -> None:
    model = ModelBuilder(seed=7)
    (a,) = convolutions(model, (32,))
    y = model.concat([a, a, a])
    result = run_on_npu(model, y)
    assert concat_tasks(result) == 2


def test_concatenations_inside_one_another_share_a_place() -> None:
    """Each layer of a dense block reads all that came before it."""
    model = ModelBuilder(seed=8)
    x = model.conv2d(model.input((1, 6, 6, 8)), 32, output=Grid(0.05, 4))
    for _ in range(3):
        x = model.concat([x, model.conv2d(x, 16, output=Grid(0.05, 4))])
    inputs = model.random_inputs()
    result = agreement(model.build(model.conv2d(x, 8)), inputs)
    assert not result.reasons()
    assert concat_tasks(result) == 0
    with rn.Session(result.program, device="emulator") as session:
        found = session.run(inputs, fetch="all")
    for name, values in found.items():
        difference = np.abs(values.astype(int) - result.expected[name].astype(int)).max()
        assert difference <= 6, f"{name} differs by up to {difference} after {len(found)} layers"


def test_inner_concatenations_written_early_are_not_overrun() -> None:
    model = ModelBuilder(seed=9)
    a, b, c = convolutions(model, (16, 16, 16))
    y = model.concat([c, model.concat([a, b])])
    inputs = model.random_inputs()
    result = agreement(model.build(y), inputs)
    assert not result.reasons()
    assert_end_to_end(result, inputs, y)


@pytest.mark.parametrize("shape", [(1, 8), (8,), (2, 3, 4, 8)])
def test_channels_of_any_rank(shape: tuple[int, ...]) -> None:
    model = ModelBuilder(seed=10)
    a, b = model.input((*shape[:-1], 16)), model.input(shape)
    y = model.concat([model.add(a, a, output=Grid(0.02, 3)), b])
    assert run_on_npu(model, y).unequal < 0.01


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_any_dimension_of_a_batch(batch: int, axis: int) -> None:
    model = ModelBuilder(seed=11)
    shape = (batch, 4, 5, 16)
    a, b = (model.max_pool(model.input(shape), 2, 1, "SAME") for _ in range(2))
    run_on_npu(model, model.concat([a, b], axis=axis))


def test_inputs_of_the_model_that_nothing_computes_on_are_joined_by_the_host() -> None:
    model = ModelBuilder(seed=12)
    y = model.concat([model.input((1, 4, 4, 16)), model.input((1, 4, 4, 16))])
    assert reason_on_cpu(model, y) == "a neighbour computes on the NPU"
