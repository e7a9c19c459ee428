"""Strides beyond the field of 7, over blocks of the input, against LiteRT's reference kernels."""

from __future__ import annotations

import pytest

from support.agreement import proven, run_on_npu
from support.models import ModelBuilder, Pair


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        (16, 16, "VALID", 1),
        (8, 8, "SAME", 1),
        ((3, 11), (8, 9), "SAME", 1),
        ((13, 3), (12, 2), "VALID", 1),
        ((2, 3), (14, 10), "SAME", (3, 5)),
        (7, 25, "SAME", 1),
    ],
)
@pytest.mark.parametrize("channels", [3, 16, 21])
def test_strides_with_divisors(kernel: Pair, stride: Pair, padding: str, dilation: Pair, channels: int) -> None:
    model = ModelBuilder(seed=1)
    x = model.input((1, 61, 75, channels), "uint8" if channels == 21 else "int8")
    y = model.conv2d(x, 40, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    result = proven(model.build(y), model.random_inputs())
    assert result.unequal < 0.001


@pytest.mark.parametrize("kernel", [3, 8, 9])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_strides(kernel: int, multiplier: int) -> None:
    model = ModelBuilder(seed=2)
    x = model.input((1, 50, 66, 37))
    y = model.depthwise(x, kernel, stride=8, multiplier=multiplier, per_channel=True, padding="VALID")
    proven(model.build(y), model.random_inputs())


def test_patches_of_an_image_are_a_few_tasks() -> None:
    """14 x 14 patches of 16 x 16 pixels, as vision transformers begin; one task a patch were 196."""
    model = ModelBuilder(seed=3)
    y = model.conv2d(model.input((1, 224, 224, 3)), 64, kernel=16, stride=16, padding="VALID")
    result = run_on_npu(model, y)
    assert len(result.program.tasks) <= 8


def test_windows_of_8_in_a_large_mean() -> None:
    model = ModelBuilder(seed=4)
    result = run_on_npu(model, model.mean(model.input((1, 224, 224, 16))))
    assert len(result.program.tasks) < 64


def test_a_prime_stride_is_a_task_for_each_output_along_it() -> None:
    model = ModelBuilder(seed=5)
    result = run_on_npu(model, model.conv2d(model.input((1, 40, 9, 4)), 8, kernel=3, stride=(11, 1)))
    assert len(result.program.tasks) == 4
