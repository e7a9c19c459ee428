"""The mainline driver's interface, call by call (hardware/kernels.md, `rocket`)."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from emulator.npu_programs import Conv, changed
from rocketnpu.hw.registers import CNA
from rocketnpu.uapi import drm, rocket
from rocketnpu.uapi.request import READ, WRITE, request
from rocketnpu.virtual import VirtualKernel
from virtual.clients import CHANNELS, CUBE_BYTES, EDGE, PAGE, RocketClient, copy_task, fails, noise, pool_task

WATCHDOG_MS = 100


@pytest.fixture
def kernel() -> Iterator[VirtualKernel]:
    with VirtualKernel("rocket", memory_bytes=1 << 24, watchdog_ms=WATCHDOG_MS) as kernel:
        yield kernel


@pytest.fixture
def client(kernel: VirtualKernel) -> RocketClient:
    return RocketClient(kernel)


def test_version_names_the_driver_and_fills_only_the_room_there_is(client: RocketClient):
    name = ctypes.create_string_buffer(b"xxxxxxxx")
    version = drm.Version(name_len=4, name=ctypes.addressof(name))
    client.kernel.ioctl(client.fd, drm.VERSION, version)
    assert (name.value, version.name_len) == (b"rockxxxx", 6)


def test_the_first_buffer_is_at_address_0_of_each_descriptor(kernel: VirtualKernel):
    one, other = RocketClient(kernel).cube(1), RocketClient(kernel).cube(2)
    assert (one.address, other.address) == (0, 0)
    assert one.data[:CUBE_BYTES].tolist() == noise(1).tolist()
    assert other.data[:CUBE_BYTES].tolist() == noise(2).tolist()


def test_a_job_copies_a_cube(client: RocketClient):
    source, target = client.cube(1), client.cube()
    client.submit_copy(source, target)
    client.prepare(target)
    np.testing.assert_array_equal(target.data[:CUBE_BYTES], noise(1))


def test_tasks_of_a_job_run_one_by_one_without_a_chain(kernel: VirtualKernel, client: RocketClient):
    a, b, c, d = (client.cube(seed) for seed in (1, None, None, None))
    tasks = [client.list_of(copy_task(x.address, y.address)) for x, y in ((a, b), (b, c), (c, d))]
    client.submit(tasks, [a, *(bo for bo, _ in tasks)], [b, c, d])
    client.prepare(d)
    np.testing.assert_array_equal(d.data[:CUBE_BYTES], noise(1))
    assert (kernel.counters["jobs"], kernel.counters["tasks"]) == (1, 3)


@pytest.mark.parametrize("jobs", [1, 2])
def test_weights_are_reused_by_the_next_kick_but_not_by_another_job(
    kernel: VirtualKernel, client: RocketClient, jobs: int
):
    """Mesa's jobs do so for layers that it cuts into pieces; across jobs silicon gives wrong results."""
    features, weights, first, second = client.cube(1), client.bo(), client.bo(), client.bo()
    weights.data[:1024] = noise(2).repeat(2)
    conv = Conv(
        height=EDGE,
        width=EDGE,
        channels=CHANNELS,
        outputs=32,
        out_height=EDGE,
        out_width=EDGE,
        features=features.address,
        weights=weights.address,
        target=first.address,
    )
    again = changed(replace(conv, target=second.address).writes(), CNA.CBUF_CON0, WEIGHT_REUSE=1)
    tasks = [client.list_of(conv.task()), client.list_of((again, conv.task()[1]))]
    inputs = [features, weights, *(bo for bo, _ in tasks)]
    if jobs == 1:
        client.submit(tasks, inputs, [first, second])
    else:
        client.submit(tasks[:1], inputs, [first])
        client.submit(tasks[1:], inputs, [second])
    client.prepare(second)
    assert first.data.any()
    assert (second.data == first.data).all() == (jobs == 1)
    assert kernel.counters.get("timeouts", 0) == jobs - 1


