"""Small register programs for the tests: the documented defaults of each task kind, overridden field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator import Emulator, RunResult
from rocketnpu.hw import cbuf, regcmd
from rocketnpu.hw.layouts import FeatureCube, kernel_bytes
from rocketnpu.hw.registers import CNA, CORE, DPU, DPU_RDMA, PPU, PPU_RDMA, Register
from rocketnpu.hw.sizes import align

Fields = Mapping[str, int]
Writes = dict[Register, int]

BASE = 0x10_0000
"""Where the tests map the chip's memory."""
MEMORY_BYTES = 1 << 22


@dataclass
class Board:
    """A chip with all its memory mapped at BASE, and a bump allocator."""

    chip: Emulator = field(default_factory=lambda: Emulator(MEMORY_BYTES))
    top: int = 0

    def __post_init__(self) -> None:
        self.chip.map(BASE, 0, MEMORY_BYTES)

    def place(self, data: NDArray[np.generic] | bytes) -> int:
        """Copy data into memory; its address."""
        raw = np.frombuffer(data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes(), np.uint8)
        address = self.reserve(raw.size)
        self.chip.memory[address - BASE : address - BASE + raw.size] = raw
        return address

    def reserve(self, size: int) -> int:
        """Address of fresh memory, 64-byte aligned."""
        address = BASE + self.top
        self.top = align(self.top + size, 64)
        assert self.top <= MEMORY_BYTES
        return address

    def bytes_at(self, address: int, size: int) -> NDArray[np.uint8]:
        return self.chip.memory[address - BASE : address - BASE + size]

    def cube_at(self, address: int, cube: FeatureCube, dtype: type = np.int8) -> NDArray[np.generic]:
        """The tensor [H, W, C] of a cube in memory."""
        return cube.unpack(self.bytes_at(address, cube.size_bytes), dtype)

    def chain(self, *tasks: tuple[Writes, int]) -> int:
        """Place lists that follow one another; the address of the first."""
        lists = [body(writes) for writes, _ in tasks]
        addresses = [self.reserve(8 * (len(entries) + 5)) for entries in lists]
        following = [*zip(addresses[1:], map(len, lists[1:]), strict=True), (0, 0)]
        for address, entries, (_, mask), (after, length) in zip(addresses, lists, tasks, following, strict=True):
            words = np.array([*entries, *regcmd.trailer(after, length, mask)], "<u8")
            self.bytes_at(address, words.nbytes)[:] = words.view(np.uint8)
        return addresses[0]

    def run(self, *tasks: tuple[Writes, int]) -> RunResult:
        """Run tasks as one chain on core 0."""
        return self.chip.run(self.chain(*tasks), len(tasks))


def body(writes: Writes) -> list[int]:
    return [regcmd.write(register, value) for register, value in writes.items()]


def changed(writes: Writes, register: Register, **fields: int) -> Writes:
    """`writes` with some fields of one register replaced."""
    values = {**register.decode(writes.get(register, 0)), **fields}
    return {**writes, register: register.encode(**{name: v for name, v in values.items() if "RESERVED" not in name})}


def without(writes: Writes, registers: Iterable[Register]) -> Writes:
    return {register: value for register, value in writes.items() if register not in set(registers)}


