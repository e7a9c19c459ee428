"""Resizes, SPACE_TO_DEPTH, DEPTH_TO_SPACE, TRANSPOSE and changes of rank on the NPU against LiteRT's kernels."""

from __future__ import annotations

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.hw.registers import DPU_RDMA
from support.agreement import Agreement, agreement, reason_on_cpu, run_on_npu
from support.models import Grid, ModelBuilder, schema
from support.traffic import register_tasks


def image(model: ModelBuilder, channels: int = 24, dtype: str = "int8", size: tuple[int, int] = (5, 7)) -> str:
    height, width = size
    return model.max_pool(model.input((1, height + 1, width, channels), dtype), (2, 1), 1)


def upsampling_tasks(result: Agreement) -> int:
    tasks = [task for task in register_tasks(result.program) if task.enables(DPU_RDMA)]
    return sum(task.get(DPU_RDMA.RDMA_SRC_DMA_CFG, "UNPOOLING_EN") for task in tasks)


@pytest.mark.parametrize(("factor", "tasks"), [(2, 2), (4, 4), (8, 6), (6, 2), (3, 0), ((1, 2), 0), ((3, 1), 0)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_nearest_neighbours(factor: int | tuple[int, int], tasks: int, dtype: str) -> None:
    """Whole factors of two are the chip's own upsampling, one task for each of two planes."""
    model = ModelBuilder(seed=1)
    result = run_on_npu(model, model.resize(image(model, dtype=dtype), factor))
    assert result.unequal == 0
    assert upsampling_tasks(result) == tasks


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_half_pixel_centers_repeat_the_same_pixels(factor: int) -> None:
    model = ModelBuilder(seed=2)
    y = model.resize(image(model), factor, half_pixel_centers=True)
    assert run_on_npu(model, y).unequal == 0


def test_more_pixels_than_a_task_is_high() -> None:
    model = ModelBuilder(seed=3)
    assert run_on_npu(model, model.resize(image(model, 16, size=(90, 100)), 3)).unequal == 0


@pytest.mark.parametrize("centers", [False, True])
@pytest.mark.parametrize(
    ("dtype", "factor"), [("int8", 2), ("int8", 4), ("int8", (1, 2)), ("uint8", 2), ("uint8", 3), ("uint8", (5, 3))]
)
def test_bilinear(dtype: str, factor: int | tuple[int, int], centers: bool) -> None:
    model = ModelBuilder(seed=4)
    y = model.resize(image(model, dtype=dtype), factor, bilinear=True, half_pixel_centers=centers)
    run_on_npu(model, y)


@pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 1), (2, 2)])
def test_bilinear_of_images_that_are_all_border(size: tuple[int, int]) -> None:
    model = ModelBuilder(seed=5)
    y = model.resize(image(model, size=size), 2, bilinear=True, half_pixel_centers=True)
    run_on_npu(model, y)


def test_bilinear_by_two_is_exact() -> None:
    """16ths have an exact gain, and ties go away from zero as in the reference."""
    model = ModelBuilder(seed=6)
    y = model.resize(image(model), 2, bilinear=True, half_pixel_centers=True)
    assert run_on_npu(model, y).unequal == 0


def test_nearest_neighbours_with_aligned_corners_stay_on_the_cpu() -> None:
    model = ModelBuilder(seed=7)
    y = model.resize(model.input((1, 5, 5, 16)), 4, align_corners=True)
    assert reason_on_cpu(model, y) == "height and width grow by whole factors"


@pytest.mark.parametrize(("dtype", "factor"), [("int8", 2), ("int8", 4), ("uint8", 3), ("uint8", (2, 8)), ("int8", 1)])
def test_bilinear_with_aligned_corners(dtype: str, factor: int | tuple[int, int]) -> None:
    model = ModelBuilder(seed=16)
    run_on_npu(model, model.resize(image(model, dtype=dtype), factor, bilinear=True, align_corners=True))


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize(
    ("dtype", "factor"), [("int8", (1, 2)), ("int8", (33, 33)), ("uint8", (7, 5)), ("uint8", (150, 130))]
)
def test_a_single_pixel_is_repeated(dtype: str, factor: tuple[int, int], bilinear: bool) -> None:
    """As a segmenter does with its image's mean."""
    model = ModelBuilder(seed=17)
    x = model.mean(model.input((1, 5, 6, 20), dtype))
    result = run_on_npu(model, model.resize(x, factor, bilinear), x)
    assert len(result.program.tasks) < 20


