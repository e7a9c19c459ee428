"""The IOMMU as its kernel driver and the NPU's units meet it (hardware/kernels.md, Rockchip IOMMU v2)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.guest import PAGE, READABLE, VALID, WRITABLE, Guest, entry
from rocketnpu.emulator.iommu import BusFault, Iommu, PhysicalMemory, TranslationFault
from rocketnpu.emulator.memory import Memory, Region, linear
from rocketnpu.errors import DeviceError
from rocketnpu.hw import page_table

DTE_ADDR, STATUS, COMMAND, PAGE_FAULT_ADDR, ZAP_ONE_LINE = 0x00, 0x04, 0x08, 0x0C, 0x10
INT_RAWSTAT, INT_CLEAR, INT_MASK, INT_STATUS, AUTO_GATING = 0x14, 0x18, 0x1C, 0x20, 0x24
ENABLE_PAGING, DISABLE_PAGING, ENABLE_STALL, DISABLE_STALL, ZAP, FAULT_DONE, FORCE_RESET = range(7)
PAGING, FAULT, STALL, IDLE, WRITE = 1, 2, 4, 8, 1 << 5
PAGE_FAULT, BUS_ERROR = 1, 2
DRAM = 0x2_4000_0000
"""A physical base above 4 GiB: table entries need their high address bits."""


def attached(guest: Guest, banks: int = 1) -> Iommu:
    """An IOMMU after the driver's attach sequence."""
    iommu = Iommu(PhysicalMemory(guest.memory, guest.base), banks)
    for bank in iommu.banks:
        bank.write(COMMAND, ENABLE_STALL)
        bank.write(COMMAND, FORCE_RESET)
        bank.write(DTE_ADDR, entry(guest.directory, 0))
        bank.write(COMMAND, ZAP)
        bank.write(INT_MASK, PAGE_FAULT | BUS_ERROR)
        bank.write(COMMAND, ENABLE_PAGING)
        bank.write(COMMAND, DISABLE_STALL)
    return iommu


def test_entries_hold_40_address_bits():
    assert page_table.entry(0xBA_CAFE_B000, 5) == 0xCAFE_BAB5
    assert page_table.address_of(0xCAFE_BAB5) == 0xBA_CAFE_B000
    assert page_table.addresses_of(np.array([0xCAFE_BAB5, 0x12], np.uint32)).tolist() == [
        0xBA_CAFE_B000,
        0x10_0000_0000,
    ]


@given(st.integers(0, (1 << 28) - 1), st.integers(0, 7))
def test_entry_and_address_are_inverse(page: int, flags: int):
    word = page_table.entry(page * PAGE, flags)
    assert page_table.address_of(word) == page * PAGE
    assert word & 7 == flags


@pytest.mark.parametrize("address", [1, 0x800, 1 << 40, -4096])
def test_an_entry_refuses_what_is_no_page(address: int):
    with pytest.raises(Exception, match="not the start of a 4096-byte page"):
        page_table.entry(address)


def test_reset_check_reads_back_the_implemented_address_bits():
    bank = Iommu(PhysicalMemory(np.zeros(PAGE, np.uint8), 0), 1).banks[0]
    bank.write(DTE_ADDR, 0xCAFEBABE)
    assert bank.read(DTE_ADDR) == 0xCAFEBAB0
    bank.write(COMMAND, FORCE_RESET)
    assert bank.read(DTE_ADDR) == 0


def test_status_follows_the_commands():
    bank = Iommu(PhysicalMemory(np.zeros(PAGE, np.uint8), 0), 1).banks[0]
    idle = 1 << 31 | 1 << 4 | IDLE
    assert bank.read(STATUS) == idle
    bank.write(COMMAND, ENABLE_STALL)
    assert bank.read(STATUS) == idle, "without paging there is nothing to stall"
    bank.write(COMMAND, ENABLE_PAGING)
    assert bank.read(STATUS) == idle | PAGING
    bank.write(COMMAND, ENABLE_STALL)
    assert bank.read(STATUS) == (idle | PAGING | STALL) & ~(1 << 31)
    bank.write(COMMAND, DISABLE_STALL)
    bank.write(COMMAND, DISABLE_PAGING)
    assert bank.read(STATUS) == idle


