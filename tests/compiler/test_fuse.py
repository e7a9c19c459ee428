"""Operators that share a task: fused ones agree with LiteRT, and with the same operators left apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rocketnpu as rn
from support.agreement import Agreement, agreement, assert_sound, run_on_npu
from support.models import Grid, ModelBuilder

SHAPE = (1, 9, 10, 20)


def steps_of(result: Agreement) -> int:
    return len(result.program.steps)


def same_bytes_apart(model: ModelBuilder, output: str, between: str) -> None:
    """The output is the same when `between` is kept, and the kept tensor can be had."""
    data, inputs = model.build(output), model.random_inputs()
    results: list[Any] = []
    for keep in ([], [between]):
        program = rn.compile(data, keep=keep)
        assert (between in program.dissolved) == (not keep), program.dissolved
        assert_sound(program)
        with rn.Session(program, device="emulator") as session:
            results.append(session.run(inputs, fetch=[output, *keep])[output])
    assert np.array_equal(*results), f"{np.sum(results[0] != results[1])} bytes differ"


@pytest.mark.parametrize("kind", ["RELU", "RELU6", "RELU_0_TO_1"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_clamp_on_one_grid_joins_the_convolution_before_it(kind: str, per_channel: bool) -> None:
    model = ModelBuilder(seed=1)
    y = model.conv2d(model.input(SHAPE), 24, per_channel=per_channel, output=Grid(0.03, -20))
    z = model.unary(kind, y, Grid(0.03, -20))
    assert steps_of(run_on_npu(model, z)) == 1
    same_bytes_apart(model, z, y)


def test_a_clamp_at_zero_joins_an_addition() -> None:
    model = ModelBuilder(seed=2)
    y = model.add(model.input(SHAPE, scale=0.05), model.input(SHAPE, scale=0.05), output=Grid(0.07, 5))
    z = model.unary("RELU", y, Grid(0.07, 5))
    assert steps_of(run_on_npu(model, z)) == 1
    same_bytes_apart(model, z, y)


def test_a_clamp_from_above_stays_behind_an_addition() -> None:
    model = ModelBuilder(seed=2)
    y = model.add(model.input(SHAPE, scale=0.05), model.input(SHAPE, scale=0.05), output=Grid(0.07, 5))
    assert steps_of(run_on_npu(model, model.unary("RELU6", y, Grid(0.07, 5)))) == 2


@pytest.mark.parametrize("ratio", [1.0, 1.3, 2.7])
def test_a_clamp_onto_a_coarser_grid_joins_the_convolution(ratio: float) -> None:
    model = ModelBuilder(seed=3)
    y = model.conv2d(model.input(SHAPE), 24, output=Grid(0.03, 0))
    assert steps_of(run_on_npu(model, model.unary("RELU", y, Grid(0.03 * ratio, -120)))) == 1


@pytest.mark.parametrize(("zero", "steps"), [(-128, 1), (0, 2)])
def test_a_change_of_grid_joins_the_convolution_unless_saturation_between_shows(zero: int, steps: int) -> None:
    """At the zero point -128 the convolution saturates at real 0, on both grids; at 0 it does so at -128 * 0.03."""
    model = ModelBuilder(seed=3)
    y = model.conv2d(model.input(SHAPE), 24, output=Grid(0.03, zero))
    assert steps_of(run_on_npu(model, model.quantize(y, Grid(0.05, zero)))) == steps


def test_a_copy_onto_a_finer_grid_stays_a_task() -> None:
    """The rounding between the operators is coarse then: without it the result would be further than 1 away."""
    model = ModelBuilder(seed=4)
    z = model.unary("RELU", model.conv2d(model.input(SHAPE), 24, output=Grid(0.09, 3)), Grid(0.02, -128))
    assert steps_of(run_on_npu(model, z)) == 2


def leaky(model: ModelBuilder, kind: str, x: str, output: Grid) -> str:
    if kind == "LEAKY_RELU":
        return model.unary(kind, x, output, alpha=0.1)
    alpha = model.constant(model.rng.integers(5, 40, model.tensors[x].shape[3:]).astype(np.int8), Grid(0.01, 0))
    return model.prelu(x, alpha, output)


@pytest.mark.parametrize("kind", ["LEAKY_RELU", "PRELU"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_slopes_join_the_convolution_before_them(kind: str, per_channel: bool, dtype: str) -> None:
    model = ModelBuilder(seed=11)
    flip = 128 if dtype == "uint8" else 0
    per_channel = per_channel and dtype == "int8"
    y = model.conv2d(model.input(SHAPE, dtype), 40, per_channel=per_channel, output=Grid(0.047, flip - 10))
    # The grid ends a little before both ends of the one between, so that saturation there does not show.
    result = run_on_npu(model, leaky(model, kind, y, Grid(0.0261, flip - 118)))
    assert steps_of(result) == 1


def test_slopes_of_a_grouped_convolution() -> None:
    model = ModelBuilder(seed=12)
    y = model.depthwise(model.input((1, 9, 10, 24)), multiplier=3, output=Grid(0.047, -10))
    assert steps_of(run_on_npu(model, leaky(model, "PRELU", y, Grid(0.0261, -118)))) == 1


def test_slopes_stay_a_task_where_saturation_between_shows() -> None:
    model = ModelBuilder(seed=13)
    y = model.conv2d(model.input(SHAPE), 40, output=Grid(0.047, 0))
    assert steps_of(run_on_npu(model, leaky(model, "LEAKY_RELU", y, Grid(0.05, 0)))) == 2


def test_a_tensor_with_two_readers_stays() -> None:
    model = ModelBuilder(seed=5)
    y = model.conv2d(model.input(SHAPE), 20, output=Grid(0.03, -20))
    z = model.add(y, model.unary("RELU", y, Grid(0.03, -20)))
    assert steps_of(run_on_npu(model, z)) == 3


def test_an_output_stays() -> None:
    model = ModelBuilder(seed=6)
    y = model.conv2d(model.input(SHAPE), 20, output=Grid(0.03, -20))
    assert steps_of(run_on_npu(model, y, model.unary("RELU", y, Grid(0.03, -20)))) == 2


def test_x_times_logistic_of_x_is_one_lookup() -> None:
    model = ModelBuilder(seed=7)
    x = model.input((1, 16, 16, 1), scale=0.06, zero=-20)
    gate = model.unary("LOGISTIC", x)
    y = model.elementwise("MUL", gate, x, output=Grid(0.04, -110))
    every_byte = [np.arange(256).astype(np.uint8).view(np.int8).reshape(1, 16, 16, 1)]
    result = agreement(model.build(y), every_byte)
    assert not result.reasons()
    assert steps_of(result) == 1
    assert len(result.program.tasks) == 2
    same_bytes_apart(model, y, gate)


def test_a_lookup_of_a_lookup_is_one() -> None:
    model = ModelBuilder(seed=8)
    a = model.unary("TANH", model.input(SHAPE, scale=0.05))
    y = model.unary("GELU", a, Grid(0.01, -60), approximate=False)
    assert steps_of(run_on_npu(model, y)) == 1
    same_bytes_apart(model, y, a)


def test_a_swish_network_fuses_each_of_its_activations() -> None:
    model = ModelBuilder(seed=9)
    x = model.input((1, 12, 12, 3))
    for channels in (16, 24):
        y = model.conv2d(x, channels, per_channel=True, output=Grid(0.05, 0))
        x = model.elementwise("MUL", y, model.unary("LOGISTIC", y), output=Grid(0.04, -110))
    result = run_on_npu(model, x)
    assert [step.name for step in result.program.steps] == ["conv_2d", "mul", "conv_2d_2", "mul_2"]


def test_what_is_fused_into_a_fused_operator_names_the_last_one() -> None:
    model = ModelBuilder(seed=10)
    a = model.unary("TANH", model.input(SHAPE, scale=0.05))
    b = model.unary("ABS", a, Grid(0.01, -60))
    y = model.unary("LOGISTIC", b)
    program = run_on_npu(model, y).program
    assert dict(program.dissolved) == {a: y, b: y}


def test_a_change_of_grid_behind_an_operator_on_the_cpu_is_a_task() -> None:
    model = ModelBuilder(seed=30)
    x = model.softmax(model.conv2d(model.input((1, 5, 5, 8)), 16))
    y = model.operator("QUANTIZE", [x], (1, 5, 5, 16), Grid(0.01, -100))
    z = model.conv2d(y, 8)
    result = agreement(model.build(z), model.random_inputs())
    assert set(result.reasons()) == {"SOFTMAX"}
    assert y in {task.name for task in result.program.tasks}
