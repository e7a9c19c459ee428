"""Pools of the PPU, in programs for rknpu: byte for byte LiteRT's, or ONNX Runtime's, and in no program for rocket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import rocketnpu as rn
from rocketnpu.compiler.lower.pooling_unit import averages_exactly
from rocketnpu.compiler.npu_ops import CubeShape, Pool, PoolMethod
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.tiling.pool import tile_pool
from rocketnpu.cpu.litert import Reference
from rocketnpu.cpu.onnxruntime import Reference as OnnxReference
from rocketnpu.frontends import load_model
from rocketnpu.hw.registers import PPU, PPU_RDMA
from rocketnpu.inspect import lint, view
from rocketnpu.program.model import CpuStep
from support.models import Grid, ModelBuilder, schema
from support.onnx_models import OnnxBuilder
from support.traffic import register_tasks, replay

POOL = 1 << 5 | 1 << 6
"""Enable mask of a task of PPU and PPU_RDMA."""

FEW = settings(max_examples=30, suppress_health_check=list(HealthCheck))
SIZES = st.integers(1, 40)
STRIDES = st.integers(1, 4)
WINDOWS = st.tuples(st.integers(1, 8), st.integers(1, 8))
PADDINGS = st.sampled_from(("SAME", "VALID"))
DTYPES = st.sampled_from(("int8", "uint8"))
ZEROS = st.integers(-128, 127)


def pools(program: rn.Program) -> int:
    """Tasks of the PPU alone."""
    return sum(task.enable_mask == POOL for task in program.tasks)


def checked(model: bytes, inputs: Sequence[NDArray[Any]], output: str, *, tolerance: int = 0) -> rn.Program:
    """The program for rknpu: sound, on the NPU, and with the reference's bytes on one, two and three cores."""
    program = rn.compile(model, target="rknpu", cores=3)
    assert not [step for step in program.steps if isinstance(step, CpuStep)]
    assert lint(view(program)) == []
    replay(program)
    make_reference = Reference if model[4:8] == b"TFL3" else OnnxReference
    expected = make_reference(load_model(model).model).tensors(inputs)[output].astype(np.int64)
    for cores in (1, 2, 3):
        with rn.Session(program, device="emulator", cores=cores) as session:
            found = session.run(list(inputs))[output].astype(np.int64)
        worst = int(np.abs(found - expected).max())
        assert worst <= tolerance, f"{worst} apart on {cores} cores: {found.ravel()[:8]}, not {expected.ravel()[:8]}"
    return program


def stored(zero: int, dtype: str) -> int:
    return zero + 128 if dtype == "uint8" else zero


@FEW
@given(st.data())
def test_maxima_are_the_references_bytes(data: st.DataObject) -> None:
    height, width = data.draw(SIZES), data.draw(st.integers(1, 140))
    kernel = data.draw(WINDOWS)
    padding = data.draw(PADDINGS)
    if padding == "VALID":
        kernel = (min(kernel[0], height), min(kernel[1], width))
    strides, dtype = (data.draw(STRIDES), data.draw(STRIDES)), data.draw(DTYPES)
    model = ModelBuilder(seed=data.draw(st.integers(0, 99)))
    x = model.input((1, height, width, data.draw(st.integers(1, 40))), dtype, zero=stored(data.draw(ZEROS), dtype))
    y = model.max_pool(x, kernel, strides, padding)
    checked(model.build(y), model.random_inputs(), y)


@FEW
@given(st.data())
def test_averages_are_the_references_bytes(data: st.DataObject) -> None:
    """Whether the PPU or a depthwise convolution computes them. Small values meet more ties."""
    kernel = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    height, width = data.draw(st.integers(kernel[0], 30)), data.draw(st.integers(kernel[1], 140))
    strides, dtype = (data.draw(STRIDES), data.draw(STRIDES)), data.draw(DTYPES)
    model = ModelBuilder(seed=data.draw(st.integers(0, 99)))
    zero = stored(data.draw(ZEROS), dtype)
    x = model.input((1, height, width, data.draw(st.integers(1, 40))), dtype, zero=zero)
    y = model.average_pool(x, kernel, strides, "VALID")
    low, high = (zero - 4, zero + 5) if data.draw(st.booleans()) else (-(10**3), 10**3)
    kind = np.iinfo(dtype)
    values = model.rng.integers(max(low, kind.min), min(high, kind.max) + 1, (1, height, width, x_channels(model, x)))
    program = checked(model.build(y), [values.astype(dtype)], y)
    assert not pools(program) or kernel[0] * kernel[1] % 2, "TFLite's ties are not the PPU's"


