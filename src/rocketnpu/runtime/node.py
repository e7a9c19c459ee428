"""An open device node: requests with the kernel's answers turned into errors that say what failed and what to try."""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import pwd
import stat
import time
import weakref
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import DeviceError
from rocketnpu.runtime.kernel import Kernel
from rocketnpu.uapi import drm

RETRY_SECONDS = 1.0
"""How long a request that answers EAGAIN is repeated."""

RETRY_PAUSE_SECONDS = 0.001

NAME_BYTES = 64
"""Room for the driver's name; longer ones are cut."""

ADVICE = {
    errno.ENODEV: "the device has gone: check the kernel log, then make a new session",
    errno.ENXIO: "the device has gone: check the kernel log, then make a new session",
    errno.ENOMEM: "the kernel has no memory left for it: close other sessions, or free memory",
    errno.EBUSY: "another process keeps the device busy: try again later",
    errno.EAGAIN: "the driver stayed busy: try again later",
    errno.EINVAL: "the driver does not know the request like this: check its version with `rocketnpu doctor`",
    errno.ENOTTY: "the node belongs to another driver: check `rocketnpu devices`",
    errno.ENOENT: "there is no such node: load the driver (rocket or rknpu) and enable the NPU in the device tree",
    errno.EMFILE: "this process has too many open files: raise `ulimit -n`, or close sessions",
    errno.EIO: "the hardware did not answer: check the kernel log",
}
"""What to try, by error number."""


def describe(number: int) -> str:
    """An error number by name and in words, with advice where there is some."""
    text = f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"
    return f"{text}; {ADVICE[number]}" if number in ADVICE else text


class Node:
    """An open device node, closed with `close` or when nothing refers to it any more.

    A forked child shares the parent's open node: its requests would act on the parent's buffers, so it makes none.
    """

    def __init__(self, kernel: Kernel, path: str, names: Mapping[int, str]):
        """`names` are the driver's request codes by name. Raises DeviceError if the node cannot be opened."""
        self.kernel = kernel
        self.path = path
        self._names = {**drm.NAMES, **names}
        try:
            self._fd = kernel.open(path, os.O_RDWR)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise DeviceError(f"can't open {path}: {explain_permission(kernel, path)}") from error
            raise DeviceError(f"can't open {path}: {describe(error.errno or 0)}") from error
        self._process = os.getpid()
        self._finalizer = weakref.finalize(self, kernel.close, self._fd)

    def close(self) -> None:
        """Close the node; the kernel frees all buffers behind it."""
        self._finalizer()

    def check(self) -> None:
        """Raise DeviceError in a forked child, and after `close`."""
        if os.getpid() != self._process:
            raise DeviceError(f"{self.path} was opened before this process was forked; make a new session in the child")
        if not self._finalizer.alive:
            raise DeviceError(f"{self.path} is closed; make a new session")

    def request(self, code: int, argument: ctypes.Structure, about: str = "", expected: Collection[int] = ()) -> int:
        """One ioctl, repeated when interrupted or told to try again. Returns 0, or an error number of `expected`.

        Raises DeviceError for any other error; `about` says what the request was for.
        """
        self.check()
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                self.kernel.ioctl(self._fd, code, argument)
                return 0
            except InterruptedError:
                continue  # Python has run its signal handlers: Ctrl-C does not get here
            except OSError as error:
                number = error.errno or 0
                if number in expected:
                    return number
                if number != errno.EAGAIN or time.monotonic() > deadline:
                    what = f"{self._names.get(code, hex(code))}{about and f' ({about})'}"
                    raise DeviceError(f"{self.path}: {what} failed with {describe(number)}") from error
            time.sleep(RETRY_PAUSE_SECONDS)

    def map(self, length: int, offset: int) -> NDArray[np.uint8]:
        """Map a buffer, shape [length]. Raises DeviceError."""
        self.check()
        try:
            return self.kernel.mmap(self._fd, length, offset)
        except OSError as error:
            raise DeviceError(
                f"{self.path}: mapping {length} bytes failed with {describe(error.errno or 0)}"
            ) from error

    def last_reports(self) -> str:
        """The end of a sentence about a failed job: how the device's log ends, where it can be read.

        A hang gives two lines: the core's reason, and the driver's word that it gave up.
        """
        reports = self.kernel.device_log()[-2:]
        return f"; the device's log ends: {'; '.join(reports)}" if reports else ""

    def driver(self) -> tuple[str, str]:
        """The driver's name and version. Raises DeviceError if the node is no DRM node."""
        name = ctypes.create_string_buffer(NAME_BYTES)
        version = drm.Version(name_len=NAME_BYTES, name=ctypes.addressof(name))
        self.request(drm.VERSION, version)
        text = name.raw[: min(version.name_len, NAME_BYTES)].rstrip(b"\0").decode("utf-8", "replace")
        return text, f"{version.version_major}.{version.version_minor}.{version.version_patchlevel}"


def explain_permission(kernel: Kernel, path: str) -> str:
    """Why this user may not open a node, and what changes that."""
    try:
        status = kernel.stat(path)
    except OSError:
        return "permission denied"
    group = _group_name(status.st_gid)
    may = stat.S_IRGRP | stat.S_IWGRP
    if status.st_mode & may == may and status.st_gid != 0:
        return (
            f"permission denied; it belongs to group {group}: `sudo usermod -aG {group} {_user()}`, then log in again"
        )
    subsystem = "accel" if "/accel/" in path else "drm"
    return (
        f'permission denied; no group may use it: write SUBSYSTEM=="{subsystem}", GROUP="render", MODE="0660" to '
        "/etc/udev/rules.d/60-npu.rules, run `sudo udevadm trigger`, and join group render"
    )


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
