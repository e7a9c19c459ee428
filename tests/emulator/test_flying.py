"""DPU-only tasks: element-wise operations, activations, copies and nearest upsampling (hardware/dpu.md, layouts.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketnpu.emulator import Emulator
from rocketnpu.errors import DeviceError
from rocketnpu.hw import arithmetic, regcmd
from rocketnpu.hw.layouts import FeatureCube, pack_multipliers
from rocketnpu.hw.registers import DPU, DPU_RDMA, Register

from .npu_programs import BASE, MEMORY_BYTES, Board, Writes, changed, dpu_writes, flying, rdma_writes

HEIGHT, WIDTH, CHANNELS = 3, 5, 32
DTYPES = {0: np.int8, 1: np.int16, 4: np.int32}
BITS = {0: 8, 1: 16, 4: 32}

OPERATIONS = {
    "add": ({"EW_ALU_ALGO": 2}, np.add),
    "minus": ({"EW_ALU_ALGO": 4}, np.subtract),
    "max": ({"EW_ALU_ALGO": 0, "EW_EQUAL_EN": 1}, np.maximum),
    "min": ({"EW_ALU_ALGO": 1, "EW_EQUAL_EN": 1}, np.minimum),
    "mul": ({"EW_ALU_ALGO": 0, "EW_OP_TYPE": 1}, np.multiply),
}


def _cube(code: int = 0) -> FeatureCube:
    return FeatureCube(HEIGHT, WIDTH, CHANNELS, 0, np.dtype(DTYPES[code]).itemsize)


def _random(seed: int, code: int = 0) -> NDArray[Any]:
    info = np.iinfo(DTYPES[code])
    rng = np.random.default_rng(seed)
    return rng.integers(info.min, info.max + 1, (HEIGHT, WIDTH, CHANNELS)).astype(DTYPES[code])


def _run(
    board: Board, x: NDArray[Any], extra: Writes, other: NDArray[Any] | None = None, code: int = 0
) -> NDArray[Any]:
    cube = _cube(code)
    source, target = board.place(cube.pack(x)), board.reserve(cube.size_bytes)
    element = None if other is None else board.place(cube.pack(other))
    writes, mask = flying(WIDTH, HEIGHT, CHANNELS, source, target, element=element, code=code)
    board.run((writes | extra, mask))
    return board.cube_at(target, cube, DTYPES[code])


@pytest.mark.parametrize("code", [0, 1, 4])
@pytest.mark.parametrize("name", OPERATIONS)
def test_element_wise_operations_saturate_at_every_width(name: str, code: int) -> None:
    fields, formula = OPERATIONS[name]
    x, other = _random(1, code), _random(2, code)
    writes, _ = flying(WIDTH, HEIGHT, CHANNELS, 0, 0, element=0, code=code)
    extra = {DPU.EW_CFG: changed(writes, DPU.EW_CFG, **fields)[DPU.EW_CFG]}
    # The second operand of an int32 multiplication is read as int16 (hardware/dpu.md, EW stage; silicon).
    right = other.astype(np.int16) if (name, code) == ("mul", 4) else other
    expected = arithmetic.saturate(formula(x.astype(np.int64), right.astype(np.int64)), BITS[code])
    np.testing.assert_array_equal(_run(Board(), x, extra, other, code), expected)


def test_a_converted_operand_is_shifted_scaled_and_added() -> None:
    """The vendor's element-wise add: BS brings the first operand to 2^14, EW the second (hardware/dpu.md)."""
    x, other = _random(3), _random(4)
    extra = {
        DPU.BS_CFG: 0x20040,
        DPU.BS_ALU_CFG: 9,
        DPU.BS_MUL_CFG: 0x4000_0000,
        DPU.EW_CFG: 0x904200C0,
        DPU.EW_CVT_OFFSET_VALUE: DPU.EW_CVT_OFFSET_VALUE.encode(EW_OP_CVT_OFFSET=-5),
        DPU.EW_CVT_SCALE_VALUE: DPU.EW_CVT_SCALE_VALUE.encode(EW_OP_CVT_SCALE=-17251, EW_OP_CVT_SHIFT=1),
        DPU.OUT_CVT_SCALE: 0x4001,
        DPU.OUT_CVT_SHIFT: 28,
        DPU.OUT_CVT_OFFSET: 3,
    }
    total = (x.astype(np.int64) + 9) * 0x4000 + arithmetic.operand_convert(other, -5, -17251, 1)
    expected = arithmetic.output_convert(np.maximum(total, 0), 0x4001, 28, 3)
    np.testing.assert_array_equal(_run(Board(), x, extra, other), expected)


