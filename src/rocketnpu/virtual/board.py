"""The virtual board: memory, the NPU's registers, and the one thread that works them for the kernel drivers.

Everything a driver does happens with `lock` held: system calls take it in their callers' threads, and interrupts,
kicks and watchdogs in the board's thread. Only computing, which the board's thread does too, leaves it free.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol

from rocketnpu.emulator.mmio import NpuHardware
from rocketnpu.virtual.clock import DeviceClock
from rocketnpu.virtual.cores import Cores
from rocketnpu.virtual.faults import HANG, PAGE_FAULT, TASK, FaultPlan
from rocketnpu.virtual.memory import PHYSICAL_BASE, AddressSpace, PhysicalPages

_LOG = logging.getLogger("rocketnpu.virtual")

_MESSAGES = 1000


class Worker(Protocol):
    """What the board's thread drives: a kernel driver's lower half."""

    def work(self) -> int | None:
        """Handle interrupts, kick what can run, end what has hung; the next deadline in device time (ns), if any."""
        ...


class Board:
    """Three cores on `pages`; `counters` and `messages` tell what happened, as a kernel's statistics and log do."""

    def __init__(self, memory_bytes: int, faults: FaultPlan) -> None:
        self.pages = PhysicalPages(memory_bytes)
        self.clock = DeviceClock()
        self.faults = faults
        self.lock = threading.Condition(threading.RLock())
        self.counters: Counter[str] = Counter()
        self.messages: deque[str] = deque(maxlen=_MESSAGES)
        self.worker: Worker | None = None
        self._hardware = NpuHardware(self.pages.bytes, PHYSICAL_BASE, deferred=True)
        self.cores = Cores(self._hardware, self.counters, self.report)
        self._empty = AddressSpace(self.pages)
        self._closing = False
        self._broken = False
        self._thread = threading.Thread(target=self._run, name="rocketnpu-board", daemon=True)
        self._thread.start()

    def start(self, worker: Worker) -> None:
        """Let the board's thread work for this driver."""
        with self.lock:
            self.worker = worker
            self.wake()

    def close(self) -> None:
        """Stop the thread and give the memory back."""
        with self.lock:
            self._closing = True
            self.lock.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self.pages.close()

    def wake(self) -> None:
        """There is work; called with the lock held."""
        self.clock.stop()
        self.lock.notify_all()

    def report(self, message: str) -> None:
        """A line of the kernel's log."""
        self.messages.append(message)
        _LOG.info("%s", message)

    def wait(self, ready: Callable[[], bool], deadline: int | None, interrupted: Callable[[], bool]) -> bool:
        """Wait, with the lock held, until `ready`; False at `deadline` (device time, ns) or when interrupted.

        Raises OSError(EIO) if the board's thread has died of an error of its own.
        """
        while not ready():
            if self._broken:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            timeout = 0.05  # how long an interrupted caller goes unnoticed
            if deadline is not None and not self.clock.stands_still:
                remaining = deadline - self.clock.now()
                if remaining <= 0:
                    return False
                timeout = min(timeout, remaining / 1e9)
            if interrupted():
                return False
            self.lock.wait(timeout)
        return True

    def begin_task(self, core: int, tasks: int = 1) -> bool:
        """Count tasks about to be kicked; False if a planned fault keeps the kick from the core."""
        kick = True
        for _ in range(tasks):
            self.counters["tasks"] += 1
            fault = self.faults.next(TASK)
            kick = kick and fault != HANG
            if fault == PAGE_FAULT:
                self.cores.attach(core, self._empty)
        return kick

    def _run(self) -> None:
        try:
            self._work()
        except BaseException:
            with self.lock:
                self._broken = True
                self.lock.notify_all()
            raise

    def _work(self) -> None:
        while True:
            with self.lock:
                while not self._closing:
                    deadline = self.worker.work() if self.worker is not None else None
                    if any(core.pending for core in self._hardware.cores):
                        break
                    timeout = None if deadline is None else max(deadline - self.clock.now(), 0) / 1e9
                    self.clock.go_on()
                    self.lock.wait(timeout)
                    self.clock.stop()
                if self._closing:
                    return
            self._compute()

    def _compute(self) -> None:
        """One task on each core that has a job; what breaks the emulator leaves the core as a hang does."""
        for core in self._hardware.cores:
            try:
                core.step()
            except Exception:  # a program must not stop the board for all others
                _LOG.exception("core %d: the emulator failed", core.number)
                self.report(f"core {core.number}: the emulator failed; the core is reset")
                core.reset()
