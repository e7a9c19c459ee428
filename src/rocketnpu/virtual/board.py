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
from rocketnpu.hw.limits import CORES
from rocketnpu.hw.registers import CNA, CORE, PC, Register
from rocketnpu.hw.registers import iommu as mmu
from rocketnpu.hw.registers.iommu import BANK_OFFSETS, IOMMU
from rocketnpu.virtual.clock import DeviceClock
from rocketnpu.virtual.faults import HANG, PAGE_FAULT, TASK, FaultPlan
from rocketnpu.virtual.memory import PHYSICAL_BASE, AddressSpace, PhysicalPages

_LOG = logging.getLogger("rocketnpu.virtual")

SLAVE_MODE = PC.BASE_ADDRESS.encode(PC_SEL=1)
KICK_POINTER = CORE.S_POINTER.encode(POINTER_PP_MODE=1, EXECUTER_PP_EN=1, POINTER_PP_EN=1)
"""S_POINTER of CNA and CORE before a kick; the core's number is added (hardware/regcmd.md)."""
_CORE_NUMBER_SHIFT = 28
ALL_INTERRUPTS = (1 << 17) - 1
"""What both drivers write to INTERRUPT_CLEAR to clear everything (hardware/regcmd.md, On interrupt)."""
_RESET_PROBE = 0xCAFEBABE
"""What the IOMMU driver writes to DTE_ADDR to see whether the bank answers (hardware/kernels.md)."""
_PAGING_INTERRUPTS = IOMMU.INT_MASK.encode(PAGE_FAULT=1, BUS_ERROR=1)
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
        self._lines = [False] * CORES
        for core in self._hardware.cores:
            core.on_interrupt = self._line(core.number)
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

    # What drivers do to a core; only from `Worker.work`.

    def read(self, core: int, register: Register) -> int:
        """One register of the core's window."""
        return self._hardware.cores[core].read(register.offset)

    def write(self, core: int, register: Register, value: int) -> None:
        """Write one register."""
        self._hardware.cores[core].write(register.offset, value)

    def select_core(self, core: int) -> None:
        """The pointers that every kick writes first, in slave mode (hardware/regcmd.md, What the drivers write)."""
        pointer = KICK_POINTER | core << _CORE_NUMBER_SHIFT
        self.write(core, PC.BASE_ADDRESS, SLAVE_MODE)
        self.write(core, CNA.S_POINTER, pointer)
        self.write(core, CORE.S_POINTER, pointer)

    def interrupt(self, core: int) -> bool:
        """Whether the core's interrupt line is up."""
        return self._lines[core]

    def stands_still(self, core: int) -> bool:
        """Whether nothing will happen on the core any more by itself."""
        return not self._hardware.cores[core].pending

    def reset(self, core: int) -> None:
        """Pull the core's reset lines; its IOMMU has to be attached again."""
        self.counters["resets"] += 1
        self._hardware.cores[core].reset()

    def begin_task(self, core: int, tasks: int = 1) -> bool:
        """Count tasks about to be kicked; False if a planned fault keeps the kick from the core."""
        kick = True
        for _ in range(tasks):
            self.counters["tasks"] += 1
            fault = self.faults.next(TASK)
            kick = kick and fault != HANG
            if fault == PAGE_FAULT:
                self.attach(core, self._empty)
        return kick

    def attach(self, core: int, space: AddressSpace) -> None:
        """Give the core an address space, as the IOMMU's driver does (hardware/kernels.md)."""
        self._command(core, mmu.ENABLE_STALL)
        for bank in BANK_OFFSETS[core]:
            self._write_bank(core, bank, IOMMU.DTE_ADDR, _RESET_PROBE)
            answer = self._read_bank(core, bank, IOMMU.DTE_ADDR)
            if answer != _RESET_PROBE & IOMMU.DTE_ADDR.field("DIRECTORY").mask:
                self.report(f"core {core}: the IOMMU answers {answer:#x} to the reset check")
        self._command(core, mmu.FORCE_RESET)
        for bank in BANK_OFFSETS[core]:
            self._write_bank(core, bank, IOMMU.DTE_ADDR, space.directory)
        self._command(core, mmu.ZAP_CACHE)
        for bank in BANK_OFFSETS[core]:
            self._write_bank(core, bank, IOMMU.INT_MASK, _PAGING_INTERRUPTS)
        self._command(core, mmu.ENABLE_PAGING)
        self._command(core, mmu.DISABLE_STALL)

    def detach(self, core: int) -> None:
        """Take the address space away."""
        self._command(core, mmu.ENABLE_STALL)
        self._command(core, mmu.DISABLE_PAGING)
        for bank in BANK_OFFSETS[core]:
            self._write_bank(core, bank, IOMMU.INT_MASK, 0)
            self._write_bank(core, bank, IOMMU.DTE_ADDR, 0)
        self._command(core, mmu.DISABLE_STALL)

    def iommu_interrupt(self, core: int) -> None:
        """The IOMMU's half of the shared interrupt: log the fault, zap, and let the access go on."""
        for bank in BANK_OFFSETS[core]:
            status = self._read_bank(core, bank, IOMMU.INT_STATUS)
            if not status:
                continue
            address = self._read_bank(core, bank, IOMMU.PAGE_FAULT_ADDR)
            write = IOMMU.STATUS.field_value(self._read_bank(core, bank, IOMMU.STATUS), "PAGE_FAULT_IS_WRITE")
            fault = IOMMU.INT_STATUS.field_value(status, "PAGE_FAULT")
            self.counters["page faults" if fault else "bus errors"] += 1
            kind = "page fault" if fault else "bus error"
            self.report(f"core {core}: IOMMU {kind} at {address:#010x}, {'write' if write else 'read'}")
            self._write_bank(core, bank, IOMMU.COMMAND, IOMMU.COMMAND.encode(COMMAND=mmu.ZAP_CACHE))
            if fault:
                self._write_bank(core, bank, IOMMU.COMMAND, IOMMU.COMMAND.encode(COMMAND=mmu.PAGE_FAULT_DONE))
            self._write_bank(core, bank, IOMMU.INT_CLEAR, status)

    def _command(self, core: int, command: int) -> None:
        for bank in BANK_OFFSETS[core]:
            self._write_bank(core, bank, IOMMU.COMMAND, IOMMU.COMMAND.encode(COMMAND=command))

    def _read_bank(self, core: int, bank: int, register: Register) -> int:
        return self._hardware.cores[core].read(bank + register.offset)

    def _write_bank(self, core: int, bank: int, register: Register, value: int) -> None:
        self._hardware.cores[core].write(bank + register.offset, value)

    def _line(self, number: int) -> Callable[[bool], None]:
        def change(level: bool) -> None:
            self._lines[number] = level

        return change

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
