"""Pool tasks against plain windows (hardware/ppu.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketnpu.errors import DeviceError
from rocketnpu.hw.layouts import FeatureCube
from rocketnpu.hw.registers import PPU, PPU_RDMA, Register

from .npu_programs import BASE, Board, changed, pool

AVERAGE, MAX, MIN = 0, 1, 2


def _windows(
    x: NDArray[Any], kernel: tuple[int, int], stride: tuple[int, int], pads: tuple[int, int, int, int], fill: float
) -> NDArray[Any]:
    """[OH, OW, KH*KW, C] of x [H, W, C]."""
    top, left, bottom, right = pads
    padded = np.full((x.shape[0] + top + bottom, x.shape[1] + left + right, x.shape[2]), fill, np.float64)
    padded[top : top + x.shape[0], left : left + x.shape[1]] = x
    out_h = (padded.shape[0] - kernel[0]) // stride[0] + 1
    out_w = (padded.shape[1] - kernel[1]) // stride[1] + 1
    result = np.empty((out_h, out_w, kernel[0] * kernel[1], x.shape[2]))
    for y, column in np.ndindex(out_h, out_w):
        part = padded[y * stride[0] : y * stride[0] + kernel[0], column * stride[1] : column * stride[1] + kernel[1]]
        result[y, column] = part.reshape(-1, x.shape[2])
    return result


SHAPES = {
    "2x2 s2": ((8, 6), (2, 2), (2, 2), (0, 0, 0, 0)),
    "3x3 s1 p1": ((5, 7), (3, 3), (1, 1), (1, 1, 1, 1)),
    "3x2 s2x1, bottom only": ((6, 5), (3, 2), (2, 1), (0, 0, 1, 0)),
    "5x5 s1 p2": ((6, 6), (5, 5), (1, 1), (2, 2, 2, 2)),
}


@pytest.mark.parametrize(("method", "reduce", "fill"), [(MAX, np.max, -1e9), (MIN, np.min, 1e9)], ids=["max", "min"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("pad_value", [0, -128])
def test_padding_never_wins_a_maximum_or_minimum(
    shape: Any, method: int, reduce: Callable[..., NDArray[Any]], fill: float, pad_value: int
) -> None:
    size, kernel, stride, pads = shape
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, (*size, 32)).astype(np.int8)
    expected = reduce(_windows(x, kernel, stride, pads, fill), axis=2)
    board = Board()
    out = FeatureCube(*expected.shape)
    target = board.reserve(out.size_bytes)
    task = pool(
        size,
        expected.shape[:2],
        32,
        board.place(FeatureCube(*x.shape).pack(x)),
        target,
        method=method,
        kernel=kernel,
        stride=stride,
        pads=pads,
        pad_value=pad_value,
    )
    board.run(task)
    np.testing.assert_array_equal(board.cube_at(target, out), expected)


def _average(values: NDArray[np.int8], kernel: tuple[int, int], pads: tuple[int, int, int, int], pad: int) -> Any:
    board = Board()
    windows = _windows(values, kernel, (1, 1), pads, pad)
    out = FeatureCube(*windows.shape[:2], values.shape[2])
    target = board.reserve(out.size_bytes)
    source = board.place(FeatureCube(*values.shape).pack(values))
    board.run(
        pool(
            values.shape[:2],
            windows.shape[:2],
            values.shape[2],
            source,
            target,
            method=AVERAGE,
            kernel=kernel,
            pads=pads,
            pad_value=pad,
        )
    )
    return board.cube_at(target, out), windows


@pytest.mark.parametrize(("kernel", "pads"), [((3, 3), (1, 1, 1, 1)), ((2, 2), (0, 0, 0, 0)), ((3, 2), (1, 0, 0, 0))])
def test_averages_count_the_padding_value_and_round_to_nearest(
    kernel: tuple[int, int], pads: tuple[int, int, int, int]
) -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(-128, 128, (6, 7, 16)).astype(np.int8)
    result, windows = _average(values, kernel, pads, -123)
    taps = kernel[0] * kernel[1]
    sums = windows.sum(axis=2)
    assert np.abs(result.astype(np.int64) * taps - sums).max() * 2 <= taps
    ties = np.abs(sums) % taps * 2 == taps
    np.testing.assert_array_equal(result[~ties], np.rint(sums / taps)[~ties])
    if kernel == (2, 2):  # both reciprocals exact: half to even
        np.testing.assert_array_equal(result[ties], np.rint(sums / taps)[ties])
    elif taps % 2 == 0:  # one is not: half toward zero
        np.testing.assert_array_equal(result[ties], np.trunc(sums / taps)[ties])


def test_column_tiles_make_the_whole_result() -> None:
    """The vendor's tiles of 5x5 s1 pad 2 on 32 columns (hardware/ppu.md, Limits)."""
    rng = np.random.default_rng(3)
    board = Board()
    x = rng.integers(-128, 128, (6, 32, 16)).astype(np.int8)
    source, target = board.place(x), board.reserve(x.size)
    tiles = []
    for start, left, right in ((0, 2, 0), (14, 0, 2)):
        writes, mask = pool(
            (6, 18),
            (6, 16),
            16,
            source + start * 16,
            target + (16 if start else 0) * 16,
            method=MAX,
            kernel=(5, 5),
            pads=(2, left, 2, right),
        )
        writes = changed(writes, PPU.OPERATION_MODE_CFG, NOTCH_ADDR=16)
        tiles.append(
            (
                writes
                | {
                    PPU_RDMA.RDMA_SRC_LINE_STRIDE: 32 * 16,
                    PPU_RDMA.RDMA_SRC_SURF_STRIDE: 6 * 32 * 16,
                    PPU.DST_SURF_STRIDE: 6 * 32 * 16,
                },
                mask,
            )
        )
    board.run(*tiles)
    expected = _windows(x, (5, 5), (1, 1), (2, 2, 2, 2), -1e9).max(axis=2)
    np.testing.assert_array_equal(board.cube_at(target, FeatureCube(6, 32, 16)), expected)


