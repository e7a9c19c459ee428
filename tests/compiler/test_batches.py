"""Operators on several images at once, against LiteRT's kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.agreement import run_on_npu
from support.models import Grid, ModelBuilder

OPERATORS: dict[str, Callable[[ModelBuilder, str], str]] = {
    "CONV_2D": lambda model, x: model.conv2d(x, 24, kernel=(3, 3), stride=(1, 1), padding="SAME"),
    "CONV_2D, stride": lambda model, x: model.conv2d(x, 24, kernel=(3, 3), stride=(2, 2), padding="VALID"),
    "CONV_2D, 1x1": lambda model, x: model.conv2d(x, 40),
    "DEPTHWISE_CONV_2D": lambda model, x: model.depthwise(x),
    "AVERAGE_POOL_2D": lambda model, x: model.average_pool(x, 3, 2, "SAME"),
    "MAX_POOL_2D": lambda model, x: model.max_pool(x, 3, 2, "SAME"),
    "MEAN": lambda model, x: model.mean(x),
    "FULLY_CONNECTED": lambda model, x: model.fully_connected(x, 10),
    "ADD": lambda model, x: model.add(x, model.conv2d(x, 20), output=Grid(0.03, 2)),
    "CONCATENATION": lambda model, x: model.concat([model.max_pool(x, 2, 1, "SAME"), x], axis=1),
    "RESIZE_BILINEAR": lambda model, x: model.resize(x, 2, bilinear=True),
    "RESIZE_NEAREST_NEIGHBOR": lambda model, x: model.resize(x, 2),
    "TRANSPOSE_CONV": lambda model, x: model.transpose_conv(x, 16, kernel=3, stride=2),
}


@pytest.mark.parametrize("batch", [2, 3, 8])
@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_on_a_batch(operator: str, batch: int) -> None:
    model = ModelBuilder(seed=batch)
    run_on_npu(model, OPERATORS[operator](model, model.input((batch, 6, 7, 20))))
