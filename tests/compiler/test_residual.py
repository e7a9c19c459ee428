"""Additions in the task of the convolution before them, against LiteRT's reference kernels.

The form stands on documentation: programs have it with the option `experimental` only.
"""

from __future__ import annotations

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.hw.registers import DPU_RDMA
from support.agreement import Agreement, assert_mostly_equal, assert_sound, run_on_npu
from support.models import Grid, ModelBuilder
from support.traffic import register_tasks


def block(
    channels: int = 24,
    *,
    kernel: int = 1,
    between: Grid | None = None,
    output: Grid | None = None,
    per_channel: bool = True,
    activation: str = "NONE",
    size: tuple[int, int] = (12, 10),
    other_first: bool = False,
    seed: int = 1,
) -> tuple[ModelBuilder, str, str]:
    """An inverted bottleneck: expansion, depthwise, projection, and the sum with the block's input."""
    model = ModelBuilder(seed)
    x = model.input((1, *size, channels), scale=0.03, zero=7)
    inner = model.depthwise(model.conv2d(x, 72, kernel=1, activation="RELU6"), activation="RELU6")
    grid = between or Grid(0.047, 3)
    y = model.conv2d(inner, channels, kernel=kernel, per_channel=per_channel, output=grid)
    operands = (x, y) if other_first else (y, x)
    return model, model.add(*operands, activation=activation, output=output or Grid(0.055, -4)), y


def combined(result: Agreement) -> int:
    """Tasks with a residual operand."""
    tasks = register_tasks(result.program)
    return sum(bool(task.get(DPU_RDMA.RDMA_FEATURE_MODE_CFG, "COMB_USE")) for task in tasks)


@pytest.mark.parametrize("channels", [17, 24, 31, 32])
@pytest.mark.parametrize("other_first", [False, True])
def test_a_sum_of_two_planes_joins_the_convolution(channels: int, other_first: bool) -> None:
    model, z, y = block(channels, other_first=other_first)
    result = run_on_npu(model, z, experimental=True)
    assert combined(result) == 1
    assert result.program.dissolved == {y: z}
    # 15 bits of gain for each channel, and one rounding, as for such a convolution alone.
    assert_mostly_equal([result], 0.005)


def test_without_the_option_the_sum_is_a_task_of_its_own() -> None:
    model, z, y = block()
    result = run_on_npu(model, z)
    assert combined(result) == 0
    assert y not in result.program.dissolved


@pytest.mark.parametrize("channels", [8, 16, 33, 64])
def test_other_plane_counts_stay_apart(channels: int) -> None:
    model, z, _ = block(channels)
    result = run_on_npu(model, z, experimental=True)
    assert combined(result) == 0
    assert len(result.program.steps) == 4


def test_a_convolution_with_one_gain_stays_exact_in_a_task_of_its_own() -> None:
    model, z, y = block(per_channel=False)
    result = run_on_npu(model, z, experimental=True)
    assert combined(result) == 0
    assert np.array_equal(result.found[y], result.expected[y])


@pytest.mark.parametrize("scale", [0.008, 0.02, 0.09])
@pytest.mark.parametrize("zero", [-128, -60, 0, 90, 127])
def test_the_convolution_saturates_on_its_own_grid_before_the_sum(scale: float, zero: int) -> None:
    model, z, y = block(between=Grid(scale, zero), output=Grid(0.0931, 5), seed=3)
    result = run_on_npu(model, z, experimental=True)
    assert combined(result) == 1
    saturated = np.isin(result.expected[y], (-128, 127)).mean()
    assert saturated > 0.2 or (scale, zero) not in [(0.008, 0), (0.02, 127)], f"only {saturated:.0%} saturate"


@pytest.mark.parametrize("activation", ["RELU", "RELU6"])
@pytest.mark.parametrize("zero", [-128, -20, 40])
def test_activations_after_the_sum(activation: str, zero: int) -> None:
    """Six lies within int8 but for the zero point 40, and a clamp there has a task of its own."""
    model, z, _ = block(activation=activation, output=Grid(0.051, zero))
    assert combined(run_on_npu(model, z, experimental=True)) == (activation == "RELU" or zero == 40)


@pytest.mark.parametrize("output", [Grid(0.048, 0), Grid(0.09, -30), Grid(0.4, 100)])
def test_output_grids(output: Grid) -> None:
    model, z, _ = block(output=output)
    assert combined(run_on_npu(model, z, experimental=True)) == 1


def test_an_output_grid_finer_than_the_convolutions_keeps_tasks_apart() -> None:
    model, z, _ = block(output=Grid(0.04, 0))
    assert combined(run_on_npu(model, z, experimental=True)) == 0


def test_rows_in_bands() -> None:
    model, z, _ = block(32, kernel=3, size=(70, 66))
    assert combined(run_on_npu(model, z, experimental=True)) > 1


def test_columns_in_bands_stay_apart() -> None:
    model = ModelBuilder(5)
    x, wide = model.input((1, 3, 1200, 32)), model.input((1, 3, 1200, 256))
    z = model.add(model.conv2d(wide, 32, kernel=3, per_channel=True), x, output=Grid(0.06, 0))
    result = run_on_npu(model, z, experimental=True)
    assert combined(result) == 0


@pytest.mark.parametrize("cores", [2, 3])
def test_the_same_bytes_on_several_cores(cores: int) -> None:
    model, z, _ = block(32, size=(64, 60))
    inputs = model.random_inputs()
    outputs = []
    for count in (1, cores):
        program = rn.compile(model.build(z), cores=count, experimental=True)
        assert_sound(program)
        with rn.Session(program, device="emulator", cores=count) as session:
            outputs.append(session.run(inputs)[z])
    assert np.array_equal(*outputs)


def test_two_convolutions_of_one_sum_leave_one_apart() -> None:
    model = ModelBuilder(6)
    x = model.input((1, 9, 10, 16))
    a, b = (model.conv2d(x, 32, per_channel=True, output=grid) for grid in (Grid(0.04, 3), Grid(0.05, -3)))
    result = run_on_npu(model, model.add(a, b, output=Grid(0.06, 0)), experimental=True)
    assert combined(result) == 1
    assert len(result.program.steps) == 2
