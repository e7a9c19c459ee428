"""The checks, from the board up to the device node; facts from hardware/kernels.md and hardware/performance.md.

They read `/proc`, `/sys` and `/dev` through a Kernel, so that a recorded tree is as good as the machine itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rocketnpu.doctor.findings import Finding, State
from rocketnpu.errors import DeviceError
from rocketnpu.hw.codes import HARDWARE_VERSION
from rocketnpu.hw.limits import CORES
from rocketnpu.runtime.devices import EMULATOR, DeviceInfo, devices
from rocketnpu.runtime.kernel import Kernel
from rocketnpu.runtime.node import Node
from rocketnpu.uapi import rknpu, rocket

DEVICE_TREE = "/proc/device-tree"
PLATFORM = "/sys/bus/platform"
DEVFREQ = "/sys/class/devfreq"
CLOCK_RATE = "/sys/kernel/debug/clk/scmi_clk_npu/clk_rate"
"""The NPU's clock in debugfs, readable by root, by the name that board firmware commonly gives it."""

CHIP = "rockchip,rk3588"
"""Begins the chip's compatible string, rk3588s included."""

MAINLINE_CORE = "rockchip,rk3588-rknn-core"
VENDOR_NPU = "rockchip,rk3588-rknpu"

FIRST_KERNEL = (6, 18)
"""The first Linux with the rocket driver."""

SYSFS_DRIVERS = {MAINLINE_CORE: "rocket", VENDOR_NPU: "RKNPU"}
"""The platform drivers' names below /sys/bus/platform/drivers, by what they bind to."""

BOOT_HZ = 200_000_000
"""The clock that the mainline device tree asks for."""


@dataclass(frozen=True)
class _NpuNode:
    """A device tree node of the NPU: one for each core with rocket, one for all with rknpu."""

    name: str
    compatible: str
    enabled: bool


def diagnose(kernel: Kernel) -> tuple[Finding, ...]:
    """Everything there is to say; programs can run on the NPU if no finding is a PROBLEM."""
    nodes = _npu_nodes(kernel)
    enabled = [node for node in nodes if node.enabled]
    found = [info for info in devices(kernel) if info.name != EMULATOR]
    usable = next((info for info in found if info.problem is None), None)
    below = [_board(kernel), _kernel_version(kernel, found), _device_tree(nodes)]
    below += [_driver(kernel, enabled)] if enabled else []
    if usable is None:
        return (*below, _node(found))
    # A driver that answers has all it needs: what looks wrong below it is hidden, as in a container.
    findings = [
        Finding(item.subject, State.UNKNOWN, item.found) if item.state == State.PROBLEM else item for item in below
    ]
    findings += [_node(found), _versions(kernel, usable)]
    if nodes:
        findings.append(_clock(kernel, nodes))
    return tuple(findings)


def _board(kernel: Kernel) -> Finding:
    model = _read(kernel, f"{DEVICE_TREE}/model")
    compatible = (_read(kernel, f"{DEVICE_TREE}/compatible") or "").split("\0")
    if any(name.startswith(CHIP) for name in compatible):
        return Finding("board", State.OK, model or compatible[0])
    return Finding(
        "board", State.PROBLEM, model or "no device tree", "this is no RK3588 board: programs run on the emulator here"
    )


def _kernel_version(kernel: Kernel, found: list[DeviceInfo]) -> Finding:
    release = _read(kernel, "/proc/sys/kernel/osrelease") or "unknown"
    number = re.match(r"(\d+)\.(\d+)", release)
    if found or number is None or (int(number[1]), int(number[2])) >= FIRST_KERNEL:
        return Finding("kernel", State.OK if number else State.UNKNOWN, release)
    wanted = ".".join(map(str, FIRST_KERNEL))
    return Finding(
        "kernel",
        State.PROBLEM,
        release,
        f"the rocket driver came with Linux {wanted}: install that, or a vendor kernel",
    )


def _npu_nodes(kernel: Kernel) -> list[_NpuNode]:
    nodes: list[_NpuNode] = []
    for name in _list(kernel, DEVICE_TREE):
        compatible = (_read(kernel, f"{DEVICE_TREE}/{name}/compatible") or "").split("\0")
        known = [item for item in compatible if item in SYSFS_DRIVERS]
        if name.startswith("npu@") and known:
            status = _read(kernel, f"{DEVICE_TREE}/{name}/status") or "okay"
            nodes.append(_NpuNode(name, known[0], status in ("okay", "ok")))
    return nodes


def _device_tree(nodes: list[_NpuNode]) -> Finding:
    enabled = [node for node in nodes if node.enabled]
    if not nodes:
        advice = "boot a device tree that describes the NPU: one node for each core (rocket) or one for all (rknpu)"
        return Finding("device tree", State.PROBLEM, "no NPU node", advice)
    if not enabled:
        names = ", ".join(node.name for node in nodes)
        advice = 'set status = "okay" in the board\'s device tree or an overlay, for the IOMMU nodes too'
        return Finding("device tree", State.PROBLEM, f"disabled: {names}", advice)
    text = ", ".join(f"{node.name} ({'enabled' if node.enabled else 'disabled'})" for node in nodes)
    if enabled[0].compatible == MAINLINE_CORE and len(enabled) < CORES:
        return Finding("device tree", State.SLOW, text, f"enable all {CORES} cores to run as many frames at a time")
    return Finding("device tree", State.OK, text)


