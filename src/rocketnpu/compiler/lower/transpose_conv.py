"""TRANSPOSE_CONV as ordinary convolutions, one for each phase of the output.

Source: hardware/convolution.md, Transposed convolution.

Output rows y with the same y mod stride read the same rows of the kernel, one for each input row in reach: a
convolution with stride 1 and every stride-th row of the kernel, the last first. The same holds for columns. The
phases are interleaved; where the output is no whole number of blocks, what is too much is left out afterwards.

The chip's own mode for transposed convolutions is not used: what it reads between the input's pixels, where the input
has a zero point, is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from rocketnpu.compiler.constraints.table import operands
from rocketnpu.compiler.lower.grids import (
    activation_bounds,
    as_int8,
    bias_of,
    gains_of,
    per_output,
    rounding_of,
    zero_point_of,
)
from rocketnpu.compiler.lower.interleave import Image, interleave
from rocketnpu.compiler.lower.moves import identity
from rocketnpu.compiler.lower.padding import with_legal_padding
from rocketnpu.compiler.lower.pieces import whole_or_in_pieces
from rocketnpu.compiler.npu_ops import Convolution, CubeShape, Lowered, Rounding, Window, cube_shape
from rocketnpu.ir import Graph, Operator, Padding, TransposeConvOptions


def lower_transpose_conv(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """TRANSPOSE_CONV."""
    assert isinstance(op.options, TransposeConvOptions)
    found, options = operands(graph, op), op.options
    assert found.weights is not None
    data, out, target = cube_shape(found.data), cube_shape(found.output), found.output.name
    weights, zeros = as_int8(found.weights)
    channels, kernel_h, kernel_w, _ = weights.shape
    strides = (options.stride_h, options.stride_w)
    pads = _pads(options, (data.height, data.width), (out.height, out.width), (kernel_h, kernel_w))
    low, high = activation_bounds(options.activation, found.output)
    small = CubeShape(-(-out.height // strides[0]), -(-out.width // strides[1]), channels)
    blocks = replace(small, height=small.height * strides[0], width=small.width * strides[1])
    whole = target if blocks == out else f"{target}#blocks"
    images: dict[tuple[int, int], Image] = {}
    for phase in product(range(strides[0]), range(strides[1])):
        name = whole if strides == (1, 1) else f"{target}#{phase[0]},{phase[1]}"
        images[phase] = Image(name, small)
        rows, top = _taps(phase[0], strides[0], pads[0], kernel_h)
        columns, left = _taps(phase[1], strides[1], pads[1], kernel_w)
        kernel = weights[:, rows][:, :, columns]
        if not kernel.size:
            # No tap of the kernel reaches this phase: one that weighs nothing does.
            kernel = np.broadcast_to(zeros.reshape(-1, 1, 1, 1), (channels, 1, 1, weights.shape[3])).astype(np.int8)
            top = left = 0
        conv = Convolution(
            input=found.data.name,
            output=name,
            input_shape=data,
            output_shape=small,
            depthwise=False,
            weights=np.ascontiguousarray(kernel),
            weight_zero_points=per_output(zeros, channels).astype(np.int64),
            bias=bias_of(found.bias, channels),
            gains=gains_of(graph, op, channels),
            input_zero_point=zero_point_of(found.data),
            output_zero_point=zero_point_of(found.output),
            stride_h=1,
            stride_w=1,
            dilation_h=1,
            dilation_w=1,
            origin_h=top,
            origin_w=left,
            window=Window(0, small.height, 0, small.width),
            low=low,
            high=high,
            rounding=rounding_of(graph, Rounding.TWICE),
        )
        *borders, conv = with_legal_padding(conv)
        yield from borders
        yield from whole_or_in_pieces(conv)
    if strides != (1, 1):
        yield from interleave(images, whole, small, *strides)
    if whole != target:
        yield identity(whole, target, blocks, out, zero_point=zero_point_of(found.output))


def _taps(phase: int, stride: int, pad: int, size: int) -> tuple[slice, int]:
    """The kernel's rows for a phase, in the order of input rows, and the first of these relative to the output's."""
    first = (phase + pad) % stride
    count = len(range(first, size, stride))
    last = first + (count - 1) * stride
    rows = slice(last, first - 1 if first else None, -stride) if count else slice(0, 0)
    return rows, (phase + pad - last) // stride


def _pads(
    options: TransposeConvOptions, data: tuple[int, int], out: tuple[int, int], kernel: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns of the full result that are cut off before the first: counted by the file, or as TFLite does."""
    if options.pads is not None:
        return options.pads[:2]
    if options.padding is Padding.VALID:
        return 0, 0
    strides = (options.stride_h, options.stride_w)
    cut = [
        max((small - 1) * stride + taps - large, 0) // 2
        for small, large, stride, taps in zip(data, out, strides, kernel, strict=True)
    ]
    return cut[0], cut[1]
