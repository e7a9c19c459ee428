"""The time of the virtual device: real time, standing still while the emulator computes.

What takes the emulator a second takes the chip milliseconds; timeouts are meant for the chip. So a deadline passes
only while nothing is being computed: when a job hangs, or waits for something that does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager


class DeviceClock:
    """Nanoseconds of device time; its zero is arbitrary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stood_still = 0
        self._stopped_at: int | None = None

    @property
    def stands_still(self) -> bool:
        """Whether the emulator computes at this moment."""
        return self._stopped_at is not None

    def now(self) -> int:
        """Device time in nanoseconds."""
        with self._lock:
            now = time.monotonic_ns() if self._stopped_at is None else self._stopped_at
            return now - self._stood_still

    @contextmanager
    def stopped(self) -> Generator[None]:
        """Around computing; one thread at a time."""
        with self._lock:
            start = self._stopped_at = time.monotonic_ns()
        try:
            yield
        finally:
            with self._lock:
                self._stopped_at = None
                self._stood_still += time.monotonic_ns() - start
