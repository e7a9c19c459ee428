"""Checked reading of FlatBuffers tables whose schema is not published: slot by slot, every offset verified."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np
from flatbuffers import table as _flatbuffers_table  # pyright: ignore[reportMissingTypeStubs]
from numpy.typing import NDArray

from rocketnpu.errors import ModelError

REUSE_FACTOR = 4
"""A file may refer to the same bytes more than once (shared strings); reads are limited to this many file sizes."""

_OFFSET_BYTES = 4
_FIRST_SLOT = 4
"""A vtable starts with its own size and the table's size, two bytes each; slots follow."""


class _Table(Protocol):
    """The part of `flatbuffers.table.Table` used here, with types."""

    def Offset(self, vtableOffset: int) -> int: ...  # noqa: N802, N803

    def Indirect(self, off: int) -> int: ...  # noqa: N802


_table = cast("Callable[[bytes, int], _Table]", cast(Any, _flatbuffers_table).Table)


class FlatReader:
    """The bytes of one FlatBuffer and what may still be read of them: aliased tables cannot amplify a small file."""

    def __init__(self, data: bytes, identifier: bytes) -> None:
        self.data = data
        self._budget_bytes = REUSE_FACTOR * len(data) + 4096
        if len(data) < 8 or data[4:8] != identifier:
            raise ModelError(f"FlatBuffer identifier is {data[4:8]!r}, expected {identifier!r}")

    def root(self) -> FlatTable:
        """The root table."""
        return FlatTable(self, struct.unpack_from("<I", self.data)[0], "root")

    def check(self, start: int, size_bytes: int, where: str) -> None:
        """Raises ModelError unless the range lies inside the buffer and the budget allows one more read of it."""
        if start < 0 or size_bytes < 0 or start + size_bytes > len(self.data):
            raise ModelError(
                f"{where}: {size_bytes} bytes at {start:#x} lie outside the FlatBuffer of {len(self.data)} bytes; "
                "the file is damaged: copy it again, or convert the model again"
            )
        self._budget_bytes -= size_bytes
        if self._budget_bytes < 0:
            raise ModelError(f"{where}: the file refers to its own bytes more than {REUSE_FACTOR} times over")


class FlatTable:
    """One table at byte `position`. Slots are numbered as in a schema; absent slots read as the default."""

    def __init__(self, reader: FlatReader, position: int, where: str) -> None:
        self._reader, self._position, self._where = reader, position, where
        reader.check(position, _OFFSET_BYTES, where)
        vtable = position - struct.unpack_from("<i", reader.data, position)[0]
        reader.check(vtable, _FIRST_SLOT, f"{where} vtable")
        vtable_bytes, self._size_bytes = struct.unpack_from("<HH", reader.data, vtable)
        if vtable_bytes < _FIRST_SLOT or vtable_bytes % 2:
            raise ModelError(f"{where}: vtable size {vtable_bytes} is not an even number of at least {_FIRST_SLOT}")
        reader.check(vtable, vtable_bytes, f"{where} vtable")
        reader.check(position, self._size_bytes, where)
        self._table = _table(reader.data, position)

    def integer(self, slot: int, code: str, default: int = 0) -> int:
        """An integer of struct code `code` (B, I, ...) stored in the table itself."""
        start = self._field(slot, struct.calcsize("<" + code))
        return default if start is None else int(struct.unpack_from("<" + code, self._reader.data, start)[0])

    def text(self, slot: int) -> str:
        """A string; not UTF-8 is a ModelError."""
        raw = self.vector(slot, np.dtype(np.uint8)).tobytes()
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise ModelError(f"{self._where} slot {slot}: text is not UTF-8: {raw[:32]!r}") from None

    def vector(self, slot: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """A vector of numbers as an array (n,) of `dtype`, a read-only view of the file; empty if absent."""
        start, count = self._elements(slot, dtype.itemsize)
        return np.frombuffer(self._reader.data, dtype.newbyteorder("<"), count, start)

    def tables(self, slot: int, what: str) -> list[FlatTable]:
        """A vector of tables, each called `what` and its index in error texts."""
        start, count = self._elements(slot, _OFFSET_BYTES)
        positions = (self._table.Indirect(start + _OFFSET_BYTES * index) for index in range(count))
        return [FlatTable(self._reader, position, f"{what} {index}") for index, position in enumerate(positions)]

    def _field(self, slot: int, size_bytes: int) -> int | None:
        """Byte position of a present field, None if the table leaves it out."""
        offset = self._table.Offset(_FIRST_SLOT + 2 * slot)
        if offset == 0:
            return None
        if offset < _OFFSET_BYTES or offset + size_bytes > self._size_bytes:
            raise ModelError(
                f"{self._where} slot {slot}: offset {offset} lies outside the table of {self._size_bytes} bytes"
            )
        return self._position + offset

    def _elements(self, slot: int, element_bytes: int) -> tuple[int, int]:
        """First byte and element count of a vector."""
        field = self._field(slot, _OFFSET_BYTES)
        if field is None:
            return 0, 0
        where = f"{self._where} slot {slot}"
        start = self._table.Indirect(field)
        self._reader.check(start, _OFFSET_BYTES, where)
        count = struct.unpack_from("<I", self._reader.data, start)[0]
        self._reader.check(start + _OFFSET_BYTES, count * element_bytes, where)
        return start + _OFFSET_BYTES, count