def test_more_phases_than_are_worth_it_stay_on_the_cpu() -> None:
    model = ModelBuilder(seed=18)
    y = model.resize(model.input((1, 4, 4, 16)), 16, bilinear=True)
    assert reason_on_cpu(model, y) == "at most 64 output pixels lie around an input pixel, or the input is a single one"


def test_a_factor_that_the_reference_rounds_stays_on_the_cpu() -> None:
    model = ModelBuilder(seed=15)
    reason = reason_on_cpu(model, model.resize(model.input((1, 5, 5, 16)), 3, bilinear=True))
    assert reason.startswith("factors of an int8 TFLite operator are powers of two")


@pytest.mark.parametrize(("dtype", "factor"), [("int8", 8), ("int8", (2, 32)), ("uint8", (7, 9))])
def test_weights_beyond_int8_have_a_zero_point(dtype: str, factor: int | tuple[int, int]) -> None:
    """The neighbours of a phase weigh up to 15 * 15."""
    model = ModelBuilder(seed=8)
    run_on_npu(model, model.resize(image(model, dtype=dtype), factor, bilinear=True, half_pixel_centers=True))


@pytest.mark.parametrize(("block", "channels"), [(2, 3), (2, 16), (2, 64), (3, 5), (4, 20)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_space_to_depth(block: int, channels: int, dtype: str) -> None:
    model = ModelBuilder(seed=9)
    x = image(model, channels, dtype, (2 * block, 3 * block))
    assert run_on_npu(model, model.space_to_depth(x, block)).unequal == 0


@pytest.mark.parametrize(("block", "channels"), [(2, 3), (2, 16), (2, 64), (3, 5), (4, 20), (1, 8)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_depth_to_space(block: int, channels: int, dtype: str) -> None:
    model = ModelBuilder(seed=10)
    x = image(model, channels * block * block, dtype, (3, 4))
    assert run_on_npu(model, model.depth_to_space(x, block)).unequal == 0


def test_dimensions_of_size_one_come_and_go_without_a_task() -> None:
    model = ModelBuilder(seed=11)
    x = model.mean(image(model))
    options = schema.SqueezeOptionsT(squeezeDims=[1, 2])
    y = model.operator("SQUEEZE", [x], (1, 24), model.tensors[x].grid, options, "SqueezeOptions")
    z = model.operator("EXPAND_DIMS", [y, model.constant(np.array(1, np.int32))], (1, 1, 24), model.tensors[x].grid)
    result = run_on_npu(model, model.fully_connected(z, 8))
    assert not {y, z} & {task.name for task in result.program.tasks}


def test_a_transpose_that_keeps_the_order_has_no_task() -> None:
    model = ModelBuilder(seed=12)
    x = model.conv2d(model.input((1, 1, 9, 16)), 20)
    y = model.transpose(x, (0, 2, 1, 3))
    result = run_on_npu(model, model.add(y, y))
    assert y not in {task.name for task in result.program.tasks}


def test_a_transpose_that_moves_channels_stays_on_the_cpu() -> None:
    model = ModelBuilder(seed=13)
    y = model.transpose(model.conv2d(model.input((1, 4, 5, 16)), 16), (0, 3, 1, 2))
    z = model.conv2d(y, 3)
    reason = agreement(model.build(z), model.random_inputs()).reasons()["TRANSPOSE"]
    assert reason == "on the device all elements keep their places, as from NCHW to NHWC"


def test_an_upsampled_branch_joins_a_skip() -> None:
    """The neck of a detector: upsample, concatenate, convolve; end to end."""
    model, grid = ModelBuilder(seed=14), Grid(0.05, 4)
    skip = model.conv2d(model.input((1, 12, 16, 3)), 32, output=grid)
    deep = model.conv2d(skip, 64, stride=2, output=grid)
    joined = model.concat([model.resize(deep, 2), skip])
    y = model.conv2d(joined, 16)
    inputs = model.random_inputs()
    result = agreement(model.build(y), inputs)
    assert not result.reasons()
    with rn.Session(result.program, device="emulator") as session:
        difference = np.abs(session.run(inputs)[y].astype(int) - result.expected[y].astype(int)).max()
    assert difference <= 4, f"{y} differs by up to {difference}"
