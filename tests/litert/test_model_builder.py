"""The builder of test models makes models that LiteRT runs and whose outputs use their range."""

from __future__ import annotations

import numpy as np
import pytest

from rocketnpu.cpu.litert import Reference
from support.models import Grid, ModelBuilder


def results(model: ModelBuilder, *outputs: str) -> dict[str, np.ndarray]:
    return Reference(model.build(*outputs)).tensors(model.random_inputs())


def assert_spread(values: np.ndarray) -> None:
    """Full-range noise through a layer neither collapses nor saturates almost everywhere."""
    used = len(np.unique(values))
    extremes = np.mean((values == values.min()) | (values == values.max()))
    assert used > 20, f"only {used} different values"
    assert extremes < 0.7, f"{extremes:.0%} of the values are extremes"


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6", "RELU_N1_TO_1"])
@pytest.mark.parametrize(("dtype", "per_channel"), [("int8", False), ("int8", True), ("uint8", False)])
def test_layers_with_weights_use_their_output_range(dtype: str, activation: str, per_channel: bool) -> None:
    model = ModelBuilder(seed=3)
    x = model.input((1, 9, 8, 6), dtype)
    options = {"activation": activation, "per_channel": per_channel}
    conv = model.conv2d(x, 12, kernel=(3, 2), stride=(2, 1), **options)
    depthwise = model.depthwise(x, kernel=3, multiplier=2, padding="VALID", **options)
    dense = model.fully_connected(x, 40, **options)
    values = results(model, conv, depthwise, dense)
    assert values[conv].shape == (1, 5, 8, 12)
    assert values[depthwise].shape == (1, 7, 6, 12)
    assert values[dense].shape == (1, 40)
    assert_spread(values[conv])
    assert_spread(values[depthwise])


def test_every_kind_of_operator_runs() -> None:
    model = ModelBuilder()
    x = model.input((1, 8, 8, 4), "int8")
    y = model.conv2d(model.depthwise(x, bias=False), 8, dilation=2)
    z = model.add(y, model.conv2d(x, 8, kernel=1), activation="RELU", output=Grid(0.05, -128))
    pooled = model.max_pool(model.average_pool(z), kernel=3, stride=1, padding="SAME")
    flat = model.reshape(model.mean(pooled), (1, 8))
    scores = model.softmax(model.fully_connected(flat, 10, bias=False))
    relu = model.operator("RELU", [y], (1, 8, 8, 8), Grid(0.05, -128))
    values = results(model, scores, relu)
    assert values[pooled].shape == (1, 4, 4, 8)
    assert values[scores].shape == (1, 10)
    assert values[relu].min() == -128


def test_float_models_run_too() -> None:
    model = ModelBuilder()
    x = model.input((1, 4, 4, 2), "float32")
    y = model.fully_connected(model.conv2d(x, 3), 5, bias=False)
    assert results(model, y)[y].dtype == np.float32
