"""Compile a model to a register program.

Exit code 1: less of the model runs on the NPU than --require-npu asks for. The program is written all the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import rocketnpu as rn
from rocketnpu.cli.arguments import add_json, add_model, check_output
from rocketnpu.cli.compiler import add_compile_options, model_options
from rocketnpu.cli.steps import add_require_npu, exit_code, print_steps, to_json, warn_of_idle_npu
from rocketnpu.cli.terminal import print_json, print_line
from rocketnpu.hw.limits import CORES

SCHEMA = 1
"""Version of the JSON document (docs/api.md). Names may be added; none changes its meaning in one version."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser, ".tflite or .onnx")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.rnpu", help="where the program goes")
    cores_help = "task lists for up to that many cores for one inference (default: 1)"
    parser.add_argument("--cores", type=int, choices=range(1, CORES + 1), default=1, help=cores_help)
    add_compile_options(parser, "any, which runs through either")
    add_require_npu(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    check_output(arguments.output, arguments.model, ".rnpu")
    program = rn.compile(arguments.model, cores=arguments.cores, **model_options(arguments))
    program.save(arguments.output)
    size_bytes = arguments.output.stat().st_size
    warn_of_idle_npu(program)
    if arguments.json:
        print_json(
            {
                "schema": SCHEMA,
                "model": str(arguments.model),
                "output": str(arguments.output),
                "bytes": size_bytes,
                "target": program.target,
                "cores": arguments.cores,
                **to_json(program),
            }
        )
    else:
        print_steps(program, arguments.cores)
        print_line(f"{arguments.output}: {size_bytes} bytes")
    return exit_code(arguments, program)
