"""Run any program on a virtual NPU behind either kernel driver's interface.

The program must use the system's C library (a dynamic executable); arm64 programs run under qemu-aarch64.
Exit code: the program's; with --replay 1 if a job's results differ from the record.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rocketnpu.cli.arguments import positive
from rocketnpu.cli.terminal import print_table
from rocketnpu.virtual.faults import parse
from rocketnpu.virtual.preload import run
from rocketnpu.virtual.record import Record
from rocketnpu.virtual.replay import replay
from rocketnpu.virtual.system import DRIVERS, System


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--driver", choices=DRIVERS, default=DRIVERS[0], help="whose interface (default: %(default)s)")
    parser.add_argument("--memory", type=positive, default=1024, metavar="MIB", help="the board's memory")
    parser.add_argument("--record", type=Path, metavar="FILE", help="store every job with its buffers in FILE")
    parser.add_argument(
        "--fault", default="", metavar="SPEC", help="failures, e.g. EINTR@submit:2,hang@task:5,remove@prep_bo:3"
    )
    parser.add_argument(
        "--watchdog", type=positive, metavar="MS", help="give up jobs after this time of standing still"
    )
    parser.add_argument("--stats", action="store_true", help="print the device's log and counters on stderr at the end")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="instead: run a record's jobs on the emulator again"
    )
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="the program")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; the program's exit code."""
    program: list[str] = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
    if arguments.replay is not None:
        return _replay(arguments.replay)
    if not program:
        print("rocketnpu virtual: name a program after --", file=sys.stderr)
        return 2
    parse(arguments.fault)
    system = System(
        arguments.driver,
        memory_bytes=arguments.memory << 20,
        faults=arguments.fault,
        record=arguments.record,
        watchdog_ms=arguments.watchdog,
    )
    try:
        code = run(system, program)
        if arguments.stats:
            for message in system.messages:
                print(message, file=sys.stderr)
            print(", ".join(f"{name} {count}" for name, count in sorted(system.counters.items())), file=sys.stderr)
    finally:
        system.stop()
    return code


def _replay(path: Path) -> int:
    rows: list[tuple[object, ...]] = []
    same = True
    with Record(path) as record:
        for job in replay(record):
            count = sum(difference.bytes for difference in job.differences)
            largest = max((difference.largest for difference in job.differences), default=0)
            rows.append((job.number, job.tasks, count, largest, job.failure or ""))
            same = same and job.same
    print_table(("job>", "tasks>", "different bytes>", "largest>", "failure"), rows)
    return 0 if same else 1
