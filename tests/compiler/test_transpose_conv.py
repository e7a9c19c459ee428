"""TRANSPOSE_CONV on the NPU against LiteRT's reference kernels."""

from __future__ import annotations

import pytest

from support.agreement import assert_mostly_equal, run_on_npu
from support.models import ModelBuilder


@pytest.mark.parametrize("kernel", [1, 2, 3, 4, (5, 2)])
@pytest.mark.parametrize("stride", [1, 2, 3, (2, 4)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_shapes(kernel: int | tuple[int, int], stride: int | tuple[int, int], padding: str) -> None:
    model = ModelBuilder(seed=1)
    y = model.transpose_conv(model.input((1, 5, 6, 9)), 20, kernel, stride, padding)
    assert_mostly_equal([run_on_npu(model, y)])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6"])
def test_dtypes_and_activations(dtype: str, activation: str) -> None:
    model = ModelBuilder(seed=2)
    y = model.transpose_conv(model.input((1, 7, 4, 40), dtype), 33, 4, 2, activation=activation)
    run_on_npu(model, y)


@pytest.mark.parametrize("bias", [False, True])
def test_channels_with_a_scale_each(bias: bool) -> None:
    model = ModelBuilder(seed=3)
    y = model.transpose_conv(model.input((1, 6, 6, 32)), 24, 3, 2, per_channel=True, bias=bias)
    run_on_npu(model, y)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_kernel_beyond_the_field(stride: int) -> None:
    """With stride 2 each phase has 16 rows of the kernel; with stride 1 the one phase has all 32."""
    model = ModelBuilder(seed=4)
    run_on_npu(model, model.transpose_conv(model.input((1, 3, 3, 4)), 4, 32, stride))


@pytest.mark.parametrize("kernel", [(1, 31), (31, 20)])
def test_padding_beyond_the_field_is_made_first(kernel: tuple[int, int]) -> None:
    model = ModelBuilder(seed=5)
    run_on_npu(model, model.transpose_conv(model.input((1, 3, 4, 5)), 6, kernel, 1, "VALID"))
