"""Shapes of tensors: their bounds, and what an operator's operands make of its output, as TFLite's kernels do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

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
from rocketnpu.unary import FUNCTIONS

MAX_RANK = 8
"""LiteRT's kernels stop at 8 dimensions (its RuntimeShape holds no more without a heap)."""

MAX_TENSOR_BYTES = 1 << 30
"""A bound on what a small file can make us allocate; no tensor that fits the NPU's 32-bit addresses comes near."""

SHAPE_KEEPING = frozenset(
    {*FUNCTIONS, "DEQUANTIZE", "LOG_SOFTMAX", "QUANTIZE", "RELU", "RELU6", "RELU_0_TO_1", "SOFTMAX"}
)
"""Kinds whose output has the shape of their input."""

BROADCASTING = frozenset({"ADD", "MAXIMUM", "MINIMUM", "MUL", "PRELU", "SUB"})
"""Kinds whose output has the shape that both operands broadcast to."""

_Shape: TypeAlias = tuple[int, ...]


def check_shape(name: str, shape: _Shape, dtype: np.dtype[np.generic]) -> None:
    """Raise ModelError for a shape that no tensor can have."""
    if len(shape) > MAX_RANK:
        raise ModelError(f"tensor {name} has {len(shape)} dimensions; at most {MAX_RANK} are possible")
    if any(size < 0 for size in shape):
        raise ModelError(f"tensor {name} has a negative dimension in its shape {shape}")
    if math.prod(shape) * dtype.itemsize > MAX_TENSOR_BYTES:
        raise ModelError(f"tensor {name} of shape {shape} and type {dtype} is larger than {MAX_TENSOR_BYTES} bytes")


def settle_shapes(operators: Sequence[Operator], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str | None]:
    """The tensors with the shapes that they have when the model runs, in the same order.

    LiteRT ignores what a file says of an output's shape and computes it from the operands (Mesa's test model mb01
    states a wrong one). So do we, for the kinds we know. When another kind follows on a corrected tensor, the second
    result is the reason why the graph must be left to LiteRT. Raises ModelError for operands that don't fit together.
    """
    settled = dict(tensors)
    corrected: set[str] = set()
    for operator in operators:
        where = f"operator {operator.index} ({operator.kind})"
        shape = _output_shape(operator, settled, where)
        if shape is None:
            doubtful = sorted(corrected.intersection(name for name in operator.inputs if name is not None))
            if doubtful:
                return settled, f"the file states a wrong shape for {doubtful[0]}, on which {where} depends"
            continue
        output = settled[operator.outputs[0]]
        if shape != output.shape:
            check_shape(output.name, shape, output.dtype)
            settled[output.name] = replace(output, shape=shape)
            corrected.add(output.name)
    return settled, None


def _output_shape(operator: Operator, tensors: Mapping[str, Tensor], where: str) -> _Shape | None:
    """The shape that the operands and options give; None for kinds that we don't know."""
    operands = [None if name is None else tensors[name].shape for name in operator.inputs]
    source = operands[0] if operands else None
    if source is None or not operator.outputs:
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
        case ReduceOptions() as options if operator.unsupported is None:
            kept = [1 if axis in options.axes else size for axis, size in enumerate(source)]
            return tuple(size for axis, size in enumerate(kept) if options.keep_dims or axis not in options.axes)
        case _ if operator.kind in BROADCASTING and operands[1] is not None:
            return _broadcast(source, operands[1], where)
        case _ if operator.kind == "RESHAPE":
            return _reshape(operator, source, tensors, where)
        case _ if operator.kind in SHAPE_KEEPING:
            return source
        case _:
            return None


def _reshape(operator: Operator, source: _Shape, tensors: Mapping[str, Tensor], where: str) -> _Shape | None:
    """The constant target with its -1 filled in; without one, what the file says if it has as many elements."""
    elements = math.prod(source)
    operand = operator.inputs[1] if len(operator.inputs) > 1 else None
    target = None if operand is None else tensors[operand].data
    if target is None:
        stated = tensors[operator.outputs[0]].shape
        return stated if math.prod(stated) == elements else None
    if target.ndim != 1 or target.size > MAX_RANK or target.dtype != np.int32:
        raise ModelError(f"{where} has a target that is not a vector of at most {MAX_RANK} int32 values")
    sizes: list[int] = target.tolist()
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0 and elements % known == 0:
        sizes[sizes.index(-1)] = elements // known
    if any(size < 0 for size in sizes) or math.prod(sizes) != elements:
        raise ModelError(f"{where} has the target {target.tolist()}, which the input {source} can't be given")
    return tuple(sizes)


def _conv(kind: str, options: ConvOptions, source: _Shape, rest: list[_Shape | None], where: str) -> _Shape:
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
    source: _Shape, window: tuple[int, int], strides: tuple[int, int], padding: Padding, where: str
) -> tuple[int, int]:
    """Output height and width of a sliding window."""
    sizes: list[int] = []
    for size, extent, stride in zip(source[1:3], window, strides, strict=True):
        room = size if padding is Padding.SAME else size - extent + 1
        if room < 1:
            raise ModelError(f"{where} has a window of {window[0]}x{window[1]} that does not fit the input {source}")
        sizes.append(-(-room // stride))
    return sizes[0], sizes[1]


def _fully_connected(options: FullyConnectedOptions, source: _Shape, rest: list[_Shape | None], where: str) -> _Shape:
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


def _need_rank(shape: _Shape | None, rank: int, what: str, where: str) -> _Shape:
    if shape is None or len(shape) != rank:
        raise ModelError(f"{where} has {what} of shape {shape}; {rank} dimensions are needed")
    return shape


def _need_bias(rest: list[_Shape | None], channels: int, where: str) -> None:
    bias = rest[0] if rest else None
    if bias is not None and math.prod(bias) != channels:
        raise ModelError(f"{where} has a bias of shape {bias} for {channels} output channels")


def _broadcast(first: _Shape, second: _Shape, where: str) -> _Shape:
    rank = max(len(first), len(second))
    left, right = ((1,) * (rank - len(shape)) + shape for shape in (first, second))
    for a, b in zip(left, right, strict=True):
        if a != b and 1 not in (a, b):
            raise ModelError(f"{where} has inputs {first} and {second} that do not broadcast")
    return tuple(b if a == 1 else a for a, b in zip(left, right, strict=True))
