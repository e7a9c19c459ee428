"""Convolution tasks against a plain definition: eight nested loops over the window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketnpu.emulator import Emulator, tiles
from rocketnpu.errors import DeviceError, DeviceTimeout
from rocketnpu.hw import arithmetic, regcmd
from rocketnpu.hw.layouts import (
    ChannelOperands,
    DenseImage,
    FeatureCube,
    pack_bias,
    pack_channel_operands,
    pack_depthwise_weights,
    pack_direct_weights,
)
from rocketnpu.hw.registers import CNA, CORE, DPU, DPU_RDMA, Register
from rocketnpu.hw.sizes import align

from .npu_programs import BASE, MEMORY_BYTES, Board, Conv, Writes, body, changed, flying

Ints = NDArray[np.int64]


def _definition(x: Ints, weights: Ints, conv: Conv, pad: NDArray[np.int8], insert: int = 1) -> Ints:
    """Accumulators [OH, OW, OC] of x [H, W, C]; weights [OC, KH, KW, C], or [KH, KW, C] for depthwise."""
    out = np.zeros((conv.out_height, conv.out_width, weights.shape[-1] if conv.depthwise else len(weights)), np.int64)
    for oy, ox in np.ndindex(conv.out_height, conv.out_width):
        for ky, kx in np.ndindex(*conv.kernel):
            y, ry = divmod(oy * conv.stride - conv.pad_top + ky * conv.dilation, insert)
            xx, rx = divmod(ox * conv.stride - conv.pad_left + kx * conv.dilation, insert)
            inside = ry == rx == 0 and 0 <= y < x.shape[0] and 0 <= xx < x.shape[1]
            pixel = x[y, xx] if inside else pad.astype(np.int64)
            out[oy, ox] += pixel * weights[ky, kx] if conv.depthwise else weights[:, ky, kx] @ pixel
    return out


def _random(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int8]:
    return rng.integers(-128, 128, shape).astype(np.int8)


def _raw(writes: Writes) -> Writes:
    """The same with int32 accumulators as output (hardware/convolution.md, int32 result)."""
    writes = changed(writes, DPU.BS_OW_CFG, SIZE_E_0=7, SIZE_E_1=7, SIZE_E_2=7, OD_BYPASS=1)
    writes = changed(writes, DPU.DATA_FORMAT, OUT_PRECISION=4)
    writes = changed(writes, CORE.MISC_CFG, QD_EN=0)
    return changed(writes, DPU.SURFACE_ADD, SURF_ADD=8 * (writes[DPU.DST_SURF_STRIDE] >> 4))


SHAPES = {
    "1x1": {"height": 5, "width": 7, "channels": 48, "outputs": 40},
    "3x3": {"height": 6, "width": 5, "channels": 32, "outputs": 64, "kernel": (3, 3), "pad_top": 1, "pad_left": 1},
    "3x3 stride 2, even": {"height": 8, "width": 8, "channels": 16, "outputs": 32, "kernel": (3, 3), "stride": 2},
    "5x2 stride 3": {"height": 9, "width": 11, "channels": 16, "outputs": 34, "kernel": (5, 2), "stride": 3},
    "dilated": {"height": 9, "width": 9, "channels": 16, "outputs": 2, "kernel": (3, 3), "dilation": 2, "pad_top": 2},
    "fully connected": {"height": 1, "width": 1, "channels": 112, "outputs": 10},
    "pitch": {"height": 3, "width": 5, "channels": 32, "outputs": 32, "pitch": 20, "out_pitch": 40},
}


def _sizes(shape: dict[str, object]) -> Conv:
    conv = Conv(out_height=0, out_width=0, features=0, weights=0, target=0, **shape)  # type: ignore[arg-type]

    def out(size: int, kernel: int, pad: int) -> int:
        return (size + 2 * pad - (kernel - 1) * conv.dilation - 1) // conv.stride + 1

    return replace(
        conv,
        out_height=out(conv.height, conv.kernel[0], conv.pad_top),
        out_width=out(conv.width, conv.kernel[1], conv.pad_left),
    )


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_direct_accumulators_are_the_sums_of_the_definition(shape: dict[str, object]) -> None:
    rng = np.random.default_rng(1)
    conv = _sizes(shape)
    board = Board()
    x = _random(rng, (conv.height, conv.width, conv.channels))
    weights = _random(rng, (conv.outputs, *conv.kernel, conv.channels))
    cube = FeatureCube(conv.height, conv.width, conv.channels, conv.pitch)
    out = FeatureCube(conv.out_height, conv.out_width, conv.aligned, conv.out_pitch, 4)
    conv = replace(
        conv,
        features=board.place(cube.pack(x)),
        weights=board.place(pack_direct_weights(weights)),
        target=board.reserve(out.size_bytes),
        pad_word=0xFFFFFF95,
    )
    board.run((_raw(conv.writes()), conv.task()[1]))
    pad = np.full(conv.channels, 0x95 - 256, np.int8)
    expected = _definition(x.astype(np.int64), weights.astype(np.int64), conv, pad)
    result = board.cube_at(conv.target, out, np.int32)
    np.testing.assert_array_equal(result[..., : conv.outputs], expected)
    assert not result[..., conv.outputs :].any()


def _quantized(writes: Writes, scale: int, shift: int, offset: int) -> Writes:
    writes = changed(writes, DPU.OUT_CVT_SCALE, OUT_CVT_SCALE=scale)
    writes = changed(writes, DPU.OUT_CVT_SHIFT, OUT_CVT_SHIFT=shift)
    return changed(writes, DPU.OUT_CVT_OFFSET, OUT_CVT_OFFSET=offset)


@pytest.mark.parametrize(("stride", "channels"), [(1, 32), (2, 96), (1, 160)])
def test_depthwise_adds_the_weight_zero_point_to_every_tap(stride: int, channels: int) -> None:
    rng = np.random.default_rng(2)
    board = Board()
    conv = _sizes(
        {
            "height": 7,
            "width": 9,
            "channels": channels,
            "outputs": channels,
            "kernel": (3, 3),
            "stride": stride,
            "pad_top": 1,
            "pad_left": 1,
            "depthwise": True,
        }
    )
    x, weights = _random(rng, (7, 9, channels)), _random(rng, (3, 3, channels))
    bias = rng.integers(-20000, 20000, channels).astype(np.int32)
    out = FeatureCube(conv.out_height, conv.out_width, align(channels, 64))
    conv = replace(
        conv,
        features=board.place(FeatureCube(7, 9, channels).pack(x)),
        weights=board.place(pack_depthwise_weights(weights)),
        bias=board.place(pack_bias(bias, align(channels, 64))),
        target=board.reserve(out.size_bytes),
        pad_word=0x11111111,
        bias_use=1,
        weight_addend=-37,
    )
    board.run((_quantized(conv.writes(), 17675, 22, -3), conv.task()[1]))
    acc = _definition(x.astype(np.int64), weights.astype(np.int64) - 37, conv, np.full(channels, 0x11, np.int8))
    expected = arithmetic.output_convert(acc + bias, 17675, 22, -3)
    np.testing.assert_array_equal(board.cube_at(conv.target, out)[..., :channels], expected)


def test_depthwise_pads_odd_lanes_of_the_first_32_from_the_second_byte() -> None:
    """A one-tap kernel of weight 1 at the corner shows the padding of each channel (hardware/layouts.md, silicon)."""
    board = Board()
    weights = np.zeros((3, 3, 64), np.int8)
    weights[0, 0] = 1
    conv = Conv(
        height=2,
        width=2,
        channels=64,
        outputs=64,
        out_height=2,
        out_width=2,
        features=board.place(np.full(256, 99, np.int8)),
        weights=board.place(pack_depthwise_weights(weights)),
        target=board.reserve(256),
        kernel=(3, 3),
        pad_top=1,
        pad_left=1,
        pad_word=0x44332211,
        depthwise=True,
    )
    board.run(conv.task())
    corner = board.cube_at(conv.target, FeatureCube(2, 2, 64))[0, 0]
    np.testing.assert_array_equal(corner, [0x22 if c < 32 and c % 2 else 0x11 for c in range(64)])


def test_the_window_sum_counts_padding_and_unused_lanes() -> None:
    """All weights 0 and OW 1: the output is the window sum S, with the pad byte in all 16 lanes (hardware/dpu.md)."""
    board = Board()
    x = np.zeros((1, 1, 16), np.int8)
    x[..., :3] = (5, 6, 7)
    conv = Conv(
        height=1,
        width=1,
        channels=3,
        outputs=2,
        out_height=1,
        out_width=1,
        features=board.place(x),
        weights=board.place(np.zeros(2 * 9 * 16, np.int8)),
        target=board.reserve(64),
        kernel=(3, 3),
        pad_top=1,
        pad_left=1,
        pad_word=0x01010101,
        weight_addend=1,
    )
    writes = _quantized(conv.writes(), 1, 1, 0)
    board.run((writes, conv.task()[1]))
    window_sum = (5 + 6 + 7) + 8 * 16
    assert board.bytes_at(conv.target, 2).tolist() == [window_sum // 2] * 2


def test_per_channel_operands_scale_each_channel() -> None:
    rng = np.random.default_rng(3)
    board = Board()
    x, weights = _random(rng, (4, 4, 16)), _random(rng, (40, 1, 1, 16))
    operands = ChannelOperands(
        rng.integers(-9000, 9000, 64).astype(np.int32),
        rng.integers(-60, 60, 64).astype(np.int16),
        rng.integers(-32768, 32768, 64).astype(np.int16),
    )
    out = FeatureCube(4, 4, 64)
    conv = Conv(
        height=4,
        width=4,
        channels=16,
        outputs=40,
        out_height=4,
        out_width=4,
        features=board.place(FeatureCube(4, 4, 16).pack(x)),
        weights=board.place(pack_direct_weights(weights)),
        bias=board.place(pack_channel_operands(operands, 64)),
        target=board.reserve(out.size_bytes),
        bias_use=7,
    )
    board.run((_quantized(conv.writes(), 20000, 22, 11), conv.task()[1]))
    wide = weights.astype(np.int64) + operands.ow[:40, None, None, None]
    acc = _definition(x.astype(np.int64), wide, conv, np.zeros(16, np.int8)) + operands.alu[:40]
    expected = arithmetic.output_convert(arithmetic.multiply_shift(acc, operands.mul[:40], 14, 14), 20000, 22, 11)
    np.testing.assert_array_equal(board.cube_at(conv.target, out)[..., :40], expected)


def test_a_dense_image_reads_its_channels_and_pads_all_lanes() -> None:
    rng = np.random.default_rng(4)
    board = Board()
    x, weights = _random(rng, (9, 10, 3)), _random(rng, (32, 3, 3, 3))
    conv = Conv(
        height=9,
        width=10,
        channels=3,
        outputs=32,
        out_height=5,
        out_width=5,
        features=board.place(DenseImage(9, 10, 3, 16).pack(x)),
        weights=board.place(pack_direct_weights(weights, fill=4)),
        target=board.reserve(5 * 5 * 32),
        kernel=(3, 3),
        stride=2,
        pad_top=1,
        pad_left=1,
        pad_word=0xF1F1F1F1,
        pitch=16,
        dense=True,
        weight_addend=-4,
    )
    board.run((_quantized(conv.writes(), 17000, 23, 0), conv.task()[1]))
    acc = _definition(x.astype(np.int64), weights.astype(np.int64) - 4, conv, np.full(3, -15, np.int8))
    expected = arithmetic.output_convert(acc, 17000, 23, 0)
    np.testing.assert_array_equal(board.cube_at(conv.target, FeatureCube(5, 5, 32)), expected)


def test_the_converter_of_a_one_channel_image_subtracts_128_from_bytes() -> None:
    """Scale 16384, truncate 14, offset -128 on unsigned data: what Mesa programs (hardware/layouts.md)."""
    board = Board()
    weights = np.zeros((32, 1, 1, 1), np.int8)
    weights[0] = 1
    conv = Conv(
        height=1,
        width=16,
        channels=1,
        outputs=32,
        out_height=1,
        out_width=16,
        features=board.place(np.arange(0, 256, 16, dtype=np.uint8)),
        weights=board.place(pack_direct_weights(weights)),
        target=board.reserve(16 * 32),
        dense=True,
    )
    truncate = {f"CVT_TRUNCATE_{n}": 14 for n in range(4)}
    writes = conv.writes() | {
        CNA.CVT_CON0: CNA.CVT_CON0.encode(**truncate),
        CNA.CVT_CON1: CNA.CVT_CON1.encode(CVT_SCALE0=16384, CVT_OFFSET0=-128),
        CNA.CVT_CON5: 0xFFFF,
    }
    board.run((writes, conv.task()[1]))
    result = board.cube_at(conv.target, FeatureCube(1, 16, 32))[0, :, 0]
    np.testing.assert_array_equal(result, np.arange(0, 256, 16) - 128)


def test_zero_insertion_is_a_transposed_convolution() -> None:
    """k=2 s=2: every input pixel makes a 2x2 block of the rotated kernel (hardware/convolution.md, Transposed)."""
    rng = np.random.default_rng(5)
    board = Board()
    x, weights = _random(rng, (3, 4, 16)), _random(rng, (32, 2, 2, 16))
    conv = Conv(
        height=3,
        width=4,
        channels=16,
        outputs=32,
        out_height=6,
        out_width=8,
        features=board.place(FeatureCube(3, 4, 16).pack(x)),
        weights=board.place(pack_direct_weights(weights)),
        target=board.reserve(6 * 8 * 32 * 4),
        kernel=(2, 2),
        pad_top=1,
        pad_left=1,
    )
    writes = changed(_raw(conv.writes()), CNA.CONV_CON1, DECONV=1)
    writes = changed(writes, CNA.CONV_CON3, DECONV_X_STRIDE=1, DECONV_Y_STRIDE=1)
    board.run((writes, conv.task()[1]))
    expected = np.zeros((6, 8, 32), np.int64)
    for y, xx, ky, kx in np.ndindex(3, 4, 2, 2):
        expected[2 * y + ky, 2 * xx + kx] += weights[:, 1 - ky, 1 - kx].astype(np.int64) @ x[y, xx]
    np.testing.assert_array_equal(board.cube_at(conv.target, FeatureCube(6, 8, 32, 0, 4), np.int32), expected)


def test_one_row_fetches_read_the_same_cube() -> None:
    rng = np.random.default_rng(6)
    results = []
    x, weights = _random(rng, (5, 3, 48)), _random(rng, (32, 3, 3, 48))
    for single in (0, 1):
        board = Board()
        conv = Conv(
            height=5,
            width=3,
            channels=48,
            outputs=32,
            out_height=3,
            out_width=1,
            features=board.place(FeatureCube(5, 3, 48, 17).pack(x)),
            weights=board.place(pack_direct_weights(weights)),
            target=board.reserve(3 * 32 * 4),
            kernel=(3, 3),
            pitch=17,
        )
        writes = changed(_raw(conv.writes()), CNA.CONV_CON1, GROUP_LINE_OFF=single)
        if single:
            writes |= {CNA.DMA_CON1: 3, CNA.DMA_CON2: 17 - 3}
        board.run((writes, conv.task()[1]))
        results.append(board.cube_at(conv.target, FeatureCube(3, 1, 32, 0, 4), np.int32))
    assert results[0].any()
    np.testing.assert_array_equal(results[1], results[0])


def test_a_row_major_matrix_multiplies_without_repacking() -> None:
    """GROUP_LINE_OFF, LINE_STRIDE K/16, SURF_STRIDE 0, planes one atom apart on both sides (hardware/layouts.md)."""
    rng = np.random.default_rng(7)
    rows, inner, outputs = 6, 64, 32
    a, b = _random(rng, (rows, inner)), _random(rng, (outputs, inner))
    board = Board()
    conv = Conv(
        height=rows,
        width=1,
        channels=inner,
        outputs=outputs,
        out_height=rows,
        out_width=1,
        features=board.place(a),
        weights=board.place(pack_direct_weights(b.reshape(outputs, 1, 1, inner))),
        target=board.reserve(rows * outputs * 4),
    )
    writes = changed(_raw(conv.writes()), CNA.CONV_CON1, GROUP_LINE_OFF=1)
    atoms = outputs * 4 // 16
    writes |= {
        CNA.DMA_CON1: inner // 16,
        CNA.DMA_CON2: 0,
        DPU.DST_SURF_STRIDE: 16,
        DPU.SURFACE_ADD: 16 * 8,
        DPU.DATA_CUBE_NOTCH_ADDR: DPU.DATA_CUBE_NOTCH_ADDR.encode(NOTCH_ADDR_0=atoms - 1, NOTCH_ADDR_1=atoms - 1),
    }
    board.run((writes, conv.task()[1]))
    result = board.bytes_at(conv.target, rows * outputs * 4).view(np.int32).reshape(rows, outputs)
    np.testing.assert_array_equal(result, a.astype(np.int64) @ b.T.astype(np.int64))


@pytest.mark.parametrize("planes", [2, 4])
def test_a_residual_takes_even_planes_from_one_reader_and_odd_ones_from_the_other(planes: int) -> None:
    rng = np.random.default_rng(8)
    board = Board()
    channels = 16 * planes
    x, other = _random(rng, (3, 5, 16)), _random(rng, (3, 5, channels))
    weights = _random(rng, (channels, 1, 1, 16))
    pitch = 20
    operand = board.place(FeatureCube(3, 5, channels, pitch).pack(other))
    conv = Conv(
        height=3,
        width=5,
        channels=16,
        outputs=channels,
        out_height=3,
        out_width=5,
        features=board.place(FeatureCube(3, 5, 16).pack(x)),
        weights=board.place(pack_direct_weights(weights)),
        target=board.reserve(15 * channels),
    )
    notch = (2 * pitch - 15) * 16
    writes = _quantized(conv.writes(), 18000, 22, 9) | {
        DPU.EW_CFG: 0x904202C0,
        DPU.EW_CVT_OFFSET_VALUE: DPU.EW_CVT_OFFSET_VALUE.encode(EW_OP_CVT_OFFSET=-7),
        DPU.EW_CVT_SCALE_VALUE: DPU.EW_CVT_SCALE_VALUE.encode(EW_OP_CVT_SCALE=1001, EW_OP_CVT_SHIFT=3),
        DPU_RDMA.RDMA_FEATURE_MODE_CFG: 0x7D00,
        DPU_RDMA.RDMA_ERDMA_CFG: 0x40000004,
        DPU_RDMA.RDMA_SRC_BASE_ADDR: operand,
        DPU_RDMA.RDMA_EW_BASE_ADDR: operand + pitch * 16,
        DPU_RDMA.RDMA_EW_SURF_STRIDE: pitch * 16,
        DPU_RDMA.RDMA_SURF_NOTCH: notch,
        DPU_RDMA.RDMA_EW_SURF_NOTCH: notch,
    }
    board.run((writes, conv.task()[1]))
    acc = _definition(x.astype(np.int64), weights.astype(np.int64), conv, np.zeros(16, np.int8))
    total = acc + arithmetic.operand_convert(other, -7, 1001, 3)
    expected = arithmetic.output_convert(total, 18000, 22, 9)
    np.testing.assert_array_equal(board.cube_at(conv.target, FeatureCube(3, 5, channels)), expected)


def test_tiles_do_not_change_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    x, weights = _random(rng, (17, 13, 96)), _random(rng, (128, 3, 3, 96))
    results = []
    for tile_elements in (1 << 11, 1 << 24):
        monkeypatch.setattr(tiles, "_TILE_ELEMENTS", tile_elements)
        board = Board()
        conv = Conv(
            height=17,
            width=13,
            channels=96,
            outputs=128,
            out_height=17,
            out_width=13,
            features=board.place(FeatureCube(17, 13, 96).pack(x)),
            weights=board.place(pack_direct_weights(weights)),
            target=board.reserve(17 * 13 * 128),
            kernel=(3, 3),
            pad_top=1,
            pad_left=1,
            pad_word=0x05050505,
        )
        board.run((_quantized(conv.writes(), 20001, 25, 1), conv.task()[1]))
        results.append(board.bytes_at(conv.target, 17 * 13 * 128).copy())
    assert len(np.unique(results[0])) > 50
    np.testing.assert_array_equal(results[1], results[0])


def _small(board: Board, **changes: object) -> Conv:
    conv = Conv(
        height=4,
        width=4,
        channels=16,
        outputs=32,
        out_height=4,
        out_width=4,
        features=board.place(np.ones(256, np.int8)),
        weights=board.place(np.ones(512, np.int8)),
        target=board.reserve(512),
    )
    return replace(conv, **changes)  # type: ignore[arg-type]


def test_new_weights_at_the_same_address_are_used() -> None:
    board = Board()
    conv = _small(board)
    address = board.chain(conv.task())
    board.chip.run(address, 1)
    assert (board.bytes_at(conv.target, 512) == 16).all()
    board.bytes_at(conv.weights, 512)[:] = 2
    board.chip.run(address, 1)
    assert (board.bytes_at(conv.target, 512) == 32).all()


def test_weight_reuse_needs_the_same_weights_just_before() -> None:
    board = Board()
    conv = _small(board)
    reuse = changed(conv.writes(), CNA.CBUF_CON0, WEIGHT_REUSE=1), conv.task()[1]
    board.run(conv.task(), reuse)
    with pytest.raises(DeviceError, match=r"task 0: CNA.CBUF_CON0.WEIGHT_REUSE"):
        board.run(reuse)


def test_weights_are_kept_by_tasks_with_the_same_banks_alone() -> None:
    board = Board()
    conv = _small(board)
    banks = {"DATA_BANK": 3, "WEIGHT_BANK": 9}
    other = changed(conv.writes(), CNA.CBUF_CON0, WEIGHT_REUSE=1, **banks), conv.task()[1]
    with pytest.raises(DeviceError, match=r"task 1: CNA.CBUF_CON0.WEIGHT_REUSE.*data and weight banks"):
        board.run(conv.task(), other)
    board.run((changed(conv.writes(), CNA.CBUF_CON0, **banks), conv.task()[1]), other)


def test_a_task_without_convolution_between_ends_what_is_known_of_the_buffer() -> None:
    board = Board()
    conv = _small(board)
    reuse = changed(conv.writes(), CNA.CBUF_CON0, WEIGHT_REUSE=1), conv.task()[1]
    copy = flying(4, 4, 32, board.reserve(512), board.reserve(512))
    with pytest.raises(DeviceError, match=r"task 2: CNA.CBUF_CON0.WEIGHT_REUSE"):
        board.run(conv.task(), copy, reuse)


def test_features_that_their_own_task_has_overwritten_are_not_kept() -> None:
    board = Board()
    conv = _small(board)
    in_place = replace(conv, target=conv.features)
    board.reserve(512)
    reuse = changed(conv.writes(), CNA.CBUF_CON0, DATA_REUSE=1), conv.task()[1]
    board.run(conv.task(), reuse)
    with pytest.raises(DeviceError, match=r"task 1: CNA.CBUF_CON0.DATA_REUSE"):
        board.run(in_place.task(), reuse)


def test_an_output_over_the_input_reads_the_input_first() -> None:
    board = Board()
    conv = _small(board)
    conv = replace(conv, target=conv.features)
    board.reserve(512)
    board.run(conv.task())
    assert (board.bytes_at(conv.target, 512) == 16).all()


def test_fp16_accumulates_products_in_single_precision() -> None:
    """1024 + 31 halves is 1039.5 and rounds once, to 1040; adding half by half in fp16 would stay at 1024."""
    board = Board()
    x = np.zeros((1, 2, 32), np.float16)
    x[0, 0], x[0, 1] = 0.5, 1
    weights = np.ones((16, 1, 1, 32), np.float16)
    weights[1, 0, 0, 0] = 2048
    conv = _small(
        board,
        height=1,
        width=2,
        channels=32,
        outputs=32,
        out_height=1,
        out_width=2,
        features=board.place(FeatureCube(1, 2, 32, 0, 2).pack(x)),
        weights=board.place(pack_direct_weights(weights)),
        target=board.reserve(128),
    )
    writes = conv.writes()
    writes = changed(writes, CNA.CONV_CON1, IN_PRECISION=2, PROC_PRECISION=2)
    writes |= {CNA.WEIGHT_SIZE1: 64, CNA.WEIGHT_SIZE0: 1024, CNA.CBUF_CON1: 2}
    writes = changed(writes, CNA.WEIGHT_SIZE2, WEIGHT_KERNELS=16)
    writes = changed(writes, CORE.MISC_CFG, PROC_PRECISION=2, QD_EN=0)
    writes = changed(writes, CORE.DATAOUT_SIZE_1, DATAOUT_CHANNEL=15)
    writes = changed(writes, DPU.DATA_CUBE_CHANNEL, CHANNEL=15, ORIG_CHANNEL=15)
    writes = changed(writes, DPU.WDMA_SIZE_0, CHANNEL_WDMA=15)
    writes = changed(writes, DPU.DATA_FORMAT, IN_PRECISION=2, OUT_PRECISION=2, PROC_PRECISION=2)
    writes = changed(writes, DPU.OUT_CVT_SCALE, FP32TOFP16_EN=1)
    writes = changed(writes, DPU_RDMA.RDMA_DATA_CUBE_CHANNEL, CHANNEL=15)
    board.run((writes, conv.task()[1]))
    result = board.cube_at(conv.target, FeatureCube(1, 2, 16, 0, 2), np.float16)
    assert result[0, 0, :3].tolist() == [16, 1040, 16]
    assert result[0, 1, :3].tolist() == [32, 2080, 32]


DMA_UNITS = {
    CNA.FEATURE_DATA_ADDR: "CNA feature DMA",
    CNA.DCOMP_ADDR0: "CNA weight DMA",
    DPU_RDMA.RDMA_BS_BASE_ADDR: "DPU_RDMA BS read",
    DPU.DST_BASE_ADDR: "DPU write",
}


@pytest.mark.parametrize("register", DMA_UNITS, ids=DMA_UNITS.values())
def test_an_address_outside_the_mapping_names_core_task_unit_and_size(register: Register) -> None:
    board = Board()
    conv = _small(board, bias_use=1, bias=board.place(np.zeros(32, np.int32)))
    end = BASE + board.chip.memory.size - 16
    with pytest.raises(DeviceError, match=rf"core 0, task 0: {DMA_UNITS[register]}: .* bytes in 0x004ffff0"):
        board.run((conv.writes() | {register: end}, conv.task()[1]))
    assert not board.bytes_at(conv.target, 512).any()
    assert not board.bytes_at(end, 16).any()


REFUSED = {
    "odd kernels": (CNA.WEIGHT_SIZE2, {"WEIGHT_KERNELS": 31}, "kernel"),
    "undocumented field": (CNA.CONV_CON2, {"KERNEL_GROUP": 1}, "KERNEL_GROUP"),
    "FC bank": (CNA.CBUF_CON0, {"FC_DATA_BANK": 1}, "FC_DATA_BANK"),
    "rows past the banks": (CNA.CBUF_CON0, {"DATA_BANK": 0, "WEIGHT_BANK": 1}, "DATA_BANK"),
    "line stride": (CNA.DMA_CON1, {"LINE_STRIDE": 17}, "LINE_STRIDE"),
    "another output size": (CORE.DATAOUT_SIZE_0, {"DATAOUT_WIDTH": 4, "DATAOUT_HEIGHT": 3}, "CORE"),
}


@pytest.mark.parametrize(("register", "fields", "names"), REFUSED.values(), ids=REFUSED)
def test_states_that_silicon_gets_wrong_are_refused_by_name(
    register: Register, fields: dict[str, int], names: str
) -> None:
    board = Board(Emulator(MEMORY_BYTES, strict=True))
    conv = _small(board)
    with pytest.raises(DeviceError, match=rf"core 0, task 0: .*{names}"):
        board.run((changed(conv.writes(), register, **fields), conv.task()[1]))
    assert not board.bytes_at(conv.target, 512).any()


HANGS = {
    "a partial channel group": {
        CORE.DATAOUT_SIZE_1: {"DATAOUT_CHANNEL": 15},
        DPU.DATA_CUBE_CHANNEL: {"CHANNEL": 15, "ORIG_CHANNEL": 15},
        DPU.WDMA_SIZE_0: {"CHANNEL_WDMA": 15},
        DPU_RDMA.RDMA_DATA_CUBE_CHANNEL: {"CHANNEL": 15},
    },
    "the depthwise writer": {DPU.BS_OW_CFG: {"SIZE_E_0": 3, "SIZE_E_1": 3, "SIZE_E_2": 3}},
    "a reader without a use": {DPU_RDMA.RDMA_FEATURE_MODE_CFG: {"MRDMA_DISABLE": 0}},
    "gated MACs": {CORE.MAC_GATING: {"SLCG_OP_EN": 0}},
}


@pytest.mark.parametrize("changes", HANGS.values(), ids=HANGS)
def test_what_hangs_on_silicon_times_out(changes: dict[Register, dict[str, int]]) -> None:
    """hardware/convolution.md, Must not emit."""
    board = Board()
    conv = _small(board)
    writes = conv.writes()
    for register, fields in changes.items():
        writes = changed(writes, register, **fields)
    with pytest.raises(DeviceTimeout, match="core 0, task 0: the task never completes"):
        board.run((writes, conv.task()[1]))


def test_what_a_reader_that_is_off_would_do_has_no_effect() -> None:
    """Programs that run on boards leave MRDMA_FP16TOFP32_EN set while MRDMA is off."""
    board = Board()
    conv = _small(board)
    board.run((changed(conv.writes(), DPU_RDMA.RDMA_FEATURE_MODE_CFG, MRDMA_FP16TOFP32_EN=1), conv.task()[1]))
    assert (board.bytes_at(conv.target, 512) == 16).all()


def test_multi_core_bits_are_accepted() -> None:
    """CONV_CON2[31:28] and REGISTER_AMOUNTS[31:16] are non-zero in the vendor's multi-core lists; effect unknown."""
    board = Board()
    conv = _small(board)
    entries = body(changed(conv.writes(), CNA.CONV_CON2, MULTI_CORE_MODE=2))
    words = np.array([*entries, *regcmd.trailer(0, 0, conv.task()[1], cores=3)], "<u8")
    board.chip.run(board.place(words), 1, body_entries=len(entries))
    assert (board.bytes_at(conv.target, 512) == 16).all()


