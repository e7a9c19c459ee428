"""Discovery: what is listed, what "auto" takes, and what permission problems say."""

from __future__ import annotations

import errno
import grp
import os
import stat
from typing import Any

import numpy as np
import pytest

import rocketnpu as rn
from drivers.boards import Case, Interposed
from rocketnpu.runtime.devices import devices, open_device
from rocketnpu.runtime.node import explain_permission
from rocketnpu.runtime.pool import Block, Pool
from rocketnpu.virtual import VirtualKernel


class Locked(Interposed):
    """A kernel whose node this user may not open; its group and mode are told by stat."""

    def __init__(self, kernel: VirtualKernel, mode: int = 0o660, group: int = 0) -> None:
        super().__init__(kernel, lambda *_: None)
        self._status = os.stat_result((stat.S_IFCHR | mode, 0, 0, 1, 0, group, 0, 0, 0, 0))

    def open(self, path: str, flags: int) -> int:
        raise OSError(errno.EACCES, f"flags {flags:#x}", path)

    def stat(self, path: str) -> os.stat_result:
        assert path.startswith("/dev/"), path
        return self._status


def test_a_boards_npu_is_listed_before_the_emulator(kernel: VirtualKernel) -> None:
    npu, emulator = devices(kernel)
    assert npu.name == kernel.system.tree.node.split("/")[2].replace("accel", "rocket").replace("dri", "rknpu")
    assert npu.node == kernel.system.tree.node
    assert (npu.cores, npu.problem) == (3, None)
    assert emulator.name == "emulator"
    assert kernel.counters["files"] == 0, "looking leaves nothing open"


def test_auto_takes_the_boards_npu(kernel: VirtualKernel, case: Case) -> None:
    device = open_device("auto", case.program, kernel)
    assert device.name == devices(kernel)[0].name
    device.close()
    assert open_device("emulator", case.program, kernel).name == "emulator"


def test_a_name_that_the_machine_lacks_is_an_error(case: Case) -> None:
    with VirtualKernel("rocket") as kernel, pytest.raises(rn.DeviceError, match=r"no device 'rknpu'.*rocket, emulator"):
        open_device("rknpu", case.program, kernel)


def test_an_npu_that_may_not_be_opened_is_listed_with_its_problem(kernel: VirtualKernel, case: Case) -> None:
    locked: Any = Locked(kernel)
    assert "udev" in (devices(locked)[0].problem or "")
    with pytest.raises(rn.DeviceError, match=r"can't open .*permission denied.*device='emulator' runs without it"):
        open_device("auto", case.program, locked)


def test_a_permission_problem_names_the_group_to_join(kernel: VirtualKernel) -> None:
    group = next(group for group in grp.getgrall() if group.gr_gid)
    told = explain_permission(Locked(kernel, 0o660, group.gr_gid), "/dev/accel/accel0")  # type: ignore[arg-type]
    assert f"usermod -aG {group.gr_name} " in told


def test_a_permission_problem_without_a_group_tells_the_udev_rule(kernel: VirtualKernel) -> None:
    told = explain_permission(Locked(kernel, 0o600), "/dev/accel/accel0")  # type: ignore[arg-type]
    assert 'SUBSYSTEM=="accel", GROUP="render", MODE="0660"' in told


class Memory:
    """Blocks up to a limit of bytes."""

    def __init__(self, limit: int) -> None:
        self.left = limit
        self.made = 0

    def create(self, size_bytes: int) -> Block | None:
        if size_bytes > self.left:
            return None
        self.left -= size_bytes
        self.made += 1
        return Block(4096 * self.made, np.zeros(size_bytes, np.uint8), self.made)

    def destroy(self, block: Block) -> None:
        self.left += block.memory.size


def test_the_pool_reuses_a_block_that_is_not_much_too_large_and_clears_it() -> None:
    memory = Memory(1 << 20)
    pool = Pool(memory.create, memory.destroy)
    large, small = pool.take(16 * 4096), pool.take(3 * 4096)
    assert large is not None
    assert small is not None
    small.memory[:] = 7
    pool.give(large)
    pool.give(small)
    again = pool.take(2 * 4096 - 5)
    assert again is small
    assert not again.memory.any()
    assert pool.take(4096) is not large
    assert memory.made == 3


def test_the_pool_gives_up_free_blocks_before_it_says_there_is_no_memory() -> None:
    memory = Memory(8 * 4096)
    pool = Pool(memory.create, memory.destroy)
    block = pool.take(4096)
    assert block is not None
    pool.give(block)
    assert pool.take(8 * 4096) is not None
    assert pool.take(4096) is None
