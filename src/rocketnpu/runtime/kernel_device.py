"""What both kernel drivers share: buffers, the bytes that the host has touched, prebuilt submissions, one lock."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from rocketnpu.errors import DeviceError
from rocketnpu.hw import regcmd
from rocketnpu.hw.page_table import PAGE_BYTES
from rocketnpu.hw.sizes import align
from rocketnpu.program.model import ANY, Program, Target
from rocketnpu.runtime.adapt import self_contained
from rocketnpu.runtime.device import Buffer, Device, Launch, Part, Timing
from rocketnpu.runtime.node import Node
from rocketnpu.runtime.pool import Block, Pool

CACHE_LINE_BYTES = 64
"""Cache lines of the RK3588's CPU cores; ranges to synchronise are whole lines."""

ADDRESS_END = 1 << 32
"""Registers hold 32-bit addresses (hardware/README.md, Constants)."""

NANOSECONDS = 1_000_000_000
"""In a second."""

Prepared = TypeVar("Prepared")
"""A driver's submission, built once for the parts it runs."""

Parts: TypeAlias = tuple[tuple[tuple[Launch, ...], ...], ...]


class KernelDevice(Device, Generic[Prepared]):
    """One file descriptor of a driver: safe in threads. As many submissions as `frames` may be under way.

    The kernel queues them: it starts the second while the first one's thread is still waking up.
    """

    def __init__(self, node: Node):
        self._node = node
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._under_way: set[Prepared] = set()
        self._page_zero: Block | None = None
        self._pool = Pool(self._create_above_zero, self._destroy)
        self._blocks: dict[Buffer, Block] = {}
        self._dirty: dict[Buffer, tuple[int, int]] = {}
        self._prepared: dict[Parts, Prepared] = {}

    @property
    def node(self) -> str:
        """Path of the device node."""
        return self._node.path

    @property
    def frames(self) -> int:
        """See Device: the host packs one frame while the other runs."""
        return 2

    def adapt(self, program: Program) -> Program:
        """See Device: incremental lists become full ones."""
        if not self._takes(program.target):
            raise DeviceError(
                f"{self.node}: {program.name} is a program for {program.target}, this is {self.name}: compile the "
                f"model with target={self.name!r}, or {ANY!r} for both"
            )
        return self_contained(program)

    def _takes(self, target: Target) -> bool:
        """Whether a program for this driver, by its name, or for any runs here."""
        return target in (ANY, self.name)

    def allocate(self, size_bytes: int) -> Buffer:
        """See Device."""
        self._node.check()
        with self._lock:
            block = self._pool.take(size_bytes)
            if block is None:
                raise DeviceError(
                    f"{self.node}: no memory for {size_bytes} bytes (ENOMEM): close other sessions, or use a "
                    "smaller model"
                )
            if block.address + block.memory.size > ADDRESS_END:
                self._pool.give(block)
                raise DeviceError(
                    f"{self.node}: the kernel gave address {block.address:#x} for {block.memory.size} bytes; the "
                    "NPU's registers hold 32 bits: free memory that other sessions hold"
                )
            buffer = Buffer(block.address, block.memory[:size_bytes])
            self._blocks[buffer] = block
        self.host_writes(buffer, 0, size_bytes)  # its zeros
        return buffer

    def release(self, buffer: Buffer) -> None:
        """See Device."""
        with self._lock:
            if buffer not in self._blocks:
                return  # the device is closed
            self._dirty.pop(buffer, None)
            self._pool.give(self._blocks.pop(buffer))
            with ExitStack() as ends:  # all of them, even if one fails
                for parts in [parts for parts in self._prepared if buffer in _touched(parts[0][0][0])]:
                    ends.callback(self._discard, self._prepared.pop(parts))

    def host_writes(self, buffer: Buffer, start: int, stop: int) -> None:
        """See Device. The bytes are flushed by the next submission that touches the buffer."""
        first, last = self._dirty.get(buffer, (start, stop))
        self._dirty[buffer] = (min(first, start), max(last, stop))

    def submit(self, parts: Sequence[Part]) -> Timing:
        """See Device."""
        self._node.check()  # before the lock, which a fork may have left taken
        key: Parts = tuple(tuple(tuple(chain) for chain in part if chain) for part in parts)
        key = tuple(part for part in key if part)
        if not key:
            return Timing(0.0, 0.0)
        with self._lock:
            if key not in self._prepared:
                self._prepared[key] = self._prepare(key)
            prepared = self._prepared[key]
            while len(self._under_way) == self.frames or prepared in self._under_way:
                self._ended.wait()
            self._node.check()
            for buffer in _touched(key[0][0][0]):
                if buffer in self._dirty:
                    start, stop = self._dirty[buffer]
                    stop = min(align(stop, CACHE_LINE_BYTES), self._blocks[buffer].memory.size)
                    self._flush(self._blocks[buffer], start // CACHE_LINE_BYTES * CACHE_LINE_BYTES, stop)
                    del self._dirty[buffer]
            self._under_way.add(prepared)
        try:
            return self._run(prepared)
        finally:
            with self._lock:
                self._under_way.discard(prepared)
                self._ended.notify_all()

    def close(self) -> None:
        """See Device; waits for submissions under way in other threads."""
        with self._lock:
            while self._under_way:
                self._ended.wait()
            self._node.close()
            self._prepared.clear()
            self._blocks.clear()
            self._pool.clear()
            self._page_zero = None

    def _create_above_zero(self, size_bytes: int) -> Block | None:
        """A new buffer, after a first page that stays unused.

        A driver may put its first buffer at address 0 (hardware/kernels.md, `rocket` uAPI), where no command list may
        lie: as the address of the next one, 0 ends a chain (hardware/regcmd.md, Chaining).
        """
        if self._page_zero is None:
            self._page_zero = self._create(PAGE_BYTES)
        return self._create(size_bytes)

    @abstractmethod
    def _create(self, size_bytes: int) -> Block | None:
        """A new zeroed buffer of whole pages; None when the kernel has no memory."""

    @abstractmethod
    def _destroy(self, block: Block) -> None:
        """Give a buffer back to the kernel; one that is gone has nothing to take."""

    @abstractmethod
    def _flush(self, block: Block, start: int, stop: int) -> None:
        """The host has written bytes start..stop; the device is about to use them."""

    @abstractmethod
    def _prepare(self, parts: Parts) -> Prepared:
        """The driver's structures for parts without empty chains; all tasks have the same memory."""

    def _discard(self, prepared: Prepared) -> None:
        """The structures are not used any more."""

    @abstractmethod
    def _run(self, prepared: Prepared) -> Timing:
        """Submit and wait; another submission may do the same at the same time."""


def describe_launches(launches: Sequence[Launch]) -> str:
    """The tasks of a job for a message: names of the first and the last, and what starts the first one."""
    first = launches[0]
    names = first.name if len(launches) == 1 else f"{first.name} ... {launches[-1].name}"
    return f"{len(launches)} task{'s' if len(launches) > 1 else ''} ({names}); {describe_trigger(first)}"


def describe_trigger(launch: Launch) -> str:
    """Where a task's list is, and the blocks that its last entry starts."""
    for buffer in launch.memory.reads:
        offset = (
            launch.address - buffer.address + regcmd.WORD_BYTES * (launch.body_entries + regcmd.TRAILER_ENTRIES - 1)
        )
        if 0 <= offset <= buffer.data.size - regcmd.WORD_BYTES:
            word = int(buffer.data[offset : offset + regcmd.WORD_BYTES].view(np.uint64)[0])
            blocks = ", ".join(block.name for block in regcmd.enabled_blocks(regcmd.decode(word).value))
            return f"list of {launch.name} at {launch.address:#x} starts {blocks or 'no block'}"
    return f"list of {launch.name} at {launch.address:#x} is outside its memory"


def _touched(launch: Launch) -> tuple[Buffer, ...]:
    return (*launch.memory.reads, *launch.memory.writes)
