"""How tensors, weights and per-channel operands lie in memory (hardware/layouts.md): pack, unpack and sizes."""

from __future__ import annotations

from rocketnpu.hw.layouts.feature import ATOM_BYTES, DenseImage, FeatureCube, pad_byte, pad_lane_bytes
from rocketnpu.hw.layouts.operands import (
    ChannelOperands,
    channel_operand_bytes,
    pack_bias,
    pack_channel_operands,
    pack_multipliers,
    unpack_bias,
    unpack_channel_operands,
    unpack_multipliers,
)
from rocketnpu.hw.layouts.weights import (
    depthwise_weight_bytes,
    direct_weight_bytes,
    kernel_bytes,
    kernel_count,
    pack_depthwise_weights,
    pack_direct_weights,
    stored_input_channels,
    unpack_depthwise_weights,
    unpack_direct_weights,
)

__all__ = [
    "ATOM_BYTES",
    "ChannelOperands",
    "DenseImage",
    "FeatureCube",
    "channel_operand_bytes",
    "depthwise_weight_bytes",
    "direct_weight_bytes",
    "kernel_bytes",
    "kernel_count",
    "pack_bias",
    "pack_channel_operands",
    "pack_depthwise_weights",
    "pack_direct_weights",
    "pack_multipliers",
    "pad_byte",
    "pad_lane_bytes",
    "stored_input_channels",
    "unpack_bias",
    "unpack_channel_operands",
    "unpack_depthwise_weights",
    "unpack_direct_weights",
    "unpack_multipliers",
]
