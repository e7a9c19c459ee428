"""Runs recorded jobs on a fresh emulator each, and compares what they leave in memory with the record."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rocketnpu.emulator import Emulator
from rocketnpu.errors import DeviceError, ModelError
from rocketnpu.hw.limits import CORES, MAX_TASKS_PER_KICK
from rocketnpu.hw.page_table import PAGE_BYTES
from rocketnpu.virtual.record import JobRecord, Record


@dataclass(frozen=True)
class Difference:
    """Bytes of the buffer at address `buffer` that differ: how many, the first one's offset, the largest as int8."""

    buffer: int
    bytes: int
    first: int
    largest: int


@dataclass(frozen=True)
class Replayed:
    """One job: its number from 1, tasks run, and what differs; `failure` is the emulator's error if it had one."""

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
    chip = Emulator(max(sum(buffer.size for buffer in job.buffers), PAGE_BYTES))
    offsets: list[int] = []
    offset = 0
    for buffer in job.buffers:
        chip.map(buffer.address, offset, buffer.size)
        chip.memory[offset : offset + buffer.size] = record.content(buffer.before, buffer.size)
        offsets.append(offset)
        offset += buffer.size
    failure = None
    try:
        _run(chip, job)
    except DeviceError as error:
        failure = str(error)
    differences: list[Difference] = []
    for buffer, start in zip(job.buffers, offsets, strict=True):
        found = chip.memory[start : start + buffer.size].view(np.int8).astype(np.int16)
        distance = np.abs(found - record.content(buffer.after, buffer.size).view(np.int8))
        where = np.flatnonzero(distance)
        if where.size:
            differences.append(Difference(buffer.address, where.size, int(where[0]), int(distance.max())))
    return Replayed(number, sum(map(len, job.chains)), tuple(differences), failure)


def _run(chip: Emulator, job: JobRecord) -> None:
    chains = [chain for chain in job.chains if chain]
    if not chains or len(chains) > CORES or max(map(len, chains)) > MAX_TASKS_PER_KICK:
        raise ModelError(f"a job has 1..{CORES} chains of at most {MAX_TASKS_PER_KICK} lists")
    if job.chained:
        chip.run(
            [chain[0][0] for chain in chains],
            [len(chain) for chain in chains],
            cores=range(len(chains)),
            body_entries=[chain[0][1] for chain in chains],
        )
        return
    for chain in chains:
        for address, body_entries in chain:
            chip.run(address, 1, body_entries=body_entries)
