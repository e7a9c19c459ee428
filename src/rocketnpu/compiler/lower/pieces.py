"""Convolutions that no single pass takes, as sums of smaller ones in 32 bits, so that nothing is rounded on the way.

1. A kernel of more than 31 rows or columns, a dilation of more than 32, or more input channels than the CBUF holds for
   one pixel: the kernel is cut into rows, columns and input channels until each piece fits. Padding is written out
   before, so that no piece lies in the padding alone.
2. Each piece writes int32: its accumulator times the gain, in units of 2^-F steps. CPEND is off in such a task
   (hardware/convolution.md, Minimal int8 program), so weights with a zero point become up to three symmetric
   pieces.
3. The pieces are added one after another (hardware/dpu.md, EW stage: int32 addition saturates, silicon). F leaves room
   for the largest sum there is; the result is then doubled until a step is 2^24, where saturation of the int32 is that
   of an int8.
4. The top byte of each int32 is the result: as bytes, the cube has four channels for each of its own, of which a 1x1
   convolution picks every fourth. Half a step and the zero point are in the bias of the first piece.
5. Depthwise tasks have no int32 output (hardware/convolution.md, Must not emit): those kernels become dense ones, 32
   channels at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.lower.moves import selection
from rocketnpu.compiler.lower.padding import pad_in_steps
from rocketnpu.compiler.lower.strides import has_long_strides, over_blocks
from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, Convolution, CubeShape, Lowered, WideSum, Window
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.requantize.degenerate import without_degenerate_channels
from rocketnpu.compiler.requantize.per_channel import finest_pairs, pairs_of
from rocketnpu.compiler.requantize.registers import accumulator_bounds, bias_errors
from rocketnpu.compiler.tiling.convolution import fits
from rocketnpu.hw import limits
from rocketnpu.hw.sizes import INT32_BYTES, align

STEP_BITS = 24
"""log2 of a step in the last sum: the int8 is the top byte."""
INT8_STEPS = 128
"""Steps on either side of zero that an int8 holds."""
MAX_PIECES = 64
"""Beyond that the sums in 32 bits are no gain over the CPU."""

Counts = tuple[int, int, int]
"""Into how many ranges of kernel rows, kernel columns and input channels a convolution is cut."""


def _in_groups(conv: Convolution, groups: int) -> Iterator[Convolution]:
    """For 32 output channels at a time, dense weights over the whole atoms of input channels that they read."""
    per_group_in, per_group_out = conv.weights.shape[3], conv.output_channels // groups
    total_in = per_group_in * groups
    step = limits.DIRECT_OUTPUT_GROUP
    for c0 in range(0, conv.output_channels, step):
        c1 = min(c0 + step, conv.output_channels)
        first = c0 // per_group_out * per_group_in // ATOM_CHANNELS * ATOM_CHANNELS
        last = min(align(((c1 - 1) // per_group_out + 1) * per_group_in, ATOM_CHANNELS), total_in)
        shape = (c1 - c0, conv.kernel_h, conv.kernel_w, last - first)
        dense = np.broadcast_to(conv.weight_zero_points[c0:c1, None, None, None], shape).astype(np.int8)
        for channel in range(c0, c1):
            start = channel // per_group_out * per_group_in - first
            dense[channel - c0, :, :, start : start + per_group_in] = conv.weights[channel]
        yield replace(
            conv,
            weights=dense,
            weight_zero_points=conv.weight_zero_points[c0:c1],
            bias=conv.bias[c0:c1],
            gains=conv.gains[c0:c1],
            first_input_channel=first,
            first_output_channel=c0,
        )


def whole_or_in_pieces(conv: Convolution) -> Iterator[Lowered]:
    """A direct or depthwise convolution as it is, or over blocks, or as a sum of pieces where it does not fit."""
    if has_long_strides(conv):
        for group in _in_groups(replace(conv, depthwise=False), conv.output_channels) if conv.depthwise else (conv,):
            *copies, rest = over_blocks(group)
            yield from copies
            yield from whole_or_in_pieces(rest)
    elif fits(conv):
        yield conv
    elif conv.depthwise:
        yield from groups_or_in_pieces(replace(conv, depthwise=False), conv.output_channels)
    else:
        yield from _in_pieces([conv])


def groups_or_in_pieces(conv: Convolution, groups: int) -> Iterator[Lowered]:
    """A convolution with groups as dense ones, or as sums of pieces where one does not fit."""
    parts = list(_in_groups(conv, groups))
    yield from parts if all(fits(part) for part in parts) else _in_pieces(parts)


def _in_pieces(convs: Sequence[Convolution]) -> Iterator[Lowered]:
    """Direct convolutions of one geometry, for different output channels of one tensor (rules 1 to 4).

    ConstraintError where more than MAX_PIECES were needed, or their gains are too coarse.
    """
    convs = [without_degenerate_channels(conv) for conv in convs]
    if convs[0].window != Window(0, convs[0].output_shape.height, 0, convs[0].output_shape.width):
        raise ConstraintError("a pooling window of more than 31 rows or columns lies inside the image")
    counts = _counts(convs)
    borders: list[Convolution] = []
    if counts[:2] != (1, 1):
        borders, convs = _with_borders(convs)
    parts = max(len(_symmetric(conv)) for conv in convs)
    pieces = [_cut(conv, counts, parts) for conv in convs]
    bits = _fraction_bits(convs, pieces)
    name, out = convs[0].output, convs[0].output_shape
    wide = replace(out, channels=INT32_BYTES * align(out.channels, limits.DIRECT_OUTPUT_GROUP))
    total, spare, piece = (f"{name}#{what}" for what in ("sum", "next sum", "piece"))
    yield from borders
    for number, alike in enumerate(zip(*pieces, strict=True)):
        for part in alike:
            yield replace(part, output=piece if number else total, output_shape=wide, fraction_bits=bits)
        if number:
            yield WideSum(total, piece, spare, wide)
            total, spare = spare, total
    for _ in range(STEP_BITS - bits):
        yield WideSum(total, total, spare, wide)
        total, spare = spare, total
    yield from _top_bytes(total, wide, convs[0])


def _counts(convs: Sequence[Convolution]) -> Counts:
    """The fewest pieces that all fit: channels are cut before rows and columns below 31."""
    first = convs[0]
    atoms = min(-(-conv.input_channels // ATOM_CHANNELS) for conv in convs)
    rows = -(-first.kernel_h // limits.MAX_KERNEL) if first.dilation_h <= limits.MAX_DILATION else first.kernel_h
    columns = -(-first.kernel_w // limits.MAX_KERNEL) if first.dilation_w <= limits.MAX_DILATION else first.kernel_w
    channels = 1
    while rows * columns * channels <= MAX_PIECES:
        counts = (rows, columns, channels)
        if all(fits(piece) for conv in convs for piece in _cut(conv, counts, 1)):
            return counts
        if channels < atoms:
            channels += 1
        elif first.kernel_h // rows >= first.kernel_w // columns:
            rows += 1
        else:
            columns += 1
    raise ConstraintError(f"a kernel beyond one task is the sum of at most {MAX_PIECES} smaller ones")


def _with_borders(convs: Sequence[Convolution]) -> tuple[list[Convolution], list[Convolution]]:
    """What writes the input's padding out, and the convolutions that read the result."""
    conv = convs[0]
    data, out = conv.input_shape, conv.output_shape
    top, left = max(-conv.origin_h, 0), max(-conv.origin_w, 0)
    bottom = (out.height - 1) * conv.stride_h + conv.origin_h + conv.reach_h
    right = (out.width - 1) * conv.stride_w + conv.origin_w + conv.reach_w
    whole = CubeShape(top + max(bottom, data.height), left + max(right, data.width), data.channels)
    if whole == data:
        return [], list(convs)
    name = f"{conv.output}#bordered"
    borders = list(pad_in_steps(conv.input, name, data, whole, (top, left), conv.input_zero_point))
    origins = {"origin_h": max(conv.origin_h, 0), "origin_w": max(conv.origin_w, 0)}
    return borders, [replace(each, input=name, input_shape=whole, **origins) for each in convs]


