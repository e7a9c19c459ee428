"""The emulator as a device: buffers at separate addresses, with unmapped pages between them to catch overruns."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence

from rocketnpu.emulator import Emulator
from rocketnpu.errors import DeviceError, DeviceWarning
from rocketnpu.hw.limits import CORES
from rocketnpu.hw.page_table import PAGE_BYTES
from rocketnpu.hw.sizes import align
from rocketnpu.runtime.device import Buffer, Device, Part, Timing

FIRST_ADDRESS = 0x10000


class EmulatedDevice(Device):
    """One emulated chip with `memory_bytes` of memory for buffers, each rounded up to whole pages."""

    def __init__(self, memory_bytes: int):
        self._chip = Emulator(memory_bytes)
        self._offset = 0
        self._address = FIRST_ADDRESS

    @property
    def name(self) -> str:
        """See Device."""
        return "emulator"

    @property
    def cores(self) -> int:
        """See Device."""
        return CORES

    def allocate(self, size_bytes: int) -> Buffer:
        """See Device."""
        size = align(max(size_bytes, 1), PAGE_BYTES)
        if self._offset + size > self._chip.memory.size:
            raise DeviceError(
                f"the emulator has {self._chip.memory.size} bytes of memory; {size} more than the {self._offset} "
                "in use were asked for"
            )
        self._chip.map(self._address, self._offset, size)
        buffer = Buffer(self._address, self._chip.memory[self._offset : self._offset + size_bytes])
        self._offset += size
        self._address += size + PAGE_BYTES
        return buffer

    def submit(self, parts: Sequence[Part]) -> Timing:
        """See Device."""
        start = time.perf_counter()
        for part in parts:
            chains = [(core, chain) for core, chain in enumerate(part) if chain]
            if chains:
                result = self._chip.run(
                    [chain[0].address for _, chain in chains],
                    [len(chain) for _, chain in chains],
                    cores=[core for core, _ in chains],
                    body_entries=[chain[0].body_entries for _, chain in chains],
                )
                for warning in (text for core in result.cores for text in core.warnings):
                    warnings.warn(warning, DeviceWarning, stacklevel=2)
        return Timing(0.0, time.perf_counter() - start)

    def close(self) -> None:
        """See Device; the memory goes with the last reference to the session's arrays."""


def buffer_bytes(sizes: Sequence[int]) -> int:
    """Memory for an EmulatedDevice that is to hold buffers of these sizes; at least a page, even for none."""
    return max(sum(align(max(size, 1), PAGE_BYTES) for size in sizes), PAGE_BYTES)
