"""FULLY_CONNECTED on the NPU, also after a flattening RESHAPE, against LiteRT's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.cpu.litert import Reference
from support.agreement import run_on_npu
from support.models import Grid, ModelBuilder


@pytest.mark.parametrize(("inputs", "units"), [(1, 1), (3, 2), (16, 31), (100, 33), (512, 10), (1280, 1001)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_vectors(inputs: int, units: int, dtype: str) -> None:
    model = ModelBuilder(seed=inputs)
    run_on_npu(model, model.fully_connected(model.input((1, inputs), dtype), units))


@pytest.mark.parametrize("batch", [2, 5, 64, 3000])
def test_rows_of_a_batch(batch: int) -> None:
    model = ModelBuilder(seed=batch)
    run_on_npu(model, model.fully_connected(model.input((batch, 37)), 19))


@pytest.mark.parametrize("shape", [(1, 3, 5, 17), (1, 7, 7, 64), (1, 31, 1, 3), (1, 1, 1, 50)])
def test_an_image_is_one_row(shape: tuple[int, ...]) -> None:
    model = ModelBuilder(seed=1)
    run_on_npu(model, model.fully_connected(model.input(shape), 20))


@pytest.mark.parametrize("shape", [(1, 3, 5, 17), (2, 4, 9), (2, 3, 4, 5)])
def test_each_pixel_is_a_row_when_dimensions_are_kept(shape: tuple[int, ...]) -> None:
    model = ModelBuilder(seed=2)
    result = run_on_npu(model, y := model.fully_connected(model.input(shape), 20, keep_num_dims=True))
    assert result.found[y].shape == (*shape[:-1], 20)


def test_per_channel_scales_and_activation() -> None:
    model = ModelBuilder(seed=3)
    x = model.input((4, 50))
    run_on_npu(model, model.fully_connected(x, 40, per_channel=True, activation="RELU6", output=Grid(0.05, -20)))


@pytest.mark.parametrize("zero", [-7, 0, 30])
def test_int8_weights_may_have_a_zero_point(zero: int) -> None:
    """LiteRT's int8 kernel subtracts it, unlike that of convolutions."""
    model = ModelBuilder(seed=4)
    run_on_npu(model, model.fully_connected(model.input((1, 30)), 8, weight_grid=Grid(0.003, zero)))


@pytest.mark.parametrize("per_channel", [False, True])
def test_rounds_once_as_litert_does(per_channel: bool) -> None:
    """A gain of 1/256 has an exact half among every 256 sums; two roundings would change 1 result in 600."""
    model = ModelBuilder(seed=9)
    x = model.input((400, 8))
    scale = model.tensors[x].scale
    weights = Grid((2.0**-8,) * 30 if per_channel else 2.0**-8)
    result = run_on_npu(model, model.fully_connected(x, 30, weight_grid=weights, output=Grid(scale, 3)))
    assert result.unequal == 0


def test_without_bias() -> None:
    model = ModelBuilder(seed=5)
    run_on_npu(model, model.fully_connected(model.input((2, 30)), 8, bias=False))


def test_more_units_than_a_task_has_channels() -> None:
    model = ModelBuilder(seed=6)
    result = run_on_npu(model, model.fully_connected(model.input((1, 40)), 9001))
    assert len(result.program.tasks) > 1


def test_a_flattened_image_is_read_where_it_is() -> None:
    """Flattening would move bytes between planes; the layer reads the image instead, and the flat tensor is gone."""
    model = ModelBuilder(seed=7)
    image = model.conv2d(model.input((1, 6, 7, 5)), 40)
    flat = model.reshape(image, (1, 6 * 7 * 40))
    y = model.fully_connected(flat, 12)
    result = run_on_npu(model, y)
    assert result.program.dissolved == {flat: y}
    assert [step.name for step in result.program.steps] == [image, y]


def test_a_flat_tensor_that_is_kept_exists() -> None:
    model = ModelBuilder(seed=8)
    flat = model.reshape(model.conv2d(model.input((1, 4, 4, 5)), 20), (1, 320))
    y = model.fully_connected(flat, 12)
    data, inputs = model.build(y), model.random_inputs()
    expected = Reference(data).tensors(inputs)
    with rn.Session(rn.compile(data, keep=[flat])) as session:
        assert session.program.dissolved == {}
        found = session.run(inputs, fetch=[flat])
    assert np.abs(found[flat].astype(int) - expected[flat]).max() <= 1


def test_a_flat_tensor_on_another_grid_is_not_read_through() -> None:
    """RESHAPE copies bytes; the layer then reads them on the flat tensor's grid, not on the image's."""
    model = ModelBuilder(seed=9)
    image = model.conv2d(model.input((1, 4, 4, 5)), 20)
    flat = model.reshape(image, (1, 320))
    model.tensors[flat] = type(model.tensors[flat])((1, 320), "int8", Grid(0.5, 9))
    y = model.fully_connected(flat, 12)
    data, inputs = model.build(y), model.random_inputs()
    with rn.Session(data) as session:
        found = session.run_isolated(Reference(data).tensors(inputs))
    assert np.abs(found[y].astype(int) - Reference(data).tensors(inputs)[y]).max() <= 1


def test_rows_of_weights_may_take_several_images() -> None:
    model = ModelBuilder(seed=10)
    x = model.input((2, 3, 10))
    y = model.fully_connected(x, 4)
    run_on_npu(model, y)


def test_a_row_beyond_the_cbuf_is_a_sum_of_shorter_ones() -> None:
    """Weights of at most 1 keep the emulator's exact sums in float32 few."""
    model = ModelBuilder(seed=11)
    weights = model.rng.integers(-1, 2, (2, 600_000)).astype(np.int8)
    y = model.fully_connected(model.input((1, 600_000)), 2, weights=weights, weight_grid=Grid(0.0021))
    run_on_npu(model, y)
