"""The virtual kernel inside this process: what `runtime.kernel.Kernel` asks of a kernel, on a virtual board."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rocketnpu.virtual.objects import failure
from rocketnpu.virtual.system import MEMORY_BYTES, DriverName, Killed, OpenFile, System

T = TypeVar("T")

FIRST_DESCRIPTOR = 1 << 20
"""Above what an operating system hands out, so that a mix-up shows."""


class OwnMemory:
    """User memory of callers in this process; see UserMemory. Bad addresses are the caller's crash."""

    def read(self, address: int, size_bytes: int) -> bytes:
        """See UserMemory."""
        return ctypes.string_at(address, size_bytes)

    def write(self, address: int, data: bytes) -> None:
        """See UserMemory."""
        ctypes.memmove(address, data, len(data))

    def interrupted(self) -> bool:
        """See UserMemory: signals become exceptions of their own here."""
        return False


class VirtualKernel:
    """Both drivers' behaviour without a board or another process; a context manager.

    `faults`: see virtual/faults.py; `record`: a file that stores all jobs (virtual/record.py). Calls raise OSError.
    """

    def __init__(
        self,
        driver: DriverName = "rocket",
        *,
        memory_bytes: int = MEMORY_BYTES,
        faults: str = "",
        record: Path | None = None,
        watchdog_ms: int | None = None,
    ) -> None:
        self.system = System(driver, memory_bytes=memory_bytes, faults=faults, record=record, watchdog_ms=watchdog_ms)
        self._lock = threading.Lock()
        self._files: dict[int, OpenFile] = {}
        self._numbers = itertools.count(FIRST_DESCRIPTOR)

    def __enter__(self) -> VirtualKernel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close all files and end the board's thread; arrays of mapped memory stay readable."""
        self.system.stop()

    @property
    def counters(self) -> dict[str, int]:
        """See System."""
        return self.system.counters

    @property
    def messages(self) -> list[str]:
        """See System."""
        return self.system.messages

    def open(self, path: str, flags: int) -> int:
        """See Kernel."""
        if path != self.system.tree.node:
            raise failure(errno.EACCES if self.system.tree.exists(path) else errno.ENOENT)
        if flags & os.O_DIRECTORY:
            raise failure(errno.ENOTDIR)
        file = _alive(self.system.open)
        with self._lock:
            fd = next(self._numbers)
            self._files[fd] = file
        return fd

    def close(self, fd: int) -> None:
        """See Kernel."""
        with self._lock:
            file = self._files.pop(fd, None)
        if file is None:
            raise failure(errno.EBADF)
        self.system.close(file)

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure) -> int:
        """See Kernel; interrupted calls start again, as LinuxKernel's do."""
        file = self._file(fd)
        while True:
            try:
                self._ioctl(file, request, memoryview(argument).cast("B"))
            except InterruptedError:
                continue
            return 0

    def mmap(self, fd: int, length: int, offset: int) -> NDArray[np.uint8]:
        """See Kernel."""
        file = self._file(fd)
        buffer = _alive(lambda: self.system.map(file, length, offset))
        array = self.system.board.pages.view(buffer.offset, length)
        weakref.finalize(array, self.system.unmap, file, buffer).atexit = False
        return array

    def device_time_ns(self) -> int:
        """See Kernel."""
        return self.system.board.clock.now()

    def device_log(self) -> list[str]:
        """See Kernel."""
        return self.messages

    def listdir(self, path: str) -> list[str]:
        """See Kernel."""
        return self.system.tree.listdir(path)

    def exists(self, path: str) -> bool:
        """See Kernel."""
        return self.system.tree.exists(path)

    def stat(self, path: str) -> os.stat_result:
        """See Kernel."""
        return self.system.tree.stat(path)

    def readlink(self, path: str) -> str:
        """See Kernel."""
        return self.system.tree.readlink(path)

    def read_text(self, path: str) -> str:
        """See Kernel."""
        return self.system.tree.read_text(path)

    def _ioctl(self, file: OpenFile, request: int, memory: memoryview) -> None:
        data = bytearray(memory)
        try:
            _alive(lambda: self.system.ioctl(file, request, data, OwnMemory()))
        finally:
            memory[:] = data

    def _file(self, fd: int) -> OpenFile:
        with self._lock:
            if fd not in self._files:
                raise failure(errno.EBADF)
            return self._files[fd]


def _alive(call: Callable[[], T]) -> T:
    """In this process, a kernel that is killed is a device that is gone."""
    try:
        return call()
    except Killed:
        raise failure(errno.ENODEV) from None
