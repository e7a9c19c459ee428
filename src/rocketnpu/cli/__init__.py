"""The command line: `rocketnpu COMMAND ...`; one module for each command, found in `COMMANDS`.

Exit codes: 0 fine, 1 a check failed, 2 bad usage or input (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import rocketnpu as rn
from rocketnpu.cli import bench, compile, demo, devices, doctor, inspect, quantize, run, verify, virtual
from rocketnpu.cli.arguments import Parser
from rocketnpu.cli.terminal import plain, silence
from rocketnpu.errors import Error

COMMANDS: dict[str, ModuleType] = {
    "run": run,
    "compile": compile,
    "verify": verify,
    "quantize": quantize,
    "inspect": inspect,
    "bench": bench,
    "devices": devices,
    "doctor": doctor,
    "demo": demo,
    "virtual": virtual,
}
"""Every command's module: its docstring is the help, `configure` adds its arguments, `execute` runs it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: the process's own) and return its exit code; usage errors raise SystemExit(2)."""
    _prepare_streams()
    code = 0
    try:
        parser = _parser()
        arguments = parser.parse_args(argv)
        if "execute" not in arguments:
            parser.error("the following arguments are required: COMMAND")
        code = int(arguments.execute(arguments))
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        silence()
        return code
    except (Error, OSError, MemoryError) as error:
        print(f"rocketnpu: {plain(_message(error))}", file=sys.stderr)
        return 2
    return code


def _prepare_streams() -> None:
    """Names of tensors must not fail on an ASCII terminal, nor anything on a closed stream (`>&-`)."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _parser() -> Parser:
    parser = Parser(prog="rocketnpu", description="A toolchain for the NPU of the Rockchip RK3588.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {rn.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")  # `main` misses it: an unknown option is named first
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        module.configure(command)
        command.set_defaults(execute=module.execute)
    return parser


def _message(error: Error | OSError | MemoryError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__)
