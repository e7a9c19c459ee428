"""Programs to inspect: the vendor's, and a small one of our own whose every task is legal."""

from __future__ import annotations

from pathlib import Path

import pytest

import rocketnpu as rn
from rocketnpu.program.model import Program
from rocketnpu.rknn import load_rknn
from support.models import ModelBuilder

VENDOR = ("a_channel", "a_layer", "a2_channel", "a2_layer", "b_channel", "b_layer")


@pytest.fixture(scope="session")
def vendor(shared: Path) -> dict[str, Program]:
    """The vendor's programs by name."""
    folder = shared / "vectors" / "vendor"
    return {name: load_rknn((folder / f"{name}.rknn").read_bytes(), name) for name in VENDOR}


@pytest.fixture(scope="session")
def small() -> Program:
    """Tasks 0 to 3: conv 16 -> 48 channels, conv, add of both, depthwise; all on the NPU."""
    model = ModelBuilder(seed=1)
    x = model.input((1, 16, 16, 16), name="x")
    first = model.conv2d(x, 48, kernel=3, name="first")
    second = model.conv2d(first, 48, kernel=1, name="second")
    total = model.add(first, second, name="total")
    return rn.compile(model.build(model.depthwise(total, stride=2, name="last")))
