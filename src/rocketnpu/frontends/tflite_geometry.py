"""Shapes of an operator's tensors against each other, as TFLite's kernels compute them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rocketnpu.errors import ModelError
from rocketnpu.ir import (
    ConvOptions,
    FullyConnectedOptions,
    Operator,
    Padding,
    PoolOptions,
    ReduceOptions,
    Tensor,
)


def check_geometry(operator: Operator, tensors: Mapping[str, Tensor]) -> str | None:
    """None when the shapes of the operator's tensors agree, else why the graph must be left to LiteRT.

    LiteRT computes the shapes of all outputs anew, so a file may state wrong ones and still run; what the file says
    can't be compiled then. Raises ModelError for operands that no output shape can fit.
    """
    operands = [None if name is None else tensors[name].shape for name in operator.inputs]
    stated = tensors[operator.outputs[0]].shape if operator.outputs else ()
    where = f"operator {operator.index} ({operator.kind})"
    computed = _output_shape(operator, operands, stated, where)
    if computed is None or computed == stated:
        return None
    return f"the file says that {where} gives the shape {stated}, its operands give {computed}"


def _output_shape(
    operator: Operator, operands: list[tuple[int, ...] | None], stated: tuple[int, ...], where: str
) -> tuple[int, ...] | None:
    """The shape that the operands and options give; None for kinds that are not checked."""
    source = operands[0] if operands else None
    if source is None:
        return None
    match operator.options:
        case ConvOptions() as options:
            return _conv(operator.kind, options, source, operands[1:], where)
        case PoolOptions() as options:
            source = _need_rank(source, 4, "input", where)
            window = (options.filter_h, options.filter_w)
            strides = (options.stride_h, options.stride_w)
            return (source[0], *_slide(source, window, strides, options.padding, where), source[3])
        case FullyConnectedOptions() as options:
            return _fully_connected(options, source, operands[1:], where)
        case ReduceOptions() as options if options.axes:
            kept = [1 if axis in options.axes else size for axis, size in enumerate(source)]
            return tuple(size for axis, size in enumerate(kept) if options.keep_dims or axis not in options.axes)
        case _ if operator.kind == "ADD" and operands[1] is not None:
            return _broadcast(source, operands[1], where)
        case _ if operator.kind == "RESHAPE":
            return stated if math.prod(source) == math.prod(stated) else source
        case _:
            return None


def _conv(
    kind: str, options: ConvOptions, source: tuple[int, ...], rest: list[tuple[int, ...] | None], where: str
) -> tuple[int, ...]:
    source = _need_rank(source, 4, "input", where)
    weights = _need_rank(rest[0], 4, "weights", where)
    if 0 in source or 0 in weights:
        raise ModelError(f"{where} has an input {source} or weights {weights} without elements")
    if kind == "CONV_2D":
        channels = weights[0]
        if source[3] % weights[3] or channels % (source[3] // weights[3]):
            raise ModelError(f"{where} has weights {weights} that do not fit the input {source}")
    else:
        channels = weights[3]
        if weights[0] != 1 or channels != source[3] * options.multiplier:
            raise ModelError(f"{where} has weights {weights} that do not fit the input {source}")
    _need_bias(rest[1:], channels, where)
    window = (
        (weights[1] - 1) * options.dilation_h + 1,
        (weights[2] - 1) * options.dilation_w + 1,
    )
    strides = (options.stride_h, options.stride_w)
    return (source[0], *_slide(source, window, strides, options.padding, where), channels)


def _slide(
    source: tuple[int, ...], window: tuple[int, int], strides: tuple[int, int], padding: Padding, where: str
) -> tuple[int, int]:
    """Output height and width of a sliding window."""
    sizes: list[int] = []
    for size, extent, stride in zip(source[1:3], window, strides, strict=True):
        room = size if padding is Padding.SAME else size - extent + 1
        if room < 1:
            raise ModelError(f"{where} has a window of {window[0]}x{window[1]} that does not fit the input {source}")
        sizes.append(-(-room // stride))
    return sizes[0], sizes[1]


def _fully_connected(
    options: FullyConnectedOptions, source: tuple[int, ...], rest: list[tuple[int, ...] | None], where: str
) -> tuple[int, ...]:
    weights = _need_rank(rest[0], 2, "weights", where)
    units, depth = weights
    if depth == 0 or math.prod(source) % depth:
        raise ModelError(f"{where} has weights {weights} that do not fit the input {source}")
    _need_bias(rest[1:], units, where)
    if options.keep_num_dims:
        if source[-1:] != (depth,):
            raise ModelError(f"{where} has weights {weights} that do not fit the last dimension of {source}")
        return (*source[:-1], units)
    return (math.prod(source) // depth, units)


def _need_rank(shape: tuple[int, ...] | None, rank: int, what: str, where: str) -> tuple[int, ...]:
    if shape is None or len(shape) != rank:
        raise ModelError(f"{where} has {what} of shape {shape}; {rank} dimensions are needed")
    return shape


def _need_bias(rest: list[tuple[int, ...] | None], channels: int, where: str) -> None:
    bias = rest[0] if rest else None
    if bias is not None and math.prod(bias) != channels:
        raise ModelError(f"{where} has a bias of shape {bias} for {channels} output channels")


def _broadcast(first: tuple[int, ...], second: tuple[int, ...], where: str) -> tuple[int, ...]:
    rank = max(len(first), len(second))
    left, right = ((1,) * (rank - len(shape)) + shape for shape in (first, second))
    for a, b in zip(left, right, strict=True):
        if a != b and 1 not in (a, b):
            raise ModelError(f"{where} has inputs {first} and {second} that do not broadcast")
    return tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))
