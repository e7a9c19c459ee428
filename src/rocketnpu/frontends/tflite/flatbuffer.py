"""Reading a TFLite file's tables without trusting it: every vector and string is bounded by the file's own size."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import ModelError

schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
"""The published TFLite schema's generated reader. It is untyped, hence Any here and nowhere above this package."""

IDENTIFIER = b"TFL3"
"""Bytes 4..8 of every TFLite file (schema.fbs, file_identifier)."""

SHARING = 8
"""Tables may share vectors and strings, so reading may touch some bytes twice; honest files stay far below this."""


def enum_names(enumeration: str) -> dict[int, str]:
    """Value to name for one enumeration of the schema."""
    members: dict[str, int] = getattr(schema, enumeration).__dict__
    return {value: name for name, value in members.items() if not name.startswith("_")}


@contextmanager
def malformed_is_model_error(where: str) -> Generator[None]:
    """Turn what the flatbuffers runtime raises on bad offsets and lengths into a ModelError that names `where`."""
    try:
        yield
    except (struct.error, IndexError) as error:
        raise ModelError(f"{where} leads beyond the end of the file, which is cut short or damaged") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelError(f"{where} is malformed: {' '.join(str(error).split())}") from error


class Reader:
    """Access to vectors and strings of one file that together may not exceed `SHARING` times its size.

    Offsets are checked by the flatbuffers runtime against the file's end. What it does not check is that many tables
    point at the same large vector, with which a small file could ask for unbounded work.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left_bytes = SHARING * len(data)

    def spend(self, size_bytes: int) -> None:
        """Count `size_bytes` of reading or copying; raise ModelError when the file asks for more than it holds."""
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            raise ModelError("the file's tables overlap: they describe far more data than the file holds")

    def numbers(self, table: Any, field: str) -> NDArray[Any]:
        """A vector of scalars as a read-only view of the file, shape (n,); empty when the field is absent."""
        vector: Any = getattr(table, f"{field}AsNumpy")()
        if isinstance(vector, int):  # how the generated code says "absent"
            return np.zeros(0, np.int32)
        self.spend(vector.nbytes)
        return vector

    def stored(self, buffer: Any) -> NDArray[np.uint8]:
        """A Buffer's bytes as a read-only view of the file: its vector, or what it names behind the flatbuffer.

        Large models keep constants there, and so does LiteRT's quantizer from 256 KB on. Offset and size of 0 or 1 mean
        "not used" (schema.fbs, table Buffer). Raises ModelError where they lead out of the file.
        """
        offset, size = buffer.Offset(), buffer.Size()
        if offset <= 1 and size <= 1:
            inline: Any = buffer.DataAsNumpy()
            return np.zeros(0, np.uint8) if isinstance(inline, int) else inline
        return self.behind(offset, size)

    def behind(self, offset: int, size: int) -> NDArray[np.uint8]:
        """Bytes behind the flatbuffer, as a read-only view; raises ModelError where they lead out of the file."""
        if offset + size > len(self._data):
            raise ModelError(
                f"a buffer names bytes {offset} to {offset + size}, but the file has {len(self._data)}: "
                "it is cut short or damaged"
            )
        return np.frombuffer(self._data, np.uint8, size, offset)

    def tables(self, table: Any, field: str) -> list[Any]:
        """A vector of tables."""
        length: int = getattr(table, f"{field}Length")()
        self.spend(4 * length)  # an entry is a 32-bit offset
        item = getattr(table, field)
        return [item(index) for index in range(length)]

    def text(self, table: Any, field: str) -> str:
        """A string, empty when the field is absent; raises UnicodeDecodeError, a ValueError, if it is not UTF-8."""
        raw: bytes | None = getattr(table, field)()
        if raw is None:
            return ""
        self.spend(len(raw))
        return raw.decode()


def read_root(data: bytes, name: str) -> Any:
    """The root table of a TFLite file, its identifier and version checked.

    Raises ModelError for anything that is not a TFLite file of schema version 3.
    """
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ModelError(f"{name} is not a TFLite file: bytes 4..8 should be {IDENTIFIER.decode()}")
    with malformed_is_model_error(f"the root table of {name}"):
        root = schema.Model.GetRootAs(data, 0)
        version: int = root.Version()
    if version != 3:
        raise ModelError(f"{name} has TFLite schema version {version}; version 3 is supported")
    return root
