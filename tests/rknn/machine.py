"""A program on the bare emulator, step by step: what a runtime does, in its simplest form."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rocketnpu.emulator.chip import Emulator

from rocketnpu.hw.layouts import DenseImage, FeatureCube
from rocketnpu.program.model import COMMANDS, NpuStep, Program, TensorEntry

BASE = 0x1000_0000
"""Device addresses differ from memory offsets, so that a missing relocation faults."""

PAGE_BYTES = 4096


class Machine:
    """One emulator with one program loaded, run on a fixed number of cores."""

    def __init__(self, program: Program, cores: int = 1) -> None:
        self.program, self.cores = program, cores
        self.entries = {entry.name: entry for entry in program.tensors}
        self.offsets: dict[str, int] = {}
        total = 0
        for segment in program.segments:
            self.offsets[segment.name] = total
            total += -(-segment.size_bytes // PAGE_BYTES) * PAGE_BYTES + PAGE_BYTES
        self.chip = Emulator(total)
        for segment in program.segments:
            offset = self.offsets[segment.name]
            writable = segment.name not in (COMMANDS, "constants")
            self.chip.map(BASE + offset, offset, segment.size_bytes, writable=writable)
            if segment.data is not None:
                self.chip.memory[offset : offset + len(segment.data)] = np.frombuffer(segment.data, np.uint8)
        words = self.segment(COMMANDS).view("<u8")
        for relocation in program.relocations:
            value = BASE + self.offsets[relocation.segment] + relocation.addend_bytes
            words[relocation.word] = int(words[relocation.word]) & ~(0xFFFFFFFF << 16) | value << 16

    def segment(self, name: str) -> NDArray[np.uint8]:
        """The memory of a segment."""
        size = next(segment.size_bytes for segment in self.program.segments if segment.name == name)
        return self.chip.memory[self.offsets[name] : self.offsets[name] + size]

    def write(self, name: str, value: NDArray[np.int8]) -> None:
        entry = self.entries[name]
        memory, cube = self._place(entry)
        cube.pack_into(_pixels(entry, value), memory)

    def read(self, name: str) -> NDArray[np.int8]:
        entry = self.entries[name]
        memory, cube = self._place(entry)
        pixels = cube.unpack(memory)
        return (pixels.transpose(2, 0, 1) if entry.layout == "NCHW" else pixels).reshape(entry.shape)

    def _place(self, entry: TensorEntry) -> tuple[NDArray[np.uint8], FeatureCube | DenseImage]:
        place = entry.cube
        assert place is not None
        memory = self.segment(place.segment)[place.offset_bytes :]
        if place.dense:
            return memory, DenseImage(place.height, place.width, place.channels, place.row_pitch_pixels)
        return memory, FeatureCube(place.height, place.width, place.channels, place.pitch_atoms)

    def run_step(self, step: NpuStep) -> None:
        for segment in step.tasks[self.cores]:
            busy = [(core, tasks) for core, tasks in enumerate(segment) if tasks]
            first = [self.program.tasks[tasks[0]] for _, tasks in busy]
            self.chip.run(
                [BASE + self.offsets[COMMANDS] + 8 * task.first_word for task in first],
                [len(tasks) for _, tasks in busy],
                cores=tuple(core for core, _ in busy),
                body_entries=[task.body_entries for task in first],
            )

    def run_isolated(self, reference: Mapping[str, NDArray[np.int8]]) -> dict[str, NDArray[np.int8]]:
        """Every step fed from `reference`."""
        results: dict[str, NDArray[np.int8]] = {}
        for step in self.program.steps:
            assert isinstance(step, NpuStep)
            for name in step.inputs:
                self.write(name, reference[name])
            self.run_step(step)
            results |= {name: self.read(name) for name in step.outputs}
        return results

    def run(self, inputs: Mapping[str, NDArray[np.int8]]) -> dict[str, NDArray[np.int8]]:
        """The whole program from its inputs; all tensors, each read before its place is used again."""
        for name in self.program.inputs:
            self.write(name, inputs[name])
        results: dict[str, NDArray[np.int8]] = {}
        for step in self.program.steps:
            assert isinstance(step, NpuStep)
            self.run_step(step)
            results |= {name: self.read(name) for name in step.outputs}
        return results


def _pixels(entry: TensorEntry, value: NDArray[np.int8]) -> NDArray[np.int8]:
    """A user's tensor as [height, width, channels]."""
    assert value.shape == entry.shape
    place = entry.cube
    assert place is not None
    if entry.layout == "NCHW":
        return value.reshape(place.channels, place.height, place.width).transpose(1, 2, 0)
    return value.reshape(place.height, place.width, place.channels)
