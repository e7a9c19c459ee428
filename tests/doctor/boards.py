"""The files of boards, good and bad, that the doctor looks at (hardware/kernels.md, Device tree and node names)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


Files: TypeAlias = Mapping[str, str | Link]
"""By path without the leading slash; text of a file, or where a link leads."""

CORES = ("fdab0000", "fdac0000", "fdad0000")

ORANGE_PI: Files = {
    "proc/sys/kernel/osrelease": "6.18.2\n",
    "proc/device-tree/model": "Xunlong Orange Pi 5 Plus\0",
    "proc/device-tree/compatible": "xunlong,orangepi-5-plus\0rockchip,rk3588\0",
}
"""A board with a recent kernel, but for the NPU."""

ROCKET_TREE: Files = ORANGE_PI | {
    f"proc/device-tree/npu@{core}/{name}": text
    for core in CORES
    for name, text in (("compatible", "rockchip,rk3588-rknn-core\0"), ("status", "okay\0"))
}
"""Its device tree has the NPU; no driver."""

ROCKET: Files = ROCKET_TREE | {
    **{f"sys/bus/platform/drivers/rocket/{core}.npu": Link(f"../../devices/{core}.npu") for core in CORES},
    "dev/accel/accel0": "",
    "sys/kernel/debug/clk/scmi_clk_npu/clk_rate": "600000000\n",
}
"""Everything is there for rocket."""

RKNPU: Files = {
    "proc/sys/kernel/osrelease": "5.10.160-rockchip-rk3588\n",
    "proc/device-tree/model": "Radxa ROCK 5B\0",
    "proc/device-tree/compatible": "radxa,rock-5b\0rockchip,rk3588\0",
    "proc/device-tree/npu@fdab0000/compatible": "rockchip,rk3588-rknpu\0",
    "proc/device-tree/npu@fdab0000/status": "okay\0",
    "sys/bus/platform/drivers/RKNPU/fdab0000.npu": Link("../../devices/fdab0000.npu"),
    "sys/class/drm/renderD129/device/uevent": "DRIVER=RKNPU\nOF_NAME=npu\n",
    "dev/dri/renderD129": "",
    "sys/class/devfreq/fdab0000.npu/cur_freq": "1000000000\n",
    "sys/class/devfreq/fdab0000.npu/max_freq": "1000000000\n",
    "sys/class/devfreq/fdab0000.npu/governor": "rknpu_ondemand\n",
}
"""A vendor kernel with its driver."""

LAPTOP: Files = {"proc/sys/kernel/osrelease": "6.12.1-amd64\n"}


def store(files: Files, root: Path) -> None:
    """Write the files below a folder."""
    for path, entry in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, Link):
            file.symlink_to(entry.target)
        else:
            file.write_text(entry)


def without(files: Files, part: str) -> Files:
    """The files whose path does not contain `part`."""
    return {path: entry for path, entry in files.items() if part not in path}
