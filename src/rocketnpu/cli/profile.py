"""Estimate what a program costs on the NPU: layer by layer, and one inference on each number of cores.

Cycles are those of the vendor compiler's formula at 1 GHz, from the tasks as they are in the program; milliseconds add
what tasks and kicks take on silicon, and are within 40 % at best.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rocketnpu.cli.arguments import add_json, add_model, check_output
from rocketnpu.cli.compiler import add_compile_options, load_with, model_options
from rocketnpu.cli.steps import print_notes, share, warn_of_idle_npu
from rocketnpu.cli.terminal import LONGEST_NAME, Section, html_page, print_json, print_line, print_table
from rocketnpu.hw.limits import CORES
from rocketnpu.inspect import document
from rocketnpu.inspect.names import shorten
from rocketnpu.profile import Profile, profile, to_json, to_trace
from rocketnpu.program.model import ROCKET, Program
from rocketnpu.saving import write_whole

MEGABYTE = 1_000_000
_LAYER_COLUMNS = ("step", "operation", "tasks>", "compute>", "memory>", "cycles>", "bound", "read>", "written>")
_TOTAL_COLUMNS = ("cores>", "kicks>", "tasks>", "cycles>", "compute>", "MB>", "gain", "rknpu, ms>", "rocket, ms>")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser)
    add_compile_options(parser, "any")
    cores_help = "most NPU cores to use (default: 3, 1 with --target rocket)"
    parser.add_argument("--cores", type=int, choices=(1, 2, 3), help=cores_help)
    trace_help = "write one inference on the most cores as a timeline for Perfetto or chrome://tracing"
    parser.add_argument("--trace", type=Path, metavar="FILE.json", help=trace_help)
    parser.add_argument("--html", type=Path, metavar="FILE.html", help="write the tables as a page")
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    program = _program(arguments)
    found = profile(program)
    if arguments.trace is not None:
        check_output(arguments.trace, arguments.model, ".json")
        cores = found.totals[-1].cores if found.totals else 1
        write_whole(arguments.trace, json.dumps(to_trace(program, cores)).encode())
    if arguments.html is not None:
        check_output(arguments.html, arguments.model, ".html")
        write_whole(arguments.html, html_page(_sections(found)).encode())
    warn_of_idle_npu(program)
    if arguments.json:
        print_json({**to_json(found), "placement": document.placement(program)})
        return 0
    for title, columns, rows in _sections(found) if found.totals else ():
        print_table(columns, rows, title=title)
    print_line(share(program))
    print_notes(program)
    return 0


def _program(arguments: argparse.Namespace) -> Program:
    given = model_options(arguments)
    if arguments.cores is not None:
        given["cores"] = arguments.cores
    return load_with(arguments, {"cores": 1 if given.get("target") == ROCKET else CORES}, given)


def _sections(found: Profile) -> list[Section]:
    """The layers, and one inference on each number of cores."""
    layers: list[tuple[object, ...]] = [
        (
            shorten(layer.step, LONGEST_NAME),
            layer.operation.split(",", 1)[0],
            layer.tasks,
            layer.mac_cycles,
            round(layer.memory_cycles),
            round(layer.cycles),
            layer.bound,
            layer.read_bytes,
            layer.written_bytes,
        )
        for layer in found.layers
    ]
    totals: list[tuple[object, ...]] = [
        (
            total.cores,
            total.kicks,
            total.tasks,
            round(total.cycles),
            total.mac_cycles,
            f"{total.moved_bytes / MEGABYTE:.2f}",
            f"{total.gain:.2f} of {total.gain_bound:.2f}",
            f"{1000 * total.rknpu_seconds:.2f}",
            "" if total.rocket_seconds is None else f"{1000 * total.rocket_seconds:.2f}",
        )
        for total in found.totals
    ]
    return [
        (f"{found.name}: cycles at 1 GHz and bytes of each layer, on one core", _LAYER_COLUMNS, layers),
        ("One inference; times with what tasks and kicks take on silicon", _TOTAL_COLUMNS, totals),
    ]
