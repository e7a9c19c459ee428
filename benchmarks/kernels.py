"""`python -m benchmarks.kernels`: both drivers on the virtual kernel, each figure beside its target.

Answers of all models, kernel transitions, host time, packing, frames that overlap, failures, endurance. Exit code 1
if a target is missed. Sections can be chosen: `python -m benchmarks.kernels answers faults`.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import rocketnpu as rn
from benchmarks.cases import DRIVERS, Case
from benchmarks.figures import Figure
from benchmarks.kernel_endurance import endurance
from benchmarks.kernel_faults import faults
from benchmarks.models import MOBILENET, shared_folder
from rocketnpu.hw.layouts import DenseImage, FeatureCube
from rocketnpu.hw.limits import CORES
from rocketnpu.hw.sizes import align
from rocketnpu.program.model import TensorEntry
from rocketnpu.runtime.device import Device
from rocketnpu.runtime.devices import open_device
from rocketnpu.runtime.host import TensorPort
from rocketnpu.runtime.kernel import Kernel
from rocketnpu.runtime.rknpu import RknpuDevice
from rocketnpu.runtime.rocket import RocketDevice
from rocketnpu.uapi import rknpu, rocket
from rocketnpu.virtual import VirtualKernel
from rocketnpu.virtual.faults import ANY_CALL, CALLS

LARGE_BYTES = 400_000
"""Model files from this size on get one set of inputs; smaller ones three."""

MOST_TRANSITIONS = 6
MOST_HOST_MS = 1.0
MOST_PACKING = 4.0
LEAST_OVERLAP = 0.95
"""The targets: see the rows."""

FRAME_SECONDS = 0.010
"""What the chip might take for a frame of MobileNetV1 on one core."""

WARM_RUNS = 60
FRAMES = 150
IMAGES = (224, 640)


class FixedTime:
    """A kernel whose NPU computes nothing and takes `seconds` for each job, on one of its cores."""

    def __init__(self, kernel: Kernel, seconds: float, cores: int) -> None:
        self._kernel = kernel
        self._seconds = seconds
        self._lock = threading.Lock()
        self._core_free = [0.0] * cores
        self._done: dict[int, float] = {}
        self._local = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    @property
    def seconds_inside(self) -> float:
        """What this thread has spent in ioctls."""
        return getattr(self._local, "seconds", 0.0)

    def ioctl(self, fd: int, request: int, argument: ctypes.Structure) -> int:
        start = time.perf_counter()
        try:
            return self._ioctl(fd, request, argument)
        finally:
            self._local.seconds = self.seconds_inside + time.perf_counter() - start

    def _ioctl(self, fd: int, request: int, argument: Any) -> int:
        if request == rocket.SUBMIT:
            self._done[fd] = self._start()
        elif request == rocket.PREP_BO:
            _sleep_until(self._done.get(fd, 0.0))
        elif request == rknpu.SUBMIT:
            _sleep_until(self._start())
            argument.task_counter = argument.task_number
        else:
            return self._kernel.ioctl(fd, request, argument)
        return 0

    def _start(self) -> float:
        """Take a core for a job; when it is done."""
        with self._lock:
            core = self._core_free.index(min(self._core_free))
            self._core_free[core] = max(time.perf_counter(), self._core_free[core]) + self._seconds
            return self._core_free[core]


def main() -> int:
    """Print the table; the process's exit code."""
    sections: dict[str, Callable[[], Iterator[Figure]]] = {
        "answers": _answers,
        "transitions": _transitions,
        "host": _host_time,
        "packing": _packing,
        "overlap": _overlap,
        "faults": lambda: faults(_tiny()),
        "endurance": lambda: (row for driver in DRIVERS for row in endurance(_tiny(), driver)),
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(sections)} (default: all)")
    chosen = parser.parse_args().sections or list(sections)
    unknown = [name for name in chosen if name not in sections]
    if unknown:
        parser.error(f"no section {unknown[0]!r}; there are {', '.join(sections)}")
    missed = 0
    for name in chosen:
        for row in sections[name]():
            print(row, flush=True)
            missed += row.missed
    return 1 if missed else 0


def _mobilenet() -> rn.Program:
    return rn.compile(shared_folder() / "models" / MOBILENET)


