"""`python -m benchmarks.networks`: published architectures, from their exporters' default files to the NPU.

Each is quantized, compiled and verified. For detectors the boxes are compared with those of the float model. Exit code
1 if a target is missed. Networks are built once into `--folder` by `benchmarks.network_models`, which needs PyTorch,
ultralytics and timm; `--torch` names a Python that has them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

import rocketnpu as rn
from benchmarks.figures import Figure
from benchmarks.placement import operator_lines, placement_figures
from benchmarks.yolo_images import smooth_images
from rocketnpu.verify import verify

CALIBRATION_SEED, TEST_SEED = 1, 2
TESTS = 4
"""Images that detections are compared on; the first is verified layer by layer."""

DETECTOR_TARGETS = {"least_percent": 99, "most_submissions": 3}
"""A detector's share of MACs on the NPU, and what is submitted before, between and behind blocks of attention."""

BOX = 4
"""Numbers of a box: middle, width and height in pixels."""


@dataclass(frozen=True)
class Network:
    """A file that `benchmarks.network_models` builds, and the height and width of its image in pixels."""

    name: str
    size: int
    detector: bool = False


NETWORKS = (
    *(Network(name, 640, detector=True) for name in ("yolov5n", "yolov8n", "yolov10n", "yolo11n", "yolo26n")),
    *(Network(name, 224) for name in ("resnet18", "mobilenet_v3", "convnext_tiny", "vit_tiny", "swin_tiny")),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    names = [network.name for network in NETWORKS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)} (default: all)")
    parser.add_argument("--count", type=int, default=16, help="images to calibrate on (default: 16)")
    parser.add_argument("--folder", type=Path, default=Path("build/networks"), help="of models (default: %(default)s)")
    parser.add_argument("--torch", default=sys.executable, help="a Python with PyTorch, to build what is not there yet")
    arguments = parser.parse_args()
    chosen = [network for network in NETWORKS if not arguments.names or network.name in arguments.names]
    missed = 0
    for network in chosen:
        model = arguments.folder / f"{network.name}.onnx"
        if not model.exists():
            _build(arguments.torch, arguments.folder, network.name)
        print(network.name, flush=True)
        missed += _measured(network, model, arguments.count)
    return 1 if missed else 0


def _build(python: str, folder: Path, name: str) -> None:
    command = (python, "-W", "ignore", "-m", "benchmarks.network_models", str(folder), name)
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{name} could not be built; --torch names a Python that has what it takes (see --help)")


def _measured(network: Network, model: Path, count: int) -> int:
    """Print the figures; how many miss their targets. An exception is a miss."""
    missed = 0
    try:
        for figure in _figures(network, model, count):
            print(figure, flush=True)
            missed += figure.missed
    except Exception:
        print(traceback.format_exc().rstrip(), flush=True)
        missed += 1
    return missed


def _figures(network: Network, model: Path, count: int) -> Iterator[Figure]:
    tests = smooth_images(TESTS, network.size, TEST_SEED)
    start = time.perf_counter()
    quantized = rn.quantize(model, smooth_images(count, network.size, CALIBRATION_SEED)[:, None])
    yield Figure("time to quantize", time.perf_counter() - start, "s")
    for name, decibels in quantized.report.outputs.items():
        yield Figure(f"{name}: signal to noise, as the report has it", decibels, "dB")
    start = time.perf_counter()
    program = rn.compile(quantized.model)
    yield Figure("time to compile", time.perf_counter() - start, "s")
    print("\n".join(operator_lines(program)))
    (image,) = program.inputs
    targets = DETECTOR_TARGETS if network.detector else {}
    yield from placement_figures(program, quantized.model, {image: tests[:1]}, **targets)
    report = verify(quantized.model, [{image: tests[:1]}])
    yield Figure("largest difference of a layer alone", report.worst_npu_layer, "steps", 1)
    if network.detector:
        yield from _box_figures(model, program, tests)


def _box_figures(model: Path, program: rn.Program, images: NDArray[np.float32]) -> Iterator[Figure]:
    """The boxes of all anchors, in pixels."""
    session: Any = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (image,), (output,) = program.inputs, program.outputs
    expected = np.concatenate([session.run([output], {image: values[None]})[0] for values in images])
    with rn.Session(program, "emulator") as npu:
        found = np.concatenate([npu.run(values[None])[output] for values in images])
    apart = np.abs(found - expected)
    yield Figure("boxes: mean difference", float(apart[:, :BOX].mean()), "px", 0.5)
    yield Figure("boxes: largest difference", float(apart[:, :BOX].max()), "px")
    yield Figure("scores: mean difference", float(apart[:, BOX:].mean()), "")
    yield Figure("scores: largest difference", float(apart[:, BOX:].max()), "")


if __name__ == "__main__":
    sys.exit(main())
