"""Quantize a float model, say what accuracy is lost, and compile it.

The name of --output decides: .tflite or .onnx is the quantized model, a file of the same kind as MODEL, .rnpu the
compiled program.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import rocketnpu as rn
from rocketnpu.cli.arguments import add_json, add_model, channel_divisors, channel_values, positive
from rocketnpu.cli.compiler import add_compile_options, compile_options, opening_options
from rocketnpu.cli.steps import add_require_npu, complain, exit_code, placement, print_notes, warn_of_idle_npu
from rocketnpu.cli.steps import to_json as steps_to_json
from rocketnpu.cli.terminal import LONGEST_NAME, counted, finite, print_json, print_line, print_table, progress
from rocketnpu.errors import ModelError
from rocketnpu.images import Fit
from rocketnpu.inspect.names import shorten
from rocketnpu.quantizer import QuantizedModel, Report
from rocketnpu.quantizer.calibration import METHODS

MODELS = (".tflite", ".onnx")
PROGRAM = ".rnpu"
BLAMED = 3
"""Layers that a warning names."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_model(parser, "float .tflite or .onnx")
    inputs = "a folder of typical pictures, one picture, or a .npz of arrays by input name, each with many inputs"
    parser.add_argument("--calibration", required=True, metavar="DIR|FILE", help=inputs)
    output_help = f".tflite or .onnx: the quantized model; {PROGRAM}: the compiled program"
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=output_help)
    evaluation_help = "other inputs to measure the loss on (default: 8 of the calibration's)"
    parser.add_argument("--evaluation", metavar="DIR|FILE", help=evaluation_help)
    parser.add_argument("--count", type=positive, metavar="N", help="use N of the calibration's inputs (default: all)")
    method_help = "how ranges follow from the inputs; auto: what costs each tensor least (default: min-max)"
    parser.add_argument("--method", choices=("auto", *METHODS), default="min-max", help=method_help)
    float_help = "leave the operators of these tensors float; * stands for anything"
    parser.add_argument("--keep-float", action="append", default=[], metavar="TENSOR", help=float_help)
    parser.add_argument("--cores", type=int, choices=(1, 2, 3), default=1, help="NPU cores to use (default: 1)")
    add_compile_options(parser, "any, which runs through either")
    add_require_npu(parser)
    group = parser.add_argument_group("pictures")
    group.add_argument(
        "--fit", choices=[fit.value for fit in Fit], help="how they get the input's size (default: stretch)"
    )
    group.add_argument(
        "--mean", type=channel_values, metavar="M[,M,M]", help="value = (pixel - mean) / std, pixels 0..255"
    )
    group.add_argument("--std", type=channel_divisors, metavar="S[,S,S]", help="default: 128 and 128, which is -1..1")
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    output: Path = arguments.output
    _check_output(output, arguments.model)
    with progress() as bar:
        task = bar.add_task("reading", total=None)

        def advance(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        quantized = rn.quantize(
            arguments.model,
            arguments.calibration,
            evaluation=arguments.evaluation,
            count=arguments.count,
            mean=arguments.mean,
            std=arguments.std,
            fit=arguments.fit,
            progress=advance,
            method=arguments.method,
            keep_float=arguments.keep_float,
            **opening_options(arguments),
        )
        bar.update(task, description="compiling", completed=0, total=None)
        program = rn.compile(quantized.model, cores=arguments.cores, **compile_options(arguments))
    if output.suffix == PROGRAM:
        program.save(output)
    else:
        quantized.save(output)
    warn_of_idle_npu(program)
    _warn_of_loss(arguments.model.name, quantized.report)
    if arguments.json:
        print_json(_to_json(arguments.model.name, output, quantized, program))
    else:
        _print(arguments.model.name, output, quantized.report, program, arguments.cores)
    return exit_code(arguments, program)


def _warn_of_loss(model: str, report: Report) -> None:
    """A line on standard error for outputs that have lost much, with the layers that lose most by themselves."""
    if not report.poor:
        return
    outputs = ", ".join(f"{share:.0%} of {shorten(name, LONGEST_NAME)}" for name, share in report.poor.items())
    blamed = "; ".join(
        f"{shorten(layer.tensor, LONGEST_NAME)} ({layer.operator}, {layer.alone:.0%})"
        for layer in report.blamed[:BLAMED]
    )
    advice = "try --method auto, other --calibration inputs, or --keep-float with these tensors"
    complain(f"warning: {model} loses {outputs}; by themselves lose most: {blamed}; {advice}")


def _check_output(output: Path, model: Path) -> None:
    """What can be said against --output before the work is done."""
    kind = model.suffix if model.suffix in MODELS else " or ".join(MODELS)
    if output.suffix not in (*MODELS, PROGRAM) or (output.suffix in MODELS and output.suffix not in kind):
        raise ModelError(f"{output}: --output ends in {kind} (the quantized model) or {PROGRAM} (the program)")
    if output.exists() and model.exists() and output.samefile(model):
        raise ModelError(f"{output} is the float model itself: --output names another file")


def _print(model: str, output: Path, report: Report, program: rn.Program, cores: int) -> None:
    rows = [
        (
            layer.operator,
            shorten(layer.tensor, LONGEST_NAME),
            "x".join(map(str, layer.shape)),
            f"{layer.grid:.1f}",
            f"{layer.end_to_end:.1f}",
        )
        for layer in report.layers
    ]
    title = (
        f"{model}, calibrated on {counted(report.inputs, 'input')}: signal to quantization noise in dB,"
        f" {counted(report.evaluated, 'input')}"
    )
    print_table(("operator", "tensor", "shape", "its grid alone>", "end to end>"), rows, title=title)
    for name, decibels in report.outputs.items():
        print_line(f"output {name}: {decibels:.1f} dB")
    if report.kept_float:
        print_line(f"float, as they lose too much: {', '.join(report.kept_float)}")
    print_line(placement(program, counted(cores, "core")))
    print_notes(program)
    print_line(f"{output}: {output.stat().st_size} bytes")


def _to_json(model: str, output: Path, quantized: QuantizedModel, program: rn.Program) -> dict[str, Any]:
    report = quantized.report
    return {
        "model": model,
        "output": str(output),
        "inputs": report.inputs,
        "evaluated": report.evaluated,
        "outputs": {name: finite(decibels) for name, decibels in report.outputs.items()},
        "lost": {name: finite(share) for name, share in report.lost.items()},
        "kept_float": list(report.kept_float),
        "layers": [
            {
                "tensor": layer.tensor,
                "operator": layer.operator,
                "shape": layer.shape,
                "grid": finite(layer.grid),
                "end_to_end": finite(layer.end_to_end),
                "alone": finite(layer.alone),
            }
            for layer in report.layers
        ],
        **steps_to_json(program),
    }
