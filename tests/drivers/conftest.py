"""A small model, its right answer, and both drivers on a virtual kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import rocketnpu as rn
from drivers.boards import DRIVERS, Case
from rocketnpu.virtual import VirtualKernel
from support.models import ModelBuilder


@pytest.fixture(scope="session")
def case() -> Case:
    """Three tasks on the NPU: two convolutions and an addition."""
    model = ModelBuilder(seed=1)
    x = model.input((1, 16, 16, 8))
    y = model.conv2d(x, 16, kernel=3)
    return Case.of(rn.compile(model.build(model.add(y, model.depthwise(y)))))


@pytest.fixture(params=DRIVERS)
def kernel(request: pytest.FixtureRequest) -> Iterator[VirtualKernel]:
    """A virtual kernel with either driver."""
    with VirtualKernel(request.param) as kernel:
        yield kernel
