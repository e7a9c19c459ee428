"""The virtual board's pages and address spaces."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketnpu.emulator.iommu import Iommu, PhysicalMemory
from rocketnpu.errors import DeviceError
from rocketnpu.hw.registers import IOMMU
from rocketnpu.hw.registers import iommu as mmu
from rocketnpu.virtual.memory import PHYSICAL_BASE, AddressSpace, FreeList, PhysicalPages
from virtual.clients import fails

PAGE = 4096


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=40))
def test_ranges_that_are_taken_never_overlap_and_all_come_back(steps: list[tuple[int, bool]]):
    free = FreeList(0, 200)
    taken: list[tuple[int, int]] = []
    for size, give in steps:
        if give and taken:
            start, length = taken.pop(size % len(taken))
            free.give(start, length)
            continue
        try:
            start = free.take(size)
        except OSError:
            continue
        assert all(start + size <= other or other + length <= start for other, length in taken)
        taken.append((start, size))
    for start, length in taken:
        free.give(start, length)
    assert free.take(200) == 0


def test_no_range_of_that_size_is_enomem():
    free = FreeList(0, 10)
    free.take(6)
    with fails(errno.ENOMEM):
        free.take(5)


def test_the_iommu_finds_what_an_address_space_maps_and_nothing_else():
    pages = PhysicalPages(64 * PAGE)
    space = AddressSpace(pages)
    iommu = Iommu(PhysicalMemory(pages.bytes, PHYSICAL_BASE), 1)
    iommu.banks[0].write(IOMMU.DTE_ADDR.offset, space.directory)
    iommu.banks[0].write(IOMMU.COMMAND.offset, mmu.ENABLE_PAGING)
    first, second = pages.take(3 * PAGE), pages.take(PAGE)
    assert space.map(first, 3 * PAGE) == 0, "the first buffer may be at address 0 (hardware/kernels.md)"
    address = space.map(second, PAGE)
    assert iommu.spans(8, 3 * PAGE - 8, write=True) == [(first + 8, 3 * PAGE - 8)]
    assert iommu.spans(address, PAGE, write=True) == [(second, PAGE)]
    with pytest.raises(DeviceError, match="not mapped"):
        iommu.spans(address + PAGE, 1, write=False)
    space.unmap(address, PAGE)
    iommu.banks[0].write(IOMMU.COMMAND.offset, mmu.ZAP_CACHE)
    with pytest.raises(DeviceError, match="not mapped"):
        iommu.spans(address, 1, write=False)


def test_pages_are_zero_when_they_are_taken_again_and_all_come_back():
    pages = PhysicalPages(16 * PAGE)
    space = AddressSpace(pages)
    offset = pages.take(2 * PAGE)
    address = space.map(offset, 2 * PAGE)
    pages.bytes[offset : offset + 2 * PAGE] = 7
    space.close()
    space.close()
    assert pages.used_bytes == 4 * PAGE, "page tables stay while anything is mapped"
    space.unmap(address, 2 * PAGE)
    pages.give(offset, 2 * PAGE)
    assert pages.used_bytes == 0
    assert not pages.bytes[pages.take(16 * PAGE) :].any()


def test_a_view_shows_the_same_bytes():
    pages = PhysicalPages(2 * PAGE)
    pages.view(PAGE, 16)[:] = np.arange(16)
    assert pages.bytes[PAGE : PAGE + 16].tolist() == list(range(16))
