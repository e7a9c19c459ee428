"""Compile a model to a register program."""

from __future__ import annotations

import argparse
from pathlib import Path

import rocketnpu as rn
from rocketnpu.cli.arguments import add_model, check_output
from rocketnpu.cli.compiler import add_compile_options, compile_options
from rocketnpu.cli.steps import print_steps
from rocketnpu.cli.terminal import print_line


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser, ".tflite or .onnx")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.rnpu", help="where the program goes")
    parser.add_argument("--cores", type=int, choices=(1, 2, 3), default=1, help="NPU cores to use (default: 1)")
    add_compile_options(parser, "any, which runs through either")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    check_output(arguments.output, arguments.model, ".rnpu")
    program = rn.compile(arguments.model, cores=arguments.cores, **compile_options(arguments))
    program.save(arguments.output)
    print_steps(program, arguments.cores)
    print_line(f"{arguments.output}: {arguments.output.stat().st_size} bytes")
    return 0
