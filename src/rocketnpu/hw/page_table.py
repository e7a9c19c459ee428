"""The two-level page table of the Rockchip IOMMU v2: entries to addresses and back (hardware/kernels.md).

A virtual address has 32 bits: [31:22] index the directory, [21:12] a table, [11:0] are the offset in the page.
Directory and tables are 1024 little-endian 32-bit entries each and start on a page. An entry holds a physical address
of 40 bits: [31:12] its bits 31:12, [11:8] its bits 35:32, [7:4] its bits 39:36.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import Error

PAGE_SHIFT = 12
PAGE_BYTES = 1 << PAGE_SHIFT
TABLE_ENTRIES = 1024
"""Entries of the directory, and of a table."""
TABLE_SHIFT = 10
PAGES = 1 << 20
"""Pages of an address space."""
PHYSICAL_BITS = 40

VALID = 1 << 0
READABLE = 1 << 1
WRITABLE = 1 << 2
"""Flags of an entry; a directory entry has only VALID."""

_LOW = 0xFFFF_F000
"""Address bits 31:12, in their place."""
_BITS_35_32 = (0xF00, 24)
_BITS_39_36 = (0x0F0, 32)
"""Bits of the entry, and how far left of there they belong in the address."""


def entry(address: int, flags: int = 0) -> int:
    """The entry for the page or table at a physical address; raises Error unless it is the start of a 40-bit page."""
    if address % PAGE_BYTES or not 0 <= address < 1 << PHYSICAL_BITS:
        raise Error(f"{address:#x} is not the start of a {PAGE_BYTES}-byte page below {1 << PHYSICAL_BITS:#x}")
    high = sum(address >> shift & mask for mask, shift in (_BITS_35_32, _BITS_39_36))
    return address & _LOW | high | flags


def address_of(entry: int) -> int:
    """The physical address in an entry or in DTE_ADDR."""
    return entry & _LOW | sum((entry & mask) << shift for mask, shift in (_BITS_35_32, _BITS_39_36))


def addresses_of(entries: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """`address_of` for an array of any shape."""
    wide = entries.astype(np.uint64)
    addresses = wide & np.uint64(_LOW)
    for mask, shift in (_BITS_35_32, _BITS_39_36):
        addresses |= (wide & np.uint64(mask)) << np.uint64(shift)
    return addresses
