"""Run a model on files, a picture or random input, and show what it answers.

An input that is given neither by --input nor by --image is an error, unless --random fills it. With --replay, MODEL
is a record of `rocketnpu virtual --record`: its jobs run again, and the exit code is 1 if one gives other results.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import rocketnpu as rn
from rocketnpu.cli import steps
from rocketnpu.cli.arguments import add_image, add_json, add_model, check_image, check_output, positive, seed
from rocketnpu.cli.compiler import add_compile_options, add_cores, load_for_device
from rocketnpu.cli.inputs import read_inputs, read_picture
from rocketnpu.cli.replay import run_record
from rocketnpu.cli.results import describe, print_results, read_labels, to_json, write_npz
from rocketnpu.cli.terminal import print_json, print_line, progress
from rocketnpu.errors import ModelError
from rocketnpu.verify import random_inputs


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help=".npy, .npz (arrays by input name) or raw bytes; once for each input",
    )
    parser.add_argument("--random", type=seed, metavar="SEED", help="fill the other inputs with random numbers")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="names of the scores, one a line")
    parser.add_argument("--device", default="auto", help="auto (default), emulator, rocket or rknpu")
    parser.add_argument("--output", type=Path, metavar="FILE.npz", help="write every output, by name")
    parser.add_argument("--top", type=positive, default=5, metavar="K", help="best scores to show (default: 5)")
    replay_help = "MODEL is a record of jobs: run them again on the emulator and compare"
    parser.add_argument("--replay", action="store_true", help=replay_help)
    add_cores(parser)
    add_compile_options(parser, "the device's")
    add_json(parser)
    add_image(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if arguments.replay:
        return run_record(arguments.model, json=arguments.json)
    if arguments.output is not None:
        check_output(arguments.output, arguments.model, ".npz")
    check_image(arguments)
    labels = read_labels(arguments.labels)
    with rn.Session(load_for_device(arguments), device=arguments.device, cores=arguments.cores) as session:
        given = read_inputs(session.inputs, arguments.input)
        given |= read_picture(session.inputs, given, arguments)
        missing = [tensor for tensor in session.inputs if tensor.name not in given]
        if missing and arguments.random is None:
            names = ", ".join(f"{tensor.name!r} ({tensor.dtype} {tensor.shape})" for tensor in missing)
            raise ModelError(f"no value for input {names}: give --input, --image or --random SEED")
        if missing:
            random = random_inputs(session.program, 1, arguments.random)[0]
            given |= {tensor.name: random[tensor.name] for tensor in missing}
        start = time.perf_counter()
        with progress() as bar:
            bar.add_task("running", total=None)
            outputs = session.run(given)
        seconds = time.perf_counter() - start
        try:
            results = describe(session.outputs, outputs, labels, arguments.top)
        except ModelError as error:
            raise ModelError(f"--labels {arguments.labels}: {error}") from None
        program, device = session.program, session.device.name
    if arguments.output is not None:
        write_npz(arguments.output, outputs)
    steps.warn_of_idle_npu(program)
    if arguments.json:
        print_json(
            {
                "model": str(arguments.model),
                "device": device,
                "seconds": seconds,
                "outputs": to_json(results),
                **steps.to_json(program),
            }
        )
    else:
        print_results(results)
        print_line(steps.placement(program, device))
        steps.print_notes(program)
        print_line(f"{seconds:.2f} s")
    return 0
