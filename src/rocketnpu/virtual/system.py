"""The system calls on a virtual device: open files, ioctls as DRM dispatches them, mmap, and planned failures."""

from __future__ import annotations

import ctypes
import errno
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from rocketnpu.uapi import drm
from rocketnpu.uapi.request import NUMBER_BITS, TYPE_BITS
from rocketnpu.virtual.board import Board, Worker
from rocketnpu.virtual.faults import ANY_CALL, KILL, MMAP, OPEN, REMOVE, FaultPlan, parse
from rocketnpu.virtual.objects import Buffer, BufferTable, Call, DriverFile, UserMemory, failure
from rocketnpu.virtual.record import Recorder
from rocketnpu.virtual.rknpu import Rknpu
from rocketnpu.virtual.rocket import Rocket
from rocketnpu.virtual.tree import rknpu_tree, rocket_tree

DriverName: TypeAlias = Literal["rocket", "rknpu"]
DRIVERS: tuple[DriverName, ...] = ("rocket", "rknpu")
MEMORY_BYTES = 1 << 30
"""Memory of a virtual board unless told otherwise; only what is used costs anything."""
_LOG = logging.getLogger("rocketnpu.virtual")


class Killed(Exception):
    """A planned fault ends the kernel's side at once: the call is never answered."""


class _File(DriverFile, Protocol):
    @property
    def calls(self) -> Mapping[int, Call]: ...


class _Driver(Worker, Protocol):
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> tuple[int, int, int]: ...
    @property
    def date(self) -> str: ...
    @property
    def description(self) -> str: ...
    def open(self) -> _File: ...


@dataclass(eq=False)
class OpenFile:
    """One open device file."""

    driver_file: _File
    calls: Mapping[int, Call]


class System:
    """A board with a driver on it. `watchdog_ms` replaces the driver's own timeout."""

    def __init__(
        self,
        driver: DriverName,
        *,
        memory_bytes: int = MEMORY_BYTES,
        faults: str = "",
        record: Path | None = None,
        watchdog_ms: int | None = None,
    ) -> None:
        self._faults = FaultPlan(parse(faults))
        self.board = Board(memory_bytes, self._faults)
        self._recorder = Recorder(record, self.board.pages) if record is not None else None
        kind = Rocket if driver == "rocket" else Rknpu
        self.tree = rocket_tree() if driver == "rocket" else rknpu_tree()
        watchdog = {} if watchdog_ms is None else {"watchdog_ns": watchdog_ms * 1_000_000}
        self._driver: _Driver = kind(self.board, self._recorder, **watchdog)
        self._removed = False
        self._stopped = False
        self._files: set[OpenFile] = set()
        self._unmapped: deque[tuple[BufferTable, Buffer]] = deque()
        self.board.start(self._driver)

    @property
    def counters(self) -> dict[str, int]:
        """What is open and what has happened: files, buffers, mappings, jobs, tasks, timeouts, page faults ..."""
        with self.board.lock:
            self._drop_unmapped()
            return dict(self.board.counters)

    @property
    def messages(self) -> list[str]:
        """The kernel's log."""
        return list(self.board.messages)

    def stop(self) -> None:
        """Close everything; a record is complete afterwards."""
        with self.board.lock:
            if self._stopped:
                return
            self._stopped = self._removed = True
            for file in list(self._files):
                self.close(file)
        self.board.close()
        if self._recorder is not None:
            self._recorder.close()

    def open(self) -> OpenFile:
        """open() of the node."""
        with self.board.lock:
            self._enter(OPEN)
            driver_file = self._driver.open()
            own = {
                drm.VERSION: Call("version", drm.Version, self._version),
                drm.GEM_CLOSE: Call("gem_close", drm.GemClose, _gem_close(driver_file)),
            }
            calls = {_number(request): call for request, call in (own | dict(driver_file.calls)).items()}
            file = OpenFile(driver_file, calls)
            self._files.add(file)
            self.board.counters["files"] += 1
            return file

    def close(self, file: OpenFile) -> None:
        """The last descriptor is closed."""
        with self.board.lock:
            if file not in self._files:
                return
            self._files.discard(file)
            self._drop_unmapped()
            file.driver_file.release()
            self.board.counters["files"] -= 1

    def ioctl(self, file: OpenFile, request: int, argument: bytearray, user: UserMemory) -> None:
        """One ioctl: DRM goes by the number alone, and takes structs that are shorter or longer than its own.

        `argument` is the caller's struct, changed in place; raises OSError as the system call fails.
        """
        if request >> NUMBER_BITS & (1 << TYPE_BITS) - 1 != ord(drm.DRM_TYPE):
            raise failure(errno.ENOTTY)
        call = file.calls.get(_number(request))
        if call is None:
            self.board.report(f"{self._driver.name}: ioctl {request:#x} is not known")
            raise failure(errno.EINVAL)
        _LOG.debug("%s", call.name)
        with self.board.lock:
            self._enter(call.name)
            struct = call.argument()
            size = min(ctypes.sizeof(struct), len(argument))
            memory = memoryview(struct).cast("B")
            memory[:size] = argument[:size]
            try:
                call.handler(struct, user)
            finally:
                argument[:size] = memory[:size]

    def map(self, file: OpenFile, length: int, offset: int) -> Buffer:
        """mmap(): the buffer, which one more reference keeps until `unmap`."""
        with self.board.lock:
            self._enter(MMAP)
            buffer = file.driver_file.buffers.at(offset, length)
            buffer.references += 1
            self.board.counters["mappings"] += 1
            return buffer

    def unmap(self, file: OpenFile, buffer: Buffer) -> None:
        """Undo `map`; may be called from anywhere, as by a garbage collector: it happens with the next call."""
        self._unmapped.append((file.driver_file.buffers, buffer))

    def _drop_unmapped(self) -> None:
        while self._unmapped:
            table, buffer = self._unmapped.popleft()
            self.board.counters["mappings"] -= 1
            table.release(buffer)

    def _enter(self, call: str) -> None:
        """What happens at every call: planned faults."""
        self._drop_unmapped()
        self.board.counters[call] += 1
        for fault in (self._faults.next(ANY_CALL), self._faults.next(call)):
            if fault in (KILL, REMOVE):
                self._removed = True
                if fault == KILL:
                    raise Killed
            elif fault is not None:
                raise failure(getattr(errno, fault))
        if self._removed:
            raise failure(errno.ENODEV)

    def _version(self, argument: drm.Version, user: UserMemory) -> None:
        driver = self._driver
        argument.version_major, argument.version_minor, argument.version_patchlevel = driver.version
        for name, text in (("name", driver.name), ("date", driver.date), ("desc", driver.description)):
            data = text.encode()
            room, address = getattr(argument, f"{name}_len"), getattr(argument, name)
            setattr(argument, f"{name}_len", len(data))
            if room and address:
                user.write(address, data[:room])


def _gem_close(file: DriverFile):
    def call(argument: drm.GemClose, _user: UserMemory) -> None:
        file.buffers.close(argument.handle)

    return call


def _number(request: int) -> int:
    return request & (1 << NUMBER_BITS) - 1
