"""Failures of the virtual kernel at every call and every task: what a session says, and what is left behind.

Each is injected into a life: a device is opened, two sessions on it run one inference after the other, all is closed.
The life ends with right answers or typed errors; then the next inference is right, and no buffer object is left.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import rocketnpu as rn
from benchmarks.cases import DRIVERS, Arrays, Case
from benchmarks.figures import Figure
from rocketnpu.runtime.device import Device
from rocketnpu.runtime.devices import open_device
from rocketnpu.uapi import drm, rknpu
from rocketnpu.virtual import VirtualKernel
from rocketnpu.virtual.faults import ANY_CALL, CALLS, REMOVE
from rocketnpu.virtual.preload import run
from rocketnpu.virtual.system import System

ERRNOS = ("EINTR", "EAGAIN", "ENOMEM", "EBUSY")
TASK_FAULTS = {"hang": "a task that hangs", "page-fault": "an IOMMU fault"}

WATCHDOG_MS = 600
"""Of the virtual kernel; above the 500 ms after which a session takes rocket's job for one that has hung."""

SLACK_SECONDS = 1.0
"""What a loaded machine may add to the watchdog's time."""

MEMORY_BYTES = 1 << 24
REPEATS = 5
KILLED = 128 + 9
HELD = ("files", "buffers", "mappings")

T = TypeVar("T")


@dataclass
class Tally:
    """What a kind of failure led to; `problems` are what must not happen."""

    injected: int = 0
    errors: int = 0
    longest_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def row(self, name: str) -> Figure:
        """One line; the target is that there are no problems."""
        figure = f"{self.injected} injected, {self.errors} typed errors, longest {self.longest_seconds:.2f} s"
        if self.problems:
            figure += f"; {len(self.problems)} problems: {self.problems[0]}"
        return Figure(name, figure, target="0 problems", met=not self.problems)


def faults(case: Case) -> Iterator[Figure]:
    """All rows for both drivers; `case` must be small."""
    gc.collect()
    gc.freeze()  # each life ends with a collection, which need not look at what was there before
    for driver in DRIVERS:
        calls = _calls_of_a_life(case, driver)
        for number in ERRNOS:
            tally = Tally()
            for call in range(1, calls + 1):
                _inject(case, driver, f"{number}@{ANY_CALL}:{call}", tally)
            yield tally.row(f"{number} at each of {calls} calls: {driver}")
        tasks = 2 * len(case.program.tasks)
        for what, words in TASK_FAULTS.items():
            tally = Tally()
            for task in range(1, tasks + 1):
                _inject(case, driver, f"{what}@task:{task}", tally)
            if tally.errors != tasks:
                tally.problems.append(f"{tasks - tally.errors} faults without a typed error")
            yield tally.row(f"{words}, each of {tasks} tasks: {driver}")
        tally = Tally()
        for call in range(1, calls + 1):
            _inject(case, driver, f"remove@{ANY_CALL}:{call}", tally)
        yield tally.row(f"the device removed at each of {calls} calls: {driver}")
    gc.unfreeze()
    yield from _processes(case)


def _calls_of_a_life(case: Case, driver: str) -> int:
    """System calls of a life without failures."""
    with VirtualKernel(driver, memory_bytes=MEMORY_BYTES) as kernel:
        _Life(case, kernel).live()
        return sum(kernel.counters.get(name, 0) for name in CALLS if name != ANY_CALL)


def _inject(case: Case, driver: str, fault: str, tally: Tally) -> None:
    removed = fault.startswith(REMOVE)
    problems: list[str] = []
    with VirtualKernel(driver, memory_bytes=MEMORY_BYTES, faults=fault, watchdog_ms=WATCHDOG_MS) as kernel:
        life = _Life(case, kernel, removed=removed)
        start = time.monotonic()
        try:
            life.live()
        except Exception as error:  # all that the life does not expect
            problems.append(f"{type(error).__name__}: {error}")
        seconds = time.monotonic() - start
        gc.collect()
        problems += _left(kernel.system)
    if removed:
        with VirtualKernel(driver, memory_bytes=MEMORY_BYTES) as kernel:
            _Life(case, kernel).live()
    if seconds > WATCHDOG_MS / 1000 + SLACK_SECONDS:
        problems.append(f"took {seconds:.1f} s")
    tally.injected += 1
    tally.errors += life.errors
    tally.longest_seconds = max(tally.longest_seconds, seconds)
    tally.problems += [f"{fault}: {problem}" for problem in problems]


