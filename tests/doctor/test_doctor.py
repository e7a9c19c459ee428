"""The doctor finds what keeps a board's NPU from being used, and nothing on a good board."""

from __future__ import annotations

import ctypes
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from doctor.boards import LAPTOP, ORANGE_PI, RKNPU, ROCKET, ROCKET_TREE, Files, store, without
from rocketnpu.cli import main
from rocketnpu.doctor import Finding, State, diagnose
from rocketnpu.runtime.kernel import LinuxKernel
from rocketnpu.uapi import drm, rknpu


class BoardKernel(LinuxKernel):
    """A recorded tree whose nodes answer as a driver does; a node that may not be opened has `error`."""

    def __init__(self, root: Path, driver: str = "rocket", hardware: int = 0x46495245, error: int = 0) -> None:
        super().__init__(root)
        self._driver = driver.encode()
        self._hardware = hardware
        self._error = error

    def open(self, path: str, flags: int) -> int:
        if self._error:
            raise OSError(self._error, os.strerror(self._error))
        return super().open(path, flags)

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure) -> int:
        if isinstance(argument, drm.Version):
            ctypes.memmove(argument.name, self._driver, len(self._driver))
            argument.name_len = len(self._driver)
        elif isinstance(argument, rknpu.Action) and argument.flags == rknpu.ActionCode.HARDWARE_VERSION:
            argument.value = self._hardware
        else:
            raise OSError(errno.EINVAL, f"fd {fd}, request {request:#x}")
        return 0


Diagnose = Callable[..., dict[str, Finding]]


@pytest.fixture
def examine(tmp_path: Path) -> Diagnose:
    """Diagnose a tree; findings by subject."""

    def call(files: Files, **options: object) -> dict[str, Finding]:
        store(files, tmp_path)
        return {finding.subject: finding for finding in diagnose(BoardKernel(tmp_path, **options))}  # type: ignore[arg-type]

    return call


def problems(findings: dict[str, Finding]) -> set[str]:
    return {subject for subject, finding in findings.items() if finding.state == State.PROBLEM}


def test_a_good_rocket_board_has_no_problem(examine: Diagnose) -> None:
    findings = examine(ROCKET)
    assert problems(findings) == set(), findings
    assert findings["board"].found == "Xunlong Orange Pi 5 Plus"
    assert findings["node"].found == "/dev/accel/accel0 (rocket 0.0.0)"
    assert findings["clock"].found == "600 MHz"


def test_a_good_vendor_board_has_no_problem(examine: Diagnose) -> None:
    findings = examine(RKNPU, driver="rknpu")
    assert problems(findings) == set(), findings
    assert findings["hardware"].found == "version 0x46495245"
    assert findings["clock"].found == "1000 of 1000 MHz, governor rknpu_ondemand"


def test_a_laptop_is_told_about_the_emulator(examine: Diagnose) -> None:
    findings = examine(LAPTOP)
    assert problems(findings) >= {"board", "node"}
    assert "emulator" in findings["board"].advice


def test_an_old_mainline_kernel_is_a_problem_where_no_driver_is(examine: Diagnose) -> None:
    findings = examine(ORANGE_PI | {"proc/sys/kernel/osrelease": "6.12.9\n"})
    assert "kernel" in problems(findings)
    assert "6.18" in findings["kernel"].advice


def test_a_device_tree_without_npu_nodes_is_a_problem(examine: Diagnose) -> None:
    assert problems(examine(ORANGE_PI)) == {"device tree", "node"}


def test_disabled_nodes_are_a_problem(examine: Diagnose) -> None:
    disabled = {path: "disabled\0" if path.endswith("status") else text for path, text in ROCKET_TREE.items()}
    findings = examine(disabled)
    assert problems(findings) == {"device tree", "node"}
    assert 'status = "okay"' in findings["device tree"].advice


def test_a_disabled_core_costs_speed_only(examine: Diagnose) -> None:
    tree = without(ROCKET, "drivers/rocket/fdad0000") | {"proc/device-tree/npu@fdad0000/status": "disabled\0"}
    findings = examine(tree)
    assert problems(findings) == set()
    assert findings["device tree"].state == State.SLOW


def test_a_driver_that_is_not_loaded_is_a_problem(examine: Diagnose) -> None:
    findings = examine(ROCKET_TREE)
    assert problems(findings) == {"driver", "node"}
    assert "modprobe rocket" in findings["driver"].advice


def test_a_core_that_the_driver_has_not_bound_is_a_problem(examine: Diagnose) -> None:
    findings = examine(without(without(ROCKET, "drivers/rocket/fdac0000"), "dev/accel"))
    assert problems(findings) == {"driver", "node"}
    assert findings["driver"].found == "rocket has not bound npu@fdac0000"


def test_a_node_without_permission_names_the_group_or_the_rule(examine: Diagnose) -> None:
    findings = examine(ROCKET, error=errno.EACCES)
    assert problems(findings) == {"node"}
    assert "udev" in findings["node"].advice or "usermod" in findings["node"].advice


def test_a_container_that_shows_the_node_alone_has_no_problem(examine: Diagnose) -> None:
    findings = examine(without(ROCKET, "proc/device-tree"))
    assert problems(findings) == set(), findings
    assert findings["device tree"].state == State.UNKNOWN


def test_a_foreign_hardware_version_is_a_problem(examine: Diagnose) -> None:
    assert problems(examine(RKNPU, driver="rknpu", hardware=0)) == {"hardware"}


def test_the_boot_clock_is_slow(examine: Diagnose) -> None:
    findings = examine(ROCKET | {"sys/kernel/debug/clk/scmi_clk_npu/clk_rate": "200000000\n"})
    assert findings["clock"].state == State.SLOW


def test_a_clock_that_cannot_be_read_is_unknown(examine: Diagnose) -> None:
    assert examine(without(ROCKET, "clk"))["clock"].state == State.UNKNOWN


def test_a_powersave_governor_is_slow(examine: Diagnose) -> None:
    devfreq = "sys/class/devfreq/fdab0000.npu"
    slow = {f"{devfreq}/governor": "powersave\n", f"{devfreq}/cur_freq": "300000000\n"}
    findings = examine(RKNPU | slow, driver="rknpu")
    assert findings["clock"].state == State.SLOW
    assert "performance" in findings["clock"].advice


def test_another_drivers_gpu_node_is_left_alone(tmp_path: Path) -> None:
    class Closed(LinuxKernel):
        def open(self, path: str, flags: int) -> int:
            raise AssertionError(f"{path} was opened with flags {flags:#x}")

    store(LAPTOP | {"dev/dri/renderD128": "", "sys/class/drm/renderD128/device/uevent": "DRIVER=i915\n"}, tmp_path)
    assert {finding.subject for finding in diagnose(Closed(tmp_path)) if finding.state == State.PROBLEM} >= {"node"}


def test_the_command_exits_with_1_and_advice_where_the_npu_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(ROCKET_TREE, tmp_path)
    assert main(["doctor", "--root", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "modprobe rocket" in out
    assert "the NPU cannot be used: 2 problems" in out
    assert main(["doctor", "--root", str(tmp_path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ready"] is False
    assert {"subject": "board", "state": "ok", "found": "Xunlong Orange Pi 5 Plus", "advice": ""} in report["findings"]


def test_the_command_exits_with_0_on_a_good_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store(ROCKET, tmp_path)
    monkeypatch.setattr("rocketnpu.cli.doctor.LinuxKernel", BoardKernel)
    assert main(["doctor", "--root", str(tmp_path)]) == 0
    assert "the NPU can be used" in capsys.readouterr().out
