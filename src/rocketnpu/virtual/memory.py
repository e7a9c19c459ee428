"""The virtual machine's memory: one shared file of pages, and address spaces with page tables inside it.

Buffers are physically contiguous, so that a host's view of one is a single mapping; what the NPU sees goes through the
page tables all the same (hardware/kernels.md, Rockchip IOMMU v2).
"""

from __future__ import annotations

import bisect
import errno
import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray

from rocketnpu.hw import page_table
from rocketnpu.hw.page_table import PAGE_BYTES, READABLE, TABLE_ENTRIES, VALID, WRITABLE
from rocketnpu.hw.sizes import align

PHYSICAL_BASE = 0x2_4000_0000
"""Physical address of the first page: above 4 GiB, so that table entries need their high address bits."""


class FreeList:
    """Free ranges of a linear space, first fit, neighbours merged; units are the caller's."""

    def __init__(self, start: int, end: int) -> None:
        self._ranges = [(start, end)]

    @property
    def free(self) -> int:
        """How much is left in all."""
        return sum(end - start for start, end in self._ranges)

    def take(self, size: int) -> int:
        """The start of a range of `size`; raises OSError(ENOMEM) if no free range is as long."""
        for index, (start, end) in enumerate(self._ranges):
            if end - start >= size:
                self._ranges[index : index + 1] = [(start + size, end)] if end - start > size else []
                return start
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    def give(self, start: int, size: int) -> None:
        """Return a range that was taken."""
        index = bisect.bisect_left(self._ranges, (start, start))
        low, high, first, last = start, start + size, index, index
        if index and self._ranges[index - 1][1] == start:
            low, first = self._ranges[index - 1][0], index - 1
        if index < len(self._ranges) and self._ranges[index][0] == high:
            high, last = self._ranges[index][1], index + 1
        self._ranges[first:last] = [(low, high)]


class PhysicalPages:
    """`size_bytes` of memory in a file that other processes can map; pages are zero when they are taken."""

    def __init__(self, size_bytes: int) -> None:
        self._file = _shared_file()
        size = align(size_bytes, PAGE_BYTES)
        os.ftruncate(self._file, size)
        self._mapping = mmap.mmap(self._file, size)
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._mapping, np.uint8)
        self._free = FreeList(0, size)

    @property
    def descriptor(self) -> int:
        """The file, for processes that map buffers themselves."""
        return self._file

    @property
    def used_bytes(self) -> int:
        """Bytes of all pages that are taken."""
        return self.bytes.size - self._free.free

    def take(self, size_bytes: int) -> int:
        """Contiguous zeroed pages; their offset in `bytes`. `size_bytes` is a multiple of the page size."""
        offset = self._free.take(size_bytes)
        self.bytes[offset : offset + size_bytes] = 0
        return offset

    def give(self, offset: int, size_bytes: int) -> None:
        """Return pages."""
        self._free.give(offset, size_bytes)

    def view(self, offset: int, size_bytes: int) -> NDArray[np.uint8]:
        """Bytes as an array of its own, which all views of it keep alive: its end is the end of them all."""
        return np.frombuffer(memoryview(self._mapping)[offset : offset + size_bytes], np.uint8)

    def close(self) -> None:
        """Give the file back; arrays that still show its bytes keep those alive."""
        os.close(self._file)


class AddressSpace:
    """What one IOMMU domain maps: 4 GiB of virtual addresses; the first buffer may be at address 0."""

    def __init__(self, pages: PhysicalPages) -> None:
        self._pages = pages
        self._addresses = FreeList(0, page_table.PAGES * PAGE_BYTES)
        self._directory = pages.take(PAGE_BYTES)
        self._tables: dict[int, int] = {}
        self._mappings = 0
        self._closed = False

    @property
    def directory(self) -> int:
        """What DTE_ADDR holds when this space is attached."""
        return page_table.entry(PHYSICAL_BASE + self._directory)

    def map(self, offset: int, size_bytes: int) -> int:
        """Map pages (an offset in PhysicalPages.bytes) for reading and writing; their virtual address."""
        address = self._addresses.take(size_bytes)
        self._enter(address, size_bytes, offset)
        self._mappings += 1
        return address

    def map_at(self, address: int, offset: int, size_bytes: int) -> None:
        """`map` to an address of the caller's choice, in a space where nothing else is ever mapped by `map`."""
        self._enter(address, size_bytes, offset)

    def unmap(self, address: int, size_bytes: int) -> None:
        """Undo `map`."""
        self._enter(address, size_bytes, None)
        self._addresses.give(address, size_bytes)
        self._mappings -= 1
        self._give_back()

    def close(self) -> None:
        """Give the page tables back, once nothing is mapped any more."""
        if not self._closed:
            self._closed = True
            self._give_back()

    def _give_back(self) -> None:
        if self._closed and not self._mappings:
            for table in (*self._tables.values(), self._directory):
                self._pages.give(table, PAGE_BYTES)

    def _enter(self, address: int, size_bytes: int, offset: int | None) -> None:
        for page in range(address, address + size_bytes, PAGE_BYTES):
            number = page // PAGE_BYTES
            word = 0
            if offset is not None:
                word = page_table.entry(PHYSICAL_BASE + offset + page - address, VALID | READABLE | WRITABLE)
            self._words(self._table(number // TABLE_ENTRIES))[number % TABLE_ENTRIES] = word

    def _table(self, index: int) -> int:
        table = self._tables.get(index)
        if table is None:
            table = self._tables[index] = self._pages.take(PAGE_BYTES)
            self._words(self._directory)[index] = page_table.entry(PHYSICAL_BASE + table, VALID)
        return table

    def _words(self, offset: int) -> NDArray[np.uint32]:
        return self._pages.bytes[offset : offset + PAGE_BYTES].view("<u4")


def _shared_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("rocketnpu-memory", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
