"""The one seam between the drivers and an operating system: a few calls on device nodes, a few on its file trees."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import time
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Kernel(Protocol):
    """What the drivers and their discovery ask of a kernel. Every call raises OSError with the kernel's errno."""

    def open(self, path: str, flags: int) -> int:
        """A file descriptor of a device node."""
        ...

    def close(self, fd: int) -> None:
        """Close it; the kernel frees what it held."""
        ...

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure) -> int:
        """One request; the kernel changes `argument` in place. Returns what the kernel returns, at least 0."""
        ...

    def mmap(self, fd: int, length: int, offset: int) -> NDArray[np.uint8]:
        """Shared writable memory, shape [length]; unmapped with the last array that shows it."""
        ...

    def device_time_ns(self) -> int:
        """The time that the drivers' watchdogs count: CLOCK_MONOTONIC, which an emulated device stops to compute."""
        ...

    def device_log(self) -> list[str]:
        """What the device itself reported, the oldest first; empty where only a privileged user may read it."""
        ...

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is such a file, directory or node."""
        ...

    def stat(self, path: str) -> os.stat_result:
        """Owner, group and mode of a file."""
        ...

    def readlink(self, path: str) -> str:
        """Where a symbolic link leads."""
        ...

    def read_text(self, path: str) -> str:
        """A small file's content; bytes that are not UTF-8 are replaced."""
        ...


class LinuxKernel:
    """The kernel that this process runs on; `root` is put before absolute paths (a recorded tree in tests)."""

    def __init__(self, root: Path | str = "/"):
        self._root = Path(root)

    def open(self, path: str, flags: int) -> int:
        """See Kernel."""
        return os.open(self._path(path), flags | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """See Kernel."""
        os.close(fd)

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure) -> int:
        """See Kernel."""
        return fcntl.ioctl(fd, request, argument, True)

    def mmap(self, fd: int, length: int, offset: int) -> NDArray[np.uint8]:
        """See Kernel."""
        return np.frombuffer(mmap.mmap(fd, length, offset=offset), np.uint8)

    def device_time_ns(self) -> int:
        """See Kernel."""
        return time.monotonic_ns()

    def device_log(self) -> list[str]:
        """See Kernel; the kernel's log is not for every user."""
        return []

    def listdir(self, path: str) -> list[str]:
        """See Kernel."""
        return sorted(os.listdir(self._path(path)))

    def exists(self, path: str) -> bool:
        """See Kernel."""
        return os.path.exists(self._path(path))

    def stat(self, path: str) -> os.stat_result:
        """See Kernel."""
        return os.stat(self._path(path))

    def readlink(self, path: str) -> str:
        """See Kernel."""
        return os.readlink(self._path(path))

    def read_text(self, path: str) -> str:
        """See Kernel."""
        return self._path(path).read_text("utf-8", errors="replace")

    def _path(self, path: str) -> Path:
        return self._root / path.lstrip("/")
