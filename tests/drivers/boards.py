"""Virtual boards with a driver on them, and kernels that look at calls or change them."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rocketnpu as rn
from rocketnpu.runtime.devices import devices
from rocketnpu.runtime.kernel import Kernel
from rocketnpu.runtime.rknpu import RknpuDevice
from rocketnpu.runtime.rocket import RocketDevice
from rocketnpu.uapi import drm, rknpu, rocket
from rocketnpu.verify import random_inputs

DRIVERS = ("rocket", "rknpu")

CALLS = {**drm.NAMES, **rocket.NAMES, **rknpu.NAMES}

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """A program, inputs for it, and what the emulator answers."""

    program: rn.Program
    inputs: list[dict[str, NDArray[Any]]]
    expected: list[Arrays]

    @staticmethod
    def of(program: rn.Program, count: int = 3, cores: int = 1) -> Case:
        inputs = random_inputs(program, count)
        with rn.Session(program, device="emulator", cores=cores) as session:
            return Case(program, inputs, [session.run(x) for x in inputs])

    def check(self, found: Arrays, number: int = 0) -> None:
        assert found.keys() == self.expected[number].keys()
        for name, expected in self.expected[number].items():
            np.testing.assert_array_equal(found[name], expected, err_msg=name)


class Interposed:
    """A kernel whose ioctls `before` sees first and may raise OSError for."""

    def __init__(self, kernel: Kernel, before: Callable[[str, ctypes.Structure], None]) -> None:
        self._kernel = kernel
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure) -> int:
        self._before(CALLS[request], argument)
        return self._kernel.ioctl(fd, request, argument)


class Counted(Interposed):
    """A kernel that counts its ioctls by name."""

    def __init__(self, kernel: Kernel) -> None:
        self.calls: Counter[str] = Counter()
        super().__init__(kernel, lambda name, _: self.calls.update([name]))


def open_board(kernel: Kernel, **options: Any) -> RocketDevice | RknpuDevice:
    """The NPU that the kernel has, as a device."""
    info = devices(kernel)[0]
    assert info.node is not None, f"no NPU: {info}"
    return {"rocket": RocketDevice, "rknpu": RknpuDevice}[info.name](info.node, kernel, **options)
