"""Rows beyond the chip's size fields, for forms that treat every pixel alike: other rows of the same pixels.

Pixels of a plane follow one another, whatever the width of a row: 1 x 8400 pixels are 84 x 100 ones. Numbers without
such a factor, and forms that need their rows, are cut when tasks are made (tiling/).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from rocketnpu.compiler.npu_ops import Convolution, Elementwise, Lookup, Lowered, Move, Rescale, Window
from rocketnpu.compiler.tiling.areas import in_legal_rows, rows_and_columns
from rocketnpu.hw import limits


def with_legal_rows(forms: Iterable[Lowered]) -> Iterator[Lowered]:
    """The forms, on rows that fit."""
    for form in forms:
        match form:
            case Elementwise():
                yield replace(form, shape=in_legal_rows(form.shape))
            case Rescale():
                yield replace(form, output_shape=in_legal_rows(form.output_shape))
            case Lookup():
                yield replace(form, output_shape=in_legal_rows(form.output_shape, limits.MAX_LUT_WIDTH))
            case Move() if form.row_step == form.width or form.height == 1:
                yield _moved_in_legal_rows(form)
            case Convolution() if _is_pointwise(form):
                yield _in_legal_rows(form)
            case _:
                yield form


def _moved_in_legal_rows(move: Move) -> Move:
    if max(move.height, move.width) <= limits.MAX_CUBE:
        return move
    found = rows_and_columns(move.height * move.width)
    return move if found is None else replace(move, height=found[0], width=found[1], row_step=found[1])


def _is_pointwise(conv: Convolution) -> bool:
    """Whether every output pixel follows from the same input pixel."""
    out = conv.output_shape
    return (
        (conv.kernel_h, conv.kernel_w, conv.stride_h, conv.stride_w) == (1, 1, 1, 1)
        and (conv.origin_h, conv.origin_w) == (0, 0)
        and (conv.input_shape.height, conv.input_shape.width) == (out.height, out.width)
        and conv.window == Window(0, out.height, 0, out.width)
    )


def _in_legal_rows(conv: Convolution) -> Convolution:
    data, out = in_legal_rows(conv.input_shape), in_legal_rows(conv.output_shape)
    return replace(conv, input_shape=data, output_shape=out, window=Window(0, out.height, 0, out.width))
