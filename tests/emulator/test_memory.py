"""Translation, strided regions and faults of the emulator's memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketnpu.emulator.memory import Mappings, Memory, Region, linear
from rocketnpu.errors import DeviceError

SIZE = 4096
UNIT = "test unit"


def _memory(*mappings: tuple[int, int, int], writable: bool = True) -> Memory:
    table = Mappings()
    for address, offset, size in mappings:
        table.add(address, offset, size, writable=writable)
    return Memory(np.arange(SIZE).astype(np.uint8), table)


def test_a_contiguous_region_is_a_view_of_memory() -> None:
    memory = _memory((0x1000, 64, 1024))
    data = memory.read(Region(0x1010, (3, 2), (64, 32), 16), UNIT)
    assert np.shares_memory(data, memory.physical)
    assert data[2, 1, 0] == (64 + 0x10 + 2 * 64 + 32) % 256


def test_a_region_over_scattered_pages_reads_the_same_bytes_as_a_contiguous_one() -> None:
    """Virtual pages 0..3 lie at physical pages 3, 1, 2, 0."""
    pages = [(256 * page, 256 * place, 256) for page, place in enumerate((3, 1, 2, 0))]
    scattered = _memory(*pages)
    flat = np.concatenate([scattered.physical[offset : offset + 256] for _, offset, _ in pages])
    region = Region(8, (3, 4), (300, 48), 40)
    straight = np.lib.stride_tricks.as_strided(flat[8:], (3, 4, 40), (300, 48, 1))
    np.testing.assert_array_equal(scattered.read(region, UNIT), straight)


def test_writes_to_scattered_pages_land_where_reads_find_them() -> None:
    memory = _memory((0, 512, 256), (256, 0, 256))
    region = Region(200, (4,), (32,), 20)
    target = memory.target(region, UNIT)
    target.array[...] = np.arange(80).reshape(4, 20)
    target.commit()
    np.testing.assert_array_equal(memory.read(region, UNIT), np.arange(80).reshape(4, 20))


def test_gaps_between_runs_need_no_mapping() -> None:
    memory = _memory((0x100, 0, 16), (0x300, 64, 16))
    data = memory.read(Region(0x100, (2,), (0x200,), 16), UNIT)
    np.testing.assert_array_equal(data, [range(16), range(64, 80)])


@pytest.mark.parametrize(
    "region",
    [
        linear(0x0FFF, 2),
        linear(0x1000 + 1023, 2),
        linear(0x9000, 1),
        Region(0x1000, (3,), (0x200,), 1),
        Region(0x1010, (2,), (-32,), 8),
        linear(0xFFFF_FFF0, 64),
    ],
    ids=["before", "across the end", "elsewhere", "third run", "backwards", "past 32 bits"],
)
def test_any_byte_outside_the_mappings_faults_and_writes_nothing(region: Region) -> None:
    memory = _memory((0x1000, 0, 1024))
    before = memory.physical.copy()
    with pytest.raises(DeviceError, match=r"test unit: read of .* faults: 0x[0-9a-f]{8} is not mapped"):
        memory.read(region, UNIT)
    with pytest.raises(DeviceError, match=r"test unit: write of .* faults: 0x[0-9a-f]{8} is not mapped"):
        memory.target(region, UNIT)
    np.testing.assert_array_equal(memory.physical, before)


def test_a_read_only_mapping_refuses_writes() -> None:
    memory = _memory((0, 0, 64), writable=False)
    memory.read(linear(0, 64), UNIT)
    with pytest.raises(DeviceError, match="mapped read-only"):
        memory.target(linear(0, 64), UNIT)


def test_a_transfer_larger_than_memory_is_refused_before_anything_is_allocated() -> None:
    memory = _memory((0, 0, SIZE))
    with pytest.raises(DeviceError, match="more than the 4096 bytes of memory"):
        memory.read(Region(0, (1 << 20, 1 << 20), (0, 0), 16), UNIT)


def test_an_output_that_overlaps_itself_is_refused() -> None:
    memory = _memory((0, 0, SIZE))
    with pytest.raises(DeviceError, match="overlaps itself"):
        memory.target(Region(0, (2, 4), (16, 16), 16), UNIT)
    memory.target(Region(0, (2, 4), (16, 32), 16), UNIT)  # planes interleaved, as row-major matrices write them


def test_overlapping_mappings_are_an_error() -> None:
    table = Mappings()
    table.add(0x1000, 0, 0x100, writable=True)
    for address, size in ((0x10FF, 1), (0x0F01, 0x100), (0x0000, 0x2000), (0x1000, 0x100)):
        with pytest.raises(DeviceError, match="overlaps"):
            table.add(address, 0, size, writable=True)
    table.add(0x1100, 0, 1, writable=True)
    table.add(0x0FFF, 0, 1, writable=True)


def test_only_a_whole_mapping_is_unmapped() -> None:
    table = Mappings()
    table.add(0x1000, 0, 0x100, writable=True)
    with pytest.raises(DeviceError, match="no mapping"):
        table.remove(0x1000, 0x80)
    table.remove(0x1000, 0x100)
    with pytest.raises(DeviceError, match="not mapped"):
        table.spans(0x1000, 1, write=False)


@given(
    counts=st.lists(st.integers(1, 5), min_size=0, max_size=3),
    strides=st.lists(st.integers(-300, 300), min_size=3, max_size=3),
    run=st.integers(1, 64),
    address=st.integers(0, SIZE),
)
def test_regions_read_exactly_their_bytes_or_fault(
    counts: list[int], strides: list[int], run: int, address: int
) -> None:
    memory = _memory((0, 0, SIZE // 2), (SIZE // 2, SIZE // 2, SIZE // 2))
    region = Region(address, tuple(counts), tuple(strides[: len(counts)]), run)
    low, high = region.extent
    # Strides of zero can repeat bytes beyond the memory's size, which no layout of the chip does.
    if low < 0 or high > SIZE or region.size_bytes > SIZE:
        with pytest.raises(DeviceError):
            memory.read(region, UNIT)
        return
    data = memory.read(region, UNIT)
    for index in np.ndindex(data.shape):
        at = address + sum(i * s for i, s in zip(index[:-1], region.strides, strict=True)) + index[-1]
        assert data[index] == at % 256, (index, at)
