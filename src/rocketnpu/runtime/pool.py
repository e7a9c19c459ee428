"""Device memory that is kept for reuse: making, mapping and unmapping a buffer costs more than clearing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rocketnpu.hw.page_table import PAGE_BYTES
from rocketnpu.hw.sizes import align

LARGEST_WASTE = 2
"""A free block serves requests down to its size divided by this."""


@dataclass(frozen=True, eq=False)
class Block:
    """A kernel buffer with its persistent mapping: what the NPU, this process and the kernel know it by."""

    address: int
    memory: NDArray[np.uint8]
    handle: int
    kernel_object: int = 0
    """rknpu only: the kernel's own name of the buffer, for submits and cache synchronisation."""


class Pool:
    """Blocks in whole pages; those given back serve later requests, and are destroyed when memory runs out."""

    def __init__(self, create: Callable[[int], Block | None], destroy: Callable[[Block], None]):
        """`create` returns None when there is no memory."""
        self._create = create
        self._destroy = destroy
        self._free: list[Block] = []

    def take(self, size_bytes: int) -> Block | None:
        """A zeroed block of at least `size_bytes`; None when there is no memory even without the free blocks."""
        size = align(max(size_bytes, 1), PAGE_BYTES)
        fitting = [block for block in self._free if size <= block.memory.size <= LARGEST_WASTE * size]
        if fitting:
            block = min(fitting, key=lambda item: item.memory.size)
            self._free.remove(block)
            block.memory[:] = 0
            return block
        block = self._create(size)
        if block is None and self._free:
            while self._free:
                self._destroy(self._free.pop())
            block = self._create(size)
        return block

    def give(self, block: Block) -> None:
        """Keep a block for later."""
        self._free.append(block)

    def clear(self) -> None:
        """Forget the free blocks, which somebody else destroys or has destroyed."""
        self._free.clear()