def x_channels(model: ModelBuilder, name: str) -> int:
    return model.tensors[name].shape[3]


@pytest.mark.parametrize(
    ("op_type", "attributes", "zero", "on_unit"),
    [
        ("MaxPool", {"kernel_shape": [3, 3], "pads": [1, 0, 2, 1], "strides": [2, 1]}, 9, True),
        ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2]}, 9, True),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, 9, False),
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}, -4, True),
        ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}, 9, False),
        ("AveragePool", {"kernel_shape": [2, 3], "strides": [2, 2]}, -4, False),
    ],
)
def test_pools_of_onnx_models_are_the_runtimes_bytes(
    op_type: str, attributes: dict[str, Any], zero: int, on_unit: bool
) -> None:
    """Small values of both signs around the zero point, so that many sums are ties."""
    model = OnnxBuilder()
    x = model.node(op_type, model.real_input((1, 20, 13, 18), (0.5, zero)), **attributes)
    y = model.quantized(x, (0.5, zero), name="y")
    values = np.random.default_rng(1).integers(zero - 5, zero + 6, (1, 20, 13, 18)).astype(np.int8)
    assert bool(pools(checked(model.build(y), [values], y))) == on_unit


@pytest.mark.parametrize("size", [(3, 3), (3, 5), (5, 5), (1, 3)])
def test_a_mean_over_few_pixels_is_a_pool(size: tuple[int, int]) -> None:
    model = ModelBuilder(seed=3)
    y = model.mean(model.input((1, *size, 20)))
    data, inputs = model.build(y), model.random_inputs()
    program = checked(data, inputs, y, tolerance=1)  # the reference rounds its multiplier, too
    assert pools(program) == 1
    with rn.Session(program) as unit, rn.Session(data, device="emulator") as convolution:
        np.testing.assert_array_equal(unit.run(inputs)[y], convolution.run(inputs)[y])


@pytest.mark.parametrize("target", ["any", "rocket"])
@pytest.mark.parametrize("kind", ["max", "average", "mean"])
def test_programs_for_rocket_have_no_task_of_the_pooling_unit_alone(target: Any, kind: str) -> None:
    model = ModelBuilder(seed=4)
    x = model.input((1, 5, 5, 16))
    y = {
        "max": lambda: model.max_pool(x, 3),
        "average": lambda: model.average_pool(x, 3),
        "mean": lambda: model.mean(x),
    }
    data = model.build(y[kind]())
    assert pools(rn.compile(data, target=target)) == 0
    program = rn.compile(data, target="rknpu")
    assert pools(program) == 1
    assert lint(view(program)) == []
    assert [item.rule for item in lint(view(replace(program, target=target)))] == ["the_driver_sees_the_end"]


def test_what_follows_a_pool_in_one_submission_reads_its_result() -> None:
    model = ModelBuilder(seed=6)
    x = model.conv2d(model.input((1, 20, 20, 3)), 32)
    pooled = model.max_pool(x, 2, 2)
    y = model.conv2d(model.concat([pooled, model.max_pool(pooled, 5, 1, "SAME"), pooled], 3), 16)
    program = checked(model.build(y), model.random_inputs(), y, tolerance=1)
    assert pools(program) == 2


def test_a_concatenation_has_its_pools_in_place() -> None:
    model = ModelBuilder(seed=7)
    x = model.input((1, 20, 40, 32))
    y = model.concat([model.max_pool(x, 5, 1, "SAME"), model.max_pool(x, 3, 1, "SAME")], 3)
    program = checked(model.build(y), model.random_inputs(), y)
    assert len(program.tasks) == pools(program) == 5, "three tasks of 16 columns, two of 32, and no copy"


def test_a_fused_activation_leaves_the_pool_to_the_other_form() -> None:
    model = ModelBuilder(seed=8)
    x = model.input((1, 9, 9, 16), zero=-5)
    options = schema.Pool2DOptionsT(filterHeight=3, filterWidth=3, strideH=1, strideW=1)
    options.padding = schema.Padding.VALID
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU
    y = model.operator("MAX_POOL_2D", [x], (1, 7, 7, 16), Grid(0.02, -5), options, "Pool2DOptions")
    assert pools(checked(model.build(y), model.random_inputs(), y, tolerance=1)) == 0


def test_a_mean_onto_another_grid_is_no_pool() -> None:
    model = ModelBuilder(seed=9)
    y = model.mean(model.input((1, 3, 3, 16)), output=Grid(0.011, 7))
    assert pools(checked(model.build(y), model.random_inputs(), y, tolerance=1)) == 0


