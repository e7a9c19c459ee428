"""Whatever programs send, the kernel's side answers with an errno and keeps working for the others."""

from __future__ import annotations

import contextlib
import ctypes
import random

import numpy as np
import pytest

from rocketnpu.uapi import drm, rknpu, rocket
from rocketnpu.virtual.objects import failure
from rocketnpu.virtual.system import DriverName, System

REQUESTS = {
    "rocket": (drm.VERSION, drm.GEM_CLOSE, rocket.CREATE_BO, rocket.SUBMIT, rocket.PREP_BO, rocket.FINI_BO),
    "rknpu": (drm.VERSION, drm.GEM_CLOSE, *rknpu.NAMES),
}
VALUES = (0, 1, 2, 3, 4, 8, 40, 4096, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 64) - 1)


class RandomMemory:
    """A program's memory full of small and huge numbers; some of it is not mapped."""

    def __init__(self, random_numbers: random.Random) -> None:
        self._random = random_numbers

    def read(self, address: int, size_bytes: int) -> bytes:
        if address % 7 == 0:
            raise failure(14)
        words = [self._random.choice(VALUES) for _ in range(size_bytes // 8 + 1)]
        return np.array(words, np.uint64).tobytes()[:size_bytes]

    def write(self, address: int, data: bytes) -> None:
        if address % 7 == 0 or not data:
            raise failure(14)

    def interrupted(self) -> bool:
        return self._random.random() < 0.5


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("driver", ["rocket", "rknpu"])
def test_random_calls_are_answered(driver: DriverName, seed: int):
    numbers = random.Random(seed)
    system = System(driver, memory_bytes=1 << 22, watchdog_ms=1)
    try:
        file = system.open()
        for _ in range(400):
            request = numbers.choice(REQUESTS[driver])
            words = [numbers.choice(VALUES) for _ in range(16)]
            argument = bytearray(np.array(words, np.uint64).tobytes()[: numbers.choice((4, 8, 24, 104))])
            if driver == "rknpu" and request == rknpu.SUBMIT:
                argument = bytearray(_submit(system, file, numbers))
            with contextlib.suppress(OSError):  # anything else is a failure
                system.ioctl(file, request, argument, RandomMemory(numbers))
        system.close(file)
        other = system.open()
        system.ioctl(other, drm.VERSION, bytearray(ctypes.sizeof(drm.Version)), RandomMemory(numbers))
        assert not any("emulator failed" in message for message in system.messages), system.messages
    finally:
        system.stop()


def _submit(system: System, file: object, numbers: random.Random) -> bytes:
    """A submit whose task table exists and holds noise."""
    create = bytearray(bytes(rknpu.MemCreate(flags=8, size=4096)))
    try:
        system.ioctl(file, rknpu.MEM_CREATE, create, RandomMemory(numbers))  # pyright: ignore[reportArgumentType]
    except OSError:
        return bytes(rknpu.Submit())
    buffer = rknpu.MemCreate.from_buffer_copy(create)
    words = np.array([numbers.choice(VALUES) for _ in range(512)], np.uint64)
    system.board.pages.bytes[buffer.obj_addr & 0xFFFFFFFF :][:4096] = words.view(np.uint8)
    submit = rknpu.Submit(flags=1, timeout=1, task_number=3, task_obj_addr=buffer.obj_addr, core_mask=1)
    submit.subcore_task[0] = (numbers.randrange(3), 3)
    return bytes(submit)
