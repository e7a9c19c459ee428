"""What a kernel driver does to the cores: registers by name, kicks, resets, and the IOMMU driver's sequences.

The NPU's sequences are those of hardware/regcmd.md (What the kernel drivers write), the IOMMU's those of
hardware/kernels.md. One thread at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from rocketnpu.emulator.mmio import NpuHardware
from rocketnpu.hw.limits import CORES
from rocketnpu.hw.regcmd import KICK_POINTER
from rocketnpu.hw.registers import CNA, CORE, IOMMU, PC, Register
from rocketnpu.hw.registers import iommu as mmu
from rocketnpu.hw.registers.iommu import BANK_OFFSETS
from rocketnpu.virtual.memory import AddressSpace

SLAVE_MODE = PC.BASE_ADDRESS.encode(PC_SEL=1)
_CORE_NUMBER_SHIFT = 28
ALL_INTERRUPTS = (1 << 17) - 1
"""Both drivers write this to INTERRUPT_CLEAR (hardware/regcmd.md, What the kernel drivers write)."""
_RESET_PROBE = 0xCAFEBABE
"""What the IOMMU driver writes to DTE_ADDR to see whether the bank answers (hardware/kernels.md)."""
_PAGING_INTERRUPTS = IOMMU.INT_MASK.encode(PAGE_FAULT=1, BUS_ERROR=1)


class Cores:
    """The cores' register windows and interrupt lines; faults are counted and reported as in a kernel's log."""

    def __init__(self, hardware: NpuHardware, counters: Counter[str], report: Callable[[str], None]) -> None:
        self._hardware = hardware
        self._counters = counters
        self._report = report
        self._lines = [False] * CORES
        for core in hardware.cores:
            core.on_interrupt = self._line(core.number)
            core.on_report = report

    def read(self, core: int, register: Register) -> int:
        """One register of the core's window."""
        return self._hardware.cores[core].read(register.offset)

    def write(self, core: int, register: Register, value: int) -> None:
        """Write one register."""
        self._hardware.cores[core].write(register.offset, value)

    def interrupt(self, core: int) -> bool:
        """Whether the core's interrupt line is up."""
        return self._lines[core]

    def stands_still(self, core: int) -> bool:
        """Whether nothing will happen on the core any more by itself."""
        return not self._hardware.cores[core].pending

    def reset(self, core: int) -> None:
        """Pull the core's reset lines; its IOMMU has to be attached again."""
        self._counters["resets"] += 1
        self._hardware.cores[core].reset()

    def kick(
        self,
        core: int,
        *,
        address: int,
        amounts: int,
        task_con: int,
        mask: int,
        clear: int,
        base_address: int = 0,
        start: bool = True,
    ) -> None:
        """Give the core a list: its address (bytes), and the values of the other registers; `start` to run it."""
        pointer = KICK_POINTER | core << _CORE_NUMBER_SHIFT
        self.write(core, PC.BASE_ADDRESS, SLAVE_MODE)
        self.write(core, CNA.S_POINTER, pointer)
        self.write(core, CORE.S_POINTER, pointer)
        self.write(core, PC.BASE_ADDRESS, address)
        self.write(core, PC.REGISTER_AMOUNTS, amounts)
        self.write(core, PC.INTERRUPT_MASK, mask)
        self.write(core, PC.INTERRUPT_CLEAR, clear)
        self.write(core, PC.TASK_CON, task_con)
        self.write(core, PC.TASK_DMA_BASE_ADDR, base_address)
        if start:
            self.write(core, PC.OPERATION_ENABLE, PC.OPERATION_ENABLE.encode(OP_EN=1))

    def attach(self, core: int, space: AddressSpace) -> None:
        """Give the core an address space, as the IOMMU's driver does (hardware/kernels.md)."""
        self._command(core, mmu.ENABLE_STALL)
        for bank in BANK_OFFSETS[core]:
            self._write_bank(core, bank, IOMMU.DTE_ADDR, _RESET_PROBE)
            answer = self._read_bank(core, bank, IOMMU.DTE_ADDR)
            if answer != _RESET_PROBE & IOMMU.DTE_ADDR.field("DIRECTORY").mask:
                self._report(f"core {core}: the IOMMU answers {answer:#x} to the reset check")
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
            self._counters["page faults" if fault else "bus errors"] += 1
            kind = "page fault" if fault else "bus error"
            self._report(f"core {core}: IOMMU {kind} at {address:#010x}, {'write' if write else 'read'}")
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
