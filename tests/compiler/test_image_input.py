"""Inputs of 1 to 4 channels in the chip's image mode, against LiteRT's reference kernels."""

from __future__ import annotations

import pytest

from rocketnpu.hw.registers import CNA
from rocketnpu.program.model import Program
from support.agreement import agreement, assert_mostly_equal, run_on_npu
from support.models import Grid, ModelBuilder
from support.traffic import register_tasks


def image_formats(program: Program) -> set[int]:
    """ARGB_IN of all convolutions: 0 for feature cubes, else 7 + channels."""
    return {task.get(CNA.CONV_CON1, "ARGB_IN") for task in register_tasks(program) if task.enables(CNA)}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("width", [15, 16, 17, 226])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 3), (1, 1)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_small_images(channels: int, width: int, kernel: int, stride: int, dtype: str) -> None:
    model = ModelBuilder(seed=channels)
    x = model.input((1, 20, width, channels), dtype)
    result = run_on_npu(model, model.conv2d(x, 24, kernel=kernel, stride=stride))
    assert_mostly_equal([result])
    whole_width = (-(-width // stride) - 1) * stride + kernel >= width
    assert image_formats(result.program) == ({7 + channels} if whole_width else {0})


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_beyond_the_cbuf_are_cut_in_rows(channels: int) -> None:
    """Every tile starts on a 16-byte address, else 94 % of the outputs would be wrong (hardware/layouts.md)."""
    model = ModelBuilder(seed=9)
    x = model.input((1, 300, 517, channels), "uint8")
    result = run_on_npu(model, model.conv2d(x, 16, stride=2))
    tasks = register_tasks(result.program)
    assert len(tasks) > 1
    assert image_formats(result.program) == {7 + channels}
    assert {task.word(CNA.FEATURE_DATA_ADDR) % 16 for task in tasks} == {0}


def test_five_channels_are_a_feature_cube() -> None:
    model = ModelBuilder(seed=5)
    result = run_on_npu(model, model.conv2d(model.input((1, 16, 16, 5)), 8))
    assert image_formats(result.program) == {0}


@pytest.mark.parametrize("second", ["convolution", "depthwise", "addition", "softmax", "reshape", "output"])
def test_an_image_with_two_readers(second: str) -> None:
    """Another convolution may read the image, and the host; any other task of the NPU needs the feature cube."""
    model = ModelBuilder(seed=6)
    x = model.input((1, 18, 20, 3))
    y = model.conv2d(x, 8, output=Grid(0.03, 0))
    other = {
        "convolution": lambda: model.conv2d(x, 12, kernel=5),
        "depthwise": lambda: model.depthwise(x),
        "addition": lambda: model.add(x, x),
        "softmax": lambda: model.softmax(x),
        "reshape": lambda: model.add(flat := model.reshape(x, (1, 360, 3)), flat),
        "output": lambda: x,
    }[second]()
    result = agreement(model.build(y, other), model.random_inputs())
    assert image_formats(result.program) == ({10} if second in ("convolution", "softmax") else {0})


@pytest.mark.parametrize("readers", ["convolutions", "convolution and depthwise"])
def test_an_image_whose_sign_is_flipped_first(readers: str) -> None:
    """The QUANTIZE at the start of a model with uint8 inputs moves no byte: dense pixels stay dense."""
    model = ModelBuilder(seed=7)
    x = model.input((1, 18, 20, 3), "uint8", 0.02, 131)
    flipped = model.quantize(x, Grid(0.02, 3), "int8")
    y = model.conv2d(flipped, 8, output=Grid(0.03, 0))
    other = model.conv2d(flipped, 12, kernel=5) if readers == "convolutions" else model.depthwise(flipped)
    result = run_on_npu(model, y, other)
    assert image_formats(result.program) == ({10} if readers == "convolutions" else {0})
    entries = {entry.name: entry.cube for entry in result.program.tensors}
    assert entries[x] == entries[flipped]


def test_a_change_of_grid_needs_the_feature_cube() -> None:
    model = ModelBuilder(seed=8)
    x = model.input((1, 18, 20, 3), "uint8", 0.02, 131)
    result = run_on_npu(model, model.conv2d(model.quantize(x, Grid(0.025, 3), "int8"), 8))
    assert image_formats(result.program) == {0}
