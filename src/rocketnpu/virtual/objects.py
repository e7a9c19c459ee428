"""What a driver hands out to the programs that open it: buffers, handles, jobs, and errors as the kernel's own."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from rocketnpu.hw.page_table import PAGE_BYTES
from rocketnpu.hw.sizes import align
from rocketnpu.virtual.board import Board
from rocketnpu.virtual.memory import AddressSpace

MMAP_BASE = 0x1_0000_0000
"""DRM's offsets for mmap begin above 32 bits; what follows is the buffer's place in physical memory."""

MOST_BYTES = 1 << 26
"""Arrays of programs that are longer are refused: no list of jobs, tasks or handles comes near it."""


def failure(code: int) -> OSError:
    """What a system call that fails with this errno raises."""
    return OSError(code, os.strerror(code))


class UserMemory(Protocol):
    """The calling program's memory, which ioctl arguments point into; raises OSError(EFAULT) for bad addresses."""

    def read(self, address: int, size_bytes: int) -> bytes:
        """Copy from the program."""
        ...

    def write(self, address: int, data: bytes) -> None:
        """Copy to the program."""
        ...

    def interrupted(self) -> bool:
        """Whether a signal waits for the program, so that a call that blocks should give up."""
        ...


def read_array(user: UserMemory, address: int, count: int, stride_bytes: int) -> bytes:
    """An array in the program's memory; raises OSError(ENOMEM) for one that no kernel would copy."""
    if count * stride_bytes > MOST_BYTES:
        raise failure(errno.ENOMEM)
    return user.read(address, count * stride_bytes) if count else b""


@dataclass(eq=False)
class Job:
    """Work given to the NPU; `done` when its fence is signalled, `status` an errno (0: fine)."""

    space: AddressSpace
    done: bool = False
    status: int = 0


@dataclass(eq=False)
class Buffer:
    """A buffer object: `offset` in physical memory, `address` in `space`; freed with its last reference."""

    space: AddressSpace
    offset: int
    address: int
    size_bytes: int
    references: int = 1
    kernel_mapping: bool = False
    writers: set[Job] = field(default_factory=set[Job])
    readers: set[Job] = field(default_factory=set[Job])

    @property
    def mmap_offset(self) -> int:
        """The offset that mmap finds it by."""
        return MMAP_BASE + self.offset


class BufferTable:
    """The buffers of one open file, by handle."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._buffers: dict[int, Buffer] = {}

    def __getitem__(self, handle: int) -> Buffer:
        try:
            return self._buffers[handle]
        except KeyError:
            raise failure(errno.ENOENT) from None

    def __len__(self) -> int:
        return len(self._buffers)

    def values(self) -> list[Buffer]:
        """All buffers."""
        return list(self._buffers.values())

    def create(self, size_bytes: int, space: AddressSpace) -> tuple[int, Buffer]:
        """A zeroed buffer of whole pages and the lowest handle that is free; raises OSError(ENOMEM)."""
        size = align(size_bytes, PAGE_BYTES)
        offset = self._board.pages.take(size)
        try:
            address = space.map(offset, size)
        except OSError:
            self._board.pages.give(offset, size)
            raise
        handle = next(number for number in range(1, len(self._buffers) + 2) if number not in self._buffers)
        self._buffers[handle] = Buffer(space, offset, address, size)
        self._board.counters["buffers"] += 1
        return handle, self._buffers[handle]

    def close(self, handle: int) -> None:
        """Drop a handle; raises OSError(EINVAL) for one that is not open, as GEM_CLOSE does."""
        if handle not in self._buffers:
            raise failure(errno.EINVAL)
        self.release(self._buffers.pop(handle))

    def close_all(self) -> None:
        """Drop all handles."""
        for handle in list(self._buffers):
            self.close(handle)

    def release(self, buffer: Buffer) -> None:
        """Drop a reference."""
        buffer.references -= 1
        if not buffer.references:
            buffer.space.unmap(buffer.address, buffer.size_bytes)
            self._board.pages.give(buffer.offset, buffer.size_bytes)
            self._board.counters["buffers"] -= 1

    def at(self, mmap_offset: int, size_bytes: int) -> Buffer:
        """What mmap maps; raises OSError(EINVAL) unless a buffer of this file begins there and is as long."""
        for buffer in self._buffers.values():
            if buffer.mmap_offset == mmap_offset:
                if 0 < size_bytes <= buffer.size_bytes:
                    return buffer
                break
        raise failure(errno.EINVAL)


class DriverFile(Protocol):
    """One open file of a driver."""

    @property
    def buffers(self) -> BufferTable:
        """Its buffers."""
        ...

    def release(self) -> None:
        """The last descriptor has been closed."""
        ...


@dataclass(frozen=True)
class Call:
    """An ioctl of a driver: its name, its argument's struct and what does it."""

    name: str
    argument: type[ctypes.Structure]
    handler: Callable[..., None]
