"""A program on the virtual device, started by the checks of the drivers: does one thing, exit code 0 if it went well.

`python -m benchmarks.kernel_client WHAT DRIVER FOLDER ...`, where FOLDER holds a stored `Case`.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import rocketnpu as rn
from benchmarks.cases import Case
from rocketnpu.runtime.device import Device
from rocketnpu.runtime.devices import open_device
from rocketnpu.virtual.system import MEMORY_BYTES

LOSING_RUNS = 10
"""More than there are before the planned end."""

KILL_SECONDS = 0.3
"""Into a submission that hangs for longer."""


def infer(case: Case, device: str) -> int:
    """Right answers."""
    with rn.Session(case.program, device) as session:
        return 0 if all(case.right(session.run(x), number) for number, x in enumerate(case.inputs)) else 1


def lose(case: Case, device: str) -> int:
    """A typed error, twice, when the kernel's side has ended."""
    failures = 0
    with rn.Session(case.program, device) as session:
        for _ in range(LOSING_RUNS):
            try:
                session.run(case.inputs[0])
            except rn.DeviceError as error:
                failures += "has gone" in str(error)
    return 0 if failures >= 2 else 1


def die(case: Case, device: str) -> int:
    """SIGKILL in the middle of a submission, which hangs."""
    with rn.Session(case.program, device) as session:
        threading.Timer(KILL_SECONDS, os.kill, (os.getpid(), signal.SIGKILL)).start()
        session.run(case.inputs[0])
    return 1


def fork(case: Case, device: str) -> int:
    """A child of a process with an open session gets a typed error from it, and the right answer from its own."""
    with rn.Session(case.program, device) as session:
        before = case.right(session.run(case.inputs[0]), 0)
        child = os.fork()
        if not child:
            os._exit(_forked(case, device, session))
        failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        after = case.right(session.run(case.inputs[1]), 1)
    return 0 if before and after and not failed else 1


def _forked(case: Case, device: str, session: rn.Session) -> int:
    try:
        session.run(case.inputs[0])
    except rn.DeviceError as error:
        if "fork" in str(error):
            return infer(case, device)
    return 1


def endure(case: Case, device: str, generations: str, threads: str, runs: str, report: str) -> int:
    """Sessions one after the other, each shared by threads; stores what the process holds after each."""
    samples: list[dict[str, int]] = []
    wrong = late = 0
    with closing(open_device(device, case.program)) as kept:
        for generation in range(int(generations)):
            more_wrong, more_late = _generation(case, device if generation % 2 else kept, int(threads), int(runs))
            wrong, late = wrong + more_wrong, late + more_late
            _use_no_spare_memory(kept)
            samples.append(_holdings())
    found = {"inferences": int(generations) * int(threads) * int(runs), "wrong": wrong, "late": late}
    Path(report).write_text(json.dumps({**found, "samples": samples}))
    return 1 if wrong else 0


def _use_no_spare_memory(device: Device) -> None:
    """What a device keeps for reuse depends on how many frames happened to overlap: it is given up here."""
    try:
        device.allocate(MEMORY_BYTES)
    except rn.DeviceError:
        gc.collect()
    else:
        raise AssertionError("there was memory for everything")


def _generation(case: Case, device: str | Device, threads: int, runs: int) -> tuple[int, int]:
    """Inferences in a session of its own: how many were not right, and how many had to be repeated.

    A session counts real time: where the machine keeps the virtual kernel waiting for 500 ms, it takes a job on rocket
    for one that has hung, and says so.
    """
    wrong: list[int] = []
    late: list[int] = []

    def infer_in_time(number: int) -> bool:
        while True:
            try:
                return case.right(session.run(case.inputs[number]), number)
            except rn.DeviceTimeout:
                late.append(number)

    def work(first: int) -> None:
        right = 0
        try:
            for run in range(runs):
                right += infer_in_time((first + run) % len(case.inputs))
        finally:
            wrong.append(runs - right)

    with rn.Session(case.program, device) as session:
        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return sum(wrong), len(late)


def _holdings() -> dict[str, int]:
    """Resident memory, address space (bytes) and open descriptors of this process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "memory": int(status["VmRSS"].split()[0]) * 1024,
        "address space": int(status["VmSize"].split()[0]) * 1024,
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def main(arguments: list[str]) -> int:
    what, device, folder, *more = arguments
    actions: dict[str, Any] = {each.__name__: each for each in (infer, lose, die, fork, endure)}
    return actions[what](Case.load(Path(folder)), device, *more)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
