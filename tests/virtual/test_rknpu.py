"""The vendor driver's interface, call by call (hardware/kernels.md, `rknpu`)."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from rocketnpu.uapi import drm, rknpu
from rocketnpu.virtual import VirtualKernel
from virtual.clients import CUBE_BYTES, DPU_DONE, PAGE, RknpuClient, command_list, copy_task, fails, noise, pool_task


@pytest.fixture
def kernel() -> Iterator[VirtualKernel]:
    with VirtualKernel("rknpu", memory_bytes=1 << 24, watchdog_ms=100) as kernel:
        yield kernel


@pytest.fixture
def client(kernel: VirtualKernel) -> RknpuClient:
    return RknpuClient(kernel)


@contextmanager
def refused(number: int, message: str, kernel: VirtualKernel) -> Iterator[None]:
    """A call that fails with this errno, and leaves a line in the log."""
    with fails(number):
        yield
    assert any(message in line for line in ("", *kernel.messages)), kernel.messages


def test_versions(client: RknpuClient):
    name = ctypes.create_string_buffer(16)
    version = drm.Version(name_len=16, name=ctypes.addressof(name))
    client.kernel.ioctl(client.fd, drm.VERSION, version)
    assert (name.value, version.version_major, version.version_minor, version.version_patchlevel) == (b"rknpu", 0, 9, 8)
    assert client.action(rknpu.ActionCode.DRIVER_VERSION) == 908
    assert client.action(rknpu.ActionCode.HARDWARE_VERSION) == 0x46495245


@pytest.mark.parametrize(("core_mask", "index"), [(0, 0), (1, 0), (2, 1), (4, 2)])
def test_one_core_takes_its_share_at_its_own_index(client: RknpuClient, core_mask: int, index: int):
    source, target = client.cube(1), client.cube()
    table = client.table(client.chain(copy_task(source.address, target.address)))
    answer = client.submit(table, {index: (0, 1)}, core_mask=core_mask)
    np.testing.assert_array_equal(target.data[:CUBE_BYTES], noise(1))
    assert answer.task_counter == 1
    assert answer.hw_elapse_time > 0


@pytest.mark.parametrize(("core_mask", "first", "cores"), [(3, 0, 2), (7, 2, 3)])
def test_two_cores_use_the_first_entries_and_three_those_from_the_third(
    client: RknpuClient, core_mask: int, first: int, cores: int
):
    pairs = [(client.cube(seed), client.cube()) for seed in range(cores)]
    tasks = [task for a, b in pairs for task in client.chain(copy_task(a.address, b.address))]
    shares = {first + core: (core, 1) for core in range(cores)}
    assert client.submit(client.table(tasks), shares, core_mask=core_mask).task_counter == cores
    for seed, (_, target) in enumerate(pairs):
        np.testing.assert_array_equal(target.data[:CUBE_BYTES], noise(seed))


def test_a_chain_ends_with_the_interrupt_of_its_last_task(client: RknpuClient):
    a, b, c = client.cube(1), client.cube(), client.cube()
    chain = client.chain(copy_task(a.address, b.address), pool_task(b.address, c.address))
    client.submit(client.table(chain), {0: (0, 2)})
    np.testing.assert_array_equal(c.data[:CUBE_BYTES], noise(1))


def test_more_tasks_than_a_kick_takes_are_kicked_again(kernel: VirtualKernel, client: RknpuClient):
    source, target = client.cube(1), client.cube()
    lists = client.bo()
    copy = copy_task(source.address, target.address)
    words = command_list(copy, lists.address, len(copy[0]))  # leads to itself: as many tasks as the count says
    lists.data[: words.size] = words
    task = rknpu.Task(int_mask=DPU_DONE, regcfg_amount=len(copy[0]), regcmd_addr=lists.address)
    client.submit(client.table([task] * 4100), {0: (0, 4100)})
    assert kernel.counters["tasks"] == 4100
    np.testing.assert_array_equal(target.data[:CUBE_BYTES], noise(1))


def test_an_interrupt_that_is_not_the_expected_one_is_logged_and_times_out(kernel: VirtualKernel, client: RknpuClient):
    a, b, c = client.cube(1), client.cube(), client.cube()
    chain = client.chain(copy_task(a.address, b.address))
    chain[0].int_mask = 0x100
    with refused(errno.ETIMEDOUT, "is 0x300, not 0x100", kernel):
        # Widened to pairs, the status is 0x300, which is not the mask (hardware/regcmd.md).
        client.submit(client.table(chain), {0: (0, 1)})
    assert kernel.counters["resets"] == 3
    client.submit(client.table(client.chain(copy_task(a.address, c.address))), {0: (0, 1)})
    np.testing.assert_array_equal(c.data[:CUBE_BYTES], noise(1))


def test_a_job_that_hangs_times_out_after_what_it_asked_for():
    with VirtualKernel("rknpu", faults="hang@task:1") as kernel:
        client = RknpuClient(kernel)
        table = client.table(client.chain(copy_task(client.cube(1).address, client.cube().address)))
        with refused(errno.ETIMEDOUT, "timed out", kernel):
            client.submit(table, {0: (0, 1)}, timeout_ms=50)


def test_a_submit_that_does_not_block_returns_before_its_end():
    with VirtualKernel("rknpu", faults="hang@task:1", watchdog_ms=50) as kernel:
        client = RknpuClient(kernel)
        table = client.table(client.chain(copy_task(client.cube(1).address, client.cube().address)))
        flags = rknpu.JobFlag.PC_MODE | rknpu.JobFlag.NON_BLOCK
        assert client.submit(table, {0: (0, 1)}, flags=flags).task_counter == 0


def test_what_would_crash_the_driver_is_refused(kernel: VirtualKernel, client: RknpuClient):
    source, target = client.cube(1), client.cube()
    chain = client.chain(copy_task(source.address, target.address))
    table = client.table(chain)
    with refused(errno.EINVAL, "no kernel mapping", kernel):
        client.submit(client.table(chain, rknpu.MemoryFlag.IOMMU), {0: (0, 1)})
    with refused(errno.EINVAL, "of a table of", kernel):
        client.submit(table, {0: (PAGE, 1)})
    with refused(errno.EINVAL, "not in PC mode", kernel):
        client.submit(table, {0: (0, 1)}, flags=0)
    with refused(errno.EINVAL, "fences are not modelled", kernel):
        client.submit(table, {0: (0, 1)}, flags=rknpu.JobFlag.PC_MODE | rknpu.JobFlag.FENCE_OUT)
    with refused(errno.EINVAL, "core mask 0x5", kernel):
        client.submit(table, {0: (0, 1)}, core_mask=5)
    table.obj_addr += 8
    with refused(errno.EINVAL, "is no object's address", kernel):
        client.submit(table, {0: (0, 1)})
    assert kernel.counters.get("jobs", 0) == 0


def test_domains_are_address_spaces_of_the_device(kernel: VirtualKernel, client: RknpuClient):
    one, other = client.bo(domain=1), client.bo(domain=2)
    assert one.address == other.address
    with refused(errno.EINVAL, "", kernel):
        client.bo(domain=16)


@pytest.mark.parametrize(
    ("flags", "offset", "size", "right"),
    [(1, 0, PAGE, True), (3, 16, 32, True), (0, 0, PAGE, False), (4, 0, PAGE, False), (2, 1, PAGE, False)],
)
def test_syncs_name_a_direction_and_stay_inside(client: RknpuClient, flags: int, offset: int, size: int, right: bool):
    bo = client.bo()
    sync = rknpu.MemSync(flags=flags, obj_addr=bo.obj_addr, offset=offset, size=size)
    if right:
        client.kernel.ioctl(client.fd, rknpu.MEM_SYNC, sync)
    else:
        with pytest.raises(OSError, match="Invalid argument"):
            client.kernel.ioctl(client.fd, rknpu.MEM_SYNC, sync)


def test_destroyed_buffers_and_closed_descriptors_give_everything_back(kernel: VirtualKernel, client: RknpuClient):
    bo = client.bo()
    client.kernel.ioctl(client.fd, rknpu.MEM_DESTROY, rknpu.MemDestroy(handle=bo.handle, obj_addr=bo.obj_addr))
    with pytest.raises(OSError, match="No such file"):
        client.kernel.ioctl(client.fd, rknpu.MEM_MAP, rknpu.MemMap(handle=bo.handle))
    client.bo()
    client.close()
    del bo
    assert [kernel.counters[name] for name in ("files", "buffers", "mappings")] == [0, 0, 0]


def test_actions_without_a_model_are_einval_and_settings_are_taken(kernel: VirtualKernel, client: RknpuClient):
    assert client.action(rknpu.ActionCode.IOMMU_ENABLED) == 1
    client.action(rknpu.ActionCode.POWER_ON)
    client.kernel.ioctl(client.fd, rknpu.ACTION, rknpu.Action(flags=rknpu.ActionCode.SET_DOMAIN, value=3))
    assert client.action(rknpu.ActionCode.GET_DOMAIN) == 3
    with refused(errno.EINVAL, "action 99 is not modelled", kernel):
        client.action(99)
