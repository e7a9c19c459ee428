"""Shapes of tensors: their bounds, and what an operator's operands make of its output, as TFLite's kernels do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.ir import (
    UNKNOWN_SHAPE,
    UNKNOWN_SIZE,
    ConvOptions,
    FullyConnectedOptions,
    Operator,
    Padding,
    PoolOptions,
    ReduceOptions,
    Tensor,
    is_static,
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


SHAPE_OPERANDS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "BATCH_TO_SPACE_ND": (1, 2),
        "BROADCAST_TO": (1,),
        "EXPAND_DIMS": (1,),
        "FILL": (0,),
        "MEAN": (1,),
        "MIRROR_PAD": (1,),
        "NON_MAX_SUPPRESSION_V4": (2,),
        "NON_MAX_SUPPRESSION_V5": (2,),
        "ONE_HOT": (1,),
        "PAD": (1,),
        "PADV2": (1,),
        "RANGE": (0, 1, 2),
        "REDUCE_ALL": (1,),
        "REDUCE_ANY": (1,),
        "REDUCE_MAX": (1,),
        "REDUCE_MIN": (1,),
        "REDUCE_PROD": (1,),
        "RESHAPE": (1,),
        "RESIZE_BILINEAR": (1,),
        "RESIZE_NEAREST_NEIGHBOR": (1,),
        "SCATTER_ND": (2,),
        "SLICE": (1, 2),
        "SPACE_TO_BATCH_ND": (1, 2),
        "SPARSE_TO_DENSE": (1,),
        "SPLIT_V": (1,),
        "STRIDED_SLICE": (1, 2, 3),
        "SUM": (1,),
        "TILE": (1,),
        "TOPK_V2": (1,),
        "TRANSPOSE": (1,),
        "TRANSPOSE_CONV": (0,),
    }
)
"""Inputs whose values, not shapes, decide the output's shape (tensorflow/lite/kernels, each kernel's Prepare)."""

DATA_DEPENDENT = frozenset({"SEGMENT_SUM", "UNIQUE", "WHERE"})
"""How many elements they give depends on what their inputs hold."""

SHAPE_ONLY = frozenset({"RANK", "SHAPE"})
"""They read only the shape of their input."""


NON_MAX_SUPPRESSION = frozenset({"NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5"})
"""As many indices as their third operand says, if that is constant (non_max_suppression.cc, Prepare)."""


class ShapeInference:
    """The tensors of a file with the shapes that they have when the model runs, operator by operator in order.

    1. LiteRT ignores what a file says of an output's shape and computes it from the operands (Mesa's test model mb01
       states a wrong one). So do we, for the kinds we know.
    2. A shape that is computed from shapes alone (SHAPE, STRIDED_SLICE, PACK, RESHAPE: how converters write a reshape
       that keeps the batch) is static, because all the shapes it comes from are.
    3. A shape that depends on what tensors hold is not known before the run, and neither is one that an operator
       computes from it. The file's shape signature says which sizes these are. Converters that write signatures leave
       them out where all sizes are known; where the operands have none, any size may be unknown.
    4. The same holds for other kinds behind a tensor of which the file states a wrong shape.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], inputs: Sequence[str], signatures: Mapping[str, tuple[int, ...]]
    ) -> None:
        """`tensors` are as the file states them; `signatures` are the shape signatures of those that have one."""
        self.tensors = dict(tensors)
        self._signatures = signatures
        self._varying = set(inputs)
        self._corrected: set[str] = set()

    def settle(self, operator: Operator, stated: Sequence[tuple[int, ...]] | None = None) -> None:
        """The shapes of an operator's outputs: `stated`, if given. Raises ModelError for operands that don't fit
        together.
        """
        shapes = self._shapes(operator) if stated is None else stated
        for name, shape in zip(operator.outputs, shapes, strict=False):
            if shape != self.tensors[name].shape:
                self._set(name, shape)

    def _shapes(self, operator: Operator) -> Sequence[tuple[int, ...]]:
        inputs = [name for name in operator.inputs if name is not None]
        reads_unknown = not all(self.tensors[name].has_static_shape for name in inputs)
        is_by_data = operator.kind in DATA_DEPENDENT or self._reads_varying_shape(operator)
        if operator.kind in SHAPE_ONLY and not reads_unknown:
            return ()
        if operator.opaque is not None or self._varying.intersection(inputs):
            self._varying.update(operator.outputs)
        if operator.opaque is not None:
            return ()
        rankless = any(self.tensors[name].shape == UNKNOWN_SHAPE for name in inputs)
        is_by_data = is_by_data or (rankless and operator.kind in SHAPE_ONLY)
        if is_by_data or (reads_unknown and operator.kind not in SHAPE_KEEPING | SHAPE_ONLY):
            is_marked = any(UNKNOWN_SIZE in self._signatures.get(name, ()) for name in inputs)
            return [self._unknown(name, is_marked) for name in operator.outputs]
        if operator.kind in NON_MAX_SUPPRESSION:
            return self._suppressed(operator)
        shape = _output_shape(operator, self.tensors, f"operator {operator.index} ({operator.kind})")
        if shape is not None:
            return (shape,)
        is_doubtful = not self._corrected.isdisjoint(inputs)
        return [self._unknown(name) for name in operator.outputs] if is_doubtful else ()

    def _reads_varying_shape(self, operator: Operator) -> bool:
        positions = SHAPE_OPERANDS.get(operator.kind, ())
        return any(operator.inputs[index] in self._varying for index in positions if index < len(operator.inputs))

    def _unknown(self, name: str, is_marked: bool = False) -> tuple[int, ...]:
        """Rule 3 for one output; `is_marked`: the file marks unknown sizes."""
        shape = self.tensors[name].shape
        signature = self._signatures.get(name, ())
        if len(signature) == len(shape) and UNKNOWN_SIZE in signature:
            return signature
        if is_marked and shape:
            return shape
        return (UNKNOWN_SIZE,) * len(shape) or UNKNOWN_SHAPE

    def _suppressed(self, operator: Operator) -> Sequence[tuple[int, ...]]:
        """Indices, scores in version 5, and how many of them count."""
        most = self.tensors[operator.inputs[2] or ""].data if len(operator.inputs) > 2 else None
        if most is None or most.size != 1 or int(most.reshape(-1)[0]) < 0:
            return [self._unknown(name) for name in operator.outputs]
        vectors = [(int(most.reshape(-1)[0]),)] * (len(operator.outputs) - 1)
        return [*vectors, ()]

    def _set(self, name: str, shape: tuple[int, ...]) -> None:
        tensor = self.tensors[name]
        if is_static(shape):
            check_shape(name, shape, tensor.dtype)
            self._corrected.add(name)
        self.tensors[name] = replace(tensor, shape=shape)


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
        case _ if operator.kind == "EXPAND_DIMS":
            return _expanded(source, [None if name is None else tensors[name] for name in operator.inputs])
        case _ if operator.kind in ("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"):
            return _blocks(operator.kind, source, [None if name is None else tensors[name] for name in operator.inputs])
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


