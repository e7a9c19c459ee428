"""`python -m benchmarks.files [PATH ...]`: files as people have them, each compiled or quantized, run and verified.

A PATH is a .tflite or .onnx file, or a folder of them (default: the shared cases). Float models are quantized first,
on random inputs. Sizes that a file leaves free become `--free`. Exit code 1 if a file raises an exception or a layer on
the NPU is more than 1 step from the reference. Whether each reason for the CPU is the chip's, the reader decides.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import rocketnpu as rn
from benchmarks.models import shared_folder
from benchmarks.placement import BORDER
from rocketnpu.frontends import load_model
from rocketnpu.frontends.opening import make_opening
from rocketnpu.ir import Graph
from rocketnpu.verify import random_inputs, verify

INPUTS = 4
"""Random sets of inputs to calibrate on."""

LARGEST_DIFFERENCE = 1
"""Steps of a layer on the NPU, fed from the reference."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.files", description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    parser.add_argument(
        "--free", type=int, default=64, help="elements along a dimension of no fixed size (default: 64)"
    )
    arguments = parser.parse_args()
    failed = 0
    for path in _files(arguments.paths or [shared_folder() / "cases"]):
        try:
            right = _show(path, arguments.free)
        except Exception:
            print(f"{path.name}: FAILED\n{traceback.format_exc().rstrip()}", flush=True)
            right = False
        failed += not right
    print(f"{failed} failed")
    return 1 if failed else 0


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.iterdir() if file.suffix in (".tflite", ".onnx"))
        else:
            yield path


def _show(path: Path, free: int) -> bool:
    """Print what became of a file; whether it is right."""
    options = _shapes(path, free)
    program, how = rn.compile(path, **options), "compiled"
    if _is_float(load_model(path, opening=make_opening(**options))):
        quantized = rn.quantize(path, random_inputs(program, INPUTS), **options)
        program, report, how = rn.compile(quantized.model), verify(quantized.model), "quantized"
    else:
        report = verify(path, **options)
    with rn.Session(program, "emulator") as session:
        session.run(random_inputs(program, 1)[0])
    operators = [(op, step.place) for step in program.steps for op in step.operators if op.kind not in BORDER]
    on_npu = sum(place == "npu" for _, place in operators)
    right = report.worst_npu_layer <= LARGEST_DIFFERENCE
    print(
        f"{path.name}: {how}, {on_npu} of {len(operators)} operators on the NPU, within {report.worst_npu_layer:g}"
        f"{'' if right else ' MISSED'}"
    )
    for (kind, reason), count in Counter((op.kind, op.reason) for op, place in operators if place == "cpu").items():
        print(f"    {count} {kind}: {reason}")
    return right


def _is_float(graph: Graph) -> bool:
    """Whether no tensor is quantized and there is a float input, so that the quantizer takes the model."""
    floating = any(graph.tensors[name].dtype == np.float32 for name in graph.inputs)
    return floating and all(tensor.quantization is None for tensor in graph.tensors.values())


def _shapes(path: Path, free: int) -> dict[str, Any]:
    """`input_shapes` for an ONNX file whose inputs have free dimensions; else nothing. A free batch is 1."""
    if path.suffix != ".onnx":
        return {}
    shapes: dict[str, tuple[int, ...]] = {}
    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    batches = {dims[0].dim_param for dims in (value.type.tensor_type.shape.dim for value in graph.input) if dims}
    batches.discard("")
    for value in graph.input:
        sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if value.name not in constants and min(sizes, default=1) < 1:
            shapes[value.name] = tuple(
                size if size > 0 else (1 if axis == 0 or dim.dim_param in batches else free)
                for axis, (size, dim) in enumerate(zip(sizes, value.type.tensor_type.shape.dim, strict=True))
            )
    return {"input_shapes": shapes} if shapes else {}


if __name__ == "__main__":
    sys.exit(main())
