"""Strides beyond the chip's field of 7: the input is first rearranged into blocks, over which the stride is smaller.

1. Block b divides the stride s. Input row y * s + r, r = origin + tap * dilation, is row y * s / b + floor(r / b) of
   the blocks and phase r mod b within one; columns alike. Phases are channels, so that the convolution over blocks has
   a kernel of as many rows as the taps touch blocks, and the weights' zero point where a phase is no tap.
2. Blocks are made by identity convolutions with stride b, one for each phase; one with a kernel of b x b makes all
   phases at once where there are fewer channels than lanes in an atom. Nothing is rounded.
3. b is the smallest divisor of s that fits and brings s / b to at most 7; where s has none, the largest that fits, and
   the rule is used again. Strides without a divisor stay as they are: one task for each output along that axis
   (tiling/convolution.py, rule 3).
4. Depthwise convolutions become dense ones, 32 channels at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.lower.moves import identity
from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, Convolution, CubeShape
from rocketnpu.hw import limits
from rocketnpu.hw.sizes import align


def has_long_strides(conv: Convolution) -> bool:
    """Whether fewer tasks compute the convolution over blocks."""
    block_h, block_w = _blocks(conv)
    window = conv.window
    tasks = 1
    if conv.stride_h > limits.MAX_CONV_STRIDE:
        tasks *= window.y1 - window.y0
    if conv.stride_w > limits.MAX_CONV_STRIDE:
        tasks *= window.x1 - window.x0
    blocks = 1 if _at_once(conv) else block_h * block_w
    return (block_h, block_w) != (1, 1) and tasks > blocks + 1


def over_blocks(conv: Convolution) -> Iterator[Convolution]:
    """What makes the blocks of a dense convolution's input, and the convolution over them, last."""
    block_h, block_w = _blocks(conv)
    data = conv.input_shape
    each = conv.input_channels if _at_once(conv) else align(conv.input_channels, ATOM_CHANNELS)
    blocks = CubeShape(-(-data.height // block_h), -(-data.width // block_w), block_h * block_w * each)
    name = f"{conv.output}#{block_h}x{block_w} blocks of {conv.input}"
    yield from _rearranged(conv, name, blocks, block_h, block_w)
    first_h, rows = _taps(conv.origin_h, conv.dilation_h, conv.kernel_h, block_h)
    first_w, columns = _taps(conv.origin_w, conv.dilation_w, conv.kernel_w, block_w)
    shape = (conv.output_channels, int(rows[0].max()) + 1, int(columns[0].max()) + 1, block_h, block_w, each)
    weights = np.broadcast_to(conv.weight_zero_points.reshape(-1, 1, 1, 1, 1, 1), shape).astype(np.int8)
    taps = np.ix_(range(conv.output_channels), range(conv.kernel_h), range(conv.kernel_w), range(conv.input_channels))
    oc, ky, kx, ic = taps
    weights[oc, rows[0][ky], columns[0][kx], rows[1][ky], columns[1][kx], ic] = conv.weights
    yield replace(
        conv,
        input=name,
        input_shape=blocks,
        weights=weights.reshape(*shape[:3], -1),
        stride_h=conv.stride_h // block_h,
        stride_w=conv.stride_w // block_w,
        dilation_h=1,
        dilation_w=1,
        origin_h=first_h,
        origin_w=first_w,
        first_input_channel=0,
    )


def _at_once(conv: Convolution) -> bool:
    return not conv.depthwise and conv.input_channels < ATOM_CHANNELS and conv.first_input_channel == 0


def _blocks(conv: Convolution) -> tuple[int, int]:
    """Rule 3 for rows and columns."""
    window = conv.window
    rows, columns = window.y1 - window.y0, window.x1 - window.x0
    return _block(conv.stride_h) if rows > 1 else 1, _block(conv.stride_w) if columns > 1 else 1


def _block(stride: int) -> int:
    if stride <= limits.MAX_CONV_STRIDE:
        return 1
    divisors = [size for size in range(2, limits.MAX_CONV_STRIDE + 1) if stride % size == 0]
    enough = [size for size in divisors if stride // size <= limits.MAX_CONV_STRIDE]
    return min(enough, default=max(divisors, default=1))


def _taps(
    origin: int, dilation: int, count: int, block: int
) -> tuple[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The first block that taps touch, and for each tap its block, from that one on, and its phase."""
    at = origin + dilation * np.arange(count)
    first = int(at[0] // block)
    return first, (at // block - first, at % block)


def _rearranged(conv: Convolution, name: str, blocks: CubeShape, block_h: int, block_w: int) -> Iterator[Convolution]:
    """Rule 2: channel (py * block_w + px) * each + c of a block is channel c of its pixel (py, px)."""
    zero = conv.input_zero_point
    if _at_once(conv):
        channels = conv.input_channels
        one_hot = np.eye(blocks.channels, dtype=np.int8).reshape(-1, block_h, block_w, channels)
        copy = identity(conv.input, name, conv.input_shape, blocks, zero_point=zero, strides=(block_h, block_w))
        yield replace(copy, weights=one_hot, depthwise=False)
        return
    each = replace(blocks, channels=blocks.channels // (block_h * block_w))
    for phase in range(block_h * block_w):
        copy = identity(
            conv.input,
            name,
            conv.input_shape,
            each,
            zero_point=zero,
            origin=divmod(phase, block_w),
            strides=(block_h, block_w),
            first_channel=conv.first_input_channel,
        )
        yield replace(copy, output_shape=blocks, first_output_channel=phase * each.channels)