@dataclass(frozen=True)
class Conv:
    """Shape and addresses of a convolution; registers follow hardware/convolution.md, Minimal int8 program."""

    height: int
    width: int
    channels: int
    outputs: int
    out_height: int
    out_width: int
    features: int
    weights: int
    target: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    dilation: int = 1
    pad_top: int = 0
    pad_left: int = 0
    pad_word: int = 0
    depthwise: bool = False
    kernels: int = 0
    pitch: int = 0
    out_pitch: int = 0
    bias: int = 0
    bias_use: int = 0
    weight_addend: int = 0
    dense: bool = False
    stored: int = 0

    @property
    def group(self) -> int:
        return 64 if self.depthwise else 32

    @property
    def aligned(self) -> int:
        return align(self.outputs, self.group)

    def writes(self) -> Writes:
        kernel_h, kernel_w = self.kernel
        lanes = 16 if self.dense else align(self.channels, 16)
        pitch = self.pitch or self.height * self.width
        out_pitch = self.out_pitch or self.out_height * self.out_width
        per_pass = self.group // 16
        if self.depthwise:
            kernels, each = 1, kernel_h * kernel_w * (self.stored or lanes)
        else:
            kernels, each = self.kernels or self.outputs + self.outputs % 2, kernel_bytes(kernel_h, kernel_w, lanes)
        if self.dense:
            entries = cbuf.image_entries(self.width, self.height)
            con1 = {"NONALIGN_DMA": 1, "GROUP_LINE_OFF": 1, "ARGB_IN": 7 + self.channels}
            line, surface = pitch, pitch * (self.height - 1)
        else:
            entries = cbuf.data_entries_per_row(self.width, lanes)
            con1 = {"CONV_MODE": 3 if self.depthwise else 0}
            line, surface = 4 * self.width, pitch - 4 * self.width
        mode = 3 if self.depthwise else 0
        size_e = per_pass - 1
        per_channel = self.bias_use == 7
        return {
            CNA.CONV_CON1: CNA.CONV_CON1.encode(**con1),
            CNA.CONV_CON2: CNA.CONV_CON2.encode(FEATURE_GRAINS=min(self.height + kernel_h, 1023)),
            CNA.CONV_CON3: CNA.CONV_CON3.encode(
                CONV_X_STRIDE=self.stride,
                CONV_Y_STRIDE=self.stride,
                ATROUS_X_DILATION=self.dilation - 1,
                ATROUS_Y_DILATION=self.dilation - 1,
            ),
            CNA.DATA_SIZE0: CNA.DATA_SIZE0.encode(DATAIN_WIDTH=self.width, DATAIN_HEIGHT=self.height),
            CNA.DATA_SIZE1: CNA.DATA_SIZE1.encode(DATAIN_CHANNEL=lanes, DATAIN_CHANNEL_REAL=(self.channels - 1) % 64),
            CNA.DATA_SIZE2: CNA.DATA_SIZE2.encode(DATAOUT_WIDTH=self.out_width),
            CNA.DATA_SIZE3: CNA.DATA_SIZE3.encode(DATAOUT_ATOMICS=self.out_width * self.out_height),
            CNA.WEIGHT_SIZE0: each * kernels,
            CNA.WEIGHT_SIZE1: CNA.WEIGHT_SIZE1.encode(WEIGHT_BYTES_PER_KERNEL=each),
            CNA.WEIGHT_SIZE2: CNA.WEIGHT_SIZE2.encode(
                WEIGHT_WIDTH=kernel_w, WEIGHT_HEIGHT=kernel_h, WEIGHT_KERNELS=kernels
            ),
            CNA.CBUF_CON0: CNA.CBUF_CON0.encode(DATA_BANK=6, WEIGHT_BANK=6),
            CNA.CBUF_CON1: CNA.CBUF_CON1.encode(DATA_ENTRIES=entries),
            CNA.CVT_CON0: CNA.CVT_CON0.encode(DATA_SIGN=1, CVT_TYPE=1, CVT_BYPASS=1),
            **{CNA[f"CVT_CON{n}"]: CNA[f"CVT_CON{n}"].encode(**{f"CVT_SCALE{n - 1}": 1}) for n in range(1, 5)},
            CNA.FC_CON0: 0,
            CNA.FC_CON1: 0,
            CNA.PAD_CON0: CNA.PAD_CON0.encode(PAD_TOP=self.pad_top, PAD_LEFT=self.pad_left),
            CNA.FEATURE_DATA_ADDR: self.features,
            CNA.FC_CON2: 0,
            CNA.DMA_CON0: CNA.DMA_CON0.encode(WEIGHT_BURST_LEN=15, DATA_BURST_LEN=15),
            CNA.DMA_CON1: CNA.DMA_CON1.encode(LINE_STRIDE=line),
            CNA.DMA_CON2: CNA.DMA_CON2.encode(SURF_STRIDE=surface),
            CNA.FC_DATA_SIZE0: CNA.FC_DATA_SIZE0.encode(DMA_WIDTH=self.width, DMA_HEIGHT=self.height),
            CNA.FC_DATA_SIZE1: CNA.FC_DATA_SIZE1.encode(DMA_CHANNEL=lanes),
            CNA.DCOMP_CTRL: 0,
            CNA.DCOMP_REGNUM: 0,
            CNA.DCOMP_ADDR0: self.weights,
            **{CNA[f"DCOMP_AMOUNT{n}"]: 0 for n in range(16)},
            CNA.CVT_CON5: 0,
            CNA.PAD_CON1: self.pad_word,
            CORE.MISC_CFG: CORE.MISC_CFG.encode(QD_EN=1, DW_EN=int(self.depthwise)),
            CORE.DATAOUT_SIZE_0: CORE.DATAOUT_SIZE_0.encode(
                DATAOUT_HEIGHT=self.out_height - 1, DATAOUT_WIDTH=self.out_width - 1
            ),
            CORE.DATAOUT_SIZE_1: CORE.DATAOUT_SIZE_1.encode(DATAOUT_CHANNEL=self.aligned - 1),
            CORE.CLIP_TRUNCATE: 0,
            CORE.UNKNOWN_3030: 0,
            **dpu_writes(self.out_width, self.out_height, self.aligned, self.outputs, self.target, out_pitch, size_e),
            DPU.FEATURE_MODE_CFG: DPU.FEATURE_MODE_CFG.encode(BURST_LEN=15, CONV_MODE=mode, OUTPUT_MODE=2),
            DPU.DATA_FORMAT: DPU.DATA_FORMAT.encode(BS_MUL_SHIFT_VALUE_NEG=14 if per_channel else 0),
            DPU.BS_CFG: DPU.BS_CFG.encode(
                BS_ALU_ALGO=2,
                BS_ALU_SRC=1,
                BS_RELU_BYPASS=1,
                BS_MUL_BYPASS=int(not per_channel),
                BS_BYPASS=int(not self.bias_use),
            ),
            DPU.BS_MUL_CFG: DPU.BS_MUL_CFG.encode(
                BS_MUL_SRC=int(per_channel), BS_MUL_SHIFT_VALUE=14 if per_channel else 0
            ),
            DPU.BS_OW_CFG: DPU.BS_OW_CFG.encode(
                SIZE_E_0=size_e, SIZE_E_1=size_e, SIZE_E_2=size_e, OW_SRC=int(per_channel)
            ),
            DPU.BS_OW_OP: DPU.BS_OW_OP.encode(OW_OP=self.weight_addend),
            **rdma_writes(self.out_width, self.out_height, self.aligned),
            DPU_RDMA.RDMA_BRDMA_CFG: DPU_RDMA.RDMA_BRDMA_CFG.encode(BRDMA_DATA_USE=self.bias_use),
            DPU_RDMA.RDMA_BS_BASE_ADDR: self.bias,
            DPU_RDMA.RDMA_FEATURE_MODE_CFG: DPU_RDMA.RDMA_FEATURE_MODE_CFG.encode(
                BURST_LEN=15, MRDMA_DISABLE=1, CONV_MODE=mode
            ),
        }

    def task(self) -> tuple[Writes, int]:
        return self.writes(), regcmd.CONVOLUTION_MASK


