"""Options on the command line for every command that may open a model and compile it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from rocketnpu.compiler.options import LEVELS, Options
from rocketnpu.errors import ModelError
from rocketnpu.frontends.files import open_model
from rocketnpu.frontends.opening import make_opening
from rocketnpu.hw.limits import CORES
from rocketnpu.program.model import TARGETS, Program
from rocketnpu.runtime.devices import find_device, target_of
from rocketnpu.runtime.load import is_compiled, load_program

_COMPILER = ("target", "optimize", "experimental")
_OPENING = ("outputs", "input_shapes", "dims")
_FLAGS = {"input_shapes": "input-shape", "dims": "dim"}


def add_compile_options(parser: argparse.ArgumentParser, default_target: str) -> None:
    """--target, --optimize and --experimental, and how a model is opened; None where they are not given."""
    group = parser.add_argument_group("compiler")
    target_help = f"driver to compile for; only rknpu's programs use the pooling unit (default: {default_target})"
    group.add_argument("--target", choices=TARGETS, help=target_help)
    optimize_help = "search for cheap tilings: 0 takes the first legal one, 2 looks farther (default: 1)"
    group.add_argument("--optimize", type=int, choices=LEVELS, help=optimize_help)
    experimental_help = "take operators whose only evidence is documentation"
    group.add_argument("--experimental", action="store_const", const=True, help=experimental_help)
    _add_opening(parser)


def _add_opening(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("opening a model")
    shape_help = "the shape of an input of free sizes; once for each input (a batch that is not given is 1)"
    group.add_argument(
        "--input-shape", action="append", type=_shape, dest="input_shapes", metavar="NAME=N,N,...", help=shape_help
    )
    dim_help = "what a symbol in the inputs' shapes stands for (.onnx); once for each symbol"
    group.add_argument("--dim", action="append", type=_dim, dest="dims", metavar="SYMBOL=N", help=dim_help)
    outputs_help = "end the model at these tensors, and leave out what only its own outputs need"
    group.add_argument("--outputs", action="append", type=_names, metavar="NAME[,NAME...]", help=outputs_help)


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, equals, sizes = text.rpartition("=")  # a name may hold "="
    if not (equals and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=N,N,...")
    return name, tuple(_size(size, text) for size in sizes.split(","))


def _dim(text: str) -> tuple[str, int]:
    name, equals, size = text.rpartition("=")
    if not (equals and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not SYMBOL=N")
    return name, _size(size, text)


def _size(size: str, text: str) -> int:
    if not (size.isascii() and size.isdigit() and len(size) < 12 and int(size) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} has the size {size!r}, which is no whole number of at least 1")
    return int(size)


def _names(text: str) -> list[str]:
    names = text.split(",")
    if "" in names:
        raise argparse.ArgumentTypeError(f"{text!r} names an empty tensor")
    return names


def add_cores(parser: argparse.ArgumentParser) -> None:
    """--cores of one inference."""
    cores_help = "cores of one inference; a program that is compiled already must have lists for them (default: 1)"
    parser.add_argument("--cores", type=int, choices=range(1, CORES + 1), default=1, help=cores_help)


def compile_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The compiler's options that are given, as arguments of `rocketnpu.compile`."""
    given = {name: getattr(arguments, name) for name in _COMPILER}
    return {name: value for name, value in given.items() if value is not None}


def opening_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """How the model is to be opened, as arguments of `rocketnpu.compile` and others. Raises ModelError for an option
    that is given twice for one name."""
    given: dict[str, Any] = {}
    for name in ("input_shapes", "dims"):
        pairs: list[tuple[str, Any]] = getattr(arguments, name) or []
        if len(dict(pairs)) != len(pairs):
            repeated = next(key for key, _ in pairs if [other for other, _ in pairs].count(key) > 1)
            raise ModelError(f"{_flag(name)} is given twice for {repeated!r}")
        if pairs:
            given[name] = dict(pairs)
    if arguments.outputs:
        given["outputs"] = [name for names in arguments.outputs for name in names]
    return given


def model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both kinds of options that are given, as arguments of `rocketnpu.compile`."""
    return {**compile_options(arguments), **opening_options(arguments)}


def load_for_device(arguments: argparse.Namespace) -> Program:
    """The program of `arguments.model`, compiled for `arguments.device` and `arguments.cores` if it is a model.

    Raises ModelError for options of the compiler with a program that is compiled already.
    """
    target = target_of(find_device(arguments.device).name)
    return load_with(arguments, {"cores": arguments.cores, "target": target}, model_options(arguments))


def load_with(arguments: argparse.Namespace, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Program:
    """The program of `arguments.model`. A model is compiled with the arguments of `rocketnpu.compile` in `given`, and
    those in `defaults` that are not. Raises ModelError for `given` with a program that is compiled already.
    """
    file = open_model(arguments.model)
    if given and is_compiled(file.data):
        raise ModelError(f"{_flag(next(iter(given)))} is for a model; {arguments.model} is compiled already")
    opening = make_opening(**{name: value for name, value in given.items() if name in _OPENING})
    options = Options(**{**defaults, **{name: value for name, value in given.items() if name not in _OPENING}})
    return load_program(file, options, opening)


def refuse_options(given: Mapping[str, Any], advice: str) -> None:
    """Raise ModelError for options of a model where there is none."""
    if given:
        raise ModelError(f"{_flag(next(iter(given)))} is for a model: {advice}")


def _flag(name: str) -> str:
    return f"--{_FLAGS.get(name, name)}"