def _tiny() -> Case:
    """A few small tasks, nothing on the CPU."""
    return Case.of(rn.compile(shared_folder() / "models/mesa-ops/mb3.tflite"))


def _answers() -> Iterator[Figure]:
    """All shared models on both drivers against the emulator without a driver."""
    folder = shared_folder() / "models"
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".tflite", ".onnx"))
    modes = [f"rocket, {n} in flight" for n in range(1, CORES + 1)] + [f"rknpu, {n} cores" for n in range(1, CORES + 1)]
    wrong: dict[str, list[str]] = {mode: [] for mode in modes}
    shared_parts = dict.fromkeys(range(1, CORES + 1), 0)
    for path in paths:
        program = rn.compile(path, cores=CORES)
        case = Case.of(program, 3 if path.stat().st_size < LARGE_BYTES else 1)
        for cores in shared_parts:
            steps = (step for step in program.steps if step.place == "npu")
            shared_parts[cores] += sum(len(part) > 1 for step in steps for part in step.tasks[cores])
        for mode, right in zip(modes, _modes(case), strict=True):
            if not right:
                wrong[mode].append(path.name)
    for mode, names in wrong.items():
        right = len(paths) - len(names)
        shared = f"; {shared_parts[int(mode.split()[1])]} parts on several cores" if "cores" in mode else ""
        figure = f"{right} of {len(paths)}{shared}" + (f"; not {', '.join(names)}" if names else "")
        yield Figure(
            f"models with the emulator's bytes: {mode}", figure, target=f"{len(paths)} of {len(paths)}", met=not names
        )


def _modes(case: Case) -> Iterator[bool]:
    """Whether the answers are right: on rocket with 1, 2, 3 frames in flight, on rknpu on 1, 2, 3 cores."""
    count = len(case.inputs)
    with VirtualKernel("rocket") as kernel, closing(open_device("auto", case.program, kernel)) as device:
        for in_flight in range(1, CORES + 1):
            with rn.Session(case.program, device) as session:
                frames = [session.submit(case.inputs[number % count]) for number in range(in_flight)]
                answers = [frame.wait() for frame in frames]
            yield all(case.right(found, number % count) for number, found in enumerate(answers))
    with VirtualKernel("rknpu") as kernel, closing(open_device("auto", case.program, kernel)) as device:
        for cores in range(1, CORES + 1):
            with rn.Session(case.program, device, cores=cores) as session:
                yield all(case.right(session.run(x), number) for number, x in enumerate(case.inputs))


def _transitions() -> Iterator[Figure]:
    """Calls that the virtual kernel counts."""
    case = Case.of(_mobilenet(), 1)
    for driver in DRIVERS:
        with (
            VirtualKernel(driver) as kernel,
            closing(open_device("auto", case.program, kernel)) as device,
            rn.Session(case.program, device) as session,
        ):
            session.run(case.inputs[0])
            before = _calls(kernel)
            session.run(case.inputs[0])
            made = {name: count - before[name] for name, count in _calls(kernel).items() if count > before[name]}
        total = sum(made.values())
        names = ", ".join(f"{count} {name}" for name, count in made.items())
        yield Figure(
            f"transitions of a warm MobileNetV1 inference: {driver}",
            f"{total} ({names})",
            target=f"<= {MOST_TRANSITIONS}",
            met=total <= MOST_TRANSITIONS,
        )


def _calls(kernel: VirtualKernel) -> dict[str, int]:
    return {name: kernel.counters.get(name, 0) for name in CALLS if name != ANY_CALL}


def _host_time() -> Iterator[Figure]:
    """`Session.run` without the time inside system calls."""
    program = _mobilenet()
    picture = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    for driver in DRIVERS:
        with VirtualKernel(driver) as virtual:
            kernel = FixedTime(virtual, FRAME_SECONDS, 1)
            with (
                closing(_device(driver, virtual, kernel, siblings=0)) as device,
                rn.Session(program, device) as session,
            ):
                samples: list[float] = []
                for _ in range(WARM_RUNS):
                    inside, start = kernel.seconds_inside, time.perf_counter()
                    session.run(picture)
                    samples.append(time.perf_counter() - start - (kernel.seconds_inside - inside))
        median = 1000 * statistics.median(samples[2:])
        yield Figure(
            f"host time of a warm MobileNetV1 inference: {driver}",
            f"{median:.2f} ms (least {1000 * min(samples):.2f}; {WARM_RUNS} runs)",
            target=f"<= {MOST_HOST_MS:.1f} ms",
            met=median <= MOST_HOST_MS,
        )