def dpu_writes(
    width: int, height: int, channels: int, real: int, target: int, pitch: int, size_e: int, pointer: int = 0x0E
) -> Writes:
    """The DPU with every stage off and OUT_CVT passing values through."""
    return {
        DPU.S_POINTER: pointer,
        DPU.FEATURE_MODE_CFG: DPU.FEATURE_MODE_CFG.encode(BURST_LEN=15, OUTPUT_MODE=2, FLYING_MODE=1),
        DPU.DATA_FORMAT: 0,
        DPU.OFFSET_PEND: 0,
        DPU.DST_BASE_ADDR: target,
        DPU.DST_SURF_STRIDE: DPU.DST_SURF_STRIDE.encode(DST_SURF_STRIDE=pitch),
        DPU.DATA_CUBE_WIDTH: width - 1,
        DPU.DATA_CUBE_HEIGHT: height - 1,
        DPU.DATA_CUBE_NOTCH_ADDR: 0,
        DPU.DATA_CUBE_CHANNEL: DPU.DATA_CUBE_CHANNEL.encode(CHANNEL=channels - 1, ORIG_CHANNEL=real - 1),
        DPU.BS_CFG: 0x53,
        DPU.BS_ALU_CFG: 0,
        DPU.BS_MUL_CFG: 0,
        DPU.BS_RELUX_CMP_VALUE: 0,
        DPU.BS_OW_CFG: DPU.BS_OW_CFG.encode(SIZE_E_0=size_e, SIZE_E_1=size_e, SIZE_E_2=size_e, OD_BYPASS=1),
        DPU.BS_OW_OP: 0,
        DPU.WDMA_SIZE_0: DPU.WDMA_SIZE_0.encode(CHANNEL_WDMA=channels - 1),
        DPU.WDMA_SIZE_1: DPU.WDMA_SIZE_1.encode(HEIGHT_WDMA=height - 1, WIDTH_WDMA=width - 1),
        DPU.BN_CFG: 0x53,
        DPU.BN_ALU_CFG: 0,
        DPU.BN_MUL_CFG: 0,
        DPU.BN_RELUX_CMP_VALUE: 0,
        DPU.EW_CFG: 0x383,
        DPU.EW_CVT_OFFSET_VALUE: 0,
        DPU.EW_CVT_SCALE_VALUE: 1,
        DPU.EW_RELUX_CMP_VALUE: 0,
        DPU.OUT_CVT_OFFSET: 0,
        DPU.OUT_CVT_SCALE: 1,
        DPU.OUT_CVT_SHIFT: 0,
        **{DPU[f"EW_OP_VALUE_{n}"]: 0 for n in range(8)},
        DPU.SURFACE_ADD: DPU.SURFACE_ADD.encode(SURF_ADD=pitch * (size_e + 1)),
        DPU.UNKNOWN_40C4: 0,
        DPU.LUT_ACCESS_CFG: 0,
        DPU.LUT_ACCESS_DATA: 0,
        **{register: 0 for register in DPU if DPU.LUT_CFG.offset <= register.offset <= DPU.LUT_LO_SLOPE_SHIFT.offset},
    }