@pytest.mark.parametrize(("method", "reduce"), [(MAX, np.max), (MIN, np.min), (AVERAGE, np.mean)])
def test_fp16_pools(method: int, reduce: Callable[..., NDArray[Any]]) -> None:
    rng = np.random.default_rng(4)
    board = Board()
    x = (rng.integers(-64, 64, (4, 4, 8)) / 8).astype(np.float16)
    out = FeatureCube(2, 2, 8, 0, 2)
    target = board.reserve(out.size_bytes)
    source = board.place(FeatureCube(4, 4, 8, 0, 2).pack(x))
    board.run(pool((4, 4), (2, 2), 8, source, target, method=method, kernel=(2, 2), stride=(2, 2), fp16=True))
    expected = reduce(_windows(x, (2, 2), (2, 2), (0, 0, 0, 0), 0), axis=2).astype(np.float16)
    np.testing.assert_array_equal(board.cube_at(target, out, np.float16), expected)


DMA_UNITS = {PPU_RDMA.RDMA_SRC_BASE_ADDR: "PPU_RDMA read", PPU.DST_BASE_ADDR: "PPU write"}


@pytest.mark.parametrize("register", DMA_UNITS, ids=DMA_UNITS.values())
def test_an_address_outside_the_mapping_names_the_unit(register: Register) -> None:
    board = Board()
    end = BASE + board.chip.memory.size - 16
    writes, mask = pool((2, 2), (1, 1), 32, BASE, BASE + 128, method=MAX, kernel=(2, 2), stride=(2, 2))
    board.reserve(160)
    with pytest.raises(DeviceError, match=rf"core 0, task 0: {DMA_UNITS[register]}: .* in 0x004ffff0"):
        board.run((writes | {register: end}, mask))
