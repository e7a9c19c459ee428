"""Activations in memory: the feature cube (NC1HWC2), dense first-layer images and the padding byte of each channel.

Source: hardware/layouts.md, "Feature cube", "First layer" and "Padding value and byte lanes".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rocketnpu.errors import Error

ATOM_BYTES = 16
"""One atom: the channels of one pixel that the hardware moves together (hardware/README.md, Constants)."""

DEPTHWISE_PAD_GROUP = 64
DEPTHWISE_PAD_SPLIT = 32
"""In a group of 64 channels, the odd ones below 32 read byte 1 of PAD_CON1 (hardware/layouts.md, silicon)."""

Array: TypeAlias = NDArray[Any]
"""An array whose dtype is the caller's; its itemsize must be the layout's element size."""


@dataclass(frozen=True)
class FeatureCube:
    """A height x width x channels tensor as planes of 16-byte atoms: byte = plane*pitch*16 + (y*width + x)*16 + lane*e.

    `pitch_atoms` is the distance between planes; 0 stands for the minimum, height*width, and is replaced by it.
    A row tile of a larger tensor is a cube with that tensor's pitch at that tensor's address + row*width*16.
    Raises Error for sizes below 1, an unknown element size or planes that would overlap.
    """

    height: int
    width: int
    channels: int
    pitch_atoms: int = 0
    element_bytes: int = 1

    def __post_init__(self) -> None:
        _check_sizes(self.height, self.width, self.channels, self.element_bytes)
        pixels = self.height * self.width
        if not self.pitch_atoms:
            object.__setattr__(self, "pitch_atoms", pixels)
        # One plane has no neighbour to overlap with: its pitch means nothing.
        if self.pitch_atoms < pixels and self.planes > 1:
            raise Error(
                f"feature cube {self.height}x{self.width}x{self.channels}: a pitch of {self.pitch_atoms} atoms is "
                f"below its {pixels} pixels; planes would overlap"
            )

    @property
    def lanes(self) -> int:
        """Channels per atom (C2): 16 for int8, 8 for 16-bit, 4 for 32-bit elements."""
        return ATOM_BYTES // self.element_bytes

    @property
    def planes(self) -> int:
        """Channel groups, of `lanes` channels each."""
        return -(-self.channels // self.lanes)

    @property
    def size_bytes(self) -> int:
        """Memory to reserve: every plane at full pitch."""
        return self.planes * self.pitch_atoms * ATOM_BYTES

    @property
    def span_bytes(self) -> int:
        """From the first to past the last byte in use: `size_bytes` without the gap behind the last plane."""
        return ((self.planes - 1) * self.pitch_atoms + self.height * self.width) * ATOM_BYTES

    def offset_bytes(self, channel: int, y: int, x: int) -> int:
        """Offset of one element from the start of the cube."""
        plane, lane = divmod(channel, self.lanes)
        return (plane * self.pitch_atoms + y * self.width + x) * ATOM_BYTES + lane * self.element_bytes

    def view(self, buffer: NDArray[np.uint8], dtype: DTypeLike = np.int8) -> Array:
        """The cube inside `buffer` (uint8, at least span_bytes) as [planes, height, width, lanes], without a copy."""
        kind = _element(dtype, self.element_bytes)
        _check_buffer(buffer, self.span_bytes, f"feature cube {self.height}x{self.width}x{self.channels}")
        row = self.width * ATOM_BYTES
        strides = (self.pitch_atoms * ATOM_BYTES, row, ATOM_BYTES, self.element_bytes)
        shape = (self.planes, self.height, self.width, self.lanes)
        return np.ndarray(shape, kind, buffer.data, strides=strides)

    def pack(self, array: Array, fill: int = 0) -> NDArray[np.uint8]:
        """`array` [height, width, channels] as uint8 [size_bytes]; unused lanes hold `fill`, gaps between planes 0."""
        buffer = np.zeros(self.size_bytes, np.uint8)
        self.pack_into(array, buffer, fill)
        return buffer

    def pack_into(self, array: Array, buffer: NDArray[np.uint8], fill: int = 0) -> None:
        """Write `array` [height, width, channels] and `fill` in the unused lanes; bytes between planes stay."""
        _check_shape(array, (self.height, self.width, self.channels))
        planes = self.view(buffer, array.dtype)
        full, rest = divmod(self.channels, self.lanes)
        if full:
            whole = array[..., : full * self.lanes]
            if array.strides[2] != array.itemsize:
                whole = np.ascontiguousarray(whole)
            _atoms(planes)[:full, ..., 0] = _atoms(whole).transpose(2, 0, 1)
        if rest:
            planes[full] = fill
        for lane in range(rest):
            planes[full, ..., lane] = array[..., full * self.lanes + lane]

    def unpack(self, buffer: NDArray[np.uint8], dtype: DTypeLike = np.int8) -> Array:
        """The tensor in `buffer` as a new array [height, width, channels]."""
        array = np.empty((self.height, self.width, self.channels), dtype)
        self.unpack_into(buffer, array)
        return array

    def unpack_into(self, buffer: NDArray[np.uint8], array: Array) -> None:
        """Read the tensor in `buffer` into `array` [height, width, channels]."""
        _check_shape(array, (self.height, self.width, self.channels))
        planes = self.view(buffer, array.dtype)
        full, rest = divmod(self.channels, self.lanes)
        if full:
            if array.strides[2] != array.itemsize:
                raise Error("unpacking needs an array whose channels are contiguous")
            _atoms(array[..., : full * self.lanes])[...] = _atoms(planes)[:full, ..., 0].transpose(1, 2, 0)
        for lane in range(rest):
            array[..., full * self.lanes + lane] = planes[full, ..., lane]


@dataclass(frozen=True)
class DenseImage:
    """A first-layer image of 1 to 4 channels in ARGB mode: byte = ((y*row_pitch_pixels + x)*channels + c)*e.

    `row_pitch_pixels` 0 stands for the width, and is replaced by it. The hardware needs every tile to start on a
    16-byte address, which the vendor's pitch align(width, 16) guarantees. Raises Error for impossible sizes.
    """

    height: int
    width: int
    channels: int
    row_pitch_pixels: int = 0
    element_bytes: int = 1

    def __post_init__(self) -> None:
        _check_sizes(self.height, self.width, self.channels, self.element_bytes)
        if not self.row_pitch_pixels:
            object.__setattr__(self, "row_pitch_pixels", self.width)
        if self.row_pitch_pixels < self.width:
            raise Error(f"dense image: a row pitch of {self.row_pitch_pixels} pixels is below its width {self.width}")

    @property
    def size_bytes(self) -> int:
        """Memory to reserve: every row at full pitch."""
        return self.height * self.row_pitch_pixels * self.channels * self.element_bytes

    def offset_bytes(self, channel: int, y: int, x: int) -> int:
        """Offset of one element from the start of the image."""
        return ((y * self.row_pitch_pixels + x) * self.channels + channel) * self.element_bytes

    def view(self, buffer: NDArray[np.uint8], dtype: DTypeLike = np.int8) -> Array:
        """The image inside `buffer` (uint8, at least size_bytes) as [height, width, channels], without a copy."""
        kind = _element(dtype, self.element_bytes)
        _check_buffer(buffer, self.size_bytes, f"dense image {self.height}x{self.width}x{self.channels}")
        shape = (self.height, self.row_pitch_pixels, self.channels)
        return np.ndarray(shape, kind, buffer.data)[:, : self.width]

    def pack(self, array: Array, fill: int = 0) -> NDArray[np.uint8]:
        """`array` [height, width, channels] as uint8 [size_bytes]; pixels past the width hold `fill`."""
        rows = np.full((self.height, self.row_pitch_pixels, self.channels), fill, array.dtype)
        buffer = rows.reshape(-1).view(np.uint8)
        self.pack_into(array, buffer)
        return buffer

    def pack_into(self, array: Array, buffer: NDArray[np.uint8]) -> None:
        """Write `array` [height, width, channels]; pixels past the width stay."""
        _check_shape(array, (self.height, self.width, self.channels))
        self.view(buffer, array.dtype)[...] = array

    def unpack(self, buffer: NDArray[np.uint8], dtype: DTypeLike = np.int8) -> Array:
        """The image in `buffer` as a new array [height, width, channels]."""
        return self.view(buffer, dtype).copy()

    def unpack_into(self, buffer: NDArray[np.uint8], array: Array) -> None:
        """Read the image in `buffer` into `array` [height, width, channels]."""
        _check_shape(array, (self.height, self.width, self.channels))
        array[...] = self.view(buffer, array.dtype)


def pad_byte(channel: int, depthwise: bool) -> int:
    """Which byte of PAD_CON1 (0 lowest) pads this channel.

    Depthwise int8, silicon: in a group of 64, byte 1 for the odd channels among the first 32, else byte 0. That the
    pattern repeats in later groups is inferred, as is byte 0 for direct convolutions (hardware/layouts.md).
    """
    return int(depthwise and channel % 2 == 1 and channel % DEPTHWISE_PAD_GROUP < DEPTHWISE_PAD_SPLIT)


def pad_lane_bytes(pad_con1: int, channels: int, depthwise: bool) -> NDArray[np.int8]:
    """The int8 value that pads each channel, shape [channels], for the 32-bit value of PAD_CON1; see `pad_byte`."""
    lanes = np.array([pad_con1 & 0xFF, pad_con1 >> 8 & 0xFF], np.uint8).view(np.int8)
    choice = np.array([pad_byte(channel, depthwise) for channel in range(DEPTHWISE_PAD_GROUP)])
    return lanes[np.resize(choice, channels)]


def _atoms(array: Array) -> Array:
    """`array` with each 16 bytes of its last axis as one element: numpy then copies whole atoms, five times faster."""
    return array.view(np.dtype((np.void, ATOM_BYTES)))


def _element(dtype: DTypeLike, element_bytes: int) -> np.dtype[Any]:
    kind: np.dtype[Any] = np.dtype(dtype)
    if kind.itemsize != element_bytes:
        raise Error(f"layout of {element_bytes}-byte elements used with {kind}, which has {kind.itemsize}")
    return kind


def _check_sizes(height: int, width: int, channels: int, element_bytes: int) -> None:
    if min(height, width, channels) < 1:
        raise Error(f"tensor of {height}x{width}x{channels}: every dimension must be at least 1")
    if element_bytes not in (1, 2, 4):
        raise Error(f"elements of {element_bytes} bytes have no layout: use 1, 2 or 4")


def _check_shape(array: Array, shape: tuple[int, int, int]) -> None:
    if array.shape != shape:
        raise Error(f"array of shape {array.shape} where the layout holds {shape}")


def _check_buffer(buffer: NDArray[np.uint8], needed_bytes: int, what: str) -> None:
    if buffer.dtype != np.uint8 or buffer.ndim != 1 or not buffer.flags.c_contiguous:
        raise Error(f"{what}: needs a contiguous one-dimensional uint8 buffer, not {buffer.dtype} {buffer.shape}")
    if buffer.size < needed_bytes:
        raise Error(f"{what}: needs {needed_bytes} bytes, the buffer has {buffer.size}")
