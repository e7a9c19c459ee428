"""The devices of this machine, and how a Session opens one by name."""

from __future__ import annotations

from dataclasses import dataclass

from rocketnpu.errors import DeviceError
from rocketnpu.hw.limits import CORES
from rocketnpu.program.model import Program
from rocketnpu.runtime.device import Device
from rocketnpu.runtime.emulated import EmulatedDevice, buffer_bytes


@dataclass(frozen=True)
class DeviceInfo:
    """A device that `Session(device=name)` opens: its driver, the driver's version, its node if it has one, cores."""

    name: str
    version: str
    node: str | None
    cores: int


def devices() -> tuple[DeviceInfo, ...]:
    """What this machine has, in the order in which "auto" chooses. This release drives the emulator only."""
    return (DeviceInfo("emulator", "built in", None, CORES),)


def open_device(name: str, program: Program) -> Device:
    """The device of that name with room for `program`. Raises DeviceError for a name that this machine lacks."""
    known = [info.name for info in devices()]
    if name != "auto" and name not in known:
        raise DeviceError(f"there is no device {name!r} on this machine; it has {', '.join(known)}")
    return EmulatedDevice(buffer_bytes([segment.size_bytes for segment in program.segments]))
