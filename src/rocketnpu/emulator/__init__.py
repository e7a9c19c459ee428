"""The emulator of the chip: executes register programs on memory, bit for bit, and knows nothing of the compiler."""

from __future__ import annotations

from rocketnpu.emulator.chip import Emulator, RunResult

__all__ = ["Emulator", "RunResult"]
