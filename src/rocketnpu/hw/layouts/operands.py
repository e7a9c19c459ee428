"""Per-channel operands of the DPU in memory: what BRDMA (BS stage) and NRDMA (BN stage) read.

Source: hardware/layouts.md, "Per-channel operands". The hardware reads as many channels as the task programs, so
every blob covers the aligned channel count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import Error

_BLOCK = np.dtype([("alu", "<i4", (8,)), ("ow", "<i2", (8,)), ("mul", "<i2", (8,))])
"""BRDMA_DATA_USE 7: 64 bytes for 8 channels (vendor 352/352 tasks, silicon)."""


@dataclass(frozen=True, eq=False)
class ChannelOperands:
    """BS operands by channel: `alu` int32 added, `ow` int16 times the window sum, `mul` int16 multiplier; all [C]."""

    alu: NDArray[np.int32]
    ow: NDArray[np.int16]
    mul: NDArray[np.int16]


def channel_operand_bytes(channels: int) -> int:
    """Bytes of BRDMA_DATA_USE 7 operands of `channels` channels: 64 for each 8."""
    return -(-channels // 8) * _BLOCK.itemsize


def pack_bias(bias: NDArray[np.int32], channels_aligned: int) -> NDArray[np.uint8]:
    """BRDMA_DATA_USE 1: dense int32 [channels_aligned], zero past the given [C], as uint8."""
    return _dense(bias, channels_aligned, "<i4")


def unpack_bias(buffer: NDArray[np.uint8], channels: int) -> NDArray[np.int32]:
    """The first `channels` int32 of BRDMA_DATA_USE 1 operands."""
    return _prefix(buffer, channels * 4).view("<i4").astype(np.int32)


def pack_channel_operands(operands: ChannelOperands, channels_aligned: int) -> NDArray[np.uint8]:
    """BRDMA_DATA_USE 7: blocks of 8 channels up to `channels_aligned` (a multiple of 8), zero past C, as uint8."""
    if channels_aligned % 8:
        raise Error(f"per-channel operands come in blocks of 8 channels, not {channels_aligned}")
    blocks = np.zeros(channels_aligned // 8, _BLOCK)
    for name, kind in (("alu", "<i4"), ("ow", "<i2"), ("mul", "<i2")):
        blocks[name] = _dense(getattr(operands, name), channels_aligned, kind).view(kind).reshape(-1, 8)
    return blocks.view(np.uint8)


def unpack_channel_operands(buffer: NDArray[np.uint8], channels: int) -> ChannelOperands:
    """The first `channels` operands of BRDMA_DATA_USE 7 blocks."""
    blocks = _prefix(buffer, channel_operand_bytes(channels)).view(_BLOCK)
    return ChannelOperands(
        alu=blocks["alu"].reshape(-1)[:channels].astype(np.int32),
        ow=blocks["ow"].reshape(-1)[:channels].astype(np.int16),
        mul=blocks["mul"].reshape(-1)[:channels].astype(np.int16),
    )


def pack_multipliers(multipliers: NDArray[np.int16], channels_aligned: int) -> NDArray[np.uint8]:
    """NRDMA USE 4 (PReLU slopes): dense int16 [channels_aligned], zero past the given [C], as uint8."""
    return _dense(multipliers, channels_aligned, "<i2")


def unpack_multipliers(buffer: NDArray[np.uint8], channels: int) -> NDArray[np.int16]:
    """The first `channels` int16 of NRDMA USE 4 operands."""
    return _prefix(buffer, channels * 2).view("<i2").astype(np.int16)


def _dense(values: NDArray[Any], channels_aligned: int, kind: str) -> NDArray[np.uint8]:
    if values.ndim != 1 or values.size > channels_aligned:
        raise Error(f"operands of shape {values.shape} do not fit {channels_aligned} channels")
    limits = np.iinfo(kind)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        raise Error(f"operand {values.min()}..{values.max()} outside the {limits.bits}-bit range of its field")
    dense = np.zeros(channels_aligned, kind)
    dense[: values.size] = values
    return dense.view(np.uint8)


def _prefix(buffer: NDArray[np.uint8], size_bytes: int) -> NDArray[np.uint8]:
    if buffer.size < size_bytes:
        raise Error(f"operands need {size_bytes} bytes, the buffer has {buffer.size}")
    return np.frombuffer(buffer[:size_bytes].tobytes(), np.uint8)
