"""The Rockchip IOMMU v2 of one core: banks of registers, page-table walks, and translations that are kept until zapped.

Source: hardware/kernels.md, "Rockchip IOMMU v2". Where it is silent this model chooses: a core's accesses need all
banks of its IOMMU to translate alike, and the first bank that cannot translate shows the fault; translations are kept
without limit, so that a forgotten zap is always seen; entries that are not valid are never kept.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.memory import Bytes
from rocketnpu.errors import DeviceError
from rocketnpu.hw import page_table
from rocketnpu.hw.page_table import PAGE_BYTES, PAGE_SHIFT, PAGES, READABLE, TABLE_ENTRIES, TABLE_SHIFT, VALID, WRITABLE
from rocketnpu.hw.registers import IOMMU
from rocketnpu.hw.registers import iommu as registers

Spans: TypeAlias = list[tuple[int, int]]

_LOG = logging.getLogger("rocketnpu.emulator")
_FLAGS = np.uint64(PAGE_BYTES - 1)
_ADDRESS_END = PAGES * PAGE_BYTES


class TranslationFault(DeviceError):
    """A bank could not translate `address` (bytes); the access waits until the driver deals with it."""

    def __init__(self, bank: Bank, interrupt: str, address: int, write: bool, why: str) -> None:
        super().__init__(f"{'write' if write else 'read'} at {address:#010x}: {why}")
        self.bank, self.interrupt, self.address, self.write = bank, interrupt, address, write


class BusFault(DeviceError):
    """A translated access left the physical memory: the bus answers with an error."""

    def __init__(self, address: int, write: bool) -> None:
        super().__init__(f"physical {address:#x} is not memory")
        self.write = write


class PhysicalMemory:
    """The bytes that everything shares: `array` (uint8, 1-D) lies at physical address `base` (bytes, page aligned)."""

    def __init__(self, array: Bytes, base: int) -> None:
        if base < 0 or base % PAGE_BYTES:
            raise DeviceError(f"memory at {base:#x} does not start on a page of {PAGE_BYTES} bytes")
        self.array, self.base = array, base
        self._words: NDArray[np.uint32] = array[: array.size // 4 * 4].view("<u4")

    def offset(self, address: int, size_bytes: int, *, write: bool) -> int:
        """Index into `array` of a physical range; raises BusFault if any of it is elsewhere."""
        offset = address - self.base
        if offset < 0:
            raise BusFault(address, write)
        if offset + size_bytes > self.array.size:
            raise BusFault(max(address, self.base + self.array.size), write)
        return offset

    def words(self, address: int, first: int, last: int) -> NDArray[np.uint32]:
        """The words first..last-1 of a table at a physical address; raises BusFault if they are not in memory."""
        start = self.offset(address + 4 * first, 4 * (last - first), write=False) // 4
        return self._words[start : start + last - first]


class Bank:
    """The registers of one bank and the translations it has cached."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory
        self._auto_gating = IOMMU.AUTO_GATING.reset
        self.reset()

    def reset(self) -> None:
        """Everything but AUTO_GATING as after power-up."""
        self._directory = 0
        self._paging = self._stalled = False
        self._fault_active = self._fault_is_write = False
        self._fault_address = 0
        self._raw = self._mask = 0
        self._zap()

    @property
    def interrupt(self) -> bool:
        """Whether the bank asks for its core's interrupt line."""
        return bool(self._raw & self._mask)

    def read(self, offset: int) -> int:
        """A register; 0 for those that can only be written, and for offsets without one."""
        readable = {
            IOMMU.DTE_ADDR.offset: self._directory,
            IOMMU.STATUS.offset: self._status(),
            IOMMU.PAGE_FAULT_ADDR.offset: self._fault_address,
            IOMMU.INT_RAWSTAT.offset: self._raw,
            IOMMU.INT_MASK.offset: self._mask,
            IOMMU.INT_STATUS.offset: self._raw & self._mask,
            IOMMU.AUTO_GATING.offset: self._auto_gating,
        }
        return readable.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """A register; writes to what can only be read are logged and do nothing."""
        if offset == IOMMU.DTE_ADDR.offset:
            self._directory = value & IOMMU.DTE_ADDR.field("DIRECTORY").mask
        elif offset == IOMMU.COMMAND.offset:
            self._command(value)
        elif offset == IOMMU.ZAP_ONE_LINE.offset:
            self._translations[value >> PAGE_SHIFT] = 0
        elif offset == IOMMU.INT_CLEAR.offset:
            self._raw &= ~value
        elif offset == IOMMU.INT_MASK.offset:
            self._mask = value & _interrupts("BUS_ERROR", "PAGE_FAULT")
        elif offset == IOMMU.AUTO_GATING.offset:
            self._auto_gating = value
        else:
            _LOG.warning("IOMMU: write of %#x to offset %#x does nothing", value, offset)

    def show(self, fault: TranslationFault) -> None:
        """Latch a fault in the registers: the access behind it waits from now on."""
        self._raw |= _interrupts(fault.interrupt)
        self._fault_address = fault.address
        self._fault_active = fault.interrupt == "PAGE_FAULT"
        self._fault_is_write = fault.write

    @property
    def version(self) -> None:
        """See Translation: tables in memory may change at any time."""

    def spans(self, address: int, size_bytes: int, *, write: bool) -> Spans:
        """See Translation."""
        if self._stalled or self._fault_active:
            raise DeviceError("the IOMMU is stalled" if self._stalled else "the IOMMU waits for page fault done")
        if not self._paging:
            return [(self._memory.offset(address, size_bytes, write=write), size_bytes)]
        if not 0 <= address <= address + size_bytes <= _ADDRESS_END:
            raise self._fault(address % _ADDRESS_END, write, "outside the 32-bit address space")
        first, last = address >> PAGE_SHIFT, address + size_bytes - 1 >> PAGE_SHIFT
        in_page = address % PAGE_BYTES
        if first == last:
            page = self._page(address, write)
            return [(self._memory.offset(page + in_page, size_bytes, write=write), size_bytes)]
        pages = self._pages(address, last, write)
        starts = [0, *(np.flatnonzero(np.diff(pages) != PAGE_BYTES) + 1).tolist(), len(pages)]
        spans: Spans = []
        for start, stop in itertools.pairwise(starts):
            skip = in_page if start == 0 else 0
            end = address + size_bytes - (first << PAGE_SHIFT) if stop == len(pages) else stop * PAGE_BYTES
            length = end - start * PAGE_BYTES - skip
            spans.append((self._memory.offset(int(pages[start]) + skip, length, write=write), length))
        return spans

    def _page(self, address: int, write: bool) -> int:
        """Physical address of the page that holds `address`."""
        number = address >> PAGE_SHIFT
        cache = self._translations
        translation = int(cache[number])
        if not translation:
            self._walk(cache, address, number, write)
            translation = int(cache[number])
        if not translation & (WRITABLE if write else READABLE):
            raise self._denied(address, translation, write)
        return translation & ~int(_FLAGS)

    def _pages(self, address: int, last: int, write: bool) -> NDArray[np.int64]:
        """Physical addresses of the pages from the one that holds `address` to number `last`."""
        first = address >> PAGE_SHIFT
        cache = self._translations
        translations = cache[first : last + 1]
        if not translations.all():
            self._walk(cache, address, last, write)
        allowed = translations & np.uint64(WRITABLE if write else READABLE)
        if not allowed.all():
            denied = int(np.argmin(allowed != 0))
            raise self._denied(max(address, first + denied << PAGE_SHIFT), int(translations[denied]), write)
        return (translations & ~_FLAGS).astype(np.int64)

    def _walk(self, cache: NDArray[np.uint64], address: int, last: int, write: bool) -> None:
        """Fetch what `cache` lacks of the translations from the page that holds `address` to number `last`."""
        first = address >> PAGE_SHIFT
        try:
            for directory in range(first >> TABLE_SHIFT, (last >> TABLE_SHIFT) + 1):
                start = max(first, directory << TABLE_SHIFT)
                stop = min(last + 1, directory + 1 << TABLE_SHIFT)
                entry = int(self._memory.words(page_table.address_of(self._directory), directory, directory + 1)[0])
                if not entry & VALID:
                    continue
                entries = self._memory.words(
                    page_table.address_of(entry), start % TABLE_ENTRIES, (stop - 1) % TABLE_ENTRIES + 1
                )
                cached = cache[start:stop]
                fetched = (cached == 0) & (entries & VALID != 0)
                found = entries[fetched]
                cached[fetched] = page_table.addresses_of(found) | found & np.uint32(VALID | READABLE | WRITABLE)
        except BusFault as error:
            raise TranslationFault(self, "BUS_ERROR", address, write, f"page table: {error}") from error

    def _denied(self, address: int, translation: int, write: bool) -> TranslationFault:
        why = f"the page is not {'writable' if write else 'readable'}" if translation else "the page is not mapped"
        return self._fault(address, write, why)

    def _fault(self, address: int, write: bool, why: str) -> TranslationFault:
        return TranslationFault(self, "PAGE_FAULT", address, write, why)

    def _command(self, value: int) -> None:
        command = IOMMU.COMMAND.field_value(value, "COMMAND")
        if command in (registers.ENABLE_PAGING, registers.DISABLE_PAGING):
            self._paging = command == registers.ENABLE_PAGING
        elif command == registers.ENABLE_STALL:
            self._stalled = self._paging
        elif command == registers.DISABLE_STALL:
            self._stalled = False
        elif command == registers.ZAP_CACHE:
            self._zap()
        elif command == registers.PAGE_FAULT_DONE:
            self._fault_active = self._fault_is_write = False
        elif command == registers.FORCE_RESET:
            self.reset()
        else:
            _LOG.warning("IOMMU: command %d is not known", command)

    def _zap(self) -> None:
        # By page number: physical address and flags, 0 where nothing is cached. 8 MiB that only exist where touched.
        # A new array, as another thread may be translating with the old one.
        self._translations: NDArray[np.uint64] = np.zeros(PAGES, np.uint64)

    def _status(self) -> int:
        return IOMMU.STATUS.encode(
            STALL_NOT_ACTIVE=not self._stalled,
            PAGE_FAULT_IS_WRITE=self._fault_is_write,
            REPLAY_BUFFER_EMPTY=1,
            IDLE=not self._fault_active,
            STALL_ACTIVE=self._stalled,
            PAGE_FAULT_ACTIVE=self._fault_active,
            PAGING_ENABLED=self._paging,
        )


class Iommu:
    """One core's IOMMU: a Translation from its accesses to offsets in physical memory."""

    def __init__(self, memory: PhysicalMemory, banks: int) -> None:
        self.banks: Sequence[Bank] = tuple(Bank(memory) for _ in range(banks))

    @property
    def interrupt(self) -> bool:
        """Whether any bank asks for the core's interrupt line."""
        return any(bank.interrupt for bank in self.banks)

    def reset(self) -> None:
        """All banks as after power-up."""
        for bank in self.banks:
            bank.reset()

    @property
    def version(self) -> None:
        """See Translation: tables in memory may change at any time."""

    def spans(self, address: int, size_bytes: int, *, write: bool) -> Spans:
        """See Translation; raises TranslationFault or BusFault, DeviceError if a bank is stalled or banks differ."""
        first, *others = (bank.spans(address, size_bytes, write=write) for bank in self.banks)
        if any(other != first for other in others):
            raise DeviceError(
                f"the banks of the IOMMU translate {address:#010x} differently: program and zap them alike"
            )
        return first


def _interrupts(*names: str) -> int:
    return sum(IOMMU.INT_MASK.field(name).mask for name in names)