def test_auto_gating_keeps_its_value_over_a_forced_reset():
    bank = Iommu(PhysicalMemory(np.zeros(PAGE, np.uint8), 0), 1).banks[0]
    bank.write(AUTO_GATING, 1 << 31 | 3)
    bank.write(COMMAND, FORCE_RESET)
    assert bank.read(AUTO_GATING) == 1 << 31 | 3


def test_without_paging_addresses_are_physical():
    iommu = Iommu(PhysicalMemory(np.zeros(4 * PAGE, np.uint8), 0x10000), 2)
    assert iommu.spans(0x10010, 2 * PAGE, write=True) == [(0x10, 2 * PAGE)]
    with pytest.raises(BusFault, match="physical 0xfff0 is not memory"):
        iommu.spans(0xFFF0, 0x20, write=False)
    with pytest.raises(BusFault, match="physical 0x14000 is not memory"):
        iommu.spans(0x13FF0, 0x20, write=False)


def test_neighbouring_pages_come_as_one_span():
    guest = Guest(64 * PAGE, DRAM, scattered=False)
    iommu = attached(guest)
    pages = guest.map(0x40_0000 - 2 * PAGE, 5 * PAGE)
    breaks = sum(after - before != PAGE for before, after in itertools.pairwise(pages))
    spans = iommu.spans(0x40_0000 - 2 * PAGE + 7, 5 * PAGE - 9, write=False)
    assert spans[0] == (pages[0] - DRAM + 7, spans[0][1])
    assert len(spans) == breaks + 1
    assert sum(length for _, length in spans) == 5 * PAGE - 9


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_strided_accesses_meet_the_bytes_of_their_pages(data: st.DataObject):
    """Against the definition: byte by byte through a dictionary of pages, over a boundary of two tables."""
    guest = Guest(64 * PAGE, DRAM, seed=data.draw(st.integers(0, 99)), scattered=data.draw(st.booleans()))
    start, size = 0x80_0000 - 4 * PAGE, 8 * PAGE
    pages = guest.map(start, size)
    content = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    for number, page in enumerate(pages):
        guest.page(page)[:] = content[number * PAGE : (number + 1) * PAGE]
    memory = Memory(guest.memory, attached(guest, banks=2))
    counts = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 5)))
    run = data.draw(st.integers(1, 1500))
    strides = (data.draw(st.integers(5 * 1500, 8000)), data.draw(st.integers(run, 1500)))
    first = data.draw(st.integers(0, size - 2 * 8000 - 4 * 1500 - 1500))
    region = Region(start + first, counts, strides, run)
    expected = np.array(
        [[content[first + i * strides[0] + j * strides[1] :][:run] for j in range(counts[1])] for i in range(counts[0])]
    )
    np.testing.assert_array_equal(memory.read(region, "test"), expected)
    target = memory.target(region, "test")
    target.array[:] = ~expected
    target.commit()
    np.testing.assert_array_equal(memory.read(region, "test"), ~expected)
    changed = np.concatenate([guest.page(page) for page in pages]) != content
    assert int(changed.sum()) == expected.size


def test_a_physically_contiguous_tensor_is_read_in_place():
    guest = Guest(64 * PAGE, DRAM, scattered=False)
    guest.map_page(0x1000, guest.take())
    pages = guest.map(0x10_0000, 8 * PAGE)
    view = Memory(guest.memory, attached(guest)).read(Region(0x10_0010, (4, 16), (2 * PAGE, 64), 32), "test")
    guest.memory[pages[2] - DRAM + 0x10 + 64] = 77
    assert view[1, 1, 0] == 77


