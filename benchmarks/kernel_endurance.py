"""`python -m benchmarks.kernel_endurance MODEL`: many inferences in threads and processes on one virtual kernel.

Answers must be right, and nothing may grow: neither what the clients hold (memory,
address space, descriptors) nor what the kernel holds for them. Exit code 1 if something does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.cases import DRIVERS, Case
from benchmarks.figures import Figure
from rocketnpu.errors import Error
from rocketnpu.hw.limits import CORES
from rocketnpu.runtime.load import load_program
from rocketnpu.virtual.preload import run
from rocketnpu.virtual.system import System

INFERENCES = 10_000
PROCESSES, THREADS = 2, 4
GENERATIONS = 25
"""Sessions of a process, one after the other; every other one on a device that stays open."""

WARM_UP = 0.4
"""Share of the generations after which a process has what it needs: allocators keep what was freed once."""

ALLOWED_BYTES = {"memory": 2 << 20, "address space": 2 << 20}
"""Of growth afterwards: an allocator's arenas and a thread's stack come and go. One lost buffer a session is more."""

COUNTED = ("files", "buffers", "mappings", "timeouts")

MOST_FILES = PROCESSES * (1 + CORES)
"""Of a process: the device that stays open, and a session's on each core."""


def endurance(
    case: Case, driver: str, inferences: int = INFERENCES, generations: int = GENERATIONS
) -> Iterator[Figure]:
    """Figures: answers, what the clients hold, what the kernel holds."""
    with tempfile.TemporaryDirectory() as name:
        case.save(Path(name))
        runs = -(-inferences // (PROCESSES * THREADS * generations))
        yield from _run(Path(name), driver, generations, runs)


def _run(folder: Path, driver: str, generations: int, runs: int) -> Iterator[Figure]:
    system = System(driver)
    first = [sys.executable, "-m", "benchmarks.kernel_client", "infer", driver, str(folder)]
    if run(system, first):
        raise Error("a single client already fails")
    before = _held(system)
    start = time.monotonic()
    reports, most_files = _clients(system, folder, driver, generations, runs)
    seconds = time.monotonic() - start
    after = _held(system)
    system.stop()
    done = sum(report["inferences"] for report in reports)
    wrong = sum(report["wrong"] for report in reports)
    late = sum(report["late"] for report in reports)
    hangs = after.pop("timeouts")
    before.pop("timeouts")
    yield Figure(
        f"endurance, {PROCESSES} processes of {THREADS} threads: {driver}",
        f"{done - wrong} of {done} right, {late} repeated, {hangs} hangs, {seconds:.0f} s",
        target="all right, 0 hangs",
        met=not wrong and not hangs,
    )
    for what in reports[0]["samples"][0]:
        growth = max(_growth([sample[what] for sample in report["samples"]]) for report in reports)
        allowed = ALLOWED_BYTES.get(what, 0)
        unit = " B" if what in ALLOWED_BYTES else ""
        last = max(report["samples"][-1][what] for report in reports)
        yield Figure(
            f"endurance, growth of the clients' {what}: {driver}",
            f"{growth:+d}{unit} of {last}{unit}",
            target=f"<= {allowed}{unit}",
            met=growth <= allowed,
        )
    yield Figure(
        f"endurance, most open files at a time: {driver}",
        f"{most_files}",
        target=f"<= {MOST_FILES}",
        met=most_files <= MOST_FILES,
    )
    yield Figure(
        f"endurance, left in the kernel: {driver}",
        ", ".join(f"{after[what] - before[what]} {what}" for what in before),
        target="0",
        met=after == before,
    )


def _held(system: System) -> dict[str, int]:
    """What the kernel holds for clients, and how many jobs have hung.

    Not the page tables: rknpu's one address space keeps those that its fullest moment needed.
    """
    counters = system.counters
    return {name: counters.get(name, 0) for name in COUNTED}


def _growth(samples: list[int]) -> int:
    """The most of the last samples less the most of those before, the warm-up included."""
    middle = max(1, round(WARM_UP * len(samples)))
    return max(samples[middle:]) - max(samples[:middle])


def _clients(
    system: System, folder: Path, driver: str, generations: int, runs: int
) -> tuple[list[dict[str, Any]], int]:
    """What all processes report, and the most files they had open; they run at the same time."""
    outputs = [folder / f"report{number}.json" for number in range(PROCESSES)]
    numbers = [str(number) for number in (generations, THREADS, runs)]
    client = [sys.executable, "-m", "benchmarks.kernel_client", "endure", driver, str(folder), *numbers]
    threads = [threading.Thread(target=run, args=(system, [*client, str(output)])) for output in outputs]
    for thread in threads:
        thread.start()
    most_files = 0
    while any(thread.is_alive() for thread in threads):
        most_files = max(most_files, system.counters.get("files", 0))
        time.sleep(0.02)
    if not all(output.exists() for output in outputs):
        raise Error("a client has failed; what it said is above")
    return [json.loads(output.read_text()) for output in outputs], most_files


def main() -> int:
    """Print the rows; the process's exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernel_endurance", description=__doc__)
    parser.add_argument("model", type=Path, help="a small model or program without layers on the CPU")
    parser.add_argument("--driver", choices=DRIVERS, required=True)
    parser.add_argument("--inferences", type=int, default=INFERENCES)
    parser.add_argument("--generations", type=int, default=GENERATIONS)
    arguments = parser.parse_args()
    case = Case.of(load_program(arguments.model))
    missed = 0
    for row in endurance(case, arguments.driver, arguments.inferences, arguments.generations):
        print(row, flush=True)
        missed += row.missed
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
