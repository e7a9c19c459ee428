"""How far each quantity may go: field widths and measured bounds, as named constants.

Field widths are those of hardware/register-list.md; a value that does not fit wraps silently (silicon: height 2500 acts
as 452), so that whoever programs one of these checks it first. Source: hardware/README.md, Constants, unless named.
"""

from __future__ import annotations

from rocketnpu.errors import Error

CORES = 3
"""Identical cores."""

MAX_CONV_INPUT = 2047
"""CNA input width and height of one task, in pixels (11-bit, raw)."""
MAX_CONV_CHANNELS = (1 << 16) - 1
"""CNA input channels, in whole atoms (16-bit, raw; hardware/register-list.md)."""
MAX_KERNEL = 31
"""Kernel width and height (5-bit, raw)."""
MAX_CONV_STRIDE = 7
"""Convolution stride (3-bit, raw)."""
MAX_DILATION = 32
"""Dilation (5-bit, minus one)."""
MAX_CONV_PAD = 15
"""Left and top padding (4-bit, raw); right and bottom follow from the output size."""
DECONV_STRIDES = (2, 4, 8)
"""Transposed convolution strides that work; others act as a plain convolution (hardware/convolution.md, silicon)."""
MAX_KERNELS = (1 << 14) - 1
"""WEIGHT_KERNELS (14-bit, raw; hardware/registers.md)."""
MAX_KERNEL_BYTES = (1 << 19) - 1
"""WEIGHT_BYTES_PER_KERNEL (19-bit, raw; hardware/registers.md)."""
MAX_FEATURE_GRAINS = 1023
"""Rows to hold before the MACs start (10-bit, raw)."""
MAX_DATA_ENTRIES = (1 << 15) - 1
"""DATA_ENTRIES: believed 15 bits; the vendor programs up to 25600 (hardware/convolution.md, CBUF arithmetic)."""

MAX_CUBE = 8192
"""Width, height and channels of a DPU or PPU cube (13-bit, minus one)."""
MAX_NOTCH = 8191
"""Pixels that a DPU task leaves out behind each row it writes (NOTCH_ADDR: 13-bit, raw; hardware/register-list.md)."""
MAX_POOL_WINDOW = 16
"""PPU window and stride (4-bit, minus one; hardware/ppu.md, Limits)."""
MAX_POOL_PAD = 7
"""PPU padding on each side (3-bit, raw; hardware/ppu.md, Limits)."""
MAX_LUT_WIDTH = 4096
"""Cube width of a task with a lookup table: 8191 corrupts the tail (hardware/convolution.md, Must not emit)."""

DIRECT_OUTPUT_GROUP = 32
"""int8 direct: CORE and DPU channel counts are multiples of this, or the task never completes (silicon)."""
DIRECT_OUTPUT_GROUP_16_BIT = 16
"""fp16 and int16 direct."""
DEPTHWISE_GROUP = 64
"""int8 depthwise: CORE and DPU channel counts are multiples of this, or the task never completes (silicon)."""
DEPTHWISE_GROUP_16_BIT = 32
"""fp16 depthwise."""
MAX_IMAGE_CHANNELS = 4
"""Channels of a dense first-layer image; more need the feature cube (hardware/layouts.md, silicon)."""

ADDRESS_ALIGNMENT_BYTES = 16
"""Features, weights, operands, outputs and command lists."""
TENSOR_ALIGNMENT_BYTES = 64
"""What the vendor aligns tensors and command lists to."""
MAX_TASKS_PER_KICK = 4095
"""TASK_NUMBER (12-bit)."""


def max_pool_output_columns(kernel_h: int, stride_h: int) -> int:
    """Output columns of one pool task, by how many output rows a window's row serves: ceil(kernel_h / stride_h).

    128, 64, 32, 16 for 1, 2, 3..4, 5..8: inferred, matches every vendor tile (hardware/ppu.md, Limits). Raises Error
    for more overlap, of which nothing is known.
    """
    overlap = -(-kernel_h // stride_h)
    for rows, columns in ((1, 128), (2, 64), (4, 32), (8, 16)):
        if overlap <= rows:
            return columns
    raise Error(f"pool windows of {kernel_h} rows at stride {stride_h}: more than 8 overlapping rows are unmeasured")
