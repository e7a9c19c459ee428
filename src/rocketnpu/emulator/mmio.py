"""The NPU as the CPU sees it: each core's window of registers, its program controller, its IOMMU, its interrupt line.

Drivers written for silicon work with `NpuCore.read`, `write` and `on_interrupt` unchanged. What hangs on silicon hangs
here: the job stays busy without an interrupt until `reset`, and the logger rocketnpu.emulator says why.
Source: hardware/registers.md (Windows, PC, S_POINTER) and hardware/regcmd.md (What the kernel drivers write).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np

from rocketnpu.emulator.chip import Chain, Core
from rocketnpu.emulator.iommu import Bank, BusFault, Iommu, PhysicalMemory, TranslationFault
from rocketnpu.emulator.memory import Bytes, Memory
from rocketnpu.emulator.pc import GROUPED_BLOCKS, RegisterWrites
from rocketnpu.emulator.state import FIRST_GROUPED_OFFSET, S_POINTER_OFFSET
from rocketnpu.emulator.task_cache import TaskCache
from rocketnpu.emulator.workspace import Workspace
from rocketnpu.errors import DeviceError, DeviceTimeout, Error
from rocketnpu.hw import regcmd
from rocketnpu.hw.codes import HARDWARE_VERSION
from rocketnpu.hw.limits import CORES
from rocketnpu.hw.registers import CNA, CORE, DDMA, DPU, GLOBAL, IOMMU, PC, SDMA, Register, register_at
from rocketnpu.hw.registers.iommu import BANK_BYTES, BANK_OFFSETS

WINDOW_BYTES = 0x10000
"""Size of a core's window."""

_HOLE = range(0x2000, 0x3000)
"""A CPU read here locks the SoC up (hardware/registers.md, Windows) [silicon]."""
_INTERRUPT_BITS = (1 << 17) - 1
"""Width of the interrupt registers; bits 14 to 16 have no name (hardware/registers.md, PC) [trm]."""
_TASK_STATUS_AT_INTERRUPT = 0xF000
"""What TASK_STATUS reads when a job is done (hardware/registers.md, PC) [silicon]."""
_CORE_NUMBER_SHIFT = 28
"""S_POINTER of CNA and CORE carries the core's number from this bit on (hardware/regcmd.md) [mesa, vendor]."""

_BLOCK_OF = {register: block for block in GROUPED_BLOCKS for register in block}
_PLAIN_BLOCKS = (PC, DDMA, SDMA, GLOBAL)
_STARTS_BLOCKS = frozenset({register for register in _BLOCK_OF if register.offset % 0x1000 == FIRST_GROUPED_OFFSET}) | {
    GLOBAL.OPERATION_ENABLE
}
_LUT_PORTS = frozenset({DPU.LUT_ACCESS_CFG, DPU.LUT_ACCESS_DATA})
_LOG = logging.getLogger("rocketnpu.emulator")


