"""Hardware with small jobs for the tests: cubes, copies of them, and a core behind its IOMMU."""

from __future__ import annotations

import numpy as np

from emulator import drivers
from emulator.drivers import (
    DPU_DONE,
    PPU_DONE,
    attach,
    rocket_kick,
)
from emulator.guest import PAGE, Guest, Region
from emulator.npu_programs import Writes, body, flying
from rocketnpu.emulator.mmio import NpuCore, NpuHardware
from rocketnpu.hw import regcmd
from rocketnpu.runtime.device import Launch, Memory

BASE = 0x4000_0000
"""Physical address of memory."""
SIZE = 64 * PAGE
CHANNELS, EDGE = 32, 4
CUBE_BYTES = CHANNELS * EDGE * EDGE


class Board:
    """Hardware without paging, on which copies of a cube are the jobs; records the level of every interrupt line."""

    def __init__(self, *, deferred: bool = False) -> None:
        self.memory = np.zeros(SIZE, np.uint8)
        self.hardware = NpuHardware(self.memory, BASE, deferred=deferred)
        self.levels: list[tuple[int, bool]] = []
        for core in self.hardware.cores:
            core.on_interrupt = lambda level, number=core.number: self.levels.append((number, level))
        self._top = BASE

    def place(self, data: np.ndarray) -> int:
        raw = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
        address, self._top = self._top, self._top + -(-raw.size // 64) * 64
        self.at(address, raw.size)[:] = raw
        return address

    def at(self, address: int, size: int) -> np.ndarray:
        return self.memory[address - BASE : address - BASE + size]

    def cube(self, seed: int | None) -> int:
        """A cube of noise, or of zeros."""
        if seed is None:
            return self.place(np.zeros(CUBE_BYTES, np.uint8))
        return self.place(np.random.default_rng(seed).integers(0, 256, CUBE_BYTES, np.uint8))

    def copied(self, source: int, target: int) -> bool:
        return bool((self.at(source, CUBE_BYTES) == self.at(target, CUBE_BYTES)).all())

    def chain(self, *tasks: tuple[Writes, int]) -> list[Launch]:
        lists = [body(writes) for writes, _ in tasks]
        sizes = [-(-(len(entries) + 4) // 2) * 16 for entries in lists]
        addresses = [self.place(np.zeros(size, np.uint8)) for size in sizes]
        following = [*zip(addresses[1:], map(len, lists[1:]), strict=True), (0, 0)]
        launches: list[Launch] = []
        for address, entries, (_, mask), (after, length) in zip(addresses, lists, tasks, following, strict=True):
            words = np.array([*entries, *regcmd.trailer(after, length, mask)], "<u8")
            self.at(address, words.nbytes)[:] = words.view(np.uint8)
            done = PPU_DONE if mask == regcmd.POOL_MASK else DPU_DONE
            launches.append(Launch("task", address, len(entries), done, Memory((), ())))
        return launches


def copy(source: int, target: int) -> tuple[Writes, int]:
    return flying(EDGE, EDGE, CHANNELS, source, target)


def kick(core: NpuCore, launch: Launch) -> None:
    rocket_kick(core, launch.address, launch.body_entries + 4)


class PagedBoard:
    """One core behind its IOMMU, with one copy task whose cubes and list have pages of their own."""

    SOURCE, TARGET, LIST = 0x10_0000, 0x20_0000, 0x7FFF_F000

    def __init__(self, number: int) -> None:
        self.guest = Guest(SIZE, BASE)
        self.core = NpuHardware(self.guest.memory, BASE).cores[number]
        self.levels: list[bool] = []
        self.core.on_interrupt = self.levels.append
        attach(self.core, self.guest.directory)
        self.bank = drivers.BANKS[number][0]
        entries = body(copy(self.SOURCE, self.TARGET)[0])
        words = np.array([*entries, *regcmd.trailer(0, 0, regcmd.DPU_MASK)], "<u8")
        Region(self.guest, self.LIST, 2 * PAGE).store(words.view(np.uint8))
        self.entries = len(words)

    def run(self) -> None:
        rocket_kick(self.core, self.LIST, self.entries)