def _left(system: System) -> list[str]:
    """What the kernel still holds for files that are closed, once jobs under way have had the time to end."""
    deadline = time.monotonic() + WATCHDOG_MS / 1000 + SLACK_SECONDS
    while any(system.counters.get(name, 0) for name in HELD) and time.monotonic() < deadline:
        time.sleep(0.01)
    return [f"{system.counters[name]} {name} left" for name in HELD if system.counters.get(name, 0)]


class _Watched:
    """A kernel, with a count of the buffers that it has refused to take back."""

    def __init__(self, kernel: VirtualKernel) -> None:
        self._kernel = kernel
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure) -> int:
        try:
            return self._kernel.ioctl(fd, request, argument)
        except OSError:
            self.refused += request in (drm.GEM_CLOSE, rknpu.MEM_DESTROY)
            raise


class _Life:
    """A device and two sessions on it, one after the other, with at most one failure somewhere."""

    def __init__(self, case: Case, kernel: VirtualKernel, *, removed: bool = False) -> None:
        """`removed`: the failure is that the device goes, for good."""
        self._case = case
        self._virtual = kernel
        self._kernel = _Watched(kernel)
        self._removed = removed
        self.errors = 0

    def live(self) -> None:
        """Raises what must not happen: a second error, one that is not typed, a wrong answer."""
        device = self._with_second_try(self._open)
        if device is None:
            return
        with closing(device):
            for _ in range(2):
                session = self._with_second_try(partial(rn.Session, self._case.program, device))
                if session is None:
                    return
                answers = self._with_second_try(partial(self._infer, session))
                self._with_second_try(session.close)
                if answers is None:
                    return
                if not all(self._case.right(found, number) for number, found in enumerate(answers)):
                    raise AssertionError("a wrong answer")
            self._check_buffers(device)

    def _open(self) -> Device:
        device = open_device("auto", self._case.program, self._kernel)
        if device.name not in DRIVERS:
            raise AssertionError(f"device {device.name} instead of the NPU")
        return device

    def _check_buffers(self, device: Device) -> None:
        """Without memory left, a device gives up what it keeps for reuse: its page at address 0 remains."""
        for _ in range(2):  # the failure may happen here, too
            with suppress(rn.DeviceError):
                device.allocate(MEMORY_BYTES)
                raise AssertionError("there was memory for everything")
        gc.collect()
        found, expected = self._virtual.counters["buffers"], 1 + self._kernel.refused
        if found > expected and not self._removed:
            raise AssertionError(f"{found - expected} buffers leaked")

    def _infer(self, session: rn.Session) -> list[Arrays]:
        """Two frames that overlap, and one more."""
        frames = [session.submit(x) for x in self._case.inputs[:2]]
        return [*(frame.wait() for frame in frames), session.run(self._case.inputs[2])]

    def _with_second_try(self, action: Callable[[], T]) -> T | None:
        """The action's result. After a typed error it has to succeed at once, unless the device has gone (None)."""
        try:
            return action()
        except rn.DeviceError:
            self.errors += 1
        try:
            return action()
        except rn.DeviceError as error:
            if not self._removed:
                raise AssertionError(f"the next try failed, too: {error}") from error
            return None


def _processes(case: Case) -> Iterator[Figure]:
    """What needs processes of their own, which reach the virtual kernel through system calls."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case.save(folder)
        for driver in DRIVERS:
            tally = Tally()
            for submit in range(1, REPEATS + 1):
                _clients(tally, driver, folder, {"lose": 0}, faults=f"kill@submit:{submit}")
                _clients(tally, driver, folder, {"infer": 0})
            yield tally.row(f"the server killed at a submit, then a new one: {driver}")
            tally = Tally()
            for _ in range(REPEATS):
                _clients(tally, driver, folder, {"die": KILLED, "infer": 0}, faults="hang@task:1")
            yield tally.row(f"SIGKILL in a submit, then another client: {driver}")
            tally = Tally()
            for _ in range(REPEATS):
                _clients(tally, driver, folder, {"fork": 0})
            yield tally.row(f"fork with an open session: {driver}")


def _clients(tally: Tally, driver: str, folder: Path, codes: Mapping[str, int], *, faults: str = "") -> None:
    """Clients on one virtual kernel, one after the other, each with the exit code that is right for it."""
    system = System(driver, memory_bytes=MEMORY_BYTES, faults=faults, watchdog_ms=WATCHDOG_MS)
    try:
        for what, expected in codes.items():
            start = time.monotonic()
            code = run(system, [sys.executable, "-m", "benchmarks.kernel_client", what, driver, str(folder)])
            tally.longest_seconds = max(tally.longest_seconds, time.monotonic() - start)
            tally.errors += what != "infer" and code == expected
            if code != expected:
                tally.problems.append(f"{what}: exit code {code}, not {expected}")
        tally.problems += _left(system)
    finally:
        system.stop()
    tally.injected += 1
