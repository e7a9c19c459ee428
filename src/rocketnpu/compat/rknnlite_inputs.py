"""What an application hands to RKNNLite.inference, made into the tensors that the model's program reads.

The rules are those of the RKNN SDK user guide (RKNN-Toolkit Lite2, Model Inference): an input of four dimensions is
NHWC unless `data_format` says otherwise; its numbers are normalised and quantized unless `inputs_pass_through` is set
for it. A model that is not the vendor's file has no normalisation: bytes are then the stored values of its input,
counted from the lowest one, and other numbers are real ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import ModelError, counted
from rocketnpu.rknn.normalization import Normalization
from rocketnpu.runtime.session import TensorInfo

NHWC, NCHW = "nhwc", "nchw"
DATA_TYPES = ("int8", "uint8", "int16", "float16", "float32")
IMAGE_DIMENSIONS = 4


@dataclass(frozen=True, eq=False)
class Port:
    """One input of the model: where its numbers go, how they are normalised (None where the file doesn't say), and
    whether the model has images as NCHW."""

    tensor: TensorInfo
    normalization: Normalization | None
    is_nchw: bool = True


def prepare_inputs(
    ports: Sequence[Port], inputs: object, data_type: object, data_format: object, pass_through: object
) -> dict[str, NDArray[Any]]:
    """The model's inputs by name, in the model's own order.

    `inputs` is a list of arrays. The other arguments are None, or one value for each input; `data_type` and
    `data_format` may also be one string for all. Raises ModelError that names the input and what it needs.
    """
    if not isinstance(inputs, (list, tuple)):
        raise ModelError(f"inputs must be a list of arrays, one for each input of the model; it has {len(ports)}")
    arrays = cast(Sequence[object], inputs)
    if len(arrays) != len(ports):
        raise ModelError(f"the model has {counted(len(ports), 'input')}; {len(arrays)} were given")
    types = _for_each(data_type, "data_type", len(ports))
    formats = _for_each(data_format, "data_format", len(ports))
    flags = _for_each(pass_through, "inputs_pass_through", len(ports))
    prepared: dict[str, NDArray[Any]] = {}
    for number, port in enumerate(ports):
        where = f"input {number} ({port.tensor.name})"
        array = _arranged(_typed(arrays[number], types[number], where), formats[number], port, where)
        prepared[port.tensor.name] = _as_given(array, port.tensor, where) if flags[number] else _stored(array, port)
    return prepared


def _stored(array: NDArray[Any], port: Port) -> NDArray[Any]:
    """`array` (the model's shape, any numbers) as the input stores it."""
    dtype = port.tensor.dtype
    if dtype.kind == "f":
        return array.astype(dtype)
    if port.normalization is None and array.dtype == np.uint8 and dtype.itemsize == 1:
        return (array.astype(np.int16) + np.iinfo(dtype.str).min).astype(dtype)
    return quantized(array, port)


def quantized(array: NDArray[Any], port: Port) -> NDArray[Any]:
    """`array` (the model's shape, any numbers) normalised, then rounded to the nearest stored value, ties to even.

    In float32, dividing twice: so computed, the 256 values of a byte give exactly the set of values that the vendor's
    simulator recorded as input of an image model with mean 127.5 and deviation 58; a product with reciprocals, or
    float64, does not.
    """
    grid = port.tensor.quantization
    if grid is None:
        raise ModelError(f"input {port.tensor.name} has no scale: real numbers can't be quantized for it")
    real = array.astype(np.float32)
    if port.normalization is not None:
        mean, deviation = (
            _per_channel(values, array.ndim) for values in (port.normalization.mean, port.normalization.deviation)
        )
        real = (real - mean) / deviation
    steps = np.rint(real / np.float32(grid.scales[0])) + np.float32(grid.zero_points[0])
    limits = np.iinfo(port.tensor.dtype.str)
    return np.clip(steps, limits.min, limits.max).astype(port.tensor.dtype)


def _per_channel(values: tuple[float, ...], dimensions: int) -> NDArray[np.float32]:
    """Values that broadcast over N, C, ...: one for all, or one for each channel."""
    shape = (-1,) if len(values) == 1 else (1, -1, *(1,) * (dimensions - 2))
    return np.array(values, np.float32).reshape(shape)


def _for_each(value: object, name: str, count: int) -> list[object]:
    if value is None or isinstance(value, str):
        return [value] * count
    if not isinstance(value, (list, tuple)) or len(cast(Sequence[object], value)) != count:
        raise ModelError(f"{name} must be a list of one value for each of the model's {count} inputs; got {value!r}")
    return list(cast(Sequence[object], value))


def _typed(value: object, data_type: object, where: str) -> NDArray[Any]:
    """`value` as an array of finite real numbers, of the dtype that `data_type` names if it names one."""
    if not isinstance(value, np.ndarray):
        raise ModelError(f"{where} needs a numpy array; {type(value).__name__} was given")
    array = cast(NDArray[Any], value)
    if array.dtype.kind not in "iuf":
        raise ModelError(f"{where} needs numbers; {array.dtype} was given")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelError(f"{where} holds NaN or infinity")
    if data_type is None:
        return array
    if data_type not in DATA_TYPES:
        raise ModelError(f"data_type {data_type!r} is not one of {', '.join(DATA_TYPES)}")
    dtype = np.dtype(str(data_type))
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max or (array != np.rint(array)).any():
            raise ModelError(f"{where} holds numbers that {data_type} can't: {array.min()}..{array.max()}")
    return array.astype(dtype)


def _arranged(array: NDArray[Any], data_format: object, port: Port, where: str) -> NDArray[Any]:
    """`array` in the model's shape; images come as NHWC unless `data_format` is "nchw"."""
    if data_format not in (None, NHWC, NCHW):
        raise ModelError(f"data_format {data_format!r} of {where} is not one of {NHWC}, {NCHW}")
    shape = port.tensor.shape
    order = (0, *range(1, len(shape)))
    if len(shape) == IMAGE_DIMENSIONS and port.is_nchw and data_format != NCHW:
        order = (0, 3, 1, 2)
    elif len(shape) == IMAGE_DIMENSIONS and not port.is_nchw and data_format == NCHW:
        order = (0, 2, 3, 1)
    needed = tuple(shape[order.index(axis)] for axis in range(len(shape)))
    if array.shape != needed:
        named = f" ({data_format or NHWC})" if len(shape) == IMAGE_DIMENSIONS else ""
        raise ModelError(f"{where} needs shape {needed}{named}; {array.shape} was given")
    return array.transpose(order)


def _as_given(array: NDArray[Any], tensor: TensorInfo, where: str) -> NDArray[Any]:
    """A passed-through input must already be what the model reads."""
    if array.dtype != tensor.dtype:
        raise ModelError(
            f"{where} is passed through, so it must be the model's own {tensor.dtype}; {array.dtype} was given"
        )
    return np.ascontiguousarray(array)
