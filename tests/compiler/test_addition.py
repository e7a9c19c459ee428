"""ADD on the NPU against LiteRT's reference kernels."""

from __future__ import annotations

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.hw.registers import DPU
from support.agreement import agreement, assert_mostly_equal, reason_on_cpu, run_on_npu
from support.models import Grid, ModelBuilder
from support.traffic import register_tasks


@pytest.mark.parametrize("channels", [1, 16, 17, 31, 64, 100])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_channels_and_dtypes(channels: int, dtype: str) -> None:
    model = ModelBuilder(seed=channels)
    shape = (1, 9, 10, channels)
    # No simple fractions: exact halves are broken by the rounding errors of LiteRT's multipliers and of ours.
    a, b = model.input(shape, dtype, 0.019371, 30), model.input(shape, dtype, 0.013113, 100)
    assert_mostly_equal([run_on_npu(model, model.add(a, b))])


@pytest.mark.parametrize("power", range(-10, 11, 2))
def test_scales_up_to_1024_apart(power: int) -> None:
    model = ModelBuilder(seed=1)
    shape = (1, 16, 16, 16)
    a, b = model.input(shape, scale=0.02, zero=-5), model.input(shape, scale=0.02 * 2.0**power, zero=17)
    # No simple fraction, else many sums lie so near a half that LiteRT's own rounding errors decide.
    top = 1.3017 * 0.02 * max(1.0, 2.0**power)
    result = run_on_npu(model, model.add(a, b, output=Grid(top, -9)))
    assert_mostly_equal([result])


@pytest.mark.parametrize("ratio", [1 / 300, 0.3, 1, 4.7, 90])
def test_output_scales(ratio: float) -> None:
    model = ModelBuilder(seed=2)
    shape = (1, 16, 16, 16)
    a, b = model.input(shape, scale=0.02), model.input(shape, scale=0.03)
    run_on_npu(model, model.add(a, b, output=Grid(0.03 * ratio, 4)))


@pytest.mark.parametrize("activation", ["RELU", "RELU6"])
@pytest.mark.parametrize("zero", [-128, -20, 90])
def test_activations_clamp_at_zero_and_above(activation: str, zero: int) -> None:
    model = ModelBuilder(seed=3)
    shape = (1, 16, 16, 16)
    a, b = model.input(shape, scale=0.04), model.input(shape, scale=0.05)
    y = model.add(a, b, activation=activation, output=Grid(0.06, zero))
    result = run_on_npu(model, y)
    assert result.expected[y].min() == zero, "the case does not reach the clamp"


@pytest.mark.parametrize("zero", [-115, -20, 127])
def test_a_clamp_below_zero_is_a_lookup(zero: int) -> None:
    """At zero point -115 the lower bound is that of int8, but a clamp above would clamp at zero as well."""
    model = ModelBuilder(seed=4)
    a, b = model.input((1, 8, 8, 8)), model.input((1, 8, 8, 8))
    y = model.add(a, b, activation="RELU_N1_TO_1", output=Grid(0.05, zero))
    result = run_on_npu(model, y)
    assert result.expected[y].max() == min(zero + 20, 127), "the case does not reach the clamp"


def test_no_register_clamps_an_element_wise_result_from_above() -> None:
    """EW_RELUX stands on documentation."""
    model = ModelBuilder(seed=4)
    a, b = model.input((1, 8, 8, 8)), model.input((1, 8, 8, 8))
    result = run_on_npu(model, model.add(a, b, activation="RELU6", output=Grid(0.06, 20)))
    assert not any(task.get(DPU.EW_CFG, "EW_RELUX_EN") for task in register_tasks(result.program))
    assert len(result.program.tasks) == 2, "the sum, and a copy that clamps"


def test_a_tensor_plus_itself() -> None:
    model = ModelBuilder(seed=5)
    a = model.input((1, 8, 8, 24))
    run_on_npu(model, model.add(a, a))


@pytest.mark.parametrize("shape", [(16,), (5, 7), (3, 4, 9), (2, 6, 5, 20), (2, 2, 3, 4, 5)])
def test_any_rank(shape: tuple[int, ...]) -> None:
    model = ModelBuilder(seed=6)
    run_on_npu(model, model.add(model.input(shape), model.input(shape)))


@pytest.mark.parametrize("shape", [(1, 1, 9000, 4), (1, 9000, 1, 4), (1, 2, 2, 9000)])
def test_sizes_beyond_the_field(shape: tuple[int, ...]) -> None:
    model = ModelBuilder(seed=7)
    run_on_npu(model, model.add(model.input(shape), model.input(shape)))


def test_more_than_the_device_has_room_for_stays_on_the_cpu() -> None:
    """One channel takes as much room as 16."""
    model = ModelBuilder(seed=7)
    program = rn.compile(model.build(model.add(model.input((1, (1 << 26) + 1, 1)), model.input((1, 1, 1)))))
    (step,) = program.steps
    assert step.operators[0].reason == (
        "each data tensor takes at most 1 GiB on the device, where 16 channels are 16 bytes a pixel"
    )


def test_broadcasting_rows_stays_on_the_cpu() -> None:
    model = ModelBuilder(seed=8)
    y = model.add(model.input((1, 8, 8, 8)), model.input((1, 8, 1, 8)))
    assert reason_on_cpu(model, y).startswith("operands that are not constants have the output's shape; one of two")


def test_every_sum_of_two_bytes() -> None:
    """All 65536 pairs at once, on grids whose gains are no round numbers."""
    model = ModelBuilder()
    a, b = (model.input((1, 256, 256, 1), scale=scale, zero=zero) for scale, zero in ((0.0173, -3), (0.0091, 11)))
    data = model.build(model.add(a, b, output=Grid(0.0211, 7)))
    first, second = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128), indexing="ij")
    result = agreement(data, [grid.astype(np.int8).reshape(1, 256, 256, 1) for grid in (first, second)])
    assert not result.reasons()
    assert_mostly_equal([result])
