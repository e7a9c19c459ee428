"""The command line as a user gives it, in a process of its own."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from subprocess import run

from benchmarks.figures import PEAK

SCRIPT = """
import sys
from rocketnpu.cli import main
code = main(sys.argv[1:])
"""


class CommandFailed(Exception):
    """A command that has not left with exit code 0, and its last words."""


@dataclass(frozen=True)
class Command:
    """What a command wrote, and the peak of its resident memory."""

    output: str
    errors: str
    peak_bytes: int


def run_command(*words: object) -> Command:
    """Print and run `rocketnpu WORDS`. Raises CommandFailed when it fails."""
    arguments = [str(word) for word in words]
    print(f"rocketnpu {shlex.join(arguments)}", flush=True)
    script = SCRIPT + PEAK + "sys.exit(code)"
    result = run((sys.executable, "-c", script, *arguments), capture_output=True, text=True, check=False)
    if result.returncode:
        raise CommandFailed((result.stderr.strip() or result.stdout.strip()).splitlines()[-1])
    output, _, peak = result.stdout.rstrip().rpartition("\n")
    return Command(output, result.stderr, int(peak))
