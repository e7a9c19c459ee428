"""A convolution task: CNA and CORE feeding the DPU, with DPU_RDMA for its operands."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.affine import Bracket
from rocketnpu.emulator.cna import WEIGHT_DMA, decode_convolution
from rocketnpu.emulator.core import Accumulator, Int8Accumulator
from rocketnpu.emulator.core_fp16 import DepthwiseFp16, DirectFp16
from rocketnpu.emulator.dpu import (
    WDMA,
    ChannelValues,
    decode_output,
    element_from_memory,
    integer_steps,
    truncation,
    uses_lut,
)
from rocketnpu.emulator.dpu_rdma import BRDMA, NRDMA, Planes, Reader, decode_reader
from rocketnpu.emulator.faults import unsupported
from rocketnpu.emulator.features import FeatureReader
from rocketnpu.emulator.float_stages import FloatPipeline
from rocketnpu.emulator.lut import LutMemory
from rocketnpu.emulator.machine import Machine
from rocketnpu.emulator.memory import Bytes, Memory, Region
from rocketnpu.emulator.pipeline import Pipeline
from rocketnpu.emulator.precision import DTYPES
from rocketnpu.emulator.state import TaskState
from rocketnpu.emulator.tiles import Tile, output_tiles
from rocketnpu.emulator.workspace import Workspace
from rocketnpu.errors import DeviceError
from rocketnpu.hw import cbuf
from rocketnpu.hw.codes import INT8, USE_ALL
from rocketnpu.hw.layouts import unpack_depthwise_weights, unpack_direct_weights
from rocketnpu.hw.registers import CNA, DPU, DPU_RDMA

Array: TypeAlias = NDArray[Any]

_SCRATCH_BYTES = 1 << 30
_SCRATCH_ITEM_BYTES = 4


class _Prepared:
    """Weights and operands in computing form, for the bytes they were made from."""

    def __init__(self, task: ConvolutionTask, raw: list[Bytes | None], lut: LutMemory) -> None:
        self._raw = [None if part is None else part.copy() for part in raw]
        self._state, self._output = task.state, task.output
        self._lut = lut
        self._lut_version = lut.version if uses_lut(task.state) else None
        weights, bs, bn = self._raw
        assert weights is not None
        self._values, ow = task.operands(bs, bn)
        self._accumulator = task.accumulator(weights, ow)
        self._pipelines: dict[tuple[int, int], Pipeline | FloatPipeline] = {}
        self._brackets: dict[tuple[int, int], Bracket | None] = {}

    @property
    def kept_bytes(self) -> int:
        """See Task."""
        return self._accumulator.kept_bytes + sum(part.nbytes for part in self._raw if part is not None)

    def matches(self, raw: list[Bytes | None], lut: LutMemory) -> bool:
        """Whether memory still holds the same bytes."""
        return (self._lut_version is None or (self._lut is lut and self._lut_version == lut.version)) and all(
            a is b is None or _same(a, b) for a, b in zip(self._raw, raw, strict=True)
        )

    def run(self, data: Bytes, tile: Tile, element: Array | None, workspace: Workspace) -> Array:
        """Output elements [pixels, channels] of a tile; `element` is the EW operand, alike."""
        channels = (tile.first_channel, tile.last_channel)
        if channels not in self._pipelines:
            self._pipelines[channels] = self._pipeline(*channels)
        pipeline, accumulator = self._pipelines[channels], self._accumulator
        if isinstance(pipeline, Pipeline) and isinstance(accumulator, Int8Accumulator):
            if element is None and accumulator.only_fills(tile):
                pixels = (tile.last_row - tile.first_row) * self._output.width
                zeros = np.zeros((1, tile.last_channel - tile.first_channel), np.float32)
                return np.repeat(pipeline.run(zeros, None, workspace), pixels, axis=0)
            if channels not in self._brackets:
                self._brackets[channels] = pipeline.bracket()
            bracket = self._brackets[channels]
            if bracket is not None and accumulator.takes_brackets:
                outcome = accumulator.run_bracket(data, tile, bracket, element)
                return pipeline.settle(bracket, outcome, element, workspace)
        return pipeline.run(accumulator.run(data, tile, workspace), element, workspace)

    def _pipeline(self, first: int, last: int) -> Pipeline | FloatPipeline:
        """The DPU's steps for a range of channels."""
        if self._state.value(DPU.DATA_FORMAT, "PROC_PRECISION") != INT8:
            return FloatPipeline(self._state)
        steps = [*truncation(self._state), *integer_steps(self._state, self._values, self._lut, slice(first, last))]
        return Pipeline(steps, self._accumulator.bound, DTYPES[self._output.precision])


