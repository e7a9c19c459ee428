"""What a model accepts as an input: the shape, the dtype, and only numbers that mean something."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocketnpu.errors import ModelError
from rocketnpu.ir import Tensor, fits_shape


def check_input(tensor: Tensor, value: ArrayLike) -> NDArray[Any]:
    """`value` as a C-contiguous array of the tensor's shape and dtype.

    Only lossless conversions happen: integers that fit into the tensor's integer dtype, numbers into a float dtype.
    Real numbers are not quantized here. Raises ModelError that says what the tensor needs and what was given.
    """
    needs = f"input {tensor.name!r} needs {tensor.dtype} of shape {tensor.shape}"
    try:
        array: NDArray[Any] = np.asarray(value)
    except ValueError as error:
        raise ModelError(f"{needs}; the value given is not an array ({error})") from error
    if tensor.dtype.hasobject:  # strings and the like: only LiteRT knows how to hold them
        return array
    if not fits_shape(array.shape, tensor.shape):
        raise ModelError(f"{needs}; the shape given is {array.shape}")
    if array.dtype != tensor.dtype:
        _check_lossless(array, tensor, needs)
    return np.ascontiguousarray(array, dtype=tensor.dtype).reshape(array.shape)


def check_inputs(tensors: Sequence[Tensor], values: Sequence[ArrayLike]) -> list[NDArray[Any]]:
    """Every input checked, in the order of `tensors`; raises ModelError also when their number differs."""
    if len(values) != len(tensors):
        names = ", ".join(repr(tensor.name) for tensor in tensors)
        raise ModelError(f"the model needs an array for each of its inputs ({names}); given: {len(values)}")
    return [check_input(tensor, value) for tensor, value in zip(tensors, values, strict=True)]


def _check_lossless(array: NDArray[Any], tensor: Tensor, needs: str) -> None:
    given, wanted = array.dtype.kind, tensor.dtype.kind
    if given == "f" and wanted in "iu":
        what = "NaN or infinity" if array.size and not np.isfinite(array).all() else f"{array.dtype}"
        raise ModelError(f"{needs}; {what} was given: quantize it with the tensor's scale and zero point")
    if given in "iu" and wanted in "iu":
        limits = np.iinfo(tensor.dtype.str)
        if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
            raise ModelError(f"{needs}; the values given, {array.min()}..{array.max()}, do not fit")
        return
    if not (given in "iuf" and wanted == "f"):
        raise ModelError(f"{needs}; {array.dtype} was given")
