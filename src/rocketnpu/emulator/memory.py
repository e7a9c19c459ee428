"""The memory that the units see: addresses translated to physical bytes, strided regions, and faults.

Every access names its unit. Extents are checked before any array is made: nothing outside a mapping is ever touched.
"""

from __future__ import annotations

import bisect
import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import DeviceError

Bytes: TypeAlias = NDArray[np.uint8]

_MOST_VIEWS = 1 << 16

ATOM = np.dtype((np.void, 16))
"""16 bytes as one element: numpy then copies whole atoms."""


@dataclass(frozen=True)
class Region:
    """Runs of `run_bytes` bytes at address + sum(index * stride), index over `counts`; strides in bytes, signed."""

    address: int
    counts: tuple[int, ...]
    strides: tuple[int, ...]
    run_bytes: int

    @cached_property
    def size_bytes(self) -> int:
        """Bytes transferred."""
        return math.prod(self.counts) * self.run_bytes

    @cached_property
    def extent(self) -> tuple[int, int]:
        """First address, and the one past the last."""
        steps = [(count - 1) * stride for count, stride in zip(self.counts, self.strides, strict=True)]
        low = self.address + sum(min(step, 0) for step in steps)
        return low, self.address + sum(max(step, 0) for step in steps) + self.run_bytes

    @cached_property
    def overlaps_itself(self) -> bool:
        """Whether two runs may share a byte (exact when the axes nest, else on the safe side)."""
        covered = self.run_bytes
        axes = [(abs(s), n) for s, n in zip(self.strides, self.counts, strict=True) if n > 1]
        for stride, count in sorted(axes):
            if stride < covered:
                return True
            covered += (count - 1) * stride
        return False

    def merged(self) -> Region:
        """The same bytes in the same order with as few runs as possible."""
        counts, strides, run = list(self.counts), list(self.strides), self.run_bytes
        while counts and (counts[-1] == 1 or strides[-1] == run):
            run *= counts.pop()
            strides.pop()
        return Region(self.address, tuple(counts), tuple(strides), run)


def linear(address: int, size_bytes: int) -> Region:
    """A contiguous region."""
    return Region(address, (), (), size_bytes)


class Translation(Protocol):
    """Where an address range lies in physical memory; what an IOMMU does.

    `version` changes whenever a range may lie elsewhere; None stands for a translation that may change at any time.
    """

    @property
    def version(self) -> int | None:
        """Which state of the translation this is."""
        ...

    def spans(self, address: int, size_bytes: int, *, write: bool) -> list[tuple[int, int]]:
        """Physical (offset, length) pairs in order, neighbours merged; raises DeviceError for any unmapped byte."""
        ...


class Mappings:
    """Address ranges mapped to contiguous physical memory."""

    def __init__(self) -> None:
        self.version = 0
        self._starts: list[int] = []
        self._ranges: list[tuple[int, int, int, bool]] = []

    def add(self, address: int, offset: int, size_bytes: int, *, writable: bool) -> None:
        """Map address..address+size to physical offset..; raises DeviceError where it overlaps another mapping."""
        index = bisect.bisect_left(self._starts, address)
        before = self._ranges[index - 1 : index] if index else []
        for start, size, _, _ in before + self._ranges[index : index + 1]:
            if start < address + size_bytes and address < start + size:
                raise DeviceError(
                    f"mapping {address:#x}..{address + size_bytes:#x} overlaps {start:#x}..{start + size:#x}: unmap it"
                )
        self.version += 1
        self._starts.insert(index, address)
        self._ranges.insert(index, (address, size_bytes, offset, writable))

    def remove(self, address: int, size_bytes: int) -> None:
        """Undo an `add` with the same range; raises DeviceError if there is none."""
        index = bisect.bisect_left(self._starts, address)
        if self._ranges[index : index + 1] and self._ranges[index][:2] == (address, size_bytes):
            self.version += 1
            del self._starts[index], self._ranges[index]
            return
        raise DeviceError(f"no mapping {address:#x}..{address + size_bytes:#x} to undo")

    def spans(self, address: int, size_bytes: int, *, write: bool) -> list[tuple[int, int]]:
        """See Translation."""
        spans: list[tuple[int, int]] = []
        position, end = address, address + size_bytes
        index = bisect.bisect_right(self._starts, address) - 1
        while position < end:
            start, size, offset, writable = self._ranges[index] if 0 <= index < len(self._ranges) else (0, 0, 0, False)
            if not start <= position < start + size:
                raise DeviceError(f"{position:#010x} is not mapped")
            if write and not writable:
                raise DeviceError(f"{position:#010x} is mapped read-only")
            length = min(start + size, end) - position
            physical = offset + position - start
            if spans and sum(spans[-1]) == physical:
                spans[-1] = (spans[-1][0], spans[-1][1] + length)
            else:
                spans.append((physical, length))
            position += length
            index += 1
        return spans


