"""Stages as a table: what becomes of each byte, or of each pair of bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

BYTES = 1 << 8
PAIRS = 1 << 16


@dataclass(frozen=True, eq=False)
class ByteTable:
    """Output bytes for the input bytes 0 to 255, or for the pairs first*256 + second; `entries` uint8."""

    entries: NDArray[np.uint8]

    def look_up(self, first: NDArray[np.uint8], second: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The output bytes of input bytes, of any one shape."""
        if second is None:
            return np.frombuffer(first.tobytes().translate(self.entries.tobytes()), np.uint8).reshape(first.shape)
        found = np.empty(first.shape, np.uint8)
        # Row by row, since numpy widens indices to eight bytes.
        for row in np.ndindex(first.shape[:-1]):
            pairs = np.multiply(first[row], BYTES, dtype=np.uint16)
            np.add(pairs, second[row], out=pairs)
            found[row] = self.entries[pairs]
        return found


def every_byte() -> Array:
    """All inputs of a table for single bytes, int8 [256, 1]."""
    return np.arange(BYTES, dtype=np.uint8).view(np.int8)[:, None]


def every_pair() -> tuple[Array, Array]:
    """All inputs of a table for pairs, int8 [65536, 1] each."""
    index = np.arange(PAIRS)
    return (index // BYTES).astype(np.uint8).view(np.int8)[:, None], index.astype(np.uint8).view(np.int8)[:, None]
