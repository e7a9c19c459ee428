"""A guest's memory and page tables, written word by word as an operating system's IOMMU driver does."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

PAGE = 4096
VALID, READABLE, WRITABLE = 1, 2, 4


def entry(physical: int, flags: int) -> int:
    """hardware/kernels.md, Rockchip IOMMU v2: [31:12] address 31:12, [11:8] address 35:32, [7:4] address 39:36."""
    return physical & 0xFFFFF000 | (physical >> 32 & 0xF) << 8 | (physical >> 36 & 0xF) << 4 | flags


class Guest:
    """Physical memory at `base`; pages are taken in random order, so that neighbours never are neighbours for long."""

    def __init__(self, size: int, base: int = 0, seed: int = 0, *, scattered: bool = True) -> None:
        self.memory: NDArray[np.uint8] = np.zeros(size, np.uint8)
        self.base = base
        self._free = [base + PAGE * index for index in range(size // PAGE)]
        if scattered:
            random.Random(seed).shuffle(self._free)
        self._free.reverse()
        self.directory = self.take()
        self._tables: dict[int, int] = {}

    def take(self) -> int:
        """A free page's physical address."""
        return self._free.pop()

    def word(self, physical: int) -> NDArray[np.uint32]:
        """The word at a physical address, to be set."""
        return self.memory[physical - self.base :][:4].view("<u4")

    def map_page(self, address: int, physical: int, flags: int = VALID | READABLE | WRITABLE) -> None:
        index = address >> 22
        if index not in self._tables:
            self._tables[index] = self.take()
            self.word(self.directory + 4 * index)[0] = entry(self._tables[index], VALID)
        self.word(self._tables[index] + 4 * (address >> 12 & 1023))[0] = entry(physical, flags)

    def map(self, address: int, size: int, flags: int = VALID | READABLE | WRITABLE) -> list[int]:
        """Back address..address+size with fresh pages; their physical addresses."""
        pages = [self.take() for _ in range(-(-size // PAGE))]
        for number, physical in enumerate(pages):
            self.map_page(address + PAGE * number, physical, flags)
        return pages

    def page(self, physical: int) -> NDArray[np.uint8]:
        return self.memory[physical - self.base :][:PAGE]


class Region:
    """Mapped memory seen through its pages."""

    def __init__(self, guest: Guest, address: int, size: int) -> None:
        self.guest, self.address, self.size = guest, address, size
        self.pages = guest.map(address, size)

    def store(self, data: NDArray[np.uint8], offset: int = 0) -> None:
        for index in range(offset // PAGE, -(-(offset + data.size) // PAGE)):
            low, high = max(offset, index * PAGE), min(offset + data.size, (index + 1) * PAGE)
            page = self.guest.page(self.pages[index])
            page[low - index * PAGE : high - index * PAGE] = data[low - offset : high - offset]

    def load(self) -> NDArray[np.uint8]:
        return np.concatenate([self.guest.page(page) for page in self.pages])[: self.size]
