"""The planner: tiles cover every output once, read what their windows need, and share the CBUF legally."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketnpu.compiler.npu_ops import Convolution, CubeShape, Window
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.tiling.convolution import Tile, tile, tile_cost, tiles_cycles, weight_bytes
from rocketnpu.hw import cbuf


def convolution(
    size: tuple[int, int],
    channels: tuple[int, int],
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    pad: tuple[int, int] = (0, 0),
    depthwise: bool = False,
) -> Convolution:
    """A convolution with as many outputs as fit when there is the same padding before and after."""
    reach = [(taps - 1) * spread + 1 for taps, spread in zip(kernel, dilation, strict=True)]
    rows, columns = ((size[i] + 2 * pad[i] - reach[i]) // stride[i] + 1 for i in range(2))
    inputs, outputs = (channels[1], channels[1]) if depthwise else channels
    return Convolution(
        input="x",
        output="y",
        input_shape=CubeShape(*size, inputs),
        output_shape=CubeShape(rows, columns, outputs),
        depthwise=depthwise,
        weights=np.zeros((outputs, *kernel, 1 if depthwise else inputs), np.int8),
        weight_zero_points=np.zeros(outputs, np.int64),
        bias=np.zeros(outputs, np.int64),
        gains=np.full(outputs, 0.01),
        input_zero_point=0,
        output_zero_point=0,
        stride_h=stride[0],
        stride_w=stride[1],
        dilation_h=dilation[0],
        dilation_w=dilation[1],
        origin_h=-pad[0],
        origin_w=-pad[1],
        window=Window(0, rows, 0, columns),
    )


def check_tiles(conv: Convolution, tiles: tuple[Tile, ...]) -> None:
    covered = np.zeros((conv.output_channels, conv.output_shape.height, conv.output_shape.width), np.uint8)
    for part in tiles:
        window = part.window
        covered[part.c0 : part.c1, window.y0 : window.y1, window.x0 : window.x1] += 1
        assert part.c0 % (64 if conv.depthwise else 32) == 0, f"{part} starts inside a group of channels"
        _check_axis(
            (window.y0, window.y1), (part.input_y0, part.input_y1), part.pad_top,
            conv.stride_h, conv.origin_h, conv.reach_h, conv.input_shape.height,
        )  # fmt: skip
        _check_axis(
            (window.x0, window.x1), (part.input_x0, part.input_x1), part.pad_left,
            conv.stride_w, conv.origin_w, conv.reach_w, conv.input_shape.width,
        )  # fmt: skip
        found = cbuf.violations(_plan(conv, part))
        assert not found, f"{part}: {found}"
    assert set(covered.reshape(-1).tolist()) == {1}, "an output is computed never or more than once"


def _check_axis(
    outputs: tuple[int, int], inputs: tuple[int, int], pad: int, stride: int, origin: int, reach: int, size: int
) -> None:
    """The tile's inputs are exactly those inside the image that some window of it spans; what is missing is padding."""
    first = outputs[0] * stride + origin
    last = (outputs[1] - 1) * stride + origin + reach
    assert inputs == (max(first, 0), min(last, size))
    assert pad == max(-first, 0) <= 15