def _symmetric(conv: Convolution) -> list[NDArray[np.int8]]:
    """Weights without a zero point whose sum are the convolution's."""
    rest = conv.weights.astype(np.int64) - conv.weight_zero_points[:, None, None, None]
    parts: list[NDArray[np.int8]] = []
    while not parts or rest.any():
        parts.append(np.clip(rest, -128, 127).astype(np.int8))
        rest = rest - parts[-1]
    return parts


def _cut(conv: Convolution, counts: Counts, parts: int) -> list[Convolution]:
    """The pieces of a convolution, `parts` for each range of the kernel; the first has the bias."""
    symmetric = _symmetric(conv)
    symmetric += [np.zeros_like(conv.weights)] * (parts - len(symmetric))
    # Half a step makes of the top byte's rounding down one to nearest.
    bias = conv.bias + np.rint((conv.output_zero_point + 0.5) / conv.gains)
    pieces: list[Convolution] = []
    for (y0, y1), (x0, x1), (c0, c1), weights in product(
        _ranges(conv.kernel_h, counts[0], 1),
        _ranges(conv.kernel_w, counts[1], 1),
        _ranges(conv.input_channels, counts[2], ATOM_CHANNELS),
        symmetric[:parts],
    ):
        pieces.append(
            replace(
                conv,
                weights=np.ascontiguousarray(weights[:, y0:y1, x0:x1, c0:c1]),
                weight_zero_points=np.zeros_like(conv.weight_zero_points),
                bias=np.zeros_like(bias) if pieces else bias,
                origin_h=conv.origin_h + y0 * conv.dilation_h,
                origin_w=conv.origin_w + x0 * conv.dilation_w,
                dilation_h=conv.dilation_h if y1 - y0 > 1 else 1,
                dilation_w=conv.dilation_w if x1 - x0 > 1 else 1,
                first_input_channel=conv.first_input_channel + c0,
                output_zero_point=0,
                low=-128,
                high=127,
            )
        )
    return pieces


