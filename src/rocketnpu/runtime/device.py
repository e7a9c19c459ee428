"""What a Session asks of a device: memory that both sides see, and the execution of task chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.program.model import Program


@dataclass(frozen=True, eq=False)
class Buffer:
    """Device memory: `address` is what the NPU uses, `data` (uint8, 1-D) is the host's view of the same bytes."""

    address: int
    data: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Memory:
    """The buffers that tasks address: `reads` hold lists and constants, `writes` everything that tasks may write."""

    reads: tuple[Buffer, ...]
    writes: tuple[Buffer, ...]


@dataclass(frozen=True, eq=False)
class Launch:
    """One task ready to run: where its command list is, its entries before the trailer, and how it completes."""

    name: str
    address: int
    body_entries: int
    interrupt_mask: int
    memory: Memory


Part: TypeAlias = Sequence[Sequence[Launch]]
"""Task chains that run at the same time, one for each core; within a chain, trailers lead from task to task."""


@dataclass(frozen=True)
class Timing:
    """Where a submission's seconds went: handing it over (cache flush included), and waiting for the device."""

    submit_seconds: float
    device_seconds: float


class Device(Protocol):
    """An NPU. Implementations inherit the answers of a device whose memory needs no care and that has one frame."""

    @property
    def name(self) -> str:
        """Driver name: emulator, rocket or rknpu."""
        ...

    @property
    def cores(self) -> int:
        """Cores that one submission may use."""
        ...

    @property
    def frames(self) -> int:
        """Frames that may be under way here, each with activations of its own; their submissions take turns."""
        return 1

    def sibling(self) -> Device | None:
        """A further device on the same NPU, whose submissions run at the same time; None if it has no more cores."""
        return None

    def adapt(self, program: Program) -> Program:
        """The program in the form that this device runs; raises DeviceError for what it cannot run."""
        return program

    def allocate(self, size_bytes: int) -> Buffer:
        """Zeroed memory, aligned to 4 KiB, until `release` or `close`. Raises DeviceError when there is none left."""
        ...

    def release(self, buffer: Buffer) -> None:
        """Memory that no task and no array of the host uses any more may serve later allocations."""

    def host_writes(self, buffer: Buffer, start: int, stop: int) -> None:
        """The host is about to write bytes start..stop of a buffer, for the next submission to see."""

    def host_reads(self, buffer: Buffer, start: int, stop: int) -> None:
        """The host is about to read bytes start..stop of a buffer that submissions may have written."""

    def submit(self, parts: Sequence[Part]) -> Timing:
        """Run parts one after the other; returns when all are done.

        Raises DeviceError, or DeviceTimeout if a task does not complete.
        """
        ...

    def close(self) -> None:
        """Give everything back; the device cannot be used afterwards."""
        ...
