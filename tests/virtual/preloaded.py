"""A program for the preload tests: does one thing with an ordinary device node, fails with a traceback if it cannot."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import sys
import threading
import time

from rocketnpu.runtime.kernel import LinuxKernel
from rocketnpu.uapi import drm, rocket
from virtual.clients import CUBE_BYTES, RocketClient, fails, noise

NODE = "/dev/accel/accel0"


def copy(seed: int = 1, client: RocketClient | None = None) -> None:
    client = client or RocketClient(LinuxKernel())
    source, target = client.cube(seed), client.cube()
    client.submit_copy(source, target)
    client.prepare(target)
    assert target.data[:CUBE_BYTES].tolist() == noise(seed).tolist()


def files() -> None:
    assert os.listdir("/dev/accel") == ["accel0"]
    assert os.path.exists(NODE)
    assert not os.path.exists("/dev/accel/accel1")
    assert os.access(NODE, os.R_OK | os.W_OK)
    fd = os.open(NODE, os.O_RDWR | os.O_CLOEXEC)
    for status in (os.stat(NODE), os.lstat(NODE), os.fstat(fd)):
        assert stat.S_ISCHR(status.st_mode)
        assert (os.major(status.st_rdev), os.minor(status.st_rdev)) == (261, 0)
    with open("/sys/dev/char/261:0/device/uevent") as file:
        assert "DRIVER=rocket\n" in file.read()
    assert os.listdir("/sys/class/accel") == ["accel0"]
    assert stat.S_ISREG(os.stat(__file__).st_mode), "other files are themselves"
    name = ctypes.create_string_buffer(8)
    version = drm.Version(name_len=8, name=ctypes.addressof(name))
    LinuxKernel().ioctl(fd, drm.VERSION, version)
    assert name.value == b"rocket"


def inherited() -> None:
    """Duplicates and forked children share one open file; it is closed with the last of them."""
    client = RocketClient(LinuxKernel())
    original, client.fd = client.fd, os.dup(client.fd)
    os.close(original)
    child = os.fork()
    if not child:
        copy(2, client)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    copy(3, client)


def threads() -> None:
    """A thread that waits keeps nobody else waiting, on the same descriptor."""
    client = RocketClient(LinuxKernel())
    source, target = client.cube(1), client.cube()
    client.submit_copy(source, target)  # hangs
    waiter = threading.Thread(target=client.prepare, args=(target,))
    waiter.start()
    start = time.monotonic()
    client.bo()
    assert waiter.is_alive(), "the job should hang for a second"
    assert time.monotonic() - start < 0.9
    waiter.join()


def signals() -> None:
    class Alarm(Exception):
        pass

    def ring(*_: object) -> None:
        raise Alarm

    signal.signal(signal.SIGALRM, ring)
    client = RocketClient(LinuxKernel())
    source, target = client.cube(1), client.cube()
    client.submit_copy(source, target)  # hangs for a minute
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        client.prepare(target)
    except Alarm:
        return
    raise AssertionError("the alarm did not interrupt the wait")


def mappings() -> None:
    """A mapping keeps its memory after the handle and the descriptor are closed, and gives it back when it goes."""
    client = RocketClient(LinuxKernel())
    size = 4 << 20  # a quarter of the board's memory
    for number in range(20):
        bo = client.bo(size)
        bo.data[:] = number
        client.drop(bo)
        assert (bo.data == number).all()
        del bo
    kept = [client.bo(size) for _ in range(2)]
    kept[0].data[:] = 7
    client.close()
    other = RocketClient(LinuxKernel())
    assert not other.bo(size).data.any()
    with fails(errno.ENOMEM):
        other.bo(2 * size)
    assert (kept[0].data == 7).all()
    kept.clear()
    for _ in range(100):  # the server hears of it a moment later, on a busy machine after some tenths of a second
        try:
            other.bo(2 * size)
            break
        except OSError:
            time.sleep(0.1)
    else:
        other.bo(2 * size)


def bad_pointers() -> None:
    client = RocketClient(LinuxKernel())
    submit = rocket.Submit(jobs=16, job_count=1, job_struct_size=ctypes.sizeof(rocket.Job))
    with fails(errno.EFAULT):
        client.kernel.ioctl(client.fd, rocket.SUBMIT, submit)
    version = drm.Version(name_len=8, name=16)
    with fails(errno.EFAULT):
        client.kernel.ioctl(client.fd, drm.VERSION, version)
    copy(4, client)


def killed() -> None:
    client = RocketClient(LinuxKernel())
    source, target = client.cube(1), client.cube()
    with fails(errno.ENODEV):
        client.submit_copy(source, target)
    with fails(errno.ENODEV):
        client.prepare(target)
    with fails(errno.ENODEV):
        RocketClient(LinuxKernel())


if __name__ == "__main__":
    {each.__name__: each for each in (copy, files, inherited, threads, signals, mappings, bad_pointers, killed)}[
        sys.argv[1]
    ]()
