"""The devices of this machine, and how a Session opens one by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rocketnpu.errors import DeviceError
from rocketnpu.hw.limits import CORES
from rocketnpu.program.model import ANY, RKNPU, ROCKET, Program, Target
from rocketnpu.runtime.device import Device
from rocketnpu.runtime.emulated import EmulatedDevice, buffer_bytes
from rocketnpu.runtime.kernel import Kernel, LinuxKernel
from rocketnpu.runtime.node import Node
from rocketnpu.runtime.rknpu import RknpuDevice
from rocketnpu.runtime.rocket import RocketDevice
from rocketnpu.uapi import rknpu, rocket

EMULATOR = "emulator"

NODE_FOLDERS = (("/dev/accel", "accel", "/sys/class/accel"), ("/dev/dri", "renderD", "/sys/class/drm"))
"""Where nodes of NPU drivers are, what their names begin with, and where sysfs tells of them (hardware/kernels.md)."""

DRIVERS = {rocket.DRIVER: RocketDevice, rknpu.DRIVER: RknpuDevice}
"""What drives a node, by the name that DRM_IOCTL_VERSION gives."""

_TARGETS: Mapping[str, Target] = MappingProxyType({rocket.DRIVER: ROCKET, rknpu.DRIVER: RKNPU})


@dataclass(frozen=True)
class DeviceInfo:
    """A device that `Session(device=name)` opens: its driver, the driver's version, its node if it has one, cores.

    `problem` says why it cannot be used, and what to do about it; None if it can.
    """

    name: str
    version: str
    node: str | None
    cores: int
    problem: str | None = None


def devices(kernel: Kernel | None = None) -> tuple[DeviceInfo, ...]:
    """What this machine has, in the order in which "auto" chooses: a board's NPU, then the emulator."""
    return (*_nodes(kernel or LinuxKernel()), DeviceInfo(EMULATOR, "built in", None, CORES))


def target_of(device: str) -> Target:
    """What to compile a model for that runs on the device of that name."""
    return _TARGETS.get(device, ANY)


def find_device(name: str, kernel: Kernel | None = None) -> DeviceInfo:
    """The device of that name, or the first one for "auto".

    Raises DeviceError for a name that this machine lacks, and for an NPU that is there but cannot be used.
    """
    found = devices(kernel)
    chosen = next((info for info in found if name in ("auto", info.name)), None)
    if chosen is None:
        known = ", ".join(info.name for info in found)
        raise DeviceError(f"there is no device {name!r} on this machine; it has {known}")
    if chosen.problem is not None:
        advice = f"; device={EMULATOR!r} runs without it" if name == "auto" else ""
        raise DeviceError(f"{chosen.problem}{advice}")
    return chosen


def open_device(name: str, program: Program, kernel: Kernel | None = None) -> Device:
    """The device of that name, or the first one for "auto", with room for `program`. Raises as `find_device` does."""
    kernel = kernel or LinuxKernel()
    chosen = find_device(name, kernel)
    if chosen.node is None:
        return EmulatedDevice(buffer_bytes([segment.size_bytes for segment in program.segments]))
    return DRIVERS[chosen.name](chosen.node, kernel)


def _driver_in_sysfs(kernel: Kernel, folder: str, node_name: str) -> str | None:
    """The driver of a node's parent, in lower case; None if it has none, as rocket's virtual parent may."""
    try:
        event = kernel.read_text(f"{folder}/{node_name}/device/uevent")
    except OSError:
        return None
    lines = (line.partition("=") for line in event.splitlines())
    return next((value.lower() for key, _, value in lines if key == "DRIVER"), None)


def _nodes(kernel: Kernel) -> Iterator[DeviceInfo]:
    for folder, prefix, sysfs in NODE_FOLDERS:
        for name in _names(kernel, folder):
            driver = _driver_in_sysfs(kernel, sysfs, name)
            # Nodes of other drivers, a GPU's say, stay untouched: opening one may wake its device.
            if name.startswith(prefix) and (driver in DRIVERS or driver is None):
                info = _probe(kernel, f"{folder}/{name}", driver)
                if info is not None:
                    yield info


def _names(kernel: Kernel, folder: str) -> list[str]:
    try:
        return kernel.listdir(folder)
    except OSError:
        return []


def _probe(kernel: Kernel, path: str, driver: str | None) -> DeviceInfo | None:
    """What is behind a node; None if it is not ours, or neither it nor sysfs tells."""
    try:
        node = Node(kernel, path, {})
        try:
            name, version = node.driver()
        finally:
            node.close()
    except DeviceError as error:
        # Only an accelerator without a parent's driver may be rocket's; a silent GPU node is somebody else's.
        likely = driver or (rocket.DRIVER if path.startswith("/dev/accel/") else None)
        return None if likely is None else DeviceInfo(likely, "", path, CORES, str(error))
    return DeviceInfo(name, version, path, CORES) if name in DRIVERS else None
