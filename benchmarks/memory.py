"""`python -m benchmarks.memory YOLO DETECTION`: the most memory that commands take, beside their targets.

YOLO is yolov8s.onnx of `benchmarks.network_models`, for images of 640 x 640; DETECTION is PP-OCR's detection, out of
the wheel that `pip download --no-deps rapidocr` brings. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from benchmarks.command import Command, run_command
from benchmarks.figures import MEGABYTE, Figure
from benchmarks.models import shared_folder
from benchmarks.ocr_pictures import MEAN, PAGE, STD, page, random_text
from benchmarks.yolo_images import smooth_images

PICTURES = 16
PAGES = 4
LINES = 10
SEED = 1

ADDRESS_SPACE_BYTES = 1_200_000 * 1024
"""`ulimit -v 1200000`."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("yolo", type=Path)
    parser.add_argument("detection", type=Path)
    arguments = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for figure in _figures(arguments.yolo, arguments.detection, Path(folder)):
            print(figure, flush=True)
            missed += figure.missed
    return 1 if missed else 0


def _figures(yolo: Path, detection: Path, folder: Path) -> Iterator[Figure]:
    small, target = _small(), folder / "small.rnpu"
    code = _in_little_memory("compile", str(small), "-o", str(target))
    yield Figure(f"compile {small.stat().st_size} bytes, ulimit -v 1200000: exit code", code, "", 0)
    calibration = folder / "pictures"
    calibration.mkdir()
    for number, pixels in enumerate(smooth_images(PICTURES, 640, SEED)):
        Image.fromarray(np.rint(pixels.transpose(1, 2, 0) * 255).astype(np.uint8)).save(calibration / f"{number}.png")
    options = ("--calibration", calibration, "--mean", 0, "--std", 255)
    yield _peak("quantize", run_command("quantize", yolo, *options, "-o", folder / "yolo.onnx"), 1500)
    pages = folder / "pages"
    pages.mkdir()
    generator = np.random.default_rng(SEED)
    for number in range(PAGES):
        pixels = page([random_text(generator) for _ in range(LINES)], generator)
        Image.fromarray(pixels).save(pages / f"{number}.png")
    quantized = folder / "detection.onnx"
    (name,) = (value.name for value in onnx.load(detection).graph.input)
    shape = ("--input-shape", f"{name}=1,3,{PAGE[0]},{PAGE[1]}")
    options = ("--calibration", pages, "--mean", MEAN, "--std", STD)
    yield _peak("quantize", run_command("quantize", detection, *shape, *options, "-o", quantized))
    yield _peak("verify", run_command("verify", quantized), 1000)


def _small() -> Path:
    """The largest of the shared cases that has 2 KB at most."""
    models = (path for path in (shared_folder() / "cases").glob("*.tflite") if path.stat().st_size <= 2048)
    return max(models, key=lambda path: path.stat().st_size)


def _in_little_memory(*words: str) -> int:
    """The exit code of a command that may not have more than ADDRESS_SPACE_BYTES."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))

    command = (sys.executable, "-m", "rocketnpu", *words)
    return subprocess.run(command, preexec_fn=limit, stdout=subprocess.DEVNULL, check=False).returncode


def _peak(name: str, command: Command, target: float | None = None) -> Figure:
    return Figure(f"{name}: peak memory", command.peak_bytes / MEGABYTE, "MB", target)


if __name__ == "__main__":
    sys.exit(main())
