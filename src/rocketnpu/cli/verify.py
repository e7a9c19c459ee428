"""Compare each layer, alone and end to end, with LiteRT's reference kernels or ONNX Runtime node by node.

With --reference it compares a compiled program, for instance the vendor's .rknn, with recorded tensors instead.
Alone means fed with the reference's own tensors, so that differences don't add up. Differences are in steps of the
tensor's grid (its own units if it is not quantized). Exit code 1: a layer on the NPU differs by more than --tolerance.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from pathlib import Path
from typing import Any

import rocketnpu as rn
from rocketnpu.cli.arguments import add_image, add_json, add_model, check_image, positive, seed, steps
from rocketnpu.cli.compiler import add_compile_options, model_options, opening_options, refuse_options
from rocketnpu.cli.inputs import Arrays, read_npz, read_picture
from rocketnpu.cli.steps import print_notes, share, warn_of_idle_npu
from rocketnpu.cli.terminal import LONGEST_NAME, counted, finite, print_json, print_line, print_table, progress
from rocketnpu.errors import ModelError
from rocketnpu.inspect import document
from rocketnpu.inspect.names import shorten
from rocketnpu.ir import shape_text
from rocketnpu.verify import Difference, VerifyReport, random_inputs, verify, verify_record


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser, ".tflite or .onnx; with --reference also a .rnpu or .rknn")
    record_help = "tensors by name that someone else computed for one input, instead of a reference runtime"
    parser.add_argument("--reference", type=Path, metavar="FILE.npz", help=record_help)
    parser.add_argument("--cores", type=positive, metavar="N", help="cores to run on, with --reference (default: 1)")
    parser.add_argument("--inputs", type=positive, metavar="N", help="random inputs (default: 3; none with --image)")
    parser.add_argument("--seed", type=seed, default=0, help="of the random inputs (default: 0)")
    tolerance_help = "largest difference of a layer alone that is fine (default: 1)"
    parser.add_argument("--tolerance", type=steps, default=1.0, metavar="STEPS", help=tolerance_help)
    add_compile_options(parser, "any")
    add_json(parser)
    add_image(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    check_image(arguments)
    if arguments.cores is not None and arguments.reference is None:
        raise ModelError("--cores is for a compiled program: give --reference, too")
    options = model_options(arguments)
    if arguments.reference is not None:
        refuse_options(options, "leave it out, or --reference")
    with progress() as bar:
        bar.add_task("comparing", total=None)
        if arguments.reference is not None:
            report = _verify_record(arguments)
        else:
            report = verify(arguments.model, _input_sets(arguments), **options)
    passed = report.worst_npu_layer <= arguments.tolerance
    warn_of_idle_npu(report.program, "; no layer was compared there")
    if arguments.json:
        print_json(_to_json(report, passed))
    else:
        _print_report(report, passed, arguments.tolerance)
    return 0 if passed else 1


def _verify_record(arguments: argparse.Namespace) -> VerifyReport:
    cores: int = arguments.cores or 1
    with rn.Session(arguments.model, device="emulator", cores=cores) as session:
        return verify_record(session.program, read_npz(arguments.reference, session.tensors), cores)


def _input_sets(arguments: argparse.Namespace) -> list[Arrays]:
    with rn.Session(arguments.model, device="emulator", **opening_options(arguments)) as session:
        sets: list[Arrays] = []
        if arguments.image is not None:
            picture = read_picture(session.inputs, {}, arguments)
            if len(picture) != len(session.inputs):
                raise ModelError(f"--image: the model has {len(session.inputs)} inputs, a picture fills only one")
            sets.append(picture)
        count = arguments.inputs or (0 if sets else 3)
        return sets + random_inputs(session.program, count, arguments.seed)


def _print_report(report: VerifyReport, passed: bool, tolerance: float) -> None:
    columns = (
        "operators",
        "tensor",
        "place",
        "shape",
        "alone: max>",
        "mean>",
        "equal>",
        "end to end: max>",
        "mean>",
        "equal>",
    )
    rows = [
        (
            ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in Counter(layer.operators).items()),
            shorten(layer.tensor, LONGEST_NAME),
            layer.place.upper(),
            shape_text(layer.shape),
            *_cells(layer.isolated),
            *_cells(layer.end_to_end),
        )
        for layer in report.layers
    ]
    print_table(
        columns, rows, title=f"{report.model}, {counted(report.inputs, 'input')}: each layer alone, and end to end"
    )
    if report.note:
        print_line(report.note)
    for name, difference in report.outputs.items():
        largest, mean, equal = _cells(difference)
        print_line(
            f"output {name}: differs by at most {largest}, {mean} on average, {equal} equal;"
            f" same largest element in {report.same_top[name]} of {report.inputs}"
        )
    print_line(share(report.program))
    print_notes(report.program)
    if not any(layer.place == "npu" for layer in report.layers):
        print_line("nothing was compared on the NPU")
        return
    verdict = "within" if passed else "OUTSIDE"
    print_line(
        f"layers on the NPU differ by at most {report.worst_npu_layer:g}: {verdict} the tolerance of {tolerance:g}"
    )


def _cells(difference: Difference) -> tuple[str, str, str]:
    equal = math.floor(difference.equal_fraction * 10000) / 100  # rounded down: 100 % means that all are equal
    return f"{difference.maximum:g}", f"{difference.mean:.4f}", f"{equal:.2f} %"


def _to_json(report: VerifyReport, passed: bool) -> dict[str, Any]:
    return {
        "model": report.model,
        "inputs": report.inputs,
        "passed": passed,
        "note": report.note,
        "placement": document.placement(report.program),
        "layers": [
            {
                "tensor": layer.tensor,
                "operators": layer.operators,
                "place": layer.place,
                "shape": layer.shape,
                "isolated": _numbers(layer.isolated),
                "end_to_end": _numbers(layer.end_to_end),
            }
            for layer in report.layers
        ],
        "outputs": {
            name: {**_numbers(difference), "same_top": report.same_top[name]}
            for name, difference in report.outputs.items()
        },
    }


def _numbers(difference: Difference) -> dict[str, float | None]:
    return {
        "max": finite(difference.maximum),
        "mean": finite(difference.mean),
        "equal_fraction": difference.equal_fraction,
    }