def fault_of(memory: Memory, region: Region, *, write: bool = False) -> TranslationFault:
    with pytest.raises(DeviceError) as caught:
        memory.target(region, "unit") if write else memory.read(region, "unit")
    cause = caught.value.__cause__
    assert isinstance(cause, TranslationFault)
    return cause


def test_an_unmapped_page_faults_at_its_first_byte():
    guest = Guest(64 * PAGE, DRAM)
    iommu = attached(guest)
    guest.map(0x2000, PAGE)
    guest.map(0x4000, PAGE)
    fault = fault_of(Memory(guest.memory, iommu), linear(0x2FF0, 2 * PAGE))
    assert (fault.address, fault.write, fault.interrupt) == (0x3000, False, "PAGE_FAULT")


def test_a_gap_between_the_runs_of_a_region_may_be_unmapped():
    guest = Guest(64 * PAGE, DRAM)
    iommu = attached(guest)
    for page in (0x2000, 0x4000):
        guest.page(guest.map(page, PAGE)[0])[:] = page >> 12
    data = Memory(guest.memory, iommu).read(Region(0x2000, (2,), (0x2000,), 64), "test")
    assert data[:, 0].tolist() == [2, 4]
    assert iommu.banks[0].read(INT_RAWSTAT) == 0


@pytest.mark.parametrize(
    ("flags", "write", "allowed"),
    [
        (VALID | READABLE, False, True),
        (VALID | READABLE, True, False),
        (VALID | WRITABLE, True, True),
        (VALID | WRITABLE, False, False),
        (READABLE | WRITABLE, False, False),
    ],
)
@pytest.mark.parametrize("pages", [1, 3])
def test_page_flags_allow_reads_and_writes(flags: int, write: bool, allowed: bool, pages: int):
    guest = Guest(64 * PAGE, DRAM)
    iommu = attached(guest)
    guest.map(0x7000, (pages - 1) * PAGE)
    guest.map(0x7000 + (pages - 1) * PAGE, PAGE, flags)
    if allowed:
        assert iommu.spans(0x7010, pages * PAGE - 0x10, write=write)
    else:
        fault = fault_of(Memory(guest.memory, iommu), linear(0x7010, pages * PAGE - 0x10), write=write)
        assert fault.address == max(0x7010, 0x7000 + (pages - 1) * PAGE)
        assert fault.write == write


def test_a_shown_fault_sets_status_address_and_interrupt_until_done():
    guest = Guest(64 * PAGE, DRAM)
    iommu = attached(guest)
    guest.map(0x5000, PAGE)
    bank = iommu.banks[0]
    bank.show(fault_of(Memory(guest.memory, iommu), linear(0x6040, 16), write=True))
    assert bank.read(STATUS) & (PAGING | FAULT | WRITE | IDLE) == PAGING | FAULT | WRITE
    assert bank.read(PAGE_FAULT_ADDR) == 0x6040
    assert bank.read(INT_STATUS) == bank.read(INT_RAWSTAT) == PAGE_FAULT
    assert iommu.interrupt
    with pytest.raises(DeviceError, match="waits for page fault done"):
        iommu.spans(0x5000, 16, write=False)
    bank.write(INT_CLEAR, PAGE_FAULT)
    assert not iommu.interrupt
    bank.write(COMMAND, FAULT_DONE)
    assert bank.read(STATUS) & (FAULT | WRITE | IDLE) == IDLE
    assert len(iommu.spans(0x5000, 16, write=False)) == 1


def test_a_masked_interrupt_is_only_raw():
    guest = Guest(64 * PAGE, DRAM)
    iommu = attached(guest)
    bank = iommu.banks[0]
    bank.write(INT_MASK, BUS_ERROR)
    bank.show(fault_of(Memory(guest.memory, iommu), linear(0x6000, 16)))
    assert (bank.read(INT_RAWSTAT), bank.read(INT_STATUS), iommu.interrupt) == (PAGE_FAULT, 0, False)


