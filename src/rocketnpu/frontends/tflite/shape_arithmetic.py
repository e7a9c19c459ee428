"""Operators on shapes and constants, computed when the file is read.

Converters keep a batch of any size by computing the targets of RESHAPE, TRANSPOSE_CONV and others from SHAPE. Where
all sizes are known, these are constants, and the operators need not run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.ir import ConcatOptions, Operator, SliceOptions, Tensor

Values: TypeAlias = list[NDArray[Any]]

MOST_ELEMENTS = 1024
"""Larger operands are no shapes."""


def _pack(values: Values, _operator: Operator) -> NDArray[Any] | None:
    """Of numbers only, which leaves no choice of an axis."""
    return np.stack(values) if all(value.ndim == 0 for value in values) else None


def _concatenation(values: Values, operator: Operator) -> NDArray[Any] | None:
    return np.concatenate(values, operator.options.axis) if isinstance(operator.options, ConcatOptions) else None


def _gather(values: Values, _operator: Operator) -> NDArray[Any] | None:
    """Of a vector, which leaves no choice of an axis."""
    data, indices = values
    fits = data.ndim == 1 and indices.size and indices.min() >= 0 and indices.max() < data.size
    return data[indices] if fits else None


def _strided_slice(values: Values, operator: Operator) -> NDArray[Any] | None:
    data, options = values[0], operator.options
    if not isinstance(options, SliceOptions):
        return None
    for axis, (begin, size, step) in enumerate(zip(options.begins, options.sizes, options.steps, strict=True)):
        data = np.take(data, begin + step * np.arange(size), axis)
    return data.squeeze(options.dropped)


def _reduce_prod(values: Values, _operator: Operator) -> NDArray[Any] | None:
    """Of a vector; whether the result is a number or a vector of one is the output's shape."""
    data, axes = values
    is_whole = data.ndim == 1 and axes.size == 1 and int(axes.reshape(-1)[0]) in (0, -1)
    return np.prod(data, dtype=data.dtype, keepdims=True) if is_whole else None


def _first(values: Values, _operator: Operator) -> NDArray[Any]:
    return values[0]


def _binary(function: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]) -> Callable[[Values, Operator], Any]:
    return lambda values, _operator: function(values[0], values[1])


_COMPUTED: Mapping[str, Callable[[Values, Operator], NDArray[Any] | None]] = MappingProxyType(
    {
        "ADD": _binary(np.add),
        "CAST": _first,
        "CONCATENATION": _concatenation,
        "EXPAND_DIMS": _first,
        "GATHER": _gather,
        "MAXIMUM": _binary(np.maximum),
        "MINIMUM": _binary(np.minimum),
        "MUL": _binary(np.multiply),
        "PACK": _pack,
        "REDUCE_PROD": _reduce_prod,
        "RESHAPE": _first,
        "SLICE": _strided_slice,
        "SQUEEZE": _first,
        "STRIDED_SLICE": _strided_slice,
        "SUB": _binary(np.subtract),
    }
)


def computed(operator: Operator, tensors: Mapping[str, Tensor]) -> NDArray[Any] | None:
    """What an operator gives, in its output's shape and type; None if that is no arithmetic on shapes and constants."""
    if operator.opaque is not None or operator.unsupported is not None or len(operator.outputs) != 1:
        return None
    operands = [tensors[name] for name in operator.inputs if name is not None]
    result = tensors[operator.outputs[0]]
    if not operands or not result.has_static_shape or not _is_whole_number(result):
        return None
    values = _shape_of(operator, operands[0])
    if values is None:
        values = _values(operator, operands)
    fits = values is not None and values.size == np.prod(result.shape, dtype=np.int64)
    if values is None or not fits or not _within(values, result.dtype):
        return None
    found = values.astype(result.dtype).reshape(result.shape)
    found.flags.writeable = False
    return found


def _shape_of(operator: Operator, operand: Tensor) -> NDArray[np.int64] | None:
    if not operand.has_static_shape or operator.kind not in ("SHAPE", "RANK"):
        return None
    return np.array(operand.shape if operator.kind == "SHAPE" else len(operand.shape), np.int64)


def _values(operator: Operator, operands: list[Tensor]) -> NDArray[Any] | None:
    """In 64 bits, so that what does not fit the type of the result is seen."""
    if operator.kind not in _COMPUTED or not all(_is_whole_number(operand) for operand in operands):
        return None
    values = [operand.data for operand in operands if operand.data is not None]
    if len(values) != len(operands) or max(value.size for value in values) > MOST_ELEMENTS:
        return None
    return _COMPUTED[operator.kind]([value.astype(np.int64) for value in values], operator)


def _is_whole_number(tensor: Tensor) -> bool:
    return tensor.dtype.name in ("int32", "int64") and tensor.quantization is None


def _within(values: NDArray[np.int64], dtype: np.dtype[Any]) -> bool:
    limits = np.iinfo(dtype)
    return values.size == 0 or (limits.min <= int(values.min()) and int(values.max()) <= limits.max)
