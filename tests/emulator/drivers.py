"""The register sequences of the kernel drivers, as hardware/regcmd.md and kernels.md list them, on emulated windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from emulator.guest import PAGE, Guest, Region, entry
from rocketnpu.emulator.mmio import NpuCore, NpuHardware
from rocketnpu.runtime.device import Buffer, Device, Launch, Part, Timing

OPERATION_ENABLE, BASE_ADDRESS, REGISTER_AMOUNTS = 0x08, 0x10, 0x14
INTERRUPT_MASK, INTERRUPT_CLEAR, INTERRUPT_STATUS, RAW_STATUS = 0x20, 0x24, 0x28, 0x2C
TASK_CON, TASK_DMA_BASE_ADDR, TASK_STATUS = 0x30, 0x34, 0x3C
CNA_S_POINTER, CORE_S_POINTER = 0x1004, 0x3004
DPU_DONE, PPU_DONE, ALL = 0x300, 0xC00, 0x1FFFF

BANKS = {0: (0x9000, 0xA000), 1: (0xA000,), 2: (0xA000,)}
DTE_ADDR, STATUS, COMMAND, PAGE_FAULT_ADDR, ZAP_ONE_LINE = 0x00, 0x04, 0x08, 0x0C, 0x10
INT_RAWSTAT, INT_CLEAR, INT_MASK, INT_STATUS = 0x14, 0x18, 0x1C, 0x20
ENABLE_PAGING, DISABLE_PAGING, ENABLE_STALL, DISABLE_STALL, ZAP, FAULT_DONE, FORCE_RESET = range(7)


def attach(core: NpuCore, directory: int) -> None:
    """The IOMMU driver's attach."""
    for bank in BANKS[core.number]:
        core.write(bank + COMMAND, ENABLE_STALL)
        core.write(bank + DTE_ADDR, 0xCAFEBABE)
        assert core.read(bank + DTE_ADDR) == 0xCAFEBAB0
        core.write(bank + COMMAND, FORCE_RESET)
        assert core.read(bank + DTE_ADDR) == 0
        core.write(bank + DTE_ADDR, entry(directory, 0))
        core.write(bank + COMMAND, ZAP)
        core.write(bank + INT_MASK, 3)
        core.write(bank + COMMAND, ENABLE_PAGING)
        core.write(bank + COMMAND, DISABLE_STALL)


