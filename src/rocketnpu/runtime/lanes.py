"""The lanes of a session: places where a frame runs, more of them as frames overlap."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from rocketnpu.errors import DeviceError
from rocketnpu.program.model import Program
from rocketnpu.runtime.device import Device
from rocketnpu.runtime.loaded import LoadedProgram
from rocketnpu.runtime.pieces import Piece

CLOSED = "the session is closed; make a new one"


@dataclass(frozen=True, eq=False)
class Lane:
    """Room for one frame: the program with activations of its own, and its pieces on the CPU by step name."""

    loaded: LoadedProgram
    pieces: dict[str, Piece] = field(default_factory=dict[str, Piece])


class Lanes:
    """All lanes of a session; each serves one frame at a time.

    A device and each of its siblings have `device.frames` lanes. Siblings come first, as their frames run at the same
    time; a second lane on a device lets the host pack one frame while another runs.
    """

    def __init__(self, program: Program, device: Device, cores: int):
        self._program = program
        self._cores = cores
        self._devices = [device]
        self._first_loads = [LoadedProgram(program, device, cores)]
        self._lanes = [Lane(self._first_loads[0])]
        self._free = [self._lanes[0]]
        self._full = False
        self._closed = False
        self._changed = threading.Condition()

    @contextmanager
    def take(self) -> Generator[Lane]:
        """A lane for one frame; waits for one when all that the device allows are busy."""
        lane = self.acquire()
        try:
            yield lane
        finally:
            self.give_back(lane)

    def acquire(self) -> Lane:
        """A lane, to be given back. Raises DeviceError once the lanes are closed, also while it waits."""
        with self._changed:
            while not self._closed and not self._free and (self._full or not self._grow()):
                self._changed.wait()
            if self._closed:
                raise DeviceError(CLOSED)
            return self._free.pop()

    def give_back(self, lane: Lane) -> None:
        """The lane's frame is done."""
        with self._changed:
            self._free.append(lane)
            self._changed.notify_all()  # also `close`, which waits for all of them

    def close(self, keep_first_device: bool) -> None:
        """Wait for all frames, then close the devices; the memory of a kept device is given back to it."""
        with self._changed:
            self._closed = self._full = True
            self._changed.notify_all()  # those that wait for a lane
            while len(self._free) < len(self._lanes):
                self._changed.wait()
            self._free.clear()
        with ExitStack() as ends:  # all of them, even if one fails
            ends.callback(self._first_loads.clear)
            ends.callback(self._lanes.clear)
            ends.callback(self._devices.clear)
            for device in self._devices[keep_first_device:]:
                ends.callback(device.close)
            if keep_first_device:
                for buffer in self._first_loads[0].constants.values():
                    ends.callback(self._devices[0].release, buffer)
                for lane in self._lanes[:: len(self._devices)]:
                    ends.callback(lane.loaded.release)

    def _grow(self) -> bool:
        """Add a lane if the device allows one; without memory for it, the lanes there are have to do."""
        try:
            lane = self._next_lane()
        except DeviceError:
            lane = None
        if lane is None:
            self._full = True
            return False
        self._lanes.append(lane)
        self._free.append(lane)
        return True

    def _next_lane(self) -> Lane | None:
        if len(self._lanes) == len(self._devices):
            sibling = self._devices[-1].sibling()
            if sibling is not None:
                try:
                    self._first_loads.append(LoadedProgram(self._program, sibling, self._cores))
                except DeviceError:
                    sibling.close()
                    raise
                self._devices.append(sibling)
                return Lane(self._first_loads[-1])
        if len(self._lanes) == self._devices[0].frames * len(self._devices):
            return None
        number = len(self._lanes) % len(self._devices)
        constants = self._first_loads[number].constants
        return Lane(LoadedProgram(self._program, self._devices[number], self._cores, constants))
