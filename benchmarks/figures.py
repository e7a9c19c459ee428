"""What the benchmarks share: a line of a table with its target, and how times, submissions and memory are measured."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rocketnpu.runtime.device import Part, Timing
from rocketnpu.runtime.emulated import EmulatedDevice

PEAK = """
import resource, sys
if sys.platform == "linux":
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    print(int(status["VmHWM"].split()[0]) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
"""Not getrusage on Linux: there the peak of the process that starts this one counts as well."""
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Figure:
    """One line of the table; `target` is what the value may be at most, None for a figure without one."""

    name: str
    value: float
    unit: str
    target: float | None = None

    @property
    def missed(self) -> bool:
        return self.target is not None and self.value > self.target

    def __str__(self) -> str:
        target = "" if self.target is None else f"<= {self.target:g}"
        return f"{self.name:44s} {self.value:12.3f} {self.unit:8s} {target:10s}{' MISSED' if self.missed else ''}"


class CountingDevice(EmulatedDevice):
    """The emulator, with a count of submissions."""

    submits = 0

    def submit(self, parts: Sequence[Part]) -> Timing:
        self.submits += 1
        return super().submit(parts)


def interleaved(calls: Sequence[Callable[[], Any]], runs: int) -> list[float]:
    """Median seconds of each call, taking turns, after two turns that warm up."""
    samples: list[list[float]] = [[] for _ in calls]
    for run in range(runs + 2):
        for call, times in zip(calls, samples, strict=True):
            start = time.perf_counter()
            call()
            if run >= 2:
                times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in samples]


def run_fresh(script: str) -> list[str]:
    """The lines that a script prints in a process of its own; the last is that process's peak memory in bytes."""
    result = subprocess.run([sys.executable, "-c", script + PEAK], capture_output=True, text=True, check=True)
    return result.stdout.splitlines()
