"""Constants that an ONNX file keeps in another file: read from beside the model, or refused.

1. Only constants of the model's own graph may be elsewhere. Those of nested graphs, functions and attributes may not.
2. The other file has a plain name. It is a regular file in the model's folder, also after links are followed.
3. Offset and length lie inside the file. The length is what type and shape of the constant ask for.
4. All constants together have at most MOST_BYTES bytes, so that a small file can't ask for the same bytes for ever.
5. A model that is given as bytes has no folder.

Each constant is read once, here. Later steps have the model as one whole.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from rocketnpu.errors import ModelError
from rocketnpu.frontends.files import MOST_BYTES, ModelFile, reason_of
from rocketnpu.frontends.onnx.library import library

_WHOLE = "save it with its data inside"


def read_external(model: Any, file: ModelFile) -> None:
    """Put the data of other files into a model (onnx.ModelProto). Raises ModelError for what the rules refuse."""
    away = [tensor for tensor in model.graph.initializer if _is_external(tensor)]
    if away and file.path is None:
        raise ModelError(
            f"the model keeps {away[0].name} in another file, and was given as bytes: give its path, or {_WHOLE}"
        )
    with ExitStack() as opened:
        files: dict[str, _DataFile] = {}
        left_bytes = MOST_BYTES
        for tensor in away:
            assert file.path is not None
            place = {entry.key: entry.value for entry in tensor.external_data}
            name = place.get("location", "")
            if name not in files:
                files[name] = _DataFile(file.path, name, tensor.name, opened)
            size_bytes = _size_bytes(tensor, file.where)
            left_bytes -= size_bytes
            if left_bytes < 0:
                raise ModelError(f"{file.where} keeps more than {MOST_BYTES} bytes in other files")
            tensor.raw_data = files[name].read(tensor.name, place, size_bytes)
            del tensor.external_data[:]
            tensor.ClearField("data_location")
    refuse_external(model, file.where)


def refuse_external(model: Any, where: str) -> None:
    """Raise ModelError for data in another file, wherever in the model (onnx.ModelProto) it is named."""
    for tensor in _tensors(model):
        if _is_external(tensor):
            raise ModelError(
                f"{where} keeps {tensor.name or 'a constant'} in another file, but only constants of its own graph"
                f" may be there; {_WHOLE}"
            )


def _is_external(tensor: Any) -> bool:
    return tensor.data_location == library("onnx").TensorProto.EXTERNAL


def _tensors(message: Any) -> Iterator[Any]:
    """Every TensorProto inside a message, wherever it is: the format has many places for one."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        for item in value if field.is_repeated else (value,):
            yield from _tensors(item)


def _size_bytes(tensor: Any, where: str) -> int:
    """How many bytes a constant has. Types below 8 bits are packed."""
    onnx, helper = library("onnx"), library("onnx.helper")
    if tensor.data_type == onnx.TensorProto.STRING or any(size < 0 for size in tensor.dims):
        raise ModelError(f"{where} keeps {tensor.name} in another file, which its type or shape does not allow")
    try:
        kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError as error:
        raise ModelError(
            f"{where} keeps {tensor.name} in another file, and its element type {tensor.data_type} is not known"
        ) from error
    bits = next((bits for bits in (2, 4) if kind.name.startswith(_PACKED[bits])), 8 * kind.itemsize)
    return -(-math.prod(tensor.dims) * bits // 8)


_PACKED: Mapping[int, tuple[str, ...]] = {2: ("int2", "uint2"), 4: ("int4", "uint4", "float4")}
"""How the names of packed types begin, by their bits."""


class _DataFile:
    """One other file."""

    def __init__(self, model: Path, name: str, tensor: str, opened: ExitStack) -> None:
        """`tensor` is the first constant in it. Raises ModelError for what rule 2 refuses."""
        says = f"{model} keeps {tensor} in {name!r}"
        if not name or name in (".", "..") or any(char in name for char in "/\\\0"):
            raise ModelError(f"{says}, which is not the plain name of a file beside it; {_WHOLE}")
        self._model, self._name = model, name
        try:
            folder = model.parent.resolve(strict=True)
            path = (folder / name).resolve(strict=True)
            if path.parent != folder and folder not in path.parents:
                raise ModelError(f"{says}, which is a link to another folder; put the file itself beside the model")
            # Without blocking: a pipe that nobody writes to would wait for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            self._file: BinaryIO = opened.enter_context(os.fdopen(descriptor, "rb"))
            found = os.fstat(descriptor)
        except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
            reason = str(error) if isinstance(error, RuntimeError) else reason_of(error)
            raise ModelError(f"{says}, which can't be read ({reason}); it belongs beside the model") from error
        if not stat.S_ISREG(found.st_mode):
            raise ModelError(f"{says}, which is not a regular file; {_WHOLE}")
        self._size_bytes = found.st_size

    def read(self, tensor: str, place: Mapping[str, str], size_bytes: int) -> bytes:
        """The bytes of one constant (rule 3)."""
        says = f"{self._model} keeps {tensor} in {self._name!r}"
        offset = _number(place.get("offset", "0"), f"{says} at the offset")
        length = _number(place.get("length", str(size_bytes)), f"{says} with the length")
        if length != size_bytes:
            raise ModelError(f"{says} with {length} bytes; its type and shape need {size_bytes}")
        if offset + length > self._size_bytes:
            raise ModelError(
                f"{says} at bytes {offset} to {offset + length}; that file has {self._size_bytes}: it is cut short"
                " or belongs to another model"
            )
        self._file.seek(offset)
        return self._file.read(length)


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ModelError(f"{what} {text!r}, which is not a number")
    return int(text)
