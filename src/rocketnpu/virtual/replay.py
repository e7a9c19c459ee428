"""Runs recorded jobs, each on fresh hardware, and compares what they leave in memory with the record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rocketnpu.emulator.mmio import NpuHardware
from rocketnpu.errors import ModelError
from rocketnpu.hw.limits import CORES, MAX_TASKS_PER_KICK
from rocketnpu.hw.page_table import PAGE_BYTES, TABLE_ENTRIES
from rocketnpu.hw.regcmd import length_code
from rocketnpu.hw.registers import PC
from rocketnpu.virtual.cores import ALL_INTERRUPTS, Cores
from rocketnpu.virtual.memory import PHYSICAL_BASE, AddressSpace, PhysicalPages
from rocketnpu.virtual.record import JobRecord, Record

_TABLES_BYTES = (TABLE_ENTRIES + 1) * PAGE_BYTES
"""Room for all page tables of an address space."""
_TASK_CON = 0x7000
"""What the mainline driver writes to TASK_CON, without the number of tasks (hardware/regcmd.md, TASK_CON)."""
_DONE = PC.INTERRUPT_MASK.encode(DPU_0=1, DPU_1=1, PPU_0=1, PPU_1=1)


@dataclass(frozen=True)
class Difference:
    """Bytes of the buffer at address `buffer` that differ: how many, the first one's offset, the largest as int8."""

    buffer: int
    bytes: int
    first: int
    largest: int


@dataclass(frozen=True)
class Replayed:
    """One job: its number from 1, tasks run, and what differs; `failure` says what did not complete."""

    number: int
    tasks: int
    differences: tuple[Difference, ...]
    failure: str | None

    @property
    def same(self) -> bool:
        """Whether the job did exactly what it did when it was recorded."""
        return not self.differences and self.failure is None


def replay(record: Record) -> Iterator[Replayed]:
    """Run every job that ended well when it was recorded, from the memory it then had.

    Register values that a job inherits from the job before it are not in a record: every list must be complete.
    """
    for number, job in enumerate(record.jobs(), 1):
        if not job.status and not job.timed_out:
            yield _replay(number, record, job)


def _replay(number: int, record: Record, job: JobRecord) -> Replayed:
    chains = [chain for chain in job.chains if chain]
    if not chains or len(chains) > CORES or max(map(len, chains)) > MAX_TASKS_PER_KICK:
        raise ModelError(f"job {number}: 1..{CORES} chains of at most {MAX_TASKS_PER_KICK} lists, not {job.chains}")
    size = sum(buffer.size for buffer in job.buffers)
    pages = PhysicalPages(size + _TABLES_BYTES)
    try:
        space = AddressSpace(pages)
        offsets = [pages.take(buffer.size) for buffer in job.buffers]
        for buffer, offset in zip(job.buffers, offsets, strict=True):
            space.map_at(buffer.address, offset, buffer.size)
            pages.bytes[offset : offset + buffer.size] = record.content(buffer.before, buffer.size)
        failure = _run(pages, space, chains, chained=job.chained)
        differences: list[Difference] = []
        for buffer, offset in zip(job.buffers, offsets, strict=True):
            found = pages.bytes[offset : offset + buffer.size].view(np.int8).astype(np.int16)
            distance = np.abs(found - record.content(buffer.after, buffer.size).view(np.int8))
            where = np.flatnonzero(distance)
            if where.size:
                differences.append(Difference(buffer.address, where.size, int(where[0]), int(distance.max())))
    finally:
        pages.close()
    return Replayed(number, sum(map(len, chains)), tuple(differences), failure)


def _run(
    pages: PhysicalPages, space: AddressSpace, chains: Sequence[Sequence[tuple[int, int]]], *, chained: bool
) -> str | None:
    """Kick the lists as their driver did; what fails, if anything does."""
    messages: list[str] = []
    hardware = NpuHardware(pages.bytes, PHYSICAL_BASE, deferred=True)
    cores = Cores(hardware, Counter(), messages.append)
    for core in range(len(chains)):
        cores.attach(core, space)
    kicks = [[chain] for chain in chains] if chained else [[[task] for task in chain] for chain in chains]
    for kick in range(max(map(len, kicks))):
        running = [(core, own[kick]) for core, own in enumerate(kicks) if kick < len(own)]
        for core, tasks in running:
            address, body_entries = tasks[0]
            cores.kick(
                core,
                address=address % (1 << 32),
                amounts=length_code(body_entries) % (1 << 32),
                task_con=_TASK_CON | len(tasks),
                mask=_DONE,
                clear=ALL_INTERRUPTS,
            )
        while hardware.step():
            pass
        for core, _ in running:
            if not cores.read(core, PC.INTERRUPT_STATUS):
                cores.iommu_interrupt(core)
                return messages[0] if messages else f"core {core}: kick {kick} of the job does not complete"
    return None