class ConvolutionTask:
    """A convolution with its post-processing, decoded once and run for whatever memory holds."""

    def __init__(self, state: TaskState, *, reads_operands: bool) -> None:
        """`reads_operands` says whether DPU_RDMA is enabled. Raises DeviceError for states that are not known."""
        self.state = state
        self.convolution = decode_convolution(state)
        self.output = decode_output(state)
        state.expect(DPU.FEATURE_MODE_CFG, "FLYING_MODE", 0, "a convolution's input comes from CORE")
        state.expect(DPU.DATA_FORMAT, "PROC_PRECISION", self.convolution.precision, "CNA and CORE differ")
        self._reader: Reader | None = None
        if reads_operands:
            self._reader = decode_reader(state, element_active=element_from_memory(state))
            size = (self._reader.width, self._reader.height, self._reader.channels)
            if size != (self.output.width, self.output.height, self.output.channels):
                raise DeviceError(
                    f"{DPU_RDMA.RDMA_DATA_CUBE_WIDTH}: DPU_RDMA's cube {size} differs from the DPU's "
                    f"{(self.output.width, self.output.height, self.output.channels)}"
                )
        elif element_from_memory(state):
            raise unsupported(DPU.EW_CFG, "EW_OP_SRC", 1, "DPU_RDMA is not enabled")
        self._check_scratch()
        self._features = FeatureReader(self.convolution)
        self._prepared: _Prepared | None = None

    @property
    def kept_bytes(self) -> int:
        """See Task."""
        return 0 if self._prepared is None else self._prepared.kept_bytes

    def run(self, machine: Machine) -> None:
        """See Task."""
        self._load(machine)
        memory = machine.memory
        channels = self.output.channels
        bs = self._reader.bs_region(channels) if self._reader else None
        bn = self._reader.bn_region(channels) if self._reader else None
        raw = [
            memory.read(self.convolution.weights, WEIGHT_DMA),
            _read(memory, bs, BRDMA),
            _read(memory, bn, NRDMA),
        ]
        prepared = self._prepared
        if prepared is None or not prepared.matches(raw, machine.lut):
            prepared = self._prepared = _Prepared(self, raw, machine.lut)
        data = self._features.open(memory)
        element = self._reader.element if self._reader else None
        element_data = element.read(memory) if element else []
        target = memory.target(self.output.region, WDMA)
        if np.may_share_memory(data, target.array):
            data = data.copy()

        for tile in self._tiles:
            operand = None if element is None else self._operand(element, element_data, tile, machine.workspace)
            # Nothing here holds on to a result, which is the library's memory and gone with the next run.
            self.output.store(
                target.array, prepared.run(data, tile, operand, machine.workspace), tile.first_row, tile.first_channel
            )
        target.commit()

    def _operand(self, element: Planes, data: list[Bytes], tile: Tile, workspace: Workspace) -> Array:
        """EW's operand for a tile, [pixels, channels]."""
        first, last = tile.first_row * self.output.width, tile.last_row * self.output.width
        shape = (last - first, tile.last_channel - tile.first_channel)
        operand: Array = workspace.take("element", shape, DTYPES[element.precision])
        channels = slice(tile.first_channel, tile.last_channel)
        element.gather(data, first, last, channels, operand.view(np.uint8))
        return operand

    def accumulator(self, raw: Bytes, ow: NDArray[np.int64]) -> Accumulator:
        """The MACs for stored weights; `ow` [channels] is added to each weight (CPEND).

        So CLIP_TRUNCATE shifts the sum with its weight zero points. Mesa's programs that use both, a third of
        MobileNetV1's layers, are within 1 of LiteRT that way [mesa].
        """
        c = self.convolution
        kind = DTYPES[c.precision]
        kernel_h, kernel_w, channels = c.rows.kernel, c.columns.kernel, self.output.channels
        if c.depthwise:
            stored = unpack_depthwise_weights(
                raw, kernel_h, kernel_w, c.stored_channels, stored_channels=c.stored_channels, dtype=kind
            )
            count = min(channels, c.stored_channels, c.lanes)
            weights = np.zeros((kernel_h, kernel_w, channels), np.int32 if c.precision == INT8 else kind)
            weights[..., :count] = stored[..., :count]
            if c.precision != INT8:
                return DepthwiseFp16(c, self._features, weights)
            weights[..., :count] += ow[:count].astype(np.int32)
            return Int8Accumulator(c, self._features, weights.transpose(2, 0, 1)[..., None])
        stored = unpack_direct_weights(raw, c.kernels, kernel_h, kernel_w, c.lanes, kernels=c.kernels, dtype=kind)
        count = min(channels, c.kernels)
        # Accumulators past WEIGHT_KERNELS are unspecified; 0 is the natural choice (hardware/convolution.md).
        weights = np.zeros((channels, kernel_h, kernel_w, c.lanes), np.int32 if c.precision == INT8 else kind)
        weights[:count] = stored[:count]
        if c.precision != INT8:
            return DirectFp16(c, self._features, weights)
        weights[:count] += ow[:count, None, None, None].astype(np.int32)
        return Int8Accumulator(c, self._features, weights)

    def operands(self, bs: Bytes | None, bn: Bytes | None) -> tuple[ChannelValues, NDArray[np.int64]]:
        """Operands of the DPU's stages, and the CPEND operand of every channel."""
        channels = self.output.channels
        alu = mul = from_memory = bn_mul = None
        if self._reader and bs is not None:
            read = self._reader.bs_operands(bs, channels)
            alu = read.alu.astype(np.int64)
            if self._reader.bs_use == USE_ALL:
                mul, from_memory = read.mul.astype(np.int64), read.ow.astype(np.int64)
        if self._reader and bn is not None:
            bn_mul = self._reader.bn_multipliers(bn, channels).astype(np.int64)
        return ChannelValues(alu, mul, bn_mul), self._weight_addend(from_memory)

    def _weight_addend(self, from_memory: NDArray[np.int64] | None) -> NDArray[np.int64]:
        cfg = DPU.BS_OW_CFG
        channels = self.output.channels
        if self.state.flag(cfg, "OD_BYPASS") or self.convolution.precision != INT8:
            return np.zeros(channels, np.int64)
        if not self.state.flag(cfg, "OW_SRC"):
            addend = np.full(channels, self.state.value(DPU.BS_OW_OP, "OW_OP"), np.int64)
        elif from_memory is not None:
            addend = from_memory
        else:
            raise unsupported(cfg, "OW_SRC", 1, "no read engine delivers this operand")
        return addend

    def _check_scratch(self) -> None:
        """Raise DeviceError for shapes that no real layer has and whose intermediate arrays would fill the host."""
        c = self.convolution
        taps = c.rows.kernel * c.columns.kernel
        weights = taps * (c.columns.outputs if c.depthwise else c.lanes) * self.output.channels
        row = taps * c.columns.outputs * c.lanes + c.rows.reach * c.columns.positions(0, c.columns.outputs) * c.lanes
        if _SCRATCH_ITEM_BYTES * max(weights, row) > _SCRATCH_BYTES:
            raise DeviceError(
                f"{CNA.DATA_SIZE2}: {c.rows.kernel}x{c.columns.kernel} windows of {c.lanes} channels, "
                f"{c.columns.outputs} a row, are more than the emulator holds at once"
            )

    def _load(self, machine: Machine) -> None:
        """Keep track of what CBUF holds; raises DeviceError where a reuse bit asks for something else.

        Banks must be those of the task before; weights that stream are not kept (hardware/convolution.md, Tiling
        rules). What a task writes over the features is not in CBUF.
        """
        held, c = machine.buffer, self.convolution
        banks = (self.state.value(CNA.CBUF_CON0, "DATA_BANK"), self.state.value(CNA.CBUF_CON0, "WEIGHT_BANK"))
        for reuses, now, before, field in (
            (c.reuses_weights, c.weights, held.weights, "WEIGHT_REUSE"),
            (c.reuses_data, c.feature.region, held.features, "DATA_REUSE"),
        ):
            if reuses and now != before:
                raise unsupported(CNA.CBUF_CON0, field, 1, "the previous task of this run loaded something else")
            if reuses and banks != held.banks:
                raise unsupported(CNA.CBUF_CON0, field, 1, f"the previous task had {held.banks} data and weight banks")
        if c.reuses_weights and cbuf.weight_banks(c.weights.size_bytes) > banks[1]:
            raise unsupported(CNA.CBUF_CON0, "WEIGHT_REUSE", 1, f"the weights are more than {banks[1]} banks hold")
        low, high = self.output.region.extent
        first, last = c.feature.region.extent
        overwritten = low < last and first < high
        held.weights, held.features, held.banks = c.weights, None if overwritten else c.feature.region, banks

    @cached_property
    def _tiles(self) -> list[Tile]:
        c, out = self.convolution, self.output
        return output_tiles(out.height, out.width, out.channels, c.lanes if c.depthwise else out.channels)


def _read(memory: Memory, region: Region | None, unit: str) -> Bytes | None:
    return None if region is None else memory.read(region, unit)


def _same(a: Bytes | None, b: Bytes | None) -> bool:
    if a is None or b is None or a.size != b.size:
        return False
    whole = a.size // 8 * 8
    words = a[:whole].view(np.uint64) == b[:whole].view(np.uint64)
    return bool(words.all()) and (whole == a.size or bool((a[whole:] == b[whole:]).all()))