def test_a_scalar_operand_serves_every_element() -> None:
    x = _random(5)
    cfg = DPU.EW_CFG.encode(EW_ALU_ALGO=2, EW_RELU_BYPASS=1, EW_OP_CVT_BYPASS=1, EW_LUT_BYPASS=1)
    extra: Writes = {DPU.EW_CFG: cfg, **{DPU[f"EW_OP_VALUE_{n}"]: 21 for n in range(8)}}
    np.testing.assert_array_equal(_run(Board(), x, extra), arithmetic.saturate(x.astype(np.int64) + 21, 8))


def test_leaky_relu_multiplies_negative_values_only() -> None:
    """The vendor's bundle: BS shifts only negative products by 14, BN multiplies only negative values by alpha*2^14."""
    x = _random(6)
    extra = {
        DPU.DATA_FORMAT: DPU.DATA_FORMAT.encode(BS_MUL_SHIFT_VALUE_NEG=14),
        DPU.BS_CFG: 0x20042,
        DPU.BS_MUL_CFG: 0x4000_0000,
        DPU.BN_CFG: 0x62,
        DPU.BN_MUL_CFG: round(0.1 * (1 << 14)) << 16,
        DPU.OUT_CVT_SCALE: 0x4000,
        DPU.OUT_CVT_SHIFT: 28,
    }
    slope = round(0.1 * (1 << 14))
    wide = x.astype(np.int64)
    expected = arithmetic.output_convert(np.where(wide < 0, wide * slope, wide * 0x4000), 0x4000, 28, 0)
    np.testing.assert_array_equal(_run(Board(), x, extra), expected)


def test_prelu_slopes_come_from_memory() -> None:
    board = Board()
    x = _random(7)
    slopes = (np.arange(CHANNELS) * 500).astype(np.int16)
    extra = {
        DPU.BN_CFG: 0x62,
        DPU.BN_MUL_CFG: DPU.BN_MUL_CFG.encode(BN_MUL_SRC=1, BN_MUL_SHIFT_VALUE=14),
        DPU.DATA_FORMAT: DPU.DATA_FORMAT.encode(BN_MUL_SHIFT_VALUE_NEG=14),
        DPU_RDMA.RDMA_NRDMA_CFG: DPU_RDMA.RDMA_NRDMA_CFG.encode(NRDMA_DATA_USE=4),
        DPU_RDMA.RDMA_BN_BASE_ADDR: board.place(pack_multipliers(slopes, CHANNELS)),
    }
    expected = arithmetic.prelu_multiply(x, slopes, 14, 14)
    np.testing.assert_array_equal(_run(board, x, extra), expected)


def test_clamps_act_before_the_output_zero_point() -> None:
    x = _random(8)
    extra = {DPU.BN_CFG: 0x92, DPU.BN_RELUX_CMP_VALUE: 40, DPU.OUT_CVT_OFFSET: 0x100000000 - 20}
    expected = np.clip(x.astype(np.int64), 0, 40) - 20
    np.testing.assert_array_equal(_run(Board(), x, extra), expected)


def test_a_tile_skips_the_rest_of_each_plane() -> None:
    """Two rows of a taller tensor copied into another pitch: SURF_NOTCH is pitch - W*H (hardware/dpu.md)."""
    rng = np.random.default_rng(9)
    board = Board()
    x = rng.integers(-128, 128, (6, WIDTH, CHANNELS)).astype(np.int8)
    cube, out = FeatureCube(6, WIDTH, CHANNELS, 40), FeatureCube(2, WIDTH, CHANNELS, 16)
    source, target = board.place(cube.pack(x)), board.reserve(out.size_bytes)
    writes, mask = flying(WIDTH, 2, CHANNELS, source + 3 * WIDTH * 16, target)
    writes |= {
        DPU_RDMA.RDMA_SURF_NOTCH: (40 - 2 * WIDTH) * 16,
        DPU.DST_SURF_STRIDE: 16 * 16,
        DPU.SURFACE_ADD: 16 * 16,
    }
    board.run((writes, mask))
    np.testing.assert_array_equal(board.cube_at(target, out), x[3:5])
    gap = board.bytes_at(target + 2 * WIDTH * 16, (16 - 2 * WIDTH) * 16)
    assert not gap.any()


def test_in_place_element_wise_reads_before_it_writes() -> None:
    board = Board()
    x = _random(10)
    place = board.place(_cube().pack(x))
    writes, mask = flying(WIDTH, HEIGHT, CHANNELS, place, place, element=place)
    board.run((writes, mask))
    np.testing.assert_array_equal(board.cube_at(place, _cube()), arithmetic.saturate(2 * x.astype(np.int64), 8))