def rdma_writes(width: int, height: int, channels: int, pointer: int = 0x0E) -> Writes:
    """DPU_RDMA reading nothing."""
    return {
        DPU_RDMA.RDMA_S_POINTER: pointer,
        DPU_RDMA.RDMA_DATA_CUBE_WIDTH: width - 1,
        DPU_RDMA.RDMA_DATA_CUBE_HEIGHT: height - 1,
        DPU_RDMA.RDMA_DATA_CUBE_CHANNEL: channels - 1,
        DPU_RDMA.RDMA_SRC_BASE_ADDR: 0,
        DPU_RDMA.RDMA_BRDMA_CFG: 0,
        DPU_RDMA.RDMA_BS_BASE_ADDR: 0,
        DPU_RDMA.RDMA_NRDMA_CFG: 0,
        DPU_RDMA.RDMA_BN_BASE_ADDR: 0,
        DPU_RDMA.RDMA_ERDMA_CFG: 1,
        DPU_RDMA.RDMA_EW_BASE_ADDR: 0,
        DPU_RDMA.RDMA_EW_SURF_STRIDE: 0,
        DPU_RDMA.RDMA_FEATURE_MODE_CFG: 0x7810,
        DPU_RDMA.RDMA_SRC_DMA_CFG: 0,
        DPU_RDMA.RDMA_SURF_NOTCH: 0,
        DPU_RDMA.RDMA_PAD_CFG: 0,
        DPU_RDMA.RDMA_WEIGHT: 0x01010101,
        DPU_RDMA.RDMA_EW_SURF_NOTCH: 0,
    }


def flying(
    width: int,
    height: int,
    channels: int,
    source: int,
    target: int,
    *,
    element: int | None = None,
    code: int = 0,
    out_code: int | None = None,
    size_e: int = 0,
) -> tuple[Writes, int]:
    """A DPU-only task that copies a cube; with `element`, EW adds that cube (converter bypassed)."""
    pitch = width * height
    out_code = code if out_code is None else out_code
    sizes = {0: 1, 1: 2, 2: 2, 4: 3}
    writes = {
        **dpu_writes(width, height, channels, channels, target, pitch, size_e),
        DPU.DATA_FORMAT: DPU.DATA_FORMAT.encode(PROC_PRECISION=code, IN_PRECISION=code, OUT_PRECISION=out_code),
        **rdma_writes(width, height, channels),
        DPU_RDMA.RDMA_SRC_BASE_ADDR: source,
        DPU_RDMA.RDMA_FEATURE_MODE_CFG: DPU_RDMA.RDMA_FEATURE_MODE_CFG.encode(
            BURST_LEN=15, FLYING_MODE=1, IN_PRECISION=code, PROC_PRECISION=code
        ),
    }
    if element is not None:
        writes |= {
            DPU.EW_CFG: DPU.EW_CFG.encode(
                EW_CVT_TYPE=1,
                EW_DATA_MODE=1,
                EDATA_SIZE=sizes[code],
                EW_ALU_ALGO=2,
                EW_RELU_BYPASS=1,
                EW_OP_CVT_BYPASS=1,
                EW_LUT_BYPASS=1,
                EW_OP_SRC=1,
            ),
            DPU_RDMA.RDMA_ERDMA_CFG: DPU_RDMA.RDMA_ERDMA_CFG.encode(ERDMA_DATA_MODE=1, ERDMA_DATA_SIZE=sizes[code]),
            DPU_RDMA.RDMA_EW_BASE_ADDR: element,
            DPU_RDMA.RDMA_EW_SURF_STRIDE: pitch * 16,
        }
    return writes, regcmd.DPU_MASK