def _ranges(size: int, count: int, unit: int) -> list[tuple[int, int]]:
    """`count` ranges of nearly as many whole units."""
    units = -(-size // unit)
    edges = [min(units * part // count * unit, size) for part in range(count + 1)]
    return list(pairwise(edges))


def _fraction_bits(convs: Sequence[Convolution], pieces: Sequence[Sequence[Convolution]]) -> int:
    """F of rule 2, with which no sum saturates; ConstraintError if results could then be more than 1 off."""
    reach = max(
        float(np.sum([accumulator_bounds(piece) * piece.gains for piece in alike], axis=0).max()) for alike in pieces
    )
    gains = np.concatenate([conv.gains for conv in convs])
    bits = min(STEP_BITS - math.ceil(math.log2(max(reach / INT8_STEPS, 1))), finest_pairs(gains))
    for conv in convs:
        pairs = pairs_of(conv.gains, bits)
        off = reach * float(pairs.relative_errors.max()) + len(pieces[0]) * float(pairs.roundings.max())
        off += 0.5 * float(conv.gains.max()) + float(bias_errors(conv).max())
        if off >= 0.5:
            found = f"{conv.output} has gains of {gains.min():.3g} to {gains.max():.3g}"
            raise ConstraintError(
                f"a sum of smaller convolutions is less than half a step off: {off:.2f} steps ({found})"
            )
    return bits


def _top_bytes(total: str, wide: CubeShape, conv: Convolution) -> Iterator[Convolution]:
    """Rule 4."""
    out = conv.output_shape
    for c0 in range(0, out.channels, limits.DIRECT_OUTPUT_GROUP):
        count = min(limits.DIRECT_OUTPUT_GROUP, out.channels - c0)
        bytes_of = INT32_BYTES * np.arange(c0, c0 + count) + INT32_BYTES - 1
        group = replace(out, channels=count)
        picked = selection(total, conv.output, wide, group, channels=bytes_of, zero_point=conv.output_zero_point)
        yield replace(picked, output_shape=out, first_output_channel=c0, low=conv.low, high=conv.high)
