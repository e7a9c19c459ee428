"""One command line, from its words to its exit code; the module of a command is imported when it is called for."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

import rocketnpu as rn
from rocketnpu.cli.text import plain, silence
from rocketnpu.errors import Error

COMMANDS = {
    "run": "Run a model on files, a picture or random input, and show what it answers.",
    "compile": "Compile a model to a register program.",
    "verify": "Compare each layer, alone and end to end, with LiteRT's reference kernels or ONNX Runtime node by node.",
    "quantize": "Quantize a float model, say what accuracy is lost, and compile it.",
    "inspect": "Show, check or compare the register programs in a file.",
    "profile": "Estimate what a program costs on the NPU: layer by layer, and one inference on each number of cores.",
    "bench": "Measure how long a model takes on a device: host, submission and device apart, and frames in a second.",
    "devices": "Show what this machine can run programs on.",
    "doctor": "Check whether this machine can run programs on its NPU, and say what to do where it cannot.",
    "demo": "Classify the embedded pictures with the embedded model.",
    "virtual": "Run any program on a virtual NPU behind either kernel driver's interface.",
}
"""Every command with the first line of its module's docstring. In the module, cli/<command>.py, `configure` adds the
arguments and `execute` runs the command."""


class Parser(argparse.ArgumentParser):
    """argparse, with the error and where to find help on one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"{self.prog}: {plain(message)} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    """Print the version, which takes a while to find, and exit."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"{parser.prog} {rn.__version__}")
        parser.exit()


def run(argv: Sequence[str] | None, started: Callable[[], None]) -> int:
    """Run one command line and return its exit code; usage errors raise SystemExit(2).

    `started` is called when all is imported that the command's own line asks for.
    """
    _prepare_streams()
    code = 0
    try:
        parser = _parser(sys.argv[1:] if argv is None else argv)
        arguments = parser.parse_args(argv)
        if "execute" not in arguments:
            parser.error("the following arguments are required: COMMAND")
        started()
        code = int(arguments.execute(arguments))
        sys.stdout.flush()
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


def _parser(argv: Sequence[str]) -> Parser:
    """A parser that knows the names of all commands, and the arguments of the one that `argv` calls for."""
    parser = Parser(prog="rocketnpu", description="A toolchain for the NPU of the Rockchip RK3588.")
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND")  # `run` misses it: an unknown option is named first
    called = next((word for word in argv if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name == called:
            module = import_module(f"rocketnpu.cli.{name}")
            module.configure(command)
            command.set_defaults(execute=module.execute)
    return parser


def _message(error: Error | OSError | MemoryError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__)
