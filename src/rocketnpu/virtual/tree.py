"""The files that programs find a device by: its node, and what sysfs says of it (hardware/kernels.md).

Only what discovery and libdrm look at. Paths are absolute; directories follow from the files in them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from rocketnpu.hw.limits import CORES
from rocketnpu.virtual.objects import failure

CORE_BASES = (0xFDAB0000, 0xFDAC0000, 0xFDAD0000)
"""Physical addresses of the cores' windows, which name their nodes in the device tree (hardware/kernels.md)."""


@dataclass(frozen=True)
class Device:
    """A character device node."""

    major: int
    minor: int


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


Entry: TypeAlias = Device | Link | str
"""A string is a file's text."""


@dataclass(frozen=True)
class Tree:
    """Files by path; `node` is the device's, `covered` are the directories that hide what the machine really has."""

    files: Mapping[str, Entry]
    node: str
    covered: tuple[str, ...]

    @property
    def device(self) -> Device:
        """The device behind `node`."""
        entry = self.files[self.node]
        assert isinstance(entry, Device)
        return entry

    def listdir(self, path: str) -> list[str]:
        """Names in a directory, sorted; raises OSError as the system call does."""
        directory = PurePosixPath(self._resolve(path))
        inside = [PurePosixPath(file).relative_to(directory) for file in self.files if _within(file, directory)]
        if not inside:
            raise failure(errno.ENOENT)
        names = sorted({relative.parts[0] for relative in inside if relative.parts})
        if not names:
            raise failure(errno.ENOTDIR)
        return names

    def stat(self, path: str) -> os.stat_result:
        """Mode of a file, links followed; everything belongs to root."""
        resolved = self._resolve(path)
        entry = self.files.get(resolved)
        if entry is None:
            self.listdir(resolved)
            mode, size = stat.S_IFDIR | 0o755, 0
        elif isinstance(entry, Device):
            mode, size = stat.S_IFCHR | 0o666, 0
        else:
            mode, size = stat.S_IFREG | 0o444, len(str(entry))
        return os.stat_result((mode, 0, 0, 1, 0, 0, size, 0, 0, 0))

    def readlink(self, path: str) -> str:
        """Where a link leads."""
        parent, name = os.path.split(path)
        entry = self.files.get(os.path.join(self._resolve(parent), name))
        if not isinstance(entry, Link):
            raise failure(errno.EINVAL if self.exists(path) else errno.ENOENT)
        return entry.target

    def read_text(self, path: str) -> str:
        """A file's text."""
        entry = self.files.get(self._resolve(path))
        if not isinstance(entry, str):
            raise failure(errno.EISDIR if self.exists(path) else errno.ENOENT)
        return entry

    def exists(self, path: str) -> bool:
        """Whether there is such a file or directory."""
        try:
            self.stat(path)
        except OSError:
            return False
        return True

    def store(self, folder: Path) -> None:
        """Make the same files below a folder, an empty one for the node."""
        for path, entry in self.files.items():
            file = folder / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(entry, Link):
                target = PurePosixPath(entry.target)
                file.symlink_to(folder / target.relative_to("/") if target.is_absolute() else target)
            else:
                file.write_text("" if isinstance(entry, Device) else entry)

    def _resolve(self, path: str) -> str:
        resolved = "/"
        for part in PurePosixPath(os.path.normpath(path)).parts[1:]:
            resolved = os.path.join(resolved, part)
            entry = self.files.get(resolved)
            if isinstance(entry, Link):
                resolved = self._resolve(os.path.join(os.path.dirname(resolved), entry.target))
        return resolved


def rocket_tree() -> Tree:
    """One node for all cores, a DRM accel device (major 261)."""
    return _tree("/dev/accel", "accel0", Device(261, 0), "accel", "rocket", "rockchip,rk3588-rknn-core")


def rknpu_tree() -> Tree:
    """The DRM build's render node; on boards the GPU has the first one, 128."""
    return _tree("/dev/dri", "renderD129", Device(226, 129), "drm", "RKNPU", "rockchip,rk3588-rknpu")


def _tree(folder: str, name: str, device: Device, kind: str, driver: str, compatible: str) -> Tree:
    number = f"{device.major}:{device.minor}"
    platform = f"/sys/devices/platform/{CORE_BASES[0]:x}.npu"
    files: dict[str, Entry] = {
        f"{folder}/{name}": device,
        f"/sys/class/{kind}/{name}": Link(f"{platform}/{kind}/{name}"),
        f"/sys/dev/char/{number}": Link(f"{platform}/{kind}/{name}"),
        f"{platform}/{kind}/{name}/dev": f"{number}\n",
        f"{platform}/{kind}/{name}/uevent": (
            f"MAJOR={device.major}\nMINOR={device.minor}\nDEVNAME={folder.removeprefix('/dev/')}/{name}\n"
            f"DEVTYPE={kind}_minor\n"
        ),
        f"{platform}/{kind}/{name}/device": Link(platform),
        f"{platform}/subsystem": Link("/sys/bus/platform"),
        f"{platform}/uevent": (
            f"DRIVER={driver}\nOF_NAME=npu\nOF_FULLNAME=/npu@{CORE_BASES[0]:x}\nOF_COMPATIBLE_0={compatible}\n"
            f"OF_COMPATIBLE_N=1\nMODALIAS=of:NnpuT(null)C{compatible}\n"
        ),
        "/sys/bus/platform/uevent": "",
    }
    assert len(CORE_BASES) == CORES
    covered = (folder, f"/sys/class/{kind}", f"/sys/dev/char/{number}", platform)
    return Tree(files, f"{folder}/{name}", covered)


def _within(file: str, directory: PurePosixPath) -> bool:
    return PurePosixPath(file).is_relative_to(directory)
