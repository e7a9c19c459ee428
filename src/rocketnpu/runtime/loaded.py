"""A Program in a device's memory: segments placed, addresses relocated, tasks ready to launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import CompileError, DeviceError
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import DESTINATIONS
from rocketnpu.program.model import COMMANDS, NpuStep, Program, Segment
from rocketnpu.program.schedule import kicks
from rocketnpu.runtime.device import Buffer, Device, Launch, Memory, Part
from rocketnpu.runtime.host import TensorPort

VALUE_SHIFT = np.uint64(16)
VALUE_MASK = np.uint64(0xFFFFFFFF << 16)

_DESTINATION_OFFSETS = tuple(register.offset for register in DESTINATIONS)


class LoadedProgram:
    """The program in buffers of `device`: activations and lists of its own, constants that loads may share."""

    def __init__(self, program: Program, device: Device, cores: int = 1, constants: Mapping[str, Buffer] | None = None):
        """`constants` are those of another load of the same program on the same device.

        Raises DeviceError for more cores than the device has, CompileError for more than the program has lists for.
        """
        if not 1 <= cores <= device.cores:
            most = f"{device.cores} core{'s' if device.cores > 1 else ''}"
            raise DeviceError(f"device {device.name} runs an inference on up to {most}; {cores} were asked for")
        if any(cores not in step.tasks for step in program.steps if isinstance(step, NpuStep)):
            raise CompileError(
                f"program {program.name} has no task lists for {cores} cores; compile it with cores={cores}"
            )
        self._device = device
        self._program = program
        self._cores = cores
        shared = _constant_segments(program)
        made = _all_filled(device, [item for item in program.segments if item.name not in (constants or {})])
        self.constants: Mapping[str, Buffer] = constants or {
            name: buffer for name, buffer in made.items() if name in shared
        }
        self._own = {name: buffer for name, buffer in made.items() if name not in shared}
        self._buffers = {**self.constants, **self._own}
        _relocate(program, self._buffers)
        self._launches = self._make_launches()
        self._parts: dict[tuple[int, ...], tuple[Part, ...]] = {}
        self._entries = {entry.name: entry.cube for entry in program.tensors if entry.cube is not None}
        self._ports = {
            entry.name: TensorPort(entry, entry.cube, self._buffers[entry.cube.segment].data)
            for entry in program.tensors
            if entry.cube is not None
        }

    def write(self, name: str, array: NDArray[Any]) -> None:
        """Store a tensor on the device, for the next run to read."""
        port = self._ports[name]
        self._device.host_writes(self._buffers[self._entries[name].segment], port.start, port.stop)
        port.write(array)

    def read(self, name: str) -> NDArray[Any]:
        """A copy of a tensor on the device."""
        port = self._ports[name]
        self._device.host_reads(self._buffers[self._entries[name].segment], port.start, port.stop)
        return port.read()

    def run(self, steps: Sequence[NpuStep]) -> None:
        """Run consecutive steps of the program in one submission."""
        key = tuple(map(id, steps))  # the program keeps its steps
        if key not in self._parts:
            self._parts[key] = self._make_parts(steps)
        if self._parts[key]:
            self._device.submit(self._parts[key])

    def release(self) -> None:
        """Give the buffers of this load alone back to the device."""
        self._ports.clear()
        with ExitStack() as ends:  # all of them, even if one fails
            for buffer in self._own.values():
                ends.callback(self._device.release, buffer)

    def _make_parts(self, steps: Sequence[NpuStep]) -> tuple[Part, ...]:
        return tuple(
            tuple(tuple(self._launches[task] for task in chain) for chain in kick) for kick in kicks(steps, self._cores)
        )

    def _make_launches(self) -> list[Launch]:
        if not self._program.tasks:
            return []
        lists = self._buffers[COMMANDS]
        memory = Memory(
            (lists, *self.constants.values()),
            tuple(buffer for name, buffer in self._own.items() if name != COMMANDS),
        )
        return [
            Launch(
                task.name,
                lists.address + task.first_word * regcmd.WORD_BYTES,
                task.body_entries,
                task.interrupt_mask,
                memory,
            )
            for task in self._program.tasks
        ]


def _constant_segments(program: Program) -> set[str]:
    """Segments with content that no task writes, by the registers that the relocations fill."""
    filled = {segment.name: segment.data for segment in program.segments if segment.data is not None}
    words = np.frombuffer(filled.get(COMMANDS, b""), "<u8")
    written = {
        item.segment
        for item in program.relocations
        if regcmd.decode(int(words[item.word])).offset in _DESTINATION_OFFSETS
    }
    return filled.keys() - written - {COMMANDS}


def _all_filled(device: Device, segments: Sequence[Segment]) -> dict[str, Buffer]:
    """Buffers with the segments' content by name; none is kept when one of them cannot be had."""
    buffers: dict[str, Buffer] = {}
    try:
        for segment in segments:
            buffers[segment.name] = _filled(device, segment)
    except DeviceError:
        for buffer in buffers.values():
            device.release(buffer)
        raise
    return buffers


def _filled(device: Device, segment: Segment) -> Buffer:
    """A buffer with the segment's content."""
    buffer = device.allocate(segment.size_bytes)
    if segment.data is not None:
        device.host_writes(buffer, 0, segment.size_bytes)
        buffer.data[:] = np.frombuffer(segment.data, np.uint8)
    return buffer


def _relocate(program: Program, buffers: Mapping[str, Buffer]) -> None:
    """Write base + addend into the value bits of every command word that holds an address."""
    if not program.relocations:
        return
    words = buffers[COMMANDS].data.view("<u8")
    index = np.array([item.word for item in program.relocations], np.int64)
    values = [buffers[item.segment].address + item.addend_bytes for item in program.relocations]
    words[index] = (words[index] & ~VALUE_MASK) | (np.array(values, np.uint64) << VALUE_SHIFT)
