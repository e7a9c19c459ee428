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
    """One line of the table: what was found, beside what it should be.

    A number has the `target` as its most, or `least` as its least; a text says by `met` whether it is what `target`
    says.
    """

    name: str
    value: float | str
    unit: str = ""
    target: float | str | None = None
    least: float | None = None
    met: bool = True

    @property
    def missed(self) -> bool:
        if isinstance(self.value, str):
            return not self.met
        above = isinstance(self.target, float | int) and self.value > self.target
        return above or (self.least is not None and self.value < self.least)

    def __str__(self) -> str:
        if isinstance(self.value, str):
            found, target = f"{self.value:58s}", self.target or ""
        else:
            found = f"{self.value:12.3f} {self.unit:8s}"
            target = "" if self.target is None else f"<= {self.target:g}"
            target = target if self.least is None else f">= {self.least:g}"
        return f"{self.name:60s} {found} {target:16s}{' MISSED' if self.missed else ''}".rstrip()


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
