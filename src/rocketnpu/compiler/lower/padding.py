"""Padding beyond the chip's field of 15 rows and columns: the input is copied into a larger one first.

The copy is an identity convolution with padding of its own, 15 rows and columns at a time. What the rows and columns
behind the last are follows from the output's size, here as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rocketnpu.compiler.lower.moves import identity
from rocketnpu.compiler.lowered import Convolution, CubeShape
from rocketnpu.hw import limits


def pad_in_steps(
    source: str, target: str, data: CubeShape, out: CubeShape, before: tuple[int, int], zero_point: int
) -> Iterator[Convolution]:
    """The input behind `before` rows and columns of `zero_point`, and before as many as fill up `out`."""
    top, left = before
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
    """The convolution, last; what pads its input before it where its own field is too small."""
    top, left = max(-conv.origin_h, 0), max(-conv.origin_w, 0)
    if max(top, left) <= limits.MAX_CONV_PAD:
        yield conv
        return
    data, name = conv.input_shape, f"{conv.output}#padded"
    padded = CubeShape(data.height + top, data.width + left, data.channels)
    yield from pad_in_steps(conv.input, name, data, padded, (top, left), conv.input_zero_point)
    origins = {"origin_h": max(conv.origin_h, 0), "origin_w": max(conv.origin_w, 0)}
    yield replace(conv, input=name, input_shape=padded, **origins)