def _device(driver: str, virtual: VirtualKernel, kernel: Any, siblings: int) -> Device:
    kind = RocketDevice if driver == "rocket" else RknpuDevice
    return kind(virtual.system.tree.node, kernel, siblings=siblings)


def _packing() -> Iterator[Figure]:
    """Writing a uint8 image of three channels as the device has it, against a copy of as many bytes."""
    program = _mobilenet()
    entry = next(entry for entry in program.tensors if entry.name == program.inputs[0])
    for size in IMAGES:
        for dense in (True, False):
            port, packed_bytes = _port(entry, size, dense)
            image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
            source, target = np.ones(packed_bytes, np.uint8), np.zeros(packed_bytes, np.uint8)
            pack, copy = _medians(partial(port.write, image), partial(np.copyto, target, source))
            yield Figure(
                f"packing {size}x{size}x3 {'as an image' if dense else 'as a feature cube'}",
                f"{pack / copy:.2f} times copyto ({1000 * pack:.2f} ms, {packed_bytes} B)",
                target=f"<= {MOST_PACKING:g} times",
                met=pack / copy <= MOST_PACKING,
            )


def _port(entry: TensorEntry, size: int, dense: bool) -> tuple[TensorPort, int]:
    """A port for an image of `size`, and the bytes that it writes."""
    assert entry.cube is not None
    pitch = align(size, 16)
    layout = DenseImage(size, size, 3, pitch) if dense else FeatureCube(size, size, 3)
    cube = replace(
        entry.cube,
        offset_bytes=0,
        height=size,
        width=size,
        pitch_atoms=size * size,
        dense=dense,
        row_pitch_pixels=pitch if dense else 0,
    )
    memory = np.zeros(layout.size_bytes, np.uint8)
    return TensorPort(replace(entry, shape=(1, size, size, 3)), cube, memory), layout.size_bytes


def _medians(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[float, float]:
    """Median seconds of each; they take turns, so that both see the same machine."""
    samples: tuple[list[float], list[float]] = ([], [])
    for _ in range(WARM_RUNS):
        for call, times in zip((first, second), samples, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return statistics.median(samples[0]), statistics.median(samples[1])


def _overlap() -> Iterator[Figure]:
    """Frames of MobileNetV1 a second, as a share of what the cores can take."""
    program = _mobilenet()
    for driver in DRIVERS:
        for cores in (1, CORES):
            with VirtualKernel(driver) as virtual:
                kernel = FixedTime(virtual, FRAME_SECONDS, cores)
                with (
                    closing(_device(driver, virtual, kernel, siblings=cores - 1)) as device,
                    rn.Session(program, device) as session,
                ):
                    share = max(_throughput(session) for _ in range(3)) * FRAME_SECONDS / cores
            yield Figure(
                f"frames that overlap, {cores} core{'s' if cores > 1 else ''} of {1000 * FRAME_SECONDS:g} ms a frame: "
                f"{driver}",
                f"{share:.3f} of {cores}/T (best of 3 times {FRAMES} frames)",
                target=f">= {LEAST_OVERLAP}",
                met=share >= LEAST_OVERLAP,
            )


def _throughput(session: rn.Session) -> float:
    """Frames a second, after the first ten."""
    picture = np.zeros((1, 224, 224, 3), np.uint8)
    under_way: deque[Any] = deque()
    start = 0.0
    for number in range(FRAMES + 10):
        if number == 10:
            start = time.perf_counter()
        under_way.append(session.submit(picture))
        while under_way and under_way[0].done:
            under_way.popleft().wait()
    while under_way:
        under_way.popleft().wait()
    return FRAMES / (time.perf_counter() - start)


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.perf_counter(), 0.0))


if __name__ == "__main__":
    sys.exit(main())