class _Execution:
    """What the cores share to run tasks: scratch memory and decoded tasks. One core computes at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.workspace = Workspace()
        self.decoded = TaskCache()


class NpuCore:
    """One core's window, 64 KiB of 32-bit registers.

    `on_interrupt` is called with the new level whenever the interrupt line changes, by the thread that caused it:
    inside `write`, `step` or `reset`. It may use the core itself, but must not wait for another thread that does.
    `on_report` gets a sentence for each job that hangs, and for each task whose output is wrong on the chip.
    """

    def __init__(self, number: int, memory: PhysicalMemory, execution: _Execution, *, deferred: bool) -> None:
        self.number = number
        self.on_interrupt: Callable[[bool], None] = _nobody
        self.on_report: Callable[[str], None] = _unheard
        self._memory = memory
        self._execution = execution
        self._deferred = deferred
        self._lock = threading.RLock()
        self._line = False
        self._iommu = Iommu(memory, len(BANK_OFFSETS[number]))
        self._clear()

    @property
    def pending(self) -> bool:
        """Whether `step` has something to do."""
        return self._chain is not None

    @property
    def busy(self) -> bool:
        """Whether a job was started and neither completed nor was reset: it is pending, or hangs."""
        return self._hung or self._chain is not None

    def read(self, offset: int) -> int:
        """The register at a byte offset: 32 bits, 0 where there is none.

        Raises DeviceError for offsets outside the window or not divisible by 4, and in the hole that locks the SoC up.
        """
        _check_offset(offset)
        if offset in _HOLE:
            raise DeviceError(
                f"core {self.number}: a CPU read of {offset:#06x} locks the SoC up; never touch that hole"
            )
        with self._lock:
            bank = self._bank(offset)
            if bank is not None:
                return bank.read(offset % BANK_BYTES)
            register = register_at(offset)
            if register is None:
                _LOG.warning("core %d: read of %#06x, where no register is known", self.number, offset)
                return 0
            return self._register(register)

    def write(self, offset: int, value: int) -> None:
        """Write 32 bits to the register at a byte offset; what has no register, or only reads, ignores it.

        Starting a job runs it before `write` returns, unless the hardware is deferred. Raises DeviceError for offsets
        outside the window or not divisible by 4, and for values that are not 32 bits; never for what a job does.
        """
        _check_offset(offset)
        if not 0 <= value < 1 << 32:
            raise DeviceError(f"core {self.number}: {value:#x} at {offset:#06x} is no 32-bit value")
        with self._lock:
            bank = self._bank(offset)
            register = register_at(offset)
            before = self._chain
            if bank is not None:
                bank.write(offset % BANK_BYTES, value)
                if offset % BANK_BYTES == IOMMU.COMMAND.offset:
                    # Drivers change address spaces between jobs, and reuse across jobs corrupts on silicon
                    # (hardware/regcmd.md, Weight and data reuse): a task that asks for it is reported.
                    self._core.forget_buffer()
            elif register is None:
                _LOG.warning("core %d: write of %#x to %#06x, where no register is known", self.number, value, offset)
            else:
                self._write_register(register, value)
            started = self._chain is not before
            self._update_line()
        if started and not self._deferred:
            while self.step():
                pass

    def step(self) -> bool:
        """Run the next task of the pending job, if there is one; returns whether there is more to do.

        One thread at a time may step a core.
        """
        failure: Error | None = None
        # The core's own lock stays free: drivers may look at the registers of a core that computes.
        with self._execution.lock:
            chain = self._chain
            if chain is None:
                return False
            try:
                chain.step()
            except Error as error:
                failure = error
        for warning in chain.warnings:
            _LOG.warning("%s", warning)
            self.on_report(warning)
        chain.warnings.clear()
        with self._lock:
            if self._chain is chain:
                self._account(chain, failure)
            return self.pending

    def reset(self) -> None:
        """What the core's reset lines do: registers, groups and IOMMU as after power-up; a job is forgotten.

        Waits for the task that another thread may be running.
        """
        with self._lock:
            with self._execution.lock:
                self._iommu.reset()
                self._clear()
            self._update_line()

    def _clear(self) -> None:
        execution = self._execution
        self._core = Core(self.number, Memory(self._memory.array, self._iommu), execution.workspace, execution.decoded)
        self._plain = {register.offset: register.reset for block in _PLAIN_BLOCKS for register in block}
        self._plain[PC.OPERATION_ENABLE.offset] = PC.OPERATION_ENABLE.reset
        self._plain[PC.VERSION.offset] = HARDWARE_VERSION
        self._plain[PC.INTERRUPT_MASK.offset] = _INTERRUPT_BITS
        self._pointers: dict[Register, int] = {}
        self._raw = 0
        self._task_status = 0
        self._chain: Chain | None = None
        self._hung = False

    def _bank(self, offset: int) -> Bank | None:
        """The IOMMU bank whose registers lie at `offset`; core 0's first one covers part of SDMA (kernels.md)."""
        for bank, start in zip(self._iommu.banks, BANK_OFFSETS[self.number], strict=True):
            if start <= offset < start + BANK_BYTES:
                return bank
        return None

    def _register(self, register: Register) -> int:
        if register is PC.INTERRUPT_STATUS:
            return self._status
        if register is PC.INTERRUPT_RAW_STATUS:
            return self._raw
        if register is PC.TASK_STATUS:
            return self._task_status
        block = _BLOCK_OF.get(register)
        if block is None:
            return self._plain[register.offset] & _mask(register, "RO", "RW")
        if register.offset - block.base == S_POINTER_OFFSET:
            return self._core.groups[block].read_pointer()
        return self._core.groups[block].word(register) & _mask(register, "RO", "RW")

    @property
    def _status(self) -> int:
        return self._raw & self._plain[PC.INTERRUPT_MASK.offset]

    def _write_register(self, register: Register, value: int) -> None:
        if register in _BLOCK_OF or register is GLOBAL.OPERATION_ENABLE:
            self._write_block(register, value)
        elif register is PC.INTERRUPT_CLEAR:
            self._raw &= ~value
        elif register is PC.INTERRUPT_MASK:
            self._plain[register.offset] = value & _INTERRUPT_BITS
        else:
            writable = _mask(register, "RW")
            self._plain[register.offset] = self._plain[register.offset] & ~writable | value & writable
            if register is PC.TASK_CON and PC.TASK_CON.field_value(value, "TASK_COUNT_CLEAR"):
                self._task_status = 0
            if register is PC.OPERATION_ENABLE and PC.OPERATION_ENABLE.field_value(value, "OP_EN"):
                self._start()

    def _write_block(self, register: Register, value: int) -> None:
        """A write to a block's registers by the CPU, into the group that its pointer names."""
        if register in _STARTS_BLOCKS or register in _LUT_PORTS:
            _LOG.warning("core %d: what a CPU write to %s does is not known: ignored", self.number, register)
            return
        if not self._pc("BASE_ADDRESS", "PC_SEL"):
            _LOG.warning("core %d: %s written by the CPU without slave mode (PC_SEL)", self.number, register)
        block = _BLOCK_OF[register]
        groups = self._core.groups[block]
        if register.offset - block.base == S_POINTER_OFFSET:
            self._pointers[register] = value
            try:
                groups.write_pointer(value)
            except DeviceError as error:
                _LOG.warning("core %d: %s", self.number, error)
        elif register.offset - block.base >= FIRST_GROUPED_OFFSET:
            index = np.array([(register.offset - block.base) // 4], np.intp)
            groups.write(RegisterWrites(block, index, np.array([value & _mask(register, "RW")], np.uint32)))

    def _pc(self, register: str, field: str) -> int:
        return PC[register].field_value(self._plain[PC[register].offset], field)

    def _start(self) -> None:
        """OPERATION_ENABLE: the PC takes up the list. Writing 0 later stops nothing that runs (rknpu does so)."""
        count = self._pc("TASK_CON", "TASK_NUMBER")
        if self.busy:
            _LOG.debug("core %d: started while a job %s: ignored", self.number, "hangs" if self._hung else "runs")
        elif self._pc("BASE_ADDRESS", "PC_SEL"):
            _LOG.debug("core %d: started in slave mode: nothing runs", self.number)
        elif not count:
            _LOG.debug("core %d: started with TASK_NUMBER 0: nothing runs", self.number)
        else:
            self._chain = self._core.chain(
                self._pc("BASE_ADDRESS", "PC_SOURCE_ADDR") << PC.BASE_ADDRESS.field("PC_SOURCE_ADDR").lsb,
                count,
                self._pc("REGISTER_AMOUNTS", "PC_DATA_AMOUNT"),
            )
            obstacle = self._obstacle()
            if obstacle is not None:
                self._account(self._chain, obstacle)

    def _obstacle(self) -> DeviceError | None:
        """What keeps any job from running, whatever its list says."""
        expected = regcmd.KICK_POINTER | self.number << _CORE_NUMBER_SHIFT
        for register in (CNA.S_POINTER, CORE.S_POINTER):
            value = self._pointers.get(register)
            if value != expected:
                written = "was not written by the CPU" if value is None else f"is {value:#x}"
                return DeviceTimeout(f"{register} {written}; core {self.number} needs {expected:#x}")
        base = self._plain[PC.TASK_DMA_BASE_ADDR.offset]
        if base:
            return DeviceError(f"{PC.TASK_DMA_BASE_ADDR} is {base:#x}: only 0 is known to work")
        return None

    def _account(self, chain: Chain, failure: Error | None) -> None:
        """Show in the registers what became of a task."""
        if failure is not None:
            self._hang(failure)
        elif chain.done == chain.count:
            self._chain = None
            self._raw |= chain.interrupts
            self._task_status = _TASK_STATUS_AT_INTERRUPT
        else:
            self._task_status = chain.done
        self._update_line()

    def _hang(self, failure: Error) -> None:
        self._chain, self._hung = None, True
        fault: BaseException | None = failure
        while fault is not None and not isinstance(fault, TranslationFault | BusFault):
            fault = fault.__cause__
        if isinstance(fault, TranslationFault):
            fault.bank.show(fault)
        elif isinstance(fault, BusFault):
            name = "DMA_WRITE_ERROR" if fault.write else "DMA_READ_ERROR"
            self._raw |= PC.INTERRUPT_RAW_STATUS.field(name).mask
        # A hang known from silicon is the model at work; anything else is a limit of the model.
        known = fault is not None or isinstance(failure, DeviceTimeout)
        report = f"core {self.number} hangs: {failure}"
        _LOG.log(logging.DEBUG if known else logging.WARNING, "%s", report)
        self.on_report(report)

    def _update_line(self) -> None:
        level = self._status != 0 or self._iommu.interrupt
        if level != self._line:
            self._line = level
            self.on_interrupt(level)


class NpuHardware:
    """Three cores on one physical memory: `memory` (uint8, 1-D, contiguous) at physical address `memory_base` (bytes).

    With `deferred`, a started job waits for `step`, which may be called by another thread.
    """

    def __init__(self, memory: Bytes, memory_base: int = 0, *, deferred: bool = False) -> None:
        physical = PhysicalMemory(memory, memory_base)
        execution = _Execution()
        self.cores = tuple(NpuCore(number, physical, execution, deferred=deferred) for number in range(CORES))

    def step(self) -> bool:
        """Run one task on each core that has a job; returns whether there is more to do.

        Cores that share convolutions wait for one another (hardware/convolution.md, Multi-core), which this order
        does for them: start the jobs of all cores, then step.
        """
        more = [core.step() for core in self.cores]
        return any(more)


def _check_offset(offset: int) -> None:
    if offset % 4 or not 0 <= offset < WINDOW_BYTES:
        raise DeviceError(f"offset {offset:#x}: registers are at multiples of 4 below {WINDOW_BYTES:#x}")


def _mask(register: Register, *access: str) -> int:
    """The bits of a register that have one of these kinds of access."""
    return sum(field.mask for field in register.fields if field.access in access)


def _nobody(level: bool) -> None:
    """No interrupt controller is connected."""


def _unheard(report: str) -> None:
    """Nobody reads the reports."""
