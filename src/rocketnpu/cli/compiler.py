"""Options of the compiler on the command line, for every command that may compile a model."""

from __future__ import annotations

import argparse
from typing import Any

from rocketnpu.compiler.options import LEVELS
from rocketnpu.errors import ModelError
from rocketnpu.frontends.files import open_model
from rocketnpu.hw.limits import CORES
from rocketnpu.program.model import TARGETS, Program
from rocketnpu.runtime.devices import find_device, target_of
from rocketnpu.runtime.load import is_compiled, load_program

_NAMES = ("target", "optimize", "experimental")


def add_compile_options(parser: argparse.ArgumentParser, default_target: str) -> None:
    """--target, --optimize and --experimental; None where they are not given."""
    group = parser.add_argument_group("compiler")
    target_help = f"driver to compile for; only rknpu's programs use the pooling unit (default: {default_target})"
    group.add_argument("--target", choices=TARGETS, help=target_help)
    optimize_help = "search for cheap tilings: 0 takes the first legal one, 2 looks farther (default: 1)"
    group.add_argument("--optimize", type=int, choices=LEVELS, help=optimize_help)
    experimental_help = "take operators whose only evidence is documentation"
    group.add_argument("--experimental", action="store_const", const=True, help=experimental_help)


def add_cores(parser: argparse.ArgumentParser) -> None:
    """--cores of one inference."""
    cores_help = "cores of one inference; a program that is compiled already must have lists for them (default: 1)"
    parser.add_argument("--cores", type=int, choices=range(1, CORES + 1), default=1, help=cores_help)


def compile_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Those that are given, as arguments of `rocketnpu.compile`."""
    given = {name: getattr(arguments, name) for name in _NAMES}
    return {name: value for name, value in given.items() if value is not None}


def load_for_device(arguments: argparse.Namespace) -> Program:
    """The program of `arguments.model`, compiled for `arguments.device` and `arguments.cores` if it is a model.

    Raises ModelError for options of the compiler with a program that is compiled already.
    """
    options = compile_options(arguments)
    file = open_model(arguments.model)
    if options and is_compiled(file.data):
        raise ModelError(f"--{next(iter(options))} is for a model; {arguments.model} is compiled already")
    options.setdefault("target", target_of(find_device(arguments.device).name))
    return load_program(file, cores=arguments.cores, **options)