def test_jobs_wait_for_those_that_write_what_they_read(client: RocketClient):
    a, b, c = client.cube(1), client.cube(), client.cube()
    client.submit_copy(a, b)
    client.submit_copy(b, c)
    client.prepare(c)
    np.testing.assert_array_equal(c.data[:CUBE_BYTES], noise(1))


def test_prepare_polls_times_out_and_says_nothing_of_a_watchdog():
    with VirtualKernel("rocket", faults="hang@task:1", watchdog_ms=300) as kernel:
        client = RocketClient(kernel)
        source, target = client.cube(1), client.cube(2)
        client.prepare(target)
        client.submit_copy(source, target)
        client.prepare(source, 0)  # readers are not waited for
        with fails(errno.EBUSY):
            client.prepare(target, -1)
        with fails(errno.ETIMEDOUT):
            client.prepare(target, 0.01)
        start = time.monotonic()
        client.prepare(target)
        assert 0.1 < time.monotonic() - start < 5
        np.testing.assert_array_equal(target.data[:CUBE_BYTES], noise(2))
        assert (kernel.counters["timeouts"], kernel.counters["resets"]) == (1, 1)
        client.submit_copy(source, target)
        client.prepare(target)
        np.testing.assert_array_equal(target.data[:CUBE_BYTES], noise(1))


@pytest.mark.parametrize("wrong", ["same twice", "in and out", "no such handle", "task size", "no tasks"])
def test_a_job_that_is_refused_is_not_run_and_the_call_says_0(kernel: VirtualKernel, wrong: str):
    client = RocketClient(kernel)
    source, target = client.cube(1), client.cube(2)
    task = client.list_of(copy_task(source.address, target.address))
    inputs = {"same twice": [source, source], "in and out": [source, target], "no such handle": [99]}.get(
        wrong, [source]
    )
    size = 4 if wrong == "task size" else ctypes.sizeof(rocket.Task)
    client.submit([] if wrong == "no tasks" else [task], inputs, [target], task_struct_size=size)
    client.prepare(target)
    np.testing.assert_array_equal(target.data[:CUBE_BYTES], noise(2))
    assert (kernel.counters["refused jobs"], kernel.counters.get("jobs", 0)) == (1, 0)
    assert "is not run" in kernel.messages[-1]


def test_a_struct_of_jobs_that_is_too_short_is_einval(client: RocketClient):
    with fails(errno.EINVAL):
        client.submit([], [], [], job_struct_size=8)


def test_the_end_of_a_pool_is_not_seen_but_its_data_is_right(kernel: VirtualKernel, client: RocketClient):
    source, target = client.cube(1), client.cube()
    task = client.list_of(pool_task(source.address, target.address))
    client.submit([task], [source, task[0]], [target])
    client.prepare(target)
    np.testing.assert_array_equal(target.data[:CUBE_BYTES], noise(1))
    assert kernel.counters["timeouts"] == 1


def test_an_unmapped_address_is_a_page_fault_in_the_log_and_a_watchdog(kernel: VirtualKernel, client: RocketClient):
    target = client.cube(2)
    task = client.list_of(copy_task(0x1234_5000, target.address))
    client.submit([task], [task[0]], [target])
    client.prepare(target)
    # Core 0's IOMMU has two banks; the first shows the fault.
    assert (kernel.counters["page faults"], kernel.counters["timeouts"]) == (1, 1)
    assert any("page fault at 0x12345000, read" in message for message in kernel.messages)
    np.testing.assert_array_equal(target.data[:CUBE_BYTES], noise(2))


def test_descriptors_spread_over_three_cores_and_one_descriptor_stays_on_one():
    faults = ",".join(f"hang@task:{number}" for number in range(1, 6))
    with VirtualKernel("rocket", faults=faults, watchdog_ms=200) as kernel:
        clients = [RocketClient(kernel) for _ in range(3)]
        targets = [client.cube() for client in clients for _ in range(2 if client is clients[0] else 1)]
        owners = [clients[0], *clients]
        for client, target in zip(owners, targets, strict=True):
            client.submit_copy(client.cube(1), target)
        for client, target in zip(owners, targets, strict=True):
            client.prepare(target)
        cores = [message.split()[2] for message in kernel.messages if "timed out" in message]
        assert sorted(cores) == ["0:", "0:", "1:", "2:"]


