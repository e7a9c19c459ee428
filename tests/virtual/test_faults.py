"""Failures on demand."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from rocketnpu.errors import Error
from rocketnpu.virtual import VirtualKernel
from rocketnpu.virtual.faults import Fault, FaultPlan, parse
from virtual.clients import CUBE_BYTES, RocketClient, fails, noise


def test_a_specification_is_parts_with_commas():
    assert parse("EINTR@submit:2,hang@task:15,kill@call:1") == (
        Fault("EINTR", "submit", 2),
        Fault("hang", "task", 15),
        Fault("kill", "call", 1),
    )
    assert parse("") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EINTR", "write WHAT@WHERE:N"),
        ("EINTR@submit:0", "write WHAT@WHERE:N"),
        ("EINTR@submit:-1", "write WHAT@WHERE:N"),
        ("EFOO@submit:1", "nor an errno name"),
        ("errorcode@submit:1", "nor an errno name"),
        ("EINTR@sumbit:1", "not at 'sumbit'"),
        ("hang@submit:1", "hang happens at task"),
        ("EINTR@task:1", "not at 'task'"),
    ],
)
def test_what_is_not_known_is_said(text: str, message: str):
    with pytest.raises(Error, match=message):
        parse(text)


def test_events_are_counted_by_name():
    plan = FaultPlan(parse("ENOMEM@create_bo:2"))
    assert [plan.next(name) for name in ("create_bo", "submit", "create_bo", "create_bo")] == [
        None,
        None,
        "ENOMEM",
        None,
    ]


def test_a_call_that_fails_has_done_nothing():
    with VirtualKernel(faults="ENOMEM@create_bo:2,EIO@submit:1,EAGAIN@mmap:2") as kernel:
        client = RocketClient(kernel)
        source = client.cube(1)
        with fails(errno.ENOMEM):
            client.bo()
        with fails(errno.EAGAIN):
            client.bo()
        assert kernel.counters["buffers"] == 2, "one whose mapping failed is there"
        target = client.cube()
        with fails(errno.EIO):
            client.submit_copy(source, target)
        client.prepare(target)
        assert not target.data.any()
        client.submit_copy(source, target)
        client.prepare(target)
        np.testing.assert_array_equal(target.data[:CUBE_BYTES], noise(1))


@pytest.mark.parametrize("fault", ["remove@submit:1", "kill@submit:1"])
def test_a_device_that_is_gone_stays_gone(fault: str):
    with VirtualKernel(faults=fault) as kernel:
        client = RocketClient(kernel)
        source, target = client.cube(1), client.cube()
        with fails(errno.ENODEV):
            client.submit_copy(source, target)
        with fails(errno.ENODEV):
            client.prepare(target)
        with fails(errno.ENODEV):
            RocketClient(kernel)
        client.close()
        assert source.data[0] == noise(1)[0], "memory that is mapped stays"
