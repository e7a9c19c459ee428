"""What a Session asks of a device: memory that both sides see, and the execution of task chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Buffer:
    """Device memory: `address` is what the NPU uses, `data` (uint8, 1-D) is the host's view of the same bytes."""

    address: int
    data: NDArray[np.uint8]


@dataclass(frozen=True)
class Launch:
    """One task ready to run: where its command list is, its entries before the trailer, and how it completes."""

    name: str
    address: int
    body_entries: int
    interrupt_mask: int


Part: TypeAlias = Sequence[Sequence[Launch]]
"""Task chains that run at the same time, one for each core; within a chain, trailers lead from task to task."""


class Device(Protocol):
    """An NPU. `submit` returns when all parts, one after the other, are done; buffers live until `close`."""

    @property
    def name(self) -> str:
        """Driver name: emulator, rocket or rknpu."""
        ...

    @property
    def cores(self) -> int:
        """Cores that one submission may use."""
        ...

    def allocate(self, size_bytes: int) -> Buffer:
        """Zeroed memory, aligned to 4 KiB. Raises DeviceError when there is none left."""
        ...

    def submit(self, parts: Sequence[Part]) -> None:
        """Run task chains to completion. Raises DeviceError, or DeviceTimeout if a task does not complete."""
        ...

    def close(self) -> None:
        """Give everything back; the device cannot be used afterwards."""
        ...
