"""Padding beyond the chip's field of 15 rows and columns: the input is copied into a larger one first.

The copy is an identity convolution with padding of its own, 15 rows and columns at a time. What the rows and columns
behind the last are follows from the output's size, here as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rocketnpu.compiler.lower.moves import identity
from rocketnpu.compiler.npu_ops import Convolution, CubeShape
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.hw import limits


def pad_in_steps(
    source: str, target: str, data: CubeShape, out: CubeShape, before: tuple[int, int], zero_point: int
) -> Iterator[Convolution]:
    """The input behind `before` rows and columns of `zero_point`, and before as many as fill up `out`.

    ConstraintError for more padding than a cube has rows: dilations in a file may ask for thousands of millions.
    """
    top, left = before
    if max(top, left) > limits.MAX_CUBE:
        raise ConstraintError(f"padding before the first row and column is at most {limits.MAX_CUBE}")
    step = 0
    while True:
        rows, columns = min(top, limits.MAX_CONV_PAD), min(left, limits.MAX_CONV_PAD)
        top, left, step = top - rows, left - columns, step + 1
        ends = not top and not left
        larger = out if ends else CubeShape(data.height + rows, data.width + columns, data.channels)
        name = target if ends else f"{target}#pad {step}"
        yield identity(source, name, data, larger, zero_point=zero_point, origin=(-rows, -columns))
        if ends:
            return
        source, data = name, larger


def with_legal_padding(conv: Convolution) -> Iterator[Convolution]:
    """The convolution, last; what pads its input before it where its own field is too small.

    Taps that see padding alone add nothing to any sum: it is without them (dilated kernels on small images).
    """
    conv = _without_idle_taps(conv)
    top, left = max(-conv.origin_h, 0), max(-conv.origin_w, 0)
    if max(top, left) <= limits.MAX_CONV_PAD:
        yield conv
        return
    data, name = conv.input_shape, f"{conv.output}#padded"
    padded = CubeShape(data.height + top, data.width + left, data.channels)
    yield from pad_in_steps(conv.input, name, data, padded, (top, left), conv.input_zero_point)
    origins = {"origin_h": max(conv.origin_h, 0), "origin_w": max(conv.origin_w, 0)}
    yield replace(conv, input=name, input_shape=padded, **origins)


def _without_idle_taps(conv: Convolution) -> Convolution:
    window, shape = conv.window, conv.input_shape
    y0, y1 = _busy(conv.kernel_h, conv.stride_h, conv.dilation_h, conv.origin_h, (window.y0, window.y1), shape.height)
    x0, x1 = _busy(conv.kernel_w, conv.stride_w, conv.dilation_w, conv.origin_w, (window.x0, window.x1), shape.width)
    return replace(
        conv,
        weights=np.ascontiguousarray(conv.weights[:, y0:y1, x0:x1]),
        origin_h=conv.origin_h + y0 * conv.dilation_h,
        origin_w=conv.origin_w + x0 * conv.dilation_w,
        dilation_h=conv.dilation_h if y1 - y0 > 1 else 1,
        dilation_w=conv.dilation_w if x1 - x0 > 1 else 1,
    )


def _busy(taps: int, stride: int, dilation: int, origin: int, outputs: tuple[int, int], size: int) -> tuple[int, int]:
    """The taps along one axis, of which one at least, between the first and the last that some output has inside the
    input."""
    first, last = outputs[0] * stride + origin, (outputs[1] - 1) * stride + origin
    busy = [tap for tap in range(taps) if first + tap * dilation < size and last + tap * dilation >= 0]
    return (busy[0], busy[-1] + 1) if busy else (0, 1)