def _driver(kernel: Kernel, enabled: list[_NpuNode]) -> Finding:
    """Rocket needs all enabled cores; the driver's folder in sysfs has a link for each device it has bound."""
    name = SYSFS_DRIVERS[enabled[0].compatible]
    folder = f"{PLATFORM}/drivers/{name}"
    if not kernel.exists(folder):
        option = "CONFIG_DRM_ACCEL_ROCKET" if name == "rocket" else "CONFIG_ROCKCHIP_RKNPU"
        return Finding(
            "driver",
            State.PROBLEM,
            f"{name} is not loaded",
            f"`sudo modprobe {name.lower()}`, or a kernel with {option}",
        )
    bound = {entry.partition(".")[0] for entry in _list(kernel, folder) if entry.endswith(".npu")}
    missing = [node.name for node in enabled if node.name.removeprefix("npu@") not in bound]
    if missing:
        advice = (
            "look for its errors with `dmesg | grep -iE 'rocket|rknpu|iommu|supply'`: regulators, clocks, IOMMU nodes"
        )
        return Finding("driver", State.PROBLEM, f"{name} has not bound {', '.join(missing)}", advice)
    return Finding("driver", State.OK, f"{name}, bound to {', '.join(node.name for node in enabled)}")


def _node(found: list[DeviceInfo]) -> Finding:
    if not found:
        advice = "solve what is above; in a container, pass the node in, as with --device /dev/accel/accel0"
        return Finding("node", State.PROBLEM, "no /dev/accel/accel* or /dev/dri/renderD* of an NPU driver", advice)
    usable = [info for info in found if info.problem is None]
    if usable:
        return Finding("node", State.OK, ", ".join(f"{info.node} ({info.name} {info.version})" for info in usable))
    return Finding("node", State.PROBLEM, found[0].node or "", found[0].problem or "")


def _versions(kernel: Kernel, info: DeviceInfo) -> Finding:
    """The hardware's VERSION registers, as far as the driver tells."""
    if info.name == rocket.DRIVER:
        advice = f"the kernel log has it from boot, {HARDWARE_VERSION} for each core: `dmesg | grep -i 'npu core'`"
        return Finding("hardware", State.UNKNOWN, "rocket does not tell the version", advice)
    try:
        node = Node(kernel, info.node or "", rknpu.NAMES)
        try:
            hardware = rknpu.Action(flags=rknpu.ActionCode.HARDWARE_VERSION)
            node.request(rknpu.ACTION, hardware)
        finally:
            node.close()
    except DeviceError as error:
        return Finding("hardware", State.PROBLEM, "the version cannot be read", str(error))
    if hardware.value != HARDWARE_VERSION:
        advice = f"RK3588 has {HARDWARE_VERSION:#x}; the NPU may be without power, or another chip's"
        return Finding("hardware", State.PROBLEM, f"version {hardware.value:#x}", advice)
    return Finding("hardware", State.OK, f"version {hardware.value:#x}")


def _clock(kernel: Kernel, nodes: list[_NpuNode]) -> Finding:
    """Clock and governor: vendor kernels have devfreq, mainline a fixed clock that debugfs shows to root."""
    device = f"{DEVFREQ}/{nodes[0].name.removeprefix('npu@')}.npu"
    hertz = _number(_read(kernel, f"{device}/cur_freq"))
    if hertz is not None:
        governor = _read(kernel, f"{device}/governor") or "unknown"
        most = _number(_read(kernel, f"{device}/max_freq")) or hertz
        text = f"{hertz / 1e6:.0f} of {most / 1e6:.0f} MHz, governor {governor}"
        if governor == "powersave" and hertz < most:
            return Finding("clock", State.SLOW, text, f"`echo performance | sudo tee {device}/governor` for full speed")
        return Finding("clock", State.OK, text)
    hertz = _number(_read(kernel, CLOCK_RATE))
    if hertz is None:
        return Finding("clock", State.UNKNOWN, "not readable", f"as root, with debugfs mounted: `cat {CLOCK_RATE}`")
    if hertz <= BOOT_HZ:
        advice = "this is the boot clock; 600 MHz at the default voltage gave 1.43 times the speed end to end"
        return Finding("clock", State.SLOW, f"{hertz / 1e6:.0f} MHz", advice)
    return Finding("clock", State.OK, f"{hertz / 1e6:.0f} MHz")


def _read(kernel: Kernel, path: str) -> str | None:
    """A file's text without the ends that files of /proc and /sys have; None if it cannot be read."""
    try:
        return kernel.read_text(path).rstrip("\0\n")
    except OSError:
        return None


def _list(kernel: Kernel, path: str) -> list[str]:
    try:
        return kernel.listdir(path)
    except OSError:
        return []


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