def _upsample(source: int, target: int) -> tuple[Writes, int]:
    """The vendor's nearest upsampling of one group of 16 channels (hardware/layouts.md, table)."""
    writes = {
        **dpu_writes(2 * WIDTH, HEIGHT, 16, 16, target, 2 * WIDTH, 1),
        DPU.DATA_FORMAT: 0x04000000,
        DPU.BS_OW_CFG: 0x126,
        DPU.DATA_CUBE_NOTCH_ADDR: DPU.DATA_CUBE_NOTCH_ADDR.encode(NOTCH_ADDR_0=2 * WIDTH, NOTCH_ADDR_1=2 * WIDTH),
        DPU.SURFACE_ADD: 4 * HEIGHT * WIDTH * 16,
        **rdma_writes(WIDTH, HEIGHT, 8),
        DPU_RDMA.RDMA_SRC_BASE_ADDR: source,
        DPU_RDMA.RDMA_FEATURE_MODE_CFG: 0xF801,
        DPU_RDMA.RDMA_SRC_DMA_CFG: 0x1249,
    }
    return writes, regcmd.DPU_MASK


def test_nearest_upsampling_doubles_rows_and_columns() -> None:
    board = Board()
    rng = np.random.default_rng(11)
    x = rng.integers(-128, 128, (HEIGHT, WIDTH, 16)).astype(np.int8)
    target = board.reserve(4 * x.size)
    board.run(_upsample(board.place(x), target))
    result = board.cube_at(target, FeatureCube(2 * HEIGHT, 2 * WIDTH, 16))
    np.testing.assert_array_equal(result, x.repeat(2, axis=0).repeat(2, axis=1))


REFUSED = {
    "operand per channel": (DPU.EW_CFG, {"EW_DATA_MODE": 0}),
    "operand of another width": (DPU.EW_CFG, {"EDATA_SIZE": 2}),
    "division": (DPU.EW_CFG, {"EW_ALU_ALGO": 3}),
    "max without EQUAL": (DPU.EW_CFG, {"EW_ALU_ALGO": 0}),
    "shift after EW": (DPU.EW_CVT_SCALE_VALUE, {"EW_TRUNCATE": 1}),
    "lookup and operand": (DPU.EW_CFG, {"EW_LUT_BYPASS": 0}),
    "to the PPU": (DPU.FEATURE_MODE_CFG, {"OUTPUT_MODE": 3}),
    "processing precision": (DPU.DATA_FORMAT, {"PROC_PRECISION": 1}),
    "unknown channels": (DPU.DATA_CUBE_CHANNEL, {"ORIG_CHANNEL": 0}),
    "another width": (DPU_RDMA.RDMA_DATA_CUBE_WIDTH, {"WIDTH": WIDTH}),
}


@pytest.mark.parametrize(("register", "fields"), REFUSED.values(), ids=REFUSED)
def test_unknown_states_are_refused(register: Register, fields: dict[str, int]) -> None:
    board = Board(Emulator(MEMORY_BYTES, strict=True))
    x = _random(12)
    writes, _ = flying(WIDTH, HEIGHT, CHANNELS, 0, 0, element=0)
    with pytest.raises(DeviceError, match=r"core 0, task 0: "):
        _run(board, x, {register: changed(writes, register, **fields)[register]}, x)


DMA_UNITS = {
    DPU_RDMA.RDMA_SRC_BASE_ADDR: "DPU_RDMA main read",
    DPU_RDMA.RDMA_EW_BASE_ADDR: "DPU_RDMA EW read",
    DPU_RDMA.RDMA_BN_BASE_ADDR: "DPU_RDMA BN read",
    DPU.DST_BASE_ADDR: "DPU write",
}


@pytest.mark.parametrize("register", DMA_UNITS, ids=DMA_UNITS.values())
def test_an_address_outside_the_mapping_names_the_unit(register: Register) -> None:
    board = Board()
    x = _random(13)
    end = BASE + board.chip.memory.size - 16
    extra = {
        DPU_RDMA.RDMA_NRDMA_CFG: DPU_RDMA.RDMA_NRDMA_CFG.encode(NRDMA_DATA_USE=4),
        DPU_RDMA.RDMA_BN_BASE_ADDR: BASE,
    }
    with pytest.raises(DeviceError, match=rf"core 0, task 0: {DMA_UNITS[register]}: .* in 0x004ffff0"):
        _run(board, x, extra | {register: end}, x)