def rocket_kick(core: NpuCore, address: int, count: int) -> None:
    """Mainline: one task of `count` entries, its trailer included."""
    core.write(BASE_ADDRESS, 1)
    core.write(CNA_S_POINTER, 0x0E + 0x10000000 * core.number)
    core.write(CORE_S_POINTER, 0x0E + 0x10000000 * core.number)
    core.write(BASE_ADDRESS, address)
    core.write(REGISTER_AMOUNTS, (count + 1) // 2 - 1)
    core.write(INTERRUPT_MASK, DPU_DONE)
    core.write(INTERRUPT_CLEAR, DPU_DONE)
    core.write(TASK_CON, 0x7001)
    core.write(TASK_DMA_BASE_ADDR, 0)
    core.write(OPERATION_ENABLE, 1)


def rocket_interrupt(core: NpuCore) -> bool:
    """Mainline's handler, both halves; whether the interrupt was the core's own."""
    if not core.read(RAW_STATUS) & DPU_DONE:
        return False
    core.write(INTERRUPT_MASK, 0)
    core.write(OPERATION_ENABLE, 0)
    core.write(INTERRUPT_CLEAR, ALL)
    return True


def rknpu_kick(core: NpuCore, launches: Sequence[Launch]) -> None:
    """Vendor: tasks chained by their trailers."""
    core.write(BASE_ADDRESS, 1)
    core.write(CNA_S_POINTER, 0x0E + 0x10000000 * core.number)
    core.write(CORE_S_POINTER, 0x0E + 0x10000000 * core.number)
    core.write(BASE_ADDRESS, launches[0].address)
    core.write(REGISTER_AMOUNTS, (launches[0].body_entries + 4 + 1) // 2 - 1)
    core.write(INTERRUPT_MASK, launches[-1].interrupt_mask)
    core.write(INTERRUPT_CLEAR, launches[0].interrupt_mask)
    core.write(TASK_CON, (0x6 | 1) << 12 | len(launches))
    core.write(TASK_DMA_BASE_ADDR, 0)
    core.write(OPERATION_ENABLE, 1)
    core.write(OPERATION_ENABLE, 0)


def rknpu_interrupt(core: NpuCore, int_mask: int) -> bool:
    """The vendor's completion test: the status, each bit standing for both groups, is the last task's mask."""
    status = core.read(INTERRUPT_STATUS)
    widened = sum(3 << bit for bit in range(0, 12, 2) if status >> bit & 3)
    core.write(INTERRUPT_CLEAR, ALL)
    return widened == int_mask


class MmioDevice(Device):
    """A Device (see rocketnpu.runtime.device) whose tasks a kernel driver's sequence starts through the windows.

    Buffers are pages in random order behind each core's IOMMU; the host's view is copied to them before a submission
    and back after it.
    """

    cores = 3
    name = ""

    def __init__(self, driver: str, size: int, *, deferred: bool) -> None:
        self.name = driver
        self._guest = Guest(size, 0x1_8000_0000, seed=7)
        self.hardware = NpuHardware(self._guest.memory, self._guest.base, deferred=deferred)
        self._address = 0x3F_F000
        self._buffers: list[tuple[Region, Buffer]] = []
        self._levels: dict[int, list[bool]] = {core.number: [] for core in self.hardware.cores}
        for core in self.hardware.cores:
            core.on_interrupt = self._levels[core.number].append
            attach(core, self._guest.directory)

    def allocate(self, size_bytes: int) -> Buffer:
        region = Region(self._guest, self._address, size_bytes)
        self._address += (-(-size_bytes // PAGE) + 1) * PAGE
        self._buffers.append((region, Buffer(region.address, np.zeros(size_bytes, np.uint8))))
        return self._buffers[-1][1]

    def submit(self, parts: Sequence[Part]) -> Timing:
        for region, buffer in self._buffers:
            region.store(buffer.data)
        for part in parts:
            jobs = [(self.hardware.cores[number], chain) for number, chain in enumerate(part) if chain]
            if self.name == "rocket":
                self._rocket(jobs)
            else:
                self._rknpu(jobs)
        for region, buffer in self._buffers:
            buffer.data[:] = region.load()
        return Timing(0.0, 0.0)

    def _rocket(self, jobs: list[tuple[NpuCore, Sequence[Launch]]]) -> None:
        for number in range(max(len(chain) for _, chain in jobs)):
            for core, chain in jobs:
                if number < len(chain):
                    rocket_kick(core, chain[number].address, chain[number].body_entries + 4)
                    self._finish(core)
                    assert rocket_interrupt(core), f"task {chain[number].name}: RAW {core.read(RAW_STATUS):#x}"
                    self._settle(core)

    def _rknpu(self, jobs: list[tuple[NpuCore, Sequence[Launch]]]) -> None:
        for core, chain in jobs:
            rknpu_kick(core, chain)
        while self.hardware.step():
            pass
        for core, chain in jobs:
            assert rknpu_interrupt(core, chain[-1].interrupt_mask), f"chain at {chain[0].address:#x} is not done"
            self._settle(core)

    def _finish(self, core: NpuCore) -> None:
        while core.step():
            pass

    def _settle(self, core: NpuCore) -> None:
        """Each job raises the line once, and its handler lowers it."""
        assert self._levels[core.number] == [True, False]
        self._levels[core.number].clear()
        assert not core.busy

    def close(self) -> None:
        pass