def test_a_row_beyond_the_field_is_no_pool() -> None:
    model = ModelBuilder(seed=10)
    y = model.max_pool(model.input((1, 1, 8193, 1)), (1, 3), 1, "SAME")
    assert rn.compile(model.build(y), target="rknpu").steps[0].place == "npu"
    assert pools(checked(model.build(y), model.random_inputs(), y)) == 0


@pytest.mark.parametrize("taps", [(1, 1), (3, 3), (5, 5), (3, 1)])
@pytest.mark.parametrize("form", ["tflite", "onnx"])
def test_windows_of_an_odd_number_of_values_average_exactly(taps: tuple[int, int], form: str) -> None:
    for zero in (-128, -7, 0, 30):
        for unsigned in (False, True):
            assert averages_exactly(*taps, form, zero, unsigned=unsigned)


def test_ties_decide_about_windows_of_an_even_number_of_values() -> None:
    """2 x 2 and 4 x 4 round ties to even (hardware/ppu.md, silicon), which is ONNX's way around an even zero point."""
    for taps in ((2, 2), (4, 4)):
        assert averages_exactly(*taps, "onnx", 6, unsigned=False)
        assert not averages_exactly(*taps, "onnx", 7, unsigned=False)
        assert not averages_exactly(*taps, "tflite", 6, unsigned=False)
    assert not averages_exactly(2, 3, "onnx", 6, unsigned=False), "a reciprocal that is not exact rounds toward zero"


def test_large_windows_are_not_averaged() -> None:
    assert not averages_exactly(7, 7, "tflite", 0, unsigned=False)


def pool(size: tuple[int, int], kernel: int, pad: int, stride: int = 1, channels: int = 16) -> Pool:
    """A maximum of kernel x kernel with `pad` rows and columns around the input."""
    height, width = ((extent + 2 * pad - kernel) // stride + 1 for extent in size)
    shapes = CubeShape(*size, channels), CubeShape(height, width, channels)
    return Pool(PoolMethod.MAX, "x", "y", *shapes, kernel, kernel, stride, stride, pad, pad)


def test_column_tiles_are_the_vendors() -> None:
    """5 x 5 with padding 2 over 32 columns (hardware/ppu.md, Limits): 18 columns in, 16 out, from columns 0 and 14."""
    left, right = tile_pool(pool((32, 32), 5, 2))
    assert [(tile.x0, tile.x1, tile.input_x0, tile.input_x1) for tile in (left, right)] == [
        (0, 16, 0, 18),
        (16, 32, 14, 32),
    ]
    assert [(tile.pad_left, tile.pad_right) for tile in (left, right)] == [(2, 0), (0, 2)]
    wide = tile_pool(pool((2, 258), 2, 0, 2))
    assert [tile.x1 - tile.x0 for tile in wide] == [64, 65]


@pytest.mark.parametrize(
    ("form", "rule"),
    [
        (pool((40, 40), 16, 1, 8), "a window of 16 has no padding"),
        (pool((40, 40), 15, 8, 8), "at most 7 rows and columns"),
        (pool((40, 40), 9, 0), "more than 8 overlapping rows are unmeasured"),
    ],
)
def test_what_the_unit_cannot_do_is_named(form: Pool, rule: str) -> None:
    with pytest.raises(ConstraintError, match=rule):
        tile_pool(form)


def test_a_pool_writes_the_vendors_registers(shared: Path) -> None:
    """2 x 2 over 32 x 32 pixels of 32 channels: all but addresses, and what padding holds."""
    vendor = rn.load(shared / "vectors" / "vendor" / "b_layer.rknn")
    number = next(number for number, task in enumerate(vendor.tasks) if task.name == "maxpool[0]")
    model = ModelBuilder(seed=11)
    program = rn.compile(model.build(model.max_pool(model.input((1, 32, 32, 32)), 2, 2)), target="rknpu")
    ours, theirs = register_tasks(program)[0], register_tasks(vendor)[number]
    free = (PPU.DST_BASE_ADDR, PPU_RDMA.RDMA_SRC_BASE_ADDR, PPU.PADDING_VALUE_1_CFG, PPU.PADDING_VALUE_2_CFG)
    for found in (ours.written, theirs.written):
        for register in free:
            del found[register]
    assert ours == theirs
    assert program.tasks[0].interrupt_mask == vendor.tasks[number].interrupt_mask
    assert program.tasks[0].body_entries == vendor.tasks[number].body_entries
