"""Run any program on a virtual NPU behind either kernel driver's interface.

The program must use the system's C library (a dynamic executable); arm64 programs run under qemu-aarch64.
Exit code: the program's. `rocketnpu run FILE --replay` runs the jobs of a record again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rocketnpu.cli.arguments import positive
from rocketnpu.virtual.faults import parse
from rocketnpu.virtual.preload import run
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
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="the program")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; the program's exit code."""
    program: list[str] = arguments.program[1:] if arguments.program[:1] == ["--"] else arguments.program
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