def _plan(conv: Convolution, part: Tile) -> cbuf.ConvPlan:
    """The tile as the CBUF's rules see it, its registers computed from hardware/convolution.md alone."""
    channels = part.c1 - part.c0
    read = channels if conv.depthwise else conv.input_channels
    stored = -(-read // 16) * 16
    width = part.input_x1 - part.input_x0
    atoms = stored // 16
    entries = atoms // 4 * width + (width if atoms % 4 == 3 else -(-(atoms % 4) * width // 4))
    return cbuf.ConvPlan(
        width=width,
        rows=part.input_y1 - part.input_y0,
        channels=read,
        kernel_bytes=conv.kernel_h * conv.kernel_w * stored,
        kernels=1 if conv.depthwise else channels + channels % 2,
        data_entries=entries,
        data_banks=part.data_banks,
        weight_banks=part.weight_banks,
        depthwise=conv.depthwise,
        feature_grains=part.input_y1 - part.input_y0 + conv.kernel_h + part.pad_top,
    )


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 400), st.integers(1, 400)),
    channels=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pad=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    depthwise=st.booleans(),
)
def test_any_convolution_is_covered_once_within_the_cbuf(
    size: tuple[int, int],
    channels: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pad: tuple[int, int],
    depthwise: bool,
) -> None:
    reach = [(taps - 1) * spread + 1 for taps, spread in zip(kernel, dilation, strict=True)]
    size = (max(size[0], reach[0]), max(size[1], reach[1]))
    pad = (min(pad[0], reach[0] // 2), min(pad[1], reach[1] // 2))
    conv = convolution(size, channels, kernel, stride, dilation, pad, depthwise)
    try:
        tiles = tile(conv)
    except ConstraintError:
        assert _least_banks(conv) > 12, f"{_least_banks(conv)} banks would do"
        return
    check_tiles(conv, tiles)


def _least_banks(conv: Convolution) -> int:
    """Banks of the smallest task, one output of one group of channels: its window, and weights that fit or stream."""
    channels = min(conv.output_channels, 64 if conv.depthwise else 32)
    stored = -(-(channels if conv.depthwise else conv.input_channels) // 16) * 16
    width, height = min(conv.reach_w, conv.input_shape.width), min(conv.reach_h, conv.input_shape.height)
    data = cbuf.data_banks(cbuf.data_entries_per_row(width, stored), height) + (width == 1)
    kernel = conv.kernel_h * conv.kernel_w * stored
    weights = cbuf.weight_banks(kernel * (1 if conv.depthwise else channels + channels % 2))
    # Streaming is offered with the vendor's grant, two groups of 32 kernels, and never for depthwise.
    grant = max(cbuf.weight_banks(kernel * 64), cbuf.minimum_streaming_weight_banks(stored))
    return data + (weights if conv.depthwise else min(weights, grant, 11))


@pytest.mark.parametrize("channels", [16, 48, 64, 112, 256])
@pytest.mark.parametrize("height", [64, 500, 1277, 1365, 2000, 5000])
def test_width_1_leaves_a_spare_bank(height: int, channels: int) -> None:
    conv = convolution((height, 1), (channels, 40), (1, 1))
    check_tiles(conv, tile(conv))


def test_a_layer_that_fits_is_one_task_with_an_exact_data_grant() -> None:
    """hardware/convolution.md, Banks: data need exactly, all remaining banks to weights."""
    (part,) = tile(convolution((28, 28), (128, 128), pad=(1, 1)))
    assert (part.data_banks, part.weight_banks) == (4, 8)


def test_row_tiles_are_nearly_equal() -> None:
    parts = tile(convolution((224, 224), (32, 32), pad=(1, 1)))
    heights = [part.window.y1 - part.window.y0 for part in parts]
    assert len(parts) > 1
    assert max(heights) - min(heights) <= 1


def test_columns_are_cut_only_where_rows_do_not_suffice() -> None:
    narrow = tile(convolution((400, 60), (256, 32)))
    assert {(part.window.x0, part.window.x1) for part in narrow} == {(0, 58)}
    wide = tile(convolution((10, 900), (512, 32)))
    assert len({part.window.x0 for part in wide}) > 1


def test_bands_of_rows_keep_the_weights_of_the_band_before() -> None:
    conv = convolution((224, 224), (32, 64), pad=(1, 1))
    parts = tile(conv)
    assert [part.keeps_weights for part in parts] == [False] + [True] * (len(parts) - 1)
    assert len({(part.data_banks, part.weight_banks) for part in parts}) == 1
    assert len(parts) > 2
    first, second = (tile_cost(conv, part).read_bytes for part in (parts[1], replace(parts[1], keeps_weights=False)))
    assert second - first == weight_bytes(conv, 64)


def test_weights_that_stream_are_not_kept() -> None:
    parts = tile(convolution((40, 40), (512, 512), pad=(1, 1)))
    assert len(parts) > 1
    assert not any(part.keeps_weights for part in parts)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(3, 300), st.integers(3, 300)),
    channels=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    kernel=st.integers(1, 3),
    depthwise=st.booleans(),
)
def test_no_level_costs_more_than_the_one_below(
    size: tuple[int, int], channels: tuple[int, int], kernel: int, depthwise: bool
) -> None:
    conv = convolution(size, channels, (kernel, kernel), depthwise=depthwise)
    cycles = []
    for level in (0, 1, 2):
        check_tiles(conv, tile(conv, level))
        cycles.append(tiles_cycles(conv, tile(conv, level)))
    assert cycles == sorted(cycles, reverse=True)


def test_level_2_fills_groups_of_pixels() -> None:
    """28 rows of 28 pixels: 14 + 14 are 800 pixels in groups of 16, 16 + 12 are 784 (hw/cost.py)."""
    conv = convolution((28, 28), (512, 256), (1, 1))
    heights = [[part.window.y1 - part.window.y0 for part in tile(conv, level)] for level in (1, 2)]
    assert heights == [[14, 14], [16, 12]]


def test_padding_beyond_the_field_is_a_constraint() -> None:
    conv = convolution((40, 40), (8, 8), (31, 31), pad=(15, 15))
    assert tile(conv)
    with pytest.raises(ConstraintError, match="padding before the first row and column is at most 15"):
        tile(replace(conv, origin_h=-16))


def test_an_operator_of_too_many_tasks_is_a_constraint() -> None:
    """Stride 8 is beyond the field: one task an output, 15625 of them."""
    with pytest.raises(ConstraintError, match="at most 4095 tasks compute one operator"):
        tile(convolution((1000, 1000), (16, 16), (1, 1), (8, 8)))
