"""Measure how long a model takes on a device: host, submission and device apart, and frames in a second.

The host's part is packing and unpacking tensors, and the layers on the CPU.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from rich.progress import Progress

from rocketnpu.cli.arguments import add_json, add_model, positive
from rocketnpu.cli.compiler import add_compile_options, add_cores, load_for_device
from rocketnpu.cli.steps import placement, warn_of_idle_npu
from rocketnpu.cli.terminal import print_json, print_line, print_table, progress
from rocketnpu.inspect import document
from rocketnpu.runtime.devices import open_device
from rocketnpu.runtime.session import MOST_FRAMES, Frame, Inputs, Session
from rocketnpu.runtime.timed import TimedDevice
from rocketnpu.verify import random_inputs

MILLISECOND = 1e-3

PARTS = ("host", "submit", "device", "total")
"""Of a frame's time: everything else; cache care and requests to the driver; waiting for the NPU; the sum."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument("--device", default="auto", help="auto (default), emulator, rocket or rknpu")
    parser.add_argument("--frames", type=positive, default=20, metavar="N", help="frames to measure (default: 20)")
    add_cores(parser)
    add_compile_options(parser, "the device's")
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    program = load_for_device(arguments)
    inputs = random_inputs(program, 1)[0]
    device = TimedDevice(open_device(arguments.device, program))
    try:
        with Session(program, device, cores=arguments.cores) as session, progress() as bar:
            session.run(inputs)  # first use of each part: caches, interpreters, prepared submissions
            latencies = _latencies(session, device, inputs, arguments.frames, bar)
            frames_per_second = _throughput(session, inputs, arguments.frames, bar)
    finally:
        device.close()
    milliseconds = {name: _summary(latencies[:, index]) for index, name in enumerate(PARTS)}
    warn_of_idle_npu(program, "; these are times of the CPU")
    if arguments.json:
        print_json(
            {
                "model": str(arguments.model),
                "device": device.name,
                "frames": arguments.frames,
                "milliseconds": milliseconds,
                "frames_per_second": frames_per_second,
                "placement": document.placement(program),
            }
        )
        return 0
    rows = [(name, *(f"{value:.3f}" for value in values.values())) for name, values in milliseconds.items()]
    print_table(("ms a frame", "median>", "min>", "max>"), rows, title=f"{arguments.frames} frames on {device.name}")
    print_line(f"{frames_per_second:.1f} frames/s with as many under way as the device takes")
    print_line(placement(program, device.name))
    return 0


def _latencies(session: Session, device: TimedDevice, inputs: Inputs, frames: int, bar: Progress) -> np.ndarray:
    """Milliseconds of each frame, shape [frames, PARTS], one frame at a time."""
    task = bar.add_task("latency", total=frames)
    rows: list[Sequence[float]] = []
    for _ in range(frames):
        before = device.spent
        start = time.perf_counter()
        session.run(inputs)
        total = time.perf_counter() - start
        submit = device.spent.submit_seconds - before.submit_seconds
        waiting = device.spent.device_seconds - before.device_seconds
        rows.append((total - submit - waiting, submit, waiting, total))
        bar.advance(task)
    return np.array(rows) / MILLISECOND


def _throughput(session: Session, inputs: Inputs, frames: int, bar: Progress) -> float:
    """Frames in a second, with as many under way as the device takes."""
    for frame in [session.submit(inputs) for _ in range(MOST_FRAMES)]:  # every lane's first use
        frame.wait()
    task = bar.add_task("throughput", total=frames)
    under_way: deque[Frame] = deque()
    start = time.perf_counter()
    for _ in range(frames):
        under_way.append(session.submit(inputs))
        if len(under_way) > MOST_FRAMES:
            under_way.popleft().wait()
        bar.advance(task)
    for frame in under_way:
        frame.wait()
    return frames / (time.perf_counter() - start)


def _summary(values: np.ndarray) -> dict[str, float]:
    return {"median": float(np.median(values)), "min": float(values.min()), "max": float(values.max())}