class Target:
    """Memory being written: fill `array` (uint8, the region's counts and run), then `commit`."""

    def __init__(self, memory: Memory, region: Region, unit: str, view: Bytes | None) -> None:
        self._memory, self._region, self._unit = memory, region, unit
        self._staged = view is None
        self.array: Bytes = np.empty((*region.counts, region.run_bytes), np.uint8) if view is None else view

    def commit(self) -> None:
        """Store what is not in memory yet; call it once, when all bytes are written."""
        if self._staged:
            self._memory.store(self._region, self.array, self._unit)


class Memory:
    """Physical bytes behind a translation."""

    def __init__(self, physical: Bytes, translation: Translation) -> None:
        self.physical = physical
        self.translation = translation
        self._views: dict[tuple[Region, bool], Bytes] = {}
        self._views_version: int | None = None

    def read(self, region: Region, unit: str) -> Bytes:
        """The region's bytes, uint8 [*counts, run_bytes], read-only: a view where memory allows it, else a copy.

        Raises DeviceError naming unit, address and size if any byte is not mapped.
        """
        view = self._view(region, unit, write=False)
        if view is None:
            view = np.empty((*region.counts, region.run_bytes), np.uint8)
            flat = view.reshape(-1)
            for position, offset, length in self._pieces(region, unit, write=False):
                flat[position : position + length] = self.physical[offset : offset + length]
            view.flags.writeable = False
        return view

    def target(self, region: Region, unit: str) -> Target:
        """The region to write; raises DeviceError as `read`, and for a region that overlaps itself."""
        if region.overlaps_itself:
            low, high = region.extent
            raise DeviceError(f"{unit}: the output at {low:#010x}..{high:#010x} overlaps itself: check its strides")
        view = self._view(region, unit, write=True)
        if view is None:
            for _ in self._pieces(region, unit, write=True):
                pass
        return Target(self, region, unit, view)

    def store(self, region: Region, data: Bytes, unit: str) -> None:
        """Write `data`, in the region's order, piece by piece."""
        flat = data.reshape(-1)
        for position, offset, length in list(self._pieces(region, unit, write=True)):
            self.physical[offset : offset + length] = flat[position : position + length]

    def _view(self, region: Region, unit: str, *, write: bool) -> Bytes | None:
        """The region in place if its whole extent is physically contiguous, else None; remembered while that holds."""
        version = self.translation.version
        if version is None:
            return self._contiguous(region, unit, write=write)
        if version != self._views_version or len(self._views) > _MOST_VIEWS:
            self._views, self._views_version = {}, version
        view = self._views.get((region, write))
        if view is None:
            view = self._contiguous(region, unit, write=write)
            if view is not None:
                self._views[region, write] = view
        return view

    def _contiguous(self, region: Region, unit: str, *, write: bool) -> Bytes | None:
        if region.size_bytes > self.physical.size:
            raise self._fault(region, unit, write, f"it is more than the {self.physical.size} bytes of memory")
        low, high = region.extent
        try:
            spans = self.translation.spans(low, high - low, write=write)
        except DeviceError:
            # Only the gaps between the runs may be unmapped: the caller looks at each run.
            return None
        if len(spans) != 1:
            return None
        start = spans[0][0] + region.address - low
        shape = (*region.counts, region.run_bytes)
        view = np.ndarray(shape, np.uint8, self.physical.data, start, (*region.strides, 1))
        view.flags.writeable = write
        return view

    def _pieces(self, region: Region, unit: str, *, write: bool) -> Any:
        """(position in the region's order, physical offset, length) of every contiguous piece."""
        whole = region.merged()
        position = 0
        for index in itertools.product(*map(range, whole.counts)):
            address = whole.address + sum(i * stride for i, stride in zip(index, whole.strides, strict=True))
            try:
                spans = self.translation.spans(address, whole.run_bytes, write=write)
            except DeviceError as error:
                raise self._fault(region, unit, write, str(error)) from error
            for offset, length in spans:
                yield position, offset, length
                position += length

    @staticmethod
    def _fault(region: Region, unit: str, write: bool, why: str) -> DeviceError:
        low, high = region.extent
        verb = "write" if write else "read"
        return DeviceError(f"{unit}: {verb} of {region.size_bytes} bytes in {low:#010x}..{high:#010x} faults: {why}")
