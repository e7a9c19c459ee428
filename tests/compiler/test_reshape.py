"""RESHAPE as another name for the same bytes."""

from __future__ import annotations

import numpy as np
import pytest

import rocketnpu as rn
from support.agreement import agreement, reason_on_cpu, run_on_npu
from support.models import ModelBuilder, schema


@pytest.mark.parametrize("shape", [(1, 48, 20), (48, 20), (1, 1, 48, 20), (2, 24, 20), (1, 4, 12, 20)])
def test_a_reshape_that_keeps_channels_has_no_task(shape: tuple[int, ...]) -> None:
    model = ModelBuilder(seed=1)
    y = model.reshape(x := model.conv2d(model.input((1, 6, 8, 5)), 20), shape)
    result = run_on_npu(model, y)
    assert {task.name for task in result.program.tasks} == {x}


def test_tasks_read_a_reshaped_tensor_where_it_is() -> None:
    model = ModelBuilder(seed=2)
    flat = model.reshape(model.conv2d(model.input((1, 6, 8, 5)), 20), (1, 48, 20))
    again = model.reshape(model.add(flat, flat), (1, 12, 4, 20))
    y = model.depthwise(again)
    data, inputs = model.build(y), model.random_inputs()
    result = agreement(data, inputs)
    assert not result.reasons()
    with rn.Session(result.program) as session:
        assert np.abs(session.run(inputs)[y].astype(int) - result.expected[y]).max() <= 2


def test_a_reshape_between_channels_stays_on_the_cpu() -> None:
    model = ModelBuilder(seed=3)
    x = model.conv2d(model.input((1, 4, 4, 5)), 20)
    result = agreement(
        model.build(model.reshape(x, (1, 2, 8, 20)), model.reshape(x, (1, 4, 8, 10))), model.random_inputs()
    )
    assert result.reasons() == {"RESHAPE": "the reshape keeps each pixel's channels together, so that no byte moves"}


def test_a_reshape_with_nothing_on_the_npu_stays_on_the_cpu() -> None:
    model = ModelBuilder(seed=4)
    assert (
        reason_on_cpu(model, model.reshape(model.input((1, 4, 4, 5)), (1, 16, 5))) == "a neighbour computes on the NPU"
    )


def test_a_shape_that_follows_from_other_shapes_is_known_before_the_run() -> None:
    """Converters write a reshape that keeps the batch as SHAPE, then RESHAPE."""
    model = ModelBuilder(seed=5)
    x = model.conv2d(model.input((1, 4, 4, 5)), 20)
    shape = model.operator(
        "SHAPE", [x], (4,), None, schema.ShapeOptionsT(outType=schema.TensorType.INT32), "ShapeOptions", dtype="int32"
    )
    y = model.operator(
        "RESHAPE", [x, shape], (1, 4, 4, 20), model.tensors[x].grid, schema.ReshapeOptionsT(), "ReshapeOptions"
    )
    result = agreement(model.build(model.add(y, y)), model.random_inputs())
    assert result.reasons() == {}