def _expanded(source: _Shape, operands: Sequence[Tensor | None]) -> _Shape | None:
    """With a dimension of one element at a constant place; None for an operand that LiteRT refuses."""
    data = operands[1].data if len(operands) > 1 and operands[1] is not None else None
    axis = int(data.reshape(-1)[0]) if data is not None and data.size == 1 else len(source) + 1
    if not -len(source) - 1 <= axis <= len(source):
        return None
    axis %= len(source) + 1
    return (*source[:axis], 1, *source[axis:])


def _blocks(kind: str, source: _Shape, operands: Sequence[Tensor | None]) -> _Shape | None:
    """The batch and the sizes behind it, which are divided by, or multiplied with, those of a block. None for operands
    that are not constant, or don't fit: LiteRT refuses these."""
    data = [operand.data for operand in operands[1:] if operand is not None and operand.data is not None]
    if len(data) != 2 or data[0].ndim != 1 or data[1].shape != (data[0].size, 2) or data[0].size >= len(source):
        return None
    block, around = [int(size) for size in data[0]], data[1].astype(np.int64).sum(1).tolist()
    inner, rest, area = source[1 : 1 + len(block)], source[1 + len(block) :], math.prod(block)
    if min(block) < 1:
        return None
    if kind == "SPACE_TO_BATCH_ND":
        sizes = [(size + more) // step for size, more, step in zip(inner, around, block, strict=True)]
        return (source[0] * area, *sizes, *rest)
    sizes = [size * step - less for size, less, step in zip(inner, around, block, strict=True)]
    return (source[0] // area, *sizes, *rest) if min(sizes) >= 0 else None


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