def test_closing_a_descriptor_gives_everything_back(kernel: VirtualKernel):
    before = kernel.system.board.pages.used_bytes
    client = RocketClient(kernel)
    source, target = client.cube(1), client.cube()
    client.submit_copy(source, target)
    client.prepare(target)
    client.drop(target)
    client.close()
    assert (kernel.counters["mappings"], kernel.counters["buffers"]) == (2, 2), "mappings outlive the descriptor"
    assert source.data[0] == noise(1)[0]
    del source, target
    assert {name: kernel.counters[name] for name in ("files", "buffers", "mappings")} == {
        "files": 0,
        "buffers": 0,
        "mappings": 0,
    }
    assert kernel.system.board.pages.used_bytes == before


def test_closing_drops_queued_jobs_and_lets_the_running_one_end():
    with VirtualKernel("rocket", faults="hang@task:1", watchdog_ms=100) as kernel:
        client = RocketClient(kernel)
        for _ in range(3):
            client.submit_copy(client.cube(1), client.cube())
        while not kernel.counters.get("tasks"):
            time.sleep(0.001)
        client.close()
        other = RocketClient(kernel)
        source, target = other.cube(3), other.cube()
        other.submit_copy(source, target)
        other.prepare(target)
        np.testing.assert_array_equal(target.data[:CUBE_BYTES], noise(3))
        while not kernel.counters.get("timeouts"):
            time.sleep(0.01)
        assert kernel.counters["tasks"] == 2


@pytest.mark.parametrize(
    ("code", "number"),
    [
        (request(READ | WRITE, "d", 0x7F, drm.GemClose), errno.EINVAL),
        (request(READ | WRITE, "x", 0x40, drm.GemClose), errno.ENOTTY),
        (drm.GEM_CLOSE, errno.EINVAL),
    ],
)
def test_unknown_requests_and_handles_fail_as_in_drm(client: RocketClient, code: int, number: int):
    with fails(number):
        client.kernel.ioctl(client.fd, code, drm.GemClose(handle=5))


def test_mmap_wants_a_buffers_own_offset_and_no_more_than_its_length(client: RocketClient):
    bo = client.bo(2 * PAGE)
    assert client.kernel.mmap(client.fd, PAGE, bo.offset).size == PAGE
    for length, offset in ((3 * PAGE, bo.offset), (PAGE, bo.offset + PAGE), (PAGE, 0)):
        with fails(errno.EINVAL):
            client.kernel.mmap(client.fd, length, offset)


def test_more_memory_than_the_board_has_is_enomem_and_costs_nothing(kernel: VirtualKernel, client: RocketClient):
    with fails(errno.ENOMEM):
        client.bo(1 << 25)
    assert kernel.counters.get("buffers", 0) == 0


def test_descriptors_are_checked(kernel: VirtualKernel):
    for path, flags, number in (
        ("/dev/accel/accel1", os.O_RDWR, errno.ENOENT),
        ("/dev/accel/accel0", os.O_DIRECTORY, errno.ENOTDIR),
    ):
        with fails(number):
            kernel.open(path, flags)
    with fails(errno.EBADF):
        kernel.close(7)


def test_device_time_stands_still_while_the_board_works_and_passes_while_a_job_hangs():
    with VirtualKernel("rocket", faults="hang@task:41", watchdog_ms=300) as kernel:
        client = RocketClient(kernel)
        source, target = client.cube(1), client.cube()
        tasks = [client.list_of(copy_task(source.address, target.address))] * 40
        start = kernel.device_time_ns()
        client.submit(tasks, [source, tasks[0][0]], [target])
        with kernel.system.board.lock:
            time.sleep(0.2)  # a machine that does not let the board's thread run
        client.prepare(target)
        assert kernel.device_time_ns() - start < 100_000_000
        start = kernel.device_time_ns()
        client.submit_copy(source, target)
        client.prepare(target)
        assert 300_000_000 <= kernel.device_time_ns() - start < 2_000_000_000
