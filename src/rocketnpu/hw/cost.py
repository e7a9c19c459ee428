"""What a convolution costs in cycles of one core by the vendor compiler's own model.

Source: hardware/performance.md, "The vendor compiler's own cost model", reproduced there on 50 of 50 layers. It knows
no per-task overhead, no halo and no reload of weights for each tile; pools, resizes and element-wise tasks cost memory
cycles only.
"""

from __future__ import annotations

DIRECT_INT8_MACS_PER_CYCLE = 1024
"""Peak of one core: 32 output channels x 32 input channels of one pixel."""
DEPTHWISE_INT8_MACS_PER_CYCLE = 64

DDR_BYTES_PER_CYCLE = 23.654
"""At an NPU clock of 1 GHz: 33.792 GB/s (64-bit LPDDR at 2112 MHz) at the 70 % the vendor assumes; cores share it."""
OPERAND_BYTES_PER_CHANNEL = 8
"""What the model charges for the per-channel operands of a convolution."""

PIXEL_GROUP = 16
"""Output pixels are processed in groups."""
MIN_CYCLES_PER_PIXEL = 4
"""The output side takes one 32-channel pixel in 4 cycles, whatever the input channels."""


def pixel_cycles(output_h: int, output_w: int) -> int:
    """Output pixels in whole groups of 16."""
    return -(-output_h * output_w // PIXEL_GROUP) * PIXEL_GROUP


def direct_cycles(
    output_h: int, output_w: int, output_channels: int, input_channels: int, kernel_h: int, kernel_w: int
) -> int:
    """MAC cycles of an int8 direct convolution on one core."""
    per_pixel = max(MIN_CYCLES_PER_PIXEL, kernel_h * kernel_w * -(-input_channels // 32))
    return pixel_cycles(output_h, output_w) * -(-output_channels // 32) * per_pixel


def depthwise_cycles(output_h: int, output_w: int, channels: int, kernel_h: int, kernel_w: int) -> int:
    """MAC cycles of an int8 depthwise convolution on one core."""
    return pixel_cycles(output_h, output_w) * kernel_h * kernel_w * -(-channels // 64)


def convolution_ddr_bytes(
    input_bytes: int, output_bytes: int, weight_bytes: int, output_channels: int, addend_bytes: int = 0
) -> int:
    """Bytes a convolution moves: tensors once each, weights, operands, and the second addend of a fused addition."""
    return input_bytes + output_bytes + weight_bytes + OPERAND_BYTES_PER_CHANNEL * output_channels + addend_bytes


def ddr_cycles(moved_bytes: int, clock_hz: float = 1e9) -> float:
    """NPU cycles at `clock_hz` that moving the bytes takes: bandwidth is constant in time, so cycles scale with it."""
    return moved_bytes / DDR_BYTES_PER_CYCLE * (clock_hz / 1e9)


def layer_cycles(mac_cycles: float, memory_cycles: float) -> float:
    """Cycles of a layer: the slower of the two, as they overlap."""
    return max(mac_cycles, memory_cycles)
