"""Compile a model to a register program."""

from __future__ import annotations

import argparse
from pathlib import Path

import rocketnpu as rn
from rocketnpu.cli.arguments import add_model, check_output
from rocketnpu.cli.compiler import add_compile_options, model_options
from rocketnpu.cli.steps import print_steps
from rocketnpu.cli.terminal import print_line
from rocketnpu.hw.limits import CORES


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser, ".tflite or .onnx")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.rnpu", help="where the program goes")
    cores_help = "task lists for up to that many cores for one inference (default: 1)"
    parser.add_argument("--cores", type=int, choices=range(1, CORES + 1), default=1, help=cores_help)
    add_compile_options(parser, "any, which runs through either")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    check_output(arguments.output, arguments.model, ".rnpu")
    program = rn.compile(arguments.model, cores=arguments.cores, **model_options(arguments))
    program.save(arguments.output)
    print_steps(program, arguments.cores)
    print_line(f"{arguments.output}: {arguments.output.stat().st_size} bytes")
    return 0
