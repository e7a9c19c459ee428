"""`python -m benchmarks.quantize`: float models quantized here and by the published quantizers, in dB at each output.

Exit code 1 if a target is missed. Calibrated on crops of one picture, measured on others; ours runs on the emulator,
theirs on the CPU by their own runtimes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import rocketnpu as rn
from benchmarks.detector import SIZE, crops, network, picture
from benchmarks.figures import Figure
from benchmarks.models import shared_folder
from benchmarks.placement import operators_on_cpu
from benchmarks.published import Arrays, decibels, onnx_outputs, tflite_outputs
from rocketnpu.cpu import litert
from rocketnpu.cpu import onnxruntime as ort
from rocketnpu.frontends import load_model
from rocketnpu.quantizer.tflite.repair import repair
from rocketnpu.verify import verify

SHARE = 0.9
"""Of the published quantizer's decibels at each output, which ours must reach on the NPU."""

FACES = "face_detection_short_range_float32.tflite"

Inputs = list[NDArray[np.float32]]


def main() -> int:
    argparse.ArgumentParser(prog="python -m benchmarks.quantize", description=__doc__).parse_args()
    missed = 0
    for title, figures in ((FACES, _faces()), ("a small ONNX detector", _detector())):
        print(title)
        for figure in figures:
            print(figure, flush=True)
            missed += figure.missed
    return 1 if missed else 0


def _detector() -> Iterator[Figure]:
    image, model = picture(), network()
    used, held = (
        [np.ascontiguousarray(_scaled(crop).transpose(0, 3, 1, 2)) for crop in crops(image, *sides)]
        for sides in ((96, SIZE, 32), (96, SIZE, 32, 16))
    )
    graph = load_model(model)
    run = ort.Piece(graph.model).run
    expected = [dict(zip(graph.outputs, run([values]), strict=True)) for values in held]
    theirs = onnx_outputs(model, used, held, per_channel=True)
    yield from _figures(model, used, held, expected, decibels(theirs, expected))


def _faces() -> Iterator[Figure]:
    shared = shared_folder()
    pixels = np.fromfile(shared / "vectors/golden/grace_hopper_224.bin", np.uint8).reshape(224, 224, 3)
    image = Image.fromarray(pixels)
    used, held = ([_scaled(crop) for crop in crops(image, *sides)] for sides in ((160, 128, 16), (160, 128, 16, 8)))
    model = shared / "models" / FACES
    graph = load_model(model)
    run = litert.Piece(graph.model).run
    expected = [dict(zip(graph.outputs, run([values]), strict=True)) for values in held]
    theirs = tflite_outputs(repair(graph), used, held)
    yield from _figures(model, used, held, expected, decibels(theirs, expected))


def _scaled(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels as -1..1, NHWC."""
    return ((crop.astype(np.float32) - 127.5) / 127.5)[None]


def _figures(
    model: Path | bytes, used: Inputs, held: Inputs, expected: Sequence[Arrays], theirs: dict[str, float]
) -> Iterator[Figure]:
    start = time.perf_counter()
    quantized = rn.quantize(model, used, evaluation=held)
    yield Figure("time to quantize and measure", time.perf_counter() - start, "s")
    program = rn.compile(quantized.model)
    with rn.Session(program, device="emulator") as session:
        ours = decibels([session.run(values) for values in held], expected)
    for name, mark in theirs.items():
        yield Figure(f"{name}: on the NPU", ours[name], "dB")
        yield Figure(f"{name}: as the report has it", quantized.report.outputs[name], "dB")
        yield Figure(f"{name}: the published quantizer's", mark, "dB")
        yield Figure(f"{name}: theirs / ours", mark / ours[name], "times", 1 / SHARE)
    yield Figure("operators on the NPU", sum(len(step.operators) for step in program.steps if step.place == "npu"), "")
    yield Figure("operators on the CPU, float border excepted", operators_on_cpu(program), "")
    (name,) = program.inputs
    worst = verify(quantized.model, [{name: held[0]}]).worst_npu_layer
    yield Figure("largest difference of a layer alone", worst, "steps", 1)


if __name__ == "__main__":
    sys.exit(main())
