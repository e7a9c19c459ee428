"""The time of the virtual device: real time, but only while the board has nothing to do.

What takes the emulator a second takes the chip milliseconds, and how long a loaded machine keeps the board's thread
waiting means nothing for the chip. So the clock stands still from a kick until all that follows from it has happened,
and a deadline passes only where it would on silicon: when a job hangs.
"""

from __future__ import annotations

import threading
import time


class DeviceClock:
    """Nanoseconds of device time; its zero is arbitrary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stood_still = 0
        self._stopped_at: int | None = None

    @property
    def stands_still(self) -> bool:
        """Whether the board is at work."""
        return self._stopped_at is not None

    def now(self) -> int:
        """Device time in nanoseconds."""
        with self._lock:
            now = time.monotonic_ns() if self._stopped_at is None else self._stopped_at
            return now - self._stood_still

    def stop(self) -> None:
        """The board has something to do."""
        with self._lock:
            if self._stopped_at is None:
                self._stopped_at = time.monotonic_ns()

    def go_on(self) -> None:
        """The board has nothing left to do, or waits for a deadline."""
        with self._lock:
            if self._stopped_at is not None:
                self._stood_still += time.monotonic_ns() - self._stopped_at
                self._stopped_at = None
