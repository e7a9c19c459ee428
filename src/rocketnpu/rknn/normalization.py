"""How a vendor model wants its inputs normalised: the mean and the standard deviation that the conversion was given."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.rknn.container import Container

MAXIMUM_CHARACTERS = 1 << 18
"""The text names inputs and outputs only, about 1000 characters for three; parsing takes some 500 times its size."""

LARGEST = float(np.finfo(np.float32).max)
"""Normalisation is float32 arithmetic."""

CHANNEL_AXIS = 1
"""Inputs are N, C, H, W."""


@dataclass(frozen=True)
class Normalization:
    """real = (x - mean) / deviation, with one value for all channels or one for each."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def input_normalizations(container: Container) -> Mapping[str, Normalization]:
    """The normalisation of every input, by name.

    It is in the file's attributes as `mean` and `std` of each input (as observed in files of compiler 2.5.0, whose own
    simulator's input record it reproduces bit for bit). Raises ModelError when the text does not hold it.
    """
    attributes = _mapping(_parsed(container.attributes), "attrs", "the attributes")
    names = [(container.tensors[index].name, container.tensors[index].dims) for index in container.inputs]
    return {name: _normalization(attributes, name, dims) for name, dims in names}


def _parsed(text: str) -> object:
    if len(text) > MAXIMUM_CHARACTERS:
        raise ModelError(f"RKNN attributes have {len(text)} characters, more than {MAXIMUM_CHARACTERS}")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ModelError(f"RKNN attributes can't be read: {text[:40]!r} is not a Python literal") from error


def _mapping(value: object, key: str, where: str) -> dict[Any, Any]:
    found = cast(dict[Any, Any], value).get(key) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise ModelError(f"RKNN attributes can't be read: {where} hold no {key!r}")
    return cast(dict[Any, Any], found)


def _normalization(attributes: Mapping[Any, Any], name: str, dims: tuple[int, ...]) -> Normalization:
    entry = _mapping(attributes, name, "the inputs and outputs")
    if entry.get("rgb2bgr"):
        raise ModelError(f"input {name!r} wants its channels swapped (rgb2bgr), which is not supported")
    channels = dims[CHANNEL_AXIS] if len(dims) > CHANNEL_AXIS else 1
    mean, deviation = (_numbers(entry.get(key), f"{key!r} of input {name!r}", channels) for key in ("mean", "std"))
    if any(value <= 0 for value in deviation):
        raise ModelError(f"'std' of input {name!r} is {list(deviation)}, expected positive numbers")
    return Normalization(mean, deviation)


def _numbers(values: object, what: str, channels: int) -> tuple[float, ...]:
    items = cast(list[object], values) if isinstance(values, list) else []
    numbers = tuple(float(item) for item in items if isinstance(item, (int, float)) and abs(item) <= LARGEST)
    if len(numbers) != len(items) or len(numbers) not in (1, channels):
        raise ModelError(f"RKNN attributes: {what} is {str(items)[:40]}, expected 1 or {channels} float32 numbers")
    return numbers