@pytest.mark.parametrize(("round_type", "expected"), [(0, 8), (1, 9)])
def test_the_accumulator_shift_rounds_half_to_even_or_up(round_type: int, expected: int) -> None:
    """17 / 2 (hardware/dpu.md, Accumulator; [trm] only)."""
    board = Board()
    conv = _small(board)
    board.bytes_at(conv.features, 256)[::16] = 2
    writes = changed(conv.writes(), CORE.CLIP_TRUNCATE, CLIP_TRUNCATE=1, ROUND_TYPE=round_type)
    board.run((writes, conv.task()[1]))
    assert set(board.bytes_at(conv.target, 512).tolist()) == {expected}


def test_weight_zero_points_are_added_before_the_accumulator_shift() -> None:
    """(16 * 1 + 16 * 1) / 2, not 16 / 2 + 16: only so are Mesa's programs that use both right."""
    board = Board()
    conv = _small(board, weight_addend=1)
    board.run((changed(conv.writes(), CORE.CLIP_TRUNCATE, CLIP_TRUNCATE=1), conv.task()[1]))
    assert set(board.bytes_at(conv.target, 512).tolist()) == {16}


def test_weights_may_exceed_their_banks_and_stream() -> None:
    rng = np.random.default_rng(10)
    board = Board()
    x, weights = _random(rng, (4, 4, 256)), _random(rng, (64, 3, 3, 256))
    conv = Conv(
        height=4,
        width=4,
        channels=256,
        outputs=64,
        out_height=2,
        out_width=2,
        features=board.place(FeatureCube(4, 4, 256).pack(x)),
        weights=board.place(pack_direct_weights(weights)),
        target=board.reserve(4 * 64 * 4),
        kernel=(3, 3),
    )
    writes = _raw(conv.writes())
    board.run((changed(writes, CNA.CBUF_CON0, WEIGHT_BANK=3), conv.task()[1]))
    expected = _definition(x.astype(np.int64), weights.astype(np.int64), conv, np.zeros(256, np.int8))
    np.testing.assert_array_equal(board.cube_at(conv.target, FeatureCube(2, 2, 64, 0, 4), np.int32), expected)
    # Two banks are below the minimum that one laboratory measured; public programs with two run on boards.
    board.bytes_at(conv.target, 4 * 64 * 4)[:] = 0
    result = board.run((changed(writes, CNA.CBUF_CON0, WEIGHT_BANK=2), conv.task()[1]))
    assert "streamed_weights_have_their_minimum" in result.cores[0].warnings[0]
    np.testing.assert_array_equal(board.cube_at(conv.target, FeatureCube(2, 2, 64, 0, 4), np.int32), expected)
