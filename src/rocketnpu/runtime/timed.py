"""A device that keeps account of where the time of its submissions goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rocketnpu.program.model import Program
from rocketnpu.runtime.device import Buffer, Device, Part, Timing


class TimedDevice(Device):
    """Passes everything on to `inner`; `spent` sums up what its submissions and cache synchronisations took."""

    def __init__(self, inner: Device):
        self._inner = inner
        self.spent = Timing(0.0, 0.0)
        self.submissions = 0

    @property
    def name(self) -> str:
        """See Device."""
        return self._inner.name

    @property
    def cores(self) -> int:
        """See Device."""
        return self._inner.cores

    @property
    def frames(self) -> int:
        """See Device."""
        return self._inner.frames

    def sibling(self) -> Device | None:
        """See Device; a sibling keeps no account."""
        return self._inner.sibling()

    def adapt(self, program: Program) -> Program:
        """See Device."""
        return self._inner.adapt(program)

    def allocate(self, size_bytes: int) -> Buffer:
        """See Device."""
        return self._inner.allocate(size_bytes)

    def release(self, buffer: Buffer) -> None:
        """See Device."""
        self._inner.release(buffer)

    def host_writes(self, buffer: Buffer, start: int, stop: int) -> None:
        """See Device."""
        self._synchronise(self._inner.host_writes, buffer, start, stop)

    def host_reads(self, buffer: Buffer, start: int, stop: int) -> None:
        """See Device."""
        self._synchronise(self._inner.host_reads, buffer, start, stop)

    def submit(self, parts: Sequence[Part]) -> Timing:
        """See Device."""
        timing = self._inner.submit(parts)
        self.submissions += 1
        self._add(timing.submit_seconds, timing.device_seconds)
        return timing

    def close(self) -> None:
        """See Device."""
        self._inner.close()

    def _synchronise(self, call: Callable[[Buffer, int, int], None], buffer: Buffer, start: int, stop: int) -> None:
        begin = time.perf_counter()
        call(buffer, start, stop)
        self._add(time.perf_counter() - begin, 0.0)

    def _add(self, submit_seconds: float, device_seconds: float) -> None:
        self.spent = Timing(self.spent.submit_seconds + submit_seconds, self.spent.device_seconds + device_seconds)
