"""CNA: what a convolution task reads and how its window moves over it (hardware/convolution.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.faults import unsupported
from rocketnpu.emulator.memory import Region, linear
from rocketnpu.emulator.precision import DTYPES, precision
from rocketnpu.emulator.state import TaskState
from rocketnpu.hw import cbuf
from rocketnpu.hw.codes import ARGB_BASE, DEPTHWISE, FP16, INT8, ROWS_PER_LINE_GROUP
from rocketnpu.hw.layouts import ATOM_BYTES, depthwise_weight_bytes, kernel_bytes, stored_input_channels
from rocketnpu.hw.registers import CNA

FEATURE_DMA = "CNA feature DMA"
WEIGHT_DMA = "CNA weight DMA"


@dataclass(frozen=True)
class Axis:
    """The window along one axis, in positions: input and output size, kernel, steps, padding before the first input.

    `insert` is the distance of two inputs: above 1 for a transposed convolution, whose gaps read as padding.
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    padding: int
    insert: int

    @property
    def reach(self) -> int:
        """Positions that one window spans."""
        return (self.kernel - 1) * self.dilation + 1

    def positions(self, first: int, last: int) -> int:
        """Positions that the outputs first..last-1 read."""
        return (last - 1 - first) * self.stride + self.reach

    def inside(self, first: int, last: int) -> tuple[slice, slice]:
        """The inputs that the outputs first..last-1 read, and where they lie among the `positions`."""
        start = first * self.stride - self.padding
        stop = start + self.positions(first, last)
        low = min(max(-(-start // self.insert), 0), self.inputs)
        high = max(min(-(-stop // self.insert), self.inputs), low)
        place = low * self.insert - start
        return slice(low, high), slice(place, place + (high - low) * self.insert, self.insert)


@dataclass(frozen=True)
class InputConverter:
    """CVT of one dense channel: sat8(rne(x*scale, shift) + offset), or sat8(rne((x + offset)*scale, shift)).

    `signed` says how the byte x is read. Source: hardware/layouts.md, First layer (one-channel uint8, in use by Mesa).
    """

    scale: int
    offset: int
    shift: int
    add_first: bool
    ties_away: bool
    signed: bool


@dataclass(frozen=True)
class FeatureInput:
    """The input tensor: a cube of planes, uint8 [planes, H, W*16], or a dense image, uint8 [H, W*channels].

    `lost` marks atoms of a row, [planes, W], or pixels of an image, [H, W], for which DATA_ENTRIES leaves no room in
    the CBUF. They are taken as 0: that the result is wrong is known, not how (hardware/convolution.md, DATA_ENTRIES).
    """

    region: Region
    dense_channels: int = 0
    converters: tuple[InputConverter, ...] = ()
    lost: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Convolution:
    """A decoded convolution: `lanes` input channels as the MAC sees them; weights as stored."""

    depthwise: bool
    precision: int
    rows: Axis
    columns: Axis
    lanes: int
    pad_word: int
    feature: FeatureInput
    weights: Region
    kernels: int
    stored_channels: int
    reuses_weights: bool
    reuses_data: bool


def decode_convolution(state: TaskState) -> Convolution:
    """The convolution that CNA's registers describe, after `hw.rules` has passed them.

    Raises DeviceError for states whose effect is not known.
    """
    con1 = CNA.CONV_CON1
    depthwise = state.value(con1, "CONV_MODE") == DEPTHWISE
    code = precision(state, con1, "PROC_PRECISION", (INT8, FP16))
    for name in ("CSC_WO_EN", "CSC_DO_EN"):
        state.expect(CNA.CONV_CON2, name, 0, "CORE would get no data")
    out_w = state.value(CNA.DATA_SIZE2, "DATAOUT_WIDTH")
    rows = _axis(state, "HEIGHT", "Y", "TOP", state.value(CNA.DATA_SIZE3, "DATAOUT_ATOMICS") // out_w)
    columns = _axis(state, "WIDTH", "X", "LEFT", out_w)
    lanes = state.value(CNA.DATA_SIZE1, "DATAIN_CHANNEL")
    dense = state.flag(con1, "ARGB_IN")
    feature = _dense_input(state, rows, columns, lanes, code) if dense else _cube(state, rows, columns, lanes, code)
    weights, kernels, stored = _weights(state, depthwise, lanes, DTYPES[code].itemsize)
    return Convolution(
        depthwise=depthwise,
        precision=code,
        rows=rows,
        columns=columns,
        lanes=lanes,
        pad_word=state.word(CNA.PAD_CON1),
        feature=feature,
        weights=weights,
        kernels=kernels,
        stored_channels=stored,
        reuses_weights=state.flag(CNA.CBUF_CON0, "WEIGHT_REUSE"),
        reuses_data=state.flag(CNA.CBUF_CON0, "DATA_REUSE"),
    )


def _axis(state: TaskState, size: str, letter: str, side: str, outputs: int) -> Axis:
    insert = 1
    if state.flag(CNA.CONV_CON1, "DECONV"):
        insert = state.value(CNA.CONV_CON3, f"DECONV_{letter}_STRIDE") + 1
    return Axis(
        inputs=state.value(CNA.DATA_SIZE0, f"DATAIN_{size}"),
        outputs=outputs,
        kernel=state.value(CNA.WEIGHT_SIZE2, f"WEIGHT_{size}"),
        stride=state.value(CNA.CONV_CON3, f"CONV_{letter}_STRIDE"),
        dilation=state.value(CNA.CONV_CON3, f"ATROUS_{letter}_DILATION") + 1,
        padding=state.value(CNA.PAD_CON0, f"PAD_{side}"),
        insert=insert,
    )


def _cube(state: TaskState, rows: Axis, columns: Axis, lanes: int, code: int) -> FeatureInput:
    state.expect(CNA.CVT_CON0, "CVT_BYPASS", 1, "input conversion is only known for dense images")
    planes = lanes * DTYPES[code].itemsize // ATOM_BYTES
    line = state.value(CNA.DMA_CON1, "LINE_STRIDE")
    surface = state.value(CNA.DMA_CON2, "SURF_STRIDE")
    plane_atoms, row_atoms = line + surface, line
    if not state.flag(CNA.CONV_CON1, "GROUP_LINE_OFF"):
        if line % ROWS_PER_LINE_GROUP:
            raise unsupported(CNA.DMA_CON1, "LINE_STRIDE", line, "counts four rows while GROUP_LINE_OFF is 0")
        row_atoms = line // ROWS_PER_LINE_GROUP
    elif not surface and columns.inputs == 1 and rows.inputs > 1:
        # A row-major matrix (hardware/layouts.md): the atoms of one row follow one another.
        plane_atoms = 1
    region = Region(
        state.word(CNA.FEATURE_DATA_ADDR),
        (planes, rows.inputs),
        (plane_atoms * ATOM_BYTES, row_atoms * ATOM_BYTES),
        columns.inputs * ATOM_BYTES,
    )
    entries = cbuf.entries_of_atoms(columns.inputs, planes)
    return FeatureInput(region, lost=_lost(state, entries))


def _dense_input(state: TaskState, rows: Axis, columns: Axis, lanes: int, code: int) -> FeatureInput:
    channels = state.value(CNA.CONV_CON1, "ARGB_IN") - ARGB_BASE
    state.expect(CNA.DATA_SIZE1, "DATAIN_CHANNEL_REAL", channels - 1, f"ARGB_IN says {channels} channels")
    element_bytes = DTYPES[code].itemsize
    if lanes * element_bytes != ATOM_BYTES:
        raise unsupported(CNA.DATA_SIZE1, "DATAIN_CHANNEL", lanes, "a dense image fills one atom")
    pixel_bytes = channels * element_bytes
    region = Region(
        state.word(CNA.FEATURE_DATA_ADDR),
        (rows.inputs,),
        (state.value(CNA.DMA_CON1, "LINE_STRIDE") * pixel_bytes,),
        columns.inputs * pixel_bytes,
    )
    entries = np.arange(rows.inputs)[:, None] * cbuf.image_entries(columns.inputs, 1) + np.arange(columns.inputs)
    return FeatureInput(region, channels, _converters(state, channels, code), _lost(state, entries))


def _lost(state: TaskState, entries: NDArray[np.intp]) -> NDArray[np.bool_] | None:
    """Where an entry number is beyond DATA_ENTRIES; None: nowhere."""
    lost = entries >= state.value(CNA.CBUF_CON1, "DATA_ENTRIES")
    return lost if lost.any() else None


def _converters(state: TaskState, channels: int, code: int) -> tuple[InputConverter, ...]:
    con0 = CNA.CVT_CON0
    if state.flag(con0, "CVT_BYPASS"):
        return ()
    if code != INT8:
        raise unsupported(con0, "CVT_BYPASS", 0, "input conversion is only known for bytes")
    enabled = state.word(CNA.CVT_CON5)
    if ~enabled & ((1 << channels) - 1):
        raise unsupported(CNA.CVT_CON5, "PER_CHANNEL_CVT_EN", enabled, f"must cover the {channels} dense channels")
    return tuple(
        InputConverter(
            scale=state.value(register, f"CVT_SCALE{index}"),
            offset=state.value(register, f"CVT_OFFSET{index}"),
            shift=state.value(con0, f"CVT_TRUNCATE_{index}"),
            add_first=state.flag(con0, "CVT_TYPE"),
            ties_away=state.flag(con0, "ROUND_TYPE"),
            signed=state.flag(con0, "DATA_SIGN"),
        )
        for index, register in enumerate((CNA.CVT_CON1, CNA.CVT_CON2, CNA.CVT_CON3, CNA.CVT_CON4)[:channels])
    )


def _weights(state: TaskState, depthwise: bool, lanes: int, element_bytes: int) -> tuple[Region, int, int]:
    """Where the weights are, how many kernels and how many channels they store."""
    kernel_h = state.value(CNA.WEIGHT_SIZE2, "WEIGHT_HEIGHT")
    kernel_w = state.value(CNA.WEIGHT_SIZE2, "WEIGHT_WIDTH")
    each = state.value(CNA.WEIGHT_SIZE1, "WEIGHT_BYTES_PER_KERNEL")
    if depthwise:
        stored, rest = divmod(each, depthwise_weight_bytes(kernel_h, kernel_w, 1, element_bytes))
        if rest or not stored or stored * element_bytes % ATOM_BYTES:
            raise unsupported(CNA.WEIGHT_SIZE1, "WEIGHT_BYTES_PER_KERNEL", each, "not whole atoms of channels")
    else:
        stored = stored_input_channels(lanes, element_bytes)
        expected = kernel_bytes(kernel_h, kernel_w, lanes, element_bytes)
        state.expect(CNA.WEIGHT_SIZE1, "WEIGHT_BYTES_PER_KERNEL", expected, f"{kernel_h}x{kernel_w}x{lanes} kernels")
    region = linear(state.word(CNA.DCOMP_ADDR0), state.word(CNA.WEIGHT_SIZE0))
    return region, state.value(CNA.WEIGHT_SIZE2, "WEIGHT_KERNELS"), stored