def pool(
    inputs: Sequence[int],
    outputs: Sequence[int],
    channels: int,
    source: int,
    target: int,
    *,
    method: int,
    kernel: Sequence[int],
    stride: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    pad_value: int = -128,
    fp16: bool = False,
) -> tuple[Writes, int]:
    """A pool over (height, width) with pads (top, left, bottom, right); registers of hardware/ppu.md."""
    (height, width), (out_h, out_w) = inputs, outputs
    (kernel_h, kernel_w), (stride_h, stride_w) = kernel, stride
    top, left, bottom, right = pads
    raw = pad_value & ((1 << 35) - 1)
    reciprocals = (0, 0)
    if method == 0:
        reciprocals = (0x10000 // kernel_w, 0x10000 // kernel_h)
        if fp16:
            halves = np.array([65536 / kernel_w, 65536 / kernel_h], np.float16)
            reciprocals = tuple(int(x) for x in halves.view(np.uint16))
    writes = {
        PPU.S_POINTER: 0x0E,
        PPU.DATA_CUBE_IN_WIDTH: width - 1,
        PPU.DATA_CUBE_IN_HEIGHT: height - 1,
        PPU.DATA_CUBE_IN_CHANNEL: channels - 1,
        PPU.DATA_CUBE_OUT_WIDTH: out_w - 1,
        PPU.DATA_CUBE_OUT_HEIGHT: out_h - 1,
        PPU.DATA_CUBE_OUT_CHANNEL: channels - 1,
        PPU.OPERATION_MODE_CFG: PPU.OPERATION_MODE_CFG.encode(FLYING_MODE=1, POOLING_METHOD=method),
        PPU.POOLING_KERNEL_CFG: PPU.POOLING_KERNEL_CFG.encode(
            KERNEL_WIDTH=kernel_w - 1,
            KERNEL_HEIGHT=kernel_h - 1,
            KERNEL_STRIDE_WIDTH=stride_w - 1,
            KERNEL_STRIDE_HEIGHT=stride_h - 1,
        ),
        PPU.RECIP_KERNEL_WIDTH: reciprocals[0],
        PPU.RECIP_KERNEL_HEIGHT: reciprocals[1],
        PPU.POOLING_PADDING_CFG: PPU.POOLING_PADDING_CFG.encode(
            PAD_LEFT=left, PAD_TOP=top, PAD_RIGHT=right, PAD_BOTTOM=bottom
        ),
        PPU.PADDING_VALUE_1_CFG: raw & 0xFFFFFFFF,
        PPU.PADDING_VALUE_2_CFG: raw >> 32,
        PPU.DST_BASE_ADDR: target,
        PPU.DST_SURF_STRIDE: out_h * out_w * 16,
        PPU.DATA_FORMAT: PPU.DATA_FORMAT.encode(INDEX_ADD=out_h * out_w, PROC_PRECISION=2 if fp16 else 0),
        PPU.MISC_CTRL: 3,
        PPU_RDMA.RDMA_S_POINTER: 0x0E,
        PPU_RDMA.RDMA_CUBE_IN_WIDTH: width - 1,
        PPU_RDMA.RDMA_CUBE_IN_HEIGHT: height - 1,
        PPU_RDMA.RDMA_CUBE_IN_CHANNEL: channels - 1,
        PPU_RDMA.RDMA_SRC_BASE_ADDR: source,
        PPU_RDMA.RDMA_SRC_LINE_STRIDE: width * 16,
        PPU_RDMA.RDMA_SRC_SURF_STRIDE: height * width * 16,
        PPU_RDMA.RDMA_DATA_FORMAT: 2 if fp16 else 1,
    }
    return writes, regcmd.POOL_MASK