def test_a_table_outside_memory_is_a_bus_error():
    guest = Guest(64 * PAGE, DRAM)
    iommu = attached(guest)
    guest.word(guest.directory + 4 * 3)[0] = entry(DRAM + guest.memory.size, VALID)
    fault = fault_of(Memory(guest.memory, iommu), linear(3 << 22, 16))
    assert (fault.interrupt, fault.address) == ("BUS_ERROR", 3 << 22)


def test_a_page_outside_memory_is_an_error_of_the_bus_not_of_the_mmu():
    guest = Guest(64 * PAGE, DRAM)
    iommu = attached(guest)
    guest.map_page(0x9000, DRAM - PAGE)
    with pytest.raises(BusFault, match="physical 0x23ffff000 is not memory"):
        iommu.spans(0x9000, 16, write=False)


def test_addresses_past_4_gib_fault():
    guest = Guest(64 * PAGE, DRAM)
    iommu = attached(guest)
    guest.map(0xFFFF_F000, PAGE)
    assert len(iommu.spans(0xFFFF_F000, PAGE, write=False)) == 1
    with pytest.raises(TranslationFault, match="outside the 32-bit address space"):
        iommu.spans(0xFFFF_F000, PAGE + 1, write=False)


@pytest.mark.parametrize("pages", [1, 3])
def test_translations_stay_until_they_are_zapped(pages: int):
    guest = Guest(64 * PAGE, DRAM)
    iommu = attached(guest)
    guest.map(0x5000, pages * PAGE)
    size = pages * PAGE
    before = iommu.spans(0x5000, size, write=False)
    guest.map(0x5000, pages * PAGE)
    assert iommu.spans(0x5000, size, write=False) == before, "no zap: the old page is still used"
    iommu.banks[0].write(ZAP_ONE_LINE, 0x5FFC)
    after = iommu.spans(0x5000, size, write=False)
    assert after[0] != before[0]
    assert after[1:] == before[1:]
    iommu.banks[0].write(COMMAND, ZAP)
    zapped = iommu.spans(0x5000, size, write=False)
    assert all(new not in before for new in zapped)


def test_a_page_mapped_after_its_fault_needs_no_zap():
    guest = Guest(64 * PAGE, DRAM)
    iommu = attached(guest)
    with pytest.raises(TranslationFault):
        iommu.spans(0x5000, 16, write=False)
    guest.map(0x5000, PAGE)
    assert len(iommu.spans(0x5000, 16, write=False)) == 1


def test_a_stalled_bank_lets_nothing_through():
    guest = Guest(64 * PAGE, DRAM)
    iommu = attached(guest)
    guest.map(0x5000, PAGE)
    iommu.banks[0].write(COMMAND, ENABLE_STALL)
    with pytest.raises(DeviceError, match="stalled"):
        iommu.spans(0x5000, 16, write=False)


def test_both_banks_of_core_0_must_be_programmed_and_zapped():
    guest = Guest(64 * PAGE, DRAM)
    iommu = attached(guest, banks=2)
    guest.map(0x5000, PAGE)
    assert len(iommu.spans(0x5000, 16, write=False)) == 1
    guest.map(0x5000, PAGE)
    iommu.banks[0].write(COMMAND, ZAP)
    with pytest.raises(DeviceError, match="banks of the IOMMU translate 0x00005000 differently"):
        iommu.spans(0x5000, 16, write=False)
    iommu.banks[1].write(COMMAND, ZAP)
    assert len(iommu.spans(0x5000, 16, write=False)) == 1


@pytest.mark.parametrize("base", [-4096, 0x800])
def test_memory_starts_on_a_page(base: int):
    with pytest.raises(DeviceError, match="does not start on a page"):
        PhysicalMemory(np.zeros(PAGE, np.uint8), base)
