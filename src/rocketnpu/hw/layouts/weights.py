"""Convolution weights in memory, direct and depthwise, for 1-byte (int8) and 2-byte (fp16, int16) elements.

Source: hardware/layouts.md, "Weights". The int8 forms are confirmed by vendor programs and silicon.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from rocketnpu.errors import Error
from rocketnpu.hw import limits

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class _Groups:
    """Group sizes of one element size, in channels (hardware/layouts.md, Weights)."""

    atom: int
    direct_kernels: int
    direct_inputs: int
    depthwise: int


_GROUPS = {
    1: _Groups(16, limits.DIRECT_OUTPUT_GROUP, 32, limits.DEPTHWISE_GROUP),
    2: _Groups(8, limits.DIRECT_OUTPUT_GROUP_16_BIT, 32, limits.DEPTHWISE_GROUP_16_BIT),
}


def stored_input_channels(channels: int, element_bytes: int = 1) -> int:
    """Input channels that direct weights store: whole atoms; 16-bit counts of 3 mod 4 atoms take one more."""
    groups = _groups(element_bytes)
    atoms = -(-channels // groups.atom)
    if element_bytes == 2 and atoms % 4 == 3:
        atoms += 1
    return atoms * groups.atom


def kernel_count(output_channels: int, element_bytes: int = 1) -> int:
    """Kernels to program: int8 counts are rounded up to even (silicon: an odd count is off by up to 2)."""
    return output_channels + output_channels % 2 if element_bytes == 1 else output_channels


def kernel_bytes(kernel_h: int, kernel_w: int, input_channels: int, element_bytes: int = 1) -> int:
    """Bytes of one direct kernel (WEIGHT_BYTES_PER_KERNEL)."""
    return kernel_h * kernel_w * stored_input_channels(input_channels, element_bytes) * element_bytes


def direct_weight_bytes(kernels: int, kernel_h: int, kernel_w: int, input_channels: int, element_bytes: int = 1) -> int:
    """Bytes of `kernels` direct kernels (WEIGHT_BYTES)."""
    return kernels * kernel_bytes(kernel_h, kernel_w, input_channels, element_bytes)


def pack_direct_weights(weights: Array, fill: ArrayLike = 0, kernels: int | None = None) -> NDArray[np.uint8]:
    """`weights` [OC, KH, KW, IC] as uint8 [direct_weight_bytes], ordered [oc group][ic group][kh][kw][oc][ic].

    `fill` is the weight zero point, a scalar or [OC]: it fills the input lanes past IC, so that weight + OW_OP is 0
    there. `kernels` (default `kernel_count(OC)`) may exceed OC: the added kernels hold the last channel's zero point.
    """
    output_channels, kernel_h, kernel_w, input_channels = weights.shape
    size = weights.dtype.itemsize
    total = kernel_count(output_channels, size) if kernels is None else kernels
    if total < output_channels:
        raise Error(f"{output_channels} output channels do not fit in {total} kernels")
    points = np.broadcast_to(np.asarray(fill, weights.dtype), (output_channels,))
    points = np.concatenate([points, np.repeat(points[-1:], total - output_channels)])
    stored = stored_input_channels(input_channels, size)
    padded = np.empty((total, kernel_h, kernel_w, stored), weights.dtype)
    padded[...] = points[:, None, None, None]
    padded[:output_channels, ..., :input_channels] = weights
    packed = np.empty(padded.size, weights.dtype)
    for start, kernel, channel in _direct_blocks(total, kernel_h * kernel_w, stored, size):
        block = padded[kernel, :, :, channel].transpose(1, 2, 0, 3)
        packed[start : start + block.size] = block.reshape(-1)
    return packed.view(np.uint8)


def unpack_direct_weights(
    buffer: NDArray[np.uint8],
    output_channels: int,
    kernel_h: int,
    kernel_w: int,
    input_channels: int,
    *,
    kernels: int | None = None,
    dtype: DTypeLike = np.int8,
) -> Array:
    """Weights [OC, KH, KW, IC] from packed bytes; `kernels` is the programmed count, default `kernel_count(OC)`.

    Pass the stored channel count as `input_channels` to see the fill lanes too. Raises Error for a short buffer.
    """
    kind: np.dtype[Any] = np.dtype(dtype)
    total = kernel_count(output_channels, kind.itemsize) if kernels is None else kernels
    if total < output_channels:
        raise Error(f"{output_channels} output channels do not fit in {total} kernels")
    stored = stored_input_channels(input_channels, kind.itemsize)
    packed = _elements(buffer, total * kernel_h * kernel_w * stored, kind)
    weights = np.empty((total, kernel_h, kernel_w, stored), kind)
    for start, kernel, channel in _direct_blocks(total, kernel_h * kernel_w, stored, kind.itemsize):
        block = weights[kernel, :, :, channel].transpose(1, 2, 0, 3)
        block[...] = packed[start : start + block.size].reshape(block.shape)
    return weights[:output_channels, ..., :input_channels]


def depthwise_weight_bytes(kernel_h: int, kernel_w: int, stored_channels: int, element_bytes: int = 1) -> int:
    """Bytes of depthwise weights (WEIGHT_BYTES and WEIGHT_BYTES_PER_KERNEL); `stored_channels` are whole atoms."""
    return kernel_h * kernel_w * stored_channels * element_bytes


def pack_depthwise_weights(weights: Array, fill: int = 0, stored_channels: int | None = None) -> NDArray[np.uint8]:
    """`weights` [KH, KW, C] as uint8 [depthwise_weight_bytes], ordered [channel group][kh][kw][channel].

    `stored_channels` defaults to C in whole atoms, so that the last group is short as the vendor stores it; pass a
    whole group for the other form that runs. Lanes past C hold `fill`, the weight zero point.
    """
    kernel_h, kernel_w, channels = weights.shape
    size = weights.dtype.itemsize
    stored = _depthwise_stored(channels, stored_channels, size)
    padded = np.full((kernel_h, kernel_w, stored), fill, weights.dtype)
    padded[..., :channels] = weights
    group = _groups(size).depthwise
    parts = [padded[..., start : start + group].reshape(-1) for start in range(0, stored, group)]
    return np.concatenate(parts).view(np.uint8)


def unpack_depthwise_weights(
    buffer: NDArray[np.uint8],
    kernel_h: int,
    kernel_w: int,
    channels: int,
    *,
    stored_channels: int | None = None,
    dtype: DTypeLike = np.int8,
) -> Array:
    """Weights [KH, KW, C] from packed bytes; `stored_channels` as in `pack_depthwise_weights`."""
    kind: np.dtype[Any] = np.dtype(dtype)
    stored = _depthwise_stored(channels, stored_channels, kind.itemsize)
    taps = kernel_h * kernel_w
    packed = _elements(buffer, taps * stored, kind)
    group = _groups(kind.itemsize).depthwise
    parts = [
        packed[start * taps : min(start + group, stored) * taps].reshape(kernel_h, kernel_w, -1)
        for start in range(0, stored, group)
    ]
    return np.concatenate(parts, axis=2)[..., :channels]


def _direct_blocks(kernels: int, taps: int, stored: int, element_bytes: int) -> Iterator[tuple[int, slice, slice]]:
    """Each block in memory order: first element, its kernels, its input channels."""
    groups = _groups(element_bytes)
    start = 0
    for first in range(0, kernels, groups.direct_kernels):
        kernel = slice(first, min(first + groups.direct_kernels, kernels))
        for lane in range(0, stored, groups.direct_inputs):
            channel = slice(lane, min(lane + groups.direct_inputs, stored))
            yield start, kernel, channel
            start += taps * (kernel.stop - kernel.start) * (channel.stop - channel.start)


def _depthwise_stored(channels: int, stored_channels: int | None, element_bytes: int) -> int:
    atom = _groups(element_bytes).atom
    stored = -(-channels // atom) * atom if stored_channels is None else stored_channels
    if stored < channels:
        raise Error(f"{channels} depthwise channels do not fit in {stored} stored ones")
    return stored


def _groups(element_bytes: int) -> _Groups:
    if element_bytes not in _GROUPS:
        raise Error(f"weights of {element_bytes} bytes have no known layout: use 1 or 2")
    return _GROUPS[element_bytes]


def _elements(buffer: NDArray[np.uint8], count: int, kind: np.dtype[Any]) -> Array:
    """The first `count` elements of `buffer`; Error when it is too short."""
    needed = count * kind.itemsize
    if buffer.size < needed:
        raise Error(f"weights need {needed} bytes, the buffer has {buffer.size}")
    return np.frombuffer(buffer[:needed].tobytes(), kind)
