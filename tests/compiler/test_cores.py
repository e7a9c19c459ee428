"""Programs for several cores: the same bytes as on one, shared evenly, every output written once."""

from __future__ import annotations

import numpy as np
import pytest

import rocketnpu as rn
from models import Grid, ModelBuilder
from rocketnpu.compiler.lowered import Convolution, CubeShape, Window
from rocketnpu.compiler.split import cycles, split_over_cores
from rocketnpu.compiler.tile import Tile, tile
from rocketnpu.program.model import NpuStep


def convolution(height: int, channels: int, outputs: int, *, depthwise: bool = False, kernel: int = 3) -> Convolution:
    """A SAME convolution over height x height pixels, stride 1."""
    pad = kernel // 2
    lanes = 1 if depthwise else channels
    return Convolution(
        input="x",
        output="y",
        input_shape=CubeShape(height, height, channels),
        output_shape=CubeShape(height, height, outputs),
        depthwise=depthwise,
        weights=np.ones((outputs, kernel, kernel, lanes), np.int8),
        weight_zero_points=np.zeros(outputs, np.int64),
        bias=np.zeros(outputs, np.int64),
        gains=np.full(outputs, 0.01),
        input_zero_point=0,
        output_zero_point=0,
        stride_h=1,
        stride_w=1,
        dilation_h=1,
        dilation_w=1,
        origin_h=-pad,
        origin_w=-pad,
        window=Window(0, height, 0, height),
    )


def coverage(conv: Convolution, parts: list[Tile]) -> np.ndarray:
    """How often each output is computed."""
    counts = np.zeros((conv.output_shape.height, conv.output_shape.width, conv.output_channels), np.int64)
    for part in parts:
        window = part.window
        counts[window.y0 : window.y1, window.x0 : window.x1, part.c0 : part.c1] += 1
    return counts


@pytest.mark.parametrize("cores", [2, 3])
@pytest.mark.parametrize(
    ("height", "channels", "outputs", "depthwise"),
    [(112, 32, 64, False), (14, 512, 512, False), (7, 512, 1024, False), (56, 128, 128, True), (7, 1024, 1024, True)],
)
def test_shares_cover_every_output_once(height: int, channels: int, outputs: int, depthwise: bool, cores: int) -> None:
    conv = convolution(height, channels, outputs, depthwise=depthwise)
    shares = split_over_cores(conv, tile(conv), cores)
    assert shares is not None
    assert len(shares) == cores
    assert set(np.unique(coverage(conv, [part for share in shares for part in share]))) == {1}


def test_compute_bound_layers_gain_almost_the_number_of_cores() -> None:
    conv = convolution(56, 256, 256)
    alone = tile(conv)
    shares = split_over_cores(conv, alone, 3)
    assert shares is not None
    assert cycles(conv, [alone]) / cycles(conv, shares) > 2.8


def test_channels_are_cut_in_whole_groups() -> None:
    """One output row cannot be shared by rows; kernels come in groups of 32 (hardware/convolution.md)."""
    conv = convolution(1, 1024, 1000, kernel=1)
    shares = split_over_cores(conv, tile(conv), 3)
    if shares is not None:
        assert all(part.c0 % 32 == 0 for share in shares for part in share)


def test_little_work_stays_on_one_core() -> None:
    conv = convolution(1, 16, 16, kernel=1)
    assert split_over_cores(conv, tile(conv), 3) is None


@pytest.mark.parametrize("per_channel", [False, True])
def test_two_and_three_cores_give_the_bytes_of_one(per_channel: bool) -> None:
    model, grid = ModelBuilder(seed=3), Grid(0.03, 5)
    x = model.input((1, 40, 36, 3))
    x = model.conv2d(x, 48, stride=2, per_channel=per_channel, output=grid)
    x = model.depthwise(x, per_channel=per_channel, output=grid)
    y = model.conv2d(x, 160, kernel=1, per_channel=per_channel, output=grid)
    y = model.conv2d(y, 48, kernel=1, per_channel=per_channel, output=grid)
    x = model.add(x, y)
    x = model.conv2d(x, 200, per_channel=per_channel, output=grid)
    x = model.fully_connected(model.mean(x, keep_dims=False), 70)
    program = rn.compile(model.build(x), cores=3)
    split = dict.fromkeys((2, 3), 0)
    results, inputs = [], model.random_inputs()
    for cores in (1, 2, 3):
        with rn.Session(program, device="emulator", cores=cores) as session:
            results.append(session.run(inputs, fetch="all"))
    for step in program.steps:
        for count in split:
            if isinstance(step, NpuStep):
                split[count] += sum(len(part) == count for part in step.tasks[count])
    assert min(split.values()) > 0
    for result in results[1:]:
        for name, array in result.items():
            np.testing.assert_array_equal(array, results[0][name], err_msg=name)


def test_a_program_says_which_core_counts_it_has() -> None:
    model = ModelBuilder()
    program = rn.compile(model.build(model.conv2d(model.input((1, 8, 8, 16)), 16)), cores=2)
    with pytest.raises(rn.CompileError, match="compile it with cores=3"), rn.Session(program, cores=3) as session:
        session.run(model.random_inputs())
