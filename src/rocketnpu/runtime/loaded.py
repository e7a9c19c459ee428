"""A Program in a device's memory: segments placed, addresses relocated, tasks ready to launch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from rocketnpu.errors import CompileError, DeviceError
from rocketnpu.program.model import COMMANDS, NpuStep, Program
from rocketnpu.runtime.device import Buffer, Device, Launch
from rocketnpu.runtime.host import TensorPort

VALUE_SHIFT = np.uint64(16)
VALUE_MASK = np.uint64(0xFFFFFFFF << 16)
WORD_BYTES = 8


class LoadedProgram:
    """The program's segments as buffers of `device`, written once; activations are shared by all runs."""

    def __init__(self, program: Program, device: Device, cores: int = 1):
        if not 1 <= cores <= device.cores:
            raise DeviceError(f"device {device.name} has {device.cores} cores; {cores} were asked for")
        self._device = device
        self._program = program
        self._cores = cores
        self._buffers = {segment.name: device.allocate(segment.size_bytes) for segment in program.segments}
        for segment in program.segments:
            if segment.data is not None:
                self._buffers[segment.name].data[:] = np.frombuffer(segment.data, np.uint8)
        _relocate(program, self._buffers)
        self._launches = self._make_launches()
        self.ports = {
            entry.name: TensorPort(entry, entry.cube, self._buffers[entry.cube.segment].data)
            for entry in program.tensors
            if entry.cube is not None
        }

    def run(self, steps: Sequence[NpuStep]) -> None:
        """Run consecutive steps in one submission."""
        parts = list(_merged(part for step in steps for part in self._step_parts(step)))
        if parts:
            self._device.submit([[[self._launches[task] for task in chain] for chain in part] for part in parts])

    def _step_parts(self, step: NpuStep) -> Sequence[Sequence[Sequence[int]]]:
        if self._cores not in step.tasks:
            raise CompileError(
                f"program {self._program.name} has no task lists for {self._cores} cores; compile it with "
                f"cores={self._cores}"
            )
        return step.tasks[self._cores]

    def _make_launches(self) -> list[Launch]:
        if not self._program.tasks:
            return []
        base = self._buffers[COMMANDS].address
        return [
            Launch(task.name, base + task.first_word * WORD_BYTES, task.body_entries, task.interrupt_mask)
            for task in self._program.tasks
        ]


def _relocate(program: Program, buffers: dict[str, Buffer]) -> None:
    """Write base + addend into the value bits of every command word that holds an address."""
    if not program.relocations:
        return
    words = buffers[COMMANDS].data.view("<u8")
    index = np.array([item.word for item in program.relocations], np.int64)
    values = [buffers[item.segment].address + item.addend_bytes for item in program.relocations]
    words[index] = (words[index] & ~VALUE_MASK) | (np.array(values, np.uint64) << VALUE_SHIFT)


def _merged(parts: Iterator[Sequence[Sequence[int]]]) -> Iterator[list[list[int]]]:
    """Parts on one core whose tasks follow one another become one chain, so that they are one submission."""
    chain: list[int] = []
    for part in parts:
        single = len(part) == 1
        if chain and not (single and part[0] and part[0][0] == chain[-1] + 1):
            yield [chain]
            chain = []
        if single:
            chain = [*chain, *part[0]]
        else:
            yield [list(core) for core in part]
    if chain:
        yield [chain]
