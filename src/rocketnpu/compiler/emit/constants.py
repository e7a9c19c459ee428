"""The constants segment: packed weights and per-channel operands, each distinct blob stored once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.emit.command_list import Address

CONSTANTS = "constants"
"""Name of the segment."""
ALIGNMENT_BYTES = 64


class ConstantPool:
    """Blobs in the order of their first use; row tiles of one layer share theirs."""

    def __init__(self) -> None:
        self._offsets: dict[bytes, int] = {}
        self._size_bytes = 0

    def add(self, blob: NDArray[np.uint8]) -> Address:
        """The address of these bytes, added if they are new."""
        content = blob.tobytes()
        offset = self._offsets.get(content)
        if offset is None:
            offset = self._offsets[content] = self._size_bytes
            self._size_bytes += -(-len(content) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        return Address(CONSTANTS, offset)

    def content(self) -> bytes:
        """The whole segment."""
        segment = bytearray(self._size_bytes)
        for blob, offset in self._offsets.items():
            segment[offset : offset + len(blob)] = blob
        return bytes(segment)
