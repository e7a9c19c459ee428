"""The command line: `rocketnpu COMMAND ...`; command_line.py knows the commands, and each has a module.

Exit codes: 0 fine, 1 a check failed, 2 bad usage or input (one line on stderr), 130 interrupted.

Ctrl-C ends the program without a traceback at any time. Imports turn an exception on their way into others, or lose
it, so that until a command runs, and again when it has ended, nothing is raised: the process leaves at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells count it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's own) and return its exit code; usage errors raise SystemExit(2)."""
    is_ours = argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_ours:
        signal.signal(signal.SIGINT, _leave)
    try:
        from rocketnpu.cli.command_line import run

        return run(argv, _raise_interrupts if is_ours else lambda: None)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, _leave)


def _leave(*_: object) -> None:
    os._exit(INTERRUPTED)


def _raise_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
