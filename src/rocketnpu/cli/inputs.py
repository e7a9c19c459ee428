"""Model inputs from the command line: arrays from files, and pictures."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.arrays import open_npz, read_npy
from rocketnpu.cli.arguments import normalization
from rocketnpu.cli.terminal import counted
from rocketnpu.errors import ModelError
from rocketnpu.images import Fit, default_normalization, image_shape, image_to_input, load_image
from rocketnpu.ir import fits_shape
from rocketnpu.runtime.session import TensorInfo

Arrays = dict[str, NDArray[Any]]


def read_inputs(tensors: Sequence[TensorInfo], files: Sequence[str]) -> Arrays:
    """Arrays for the model's inputs from arguments of the form FILE or NAME=FILE.

    .npz holds arrays by input name; .npy and anything else (raw bytes, C order) one array, for the input NAME or else
    the next one in the model's order. Raises ModelError for a file that doesn't fit, OSError for an unreadable one.
    """
    given: Arrays = {}
    for argument in files:
        name, path = _split(argument, tensors)
        if path.suffix == ".npz":
            given.update(read_npz(path, [tensor for tensor in tensors if name in (None, tensor.name)]))
            continue
        free = [tensor for tensor in tensors if (tensor.name == name if name else tensor.name not in given)]
        if not free:
            raise ModelError(f"--input {argument}: the model has {counted(len(tensors), 'input')}, and all have a file")
        given[free[0].name] = _read_array(path, free[0])
    return given


def read_picture(tensors: Sequence[TensorInfo], given: Mapping[str, object], arguments: argparse.Namespace) -> Arrays:
    """The picture of --image for the first input that takes one and isn't given already; empty without --image."""
    if arguments.image is None:
        return {}
    free = [tensor for tensor in tensors if tensor.name not in given and image_shape(tensor.shape)]
    if not free:
        shapes = ", ".join(f"{tensor.name!r} {tensor.shape}" for tensor in tensors)
        raise ModelError(f"--image: no input left that takes a picture, 1xHxWxC or 1xCxHxW with C of 1 or 3 ({shapes})")
    tensor = free[0]
    rule = normalization(arguments) or default_normalization(tensor.dtype, tensor.quantization)
    image = load_image(arguments.image)
    array = image_to_input(
        image,
        tensor.shape,
        tensor.dtype,
        tensor.quantization,
        normalization=rule,
        fit=Fit(arguments.fit or Fit.STRETCH),
    )
    return {tensor.name: array}


def _split(argument: str, tensors: Sequence[TensorInfo]) -> tuple[str | None, Path]:
    named = [tensor.name for tensor in tensors if argument.startswith(f"{tensor.name}=")]
    if not named:
        path = Path(argument)
        unknown, equals, _ = argument.partition("=")
        if equals and not path.exists():
            names = ", ".join(repr(tensor.name) for tensor in tensors)
            raise ModelError(f"--input {argument}: the model has no input {unknown!r}; it has {names}")
        return None, path
    name = max(named, key=len)  # a name may hold "="
    return name, Path(argument[len(name) + 1 :])


def _read_array(path: Path, tensor: TensorInfo) -> NDArray[Any]:
    with path.open("rb") as file:
        if path.suffix == ".npy":
            return _read_npy(file, path, tensor)
        wanted_bytes = tensor.dtype.itemsize * math.prod(tensor.shape)
        data = file.read(wanted_bytes + 1)
        if len(data) != wanted_bytes:
            size = f"{len(data)} bytes" if len(data) < wanted_bytes else "more"
            needs = f"{wanted_bytes} ({tensor.dtype} of shape {tensor.shape})"
            raise ModelError(f"{path}: input {tensor.name!r} needs {needs} raw bytes; the file has {size}")
        return np.frombuffer(data, tensor.dtype).reshape(tensor.shape)


def read_npz(path: Path, tensors: Sequence[TensorInfo]) -> Arrays:
    """The arrays of a .npz file that have the name of one of `tensors`; raises ModelError for one that doesn't fit."""
    arrays: Arrays = {}
    with open_npz(path) as archive:
        members = set(archive.namelist())
        for tensor in tensors:
            if f"{tensor.name}.npy" in members:
                with archive.open(f"{tensor.name}.npy") as file:
                    arrays[tensor.name] = _read_npy(file, path, tensor)
    if not arrays:
        names = ", ".join(repr(tensor.name) for tensor in tensors)
        raise ModelError(f"{path}: no array has the name of a tensor ({names})")
    return arrays


def _read_npy(file: IO[bytes], path: Path, tensor: TensorInfo) -> NDArray[Any]:
    def check(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        if not fits_shape(shape, tensor.shape) or dtype.kind not in "iufb":
            needs = f"input {tensor.name!r} needs {tensor.dtype} of shape {tensor.shape}"
            raise ModelError(f"{path}: {needs}; the file has {dtype} of shape {shape}")

    return read_npy(file, path, check)
