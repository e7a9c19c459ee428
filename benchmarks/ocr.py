"""`python -m benchmarks.ocr WHEEL`: PP-OCR's detection, direction and recognition, from shipped files to the NPU.

WHEEL is the file that `pip download --no-deps rapidocr` brings (or rapidocr-onnxruntime, which has an older version).
Each model is quantized by one command. The quantized models read a page of ten lines; the float models read the same
page. Exit code 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

import rocketnpu as rn
from benchmarks.command import run_command
from benchmarks.figures import MEGABYTE, Figure
from benchmarks.ocr_pictures import (
    LINE,
    MEAN,
    PAGE,
    STD,
    TURNED,
    Box,
    Pixels,
    line_pixels,
    network_input,
    page,
    random_text,
    read_text,
    text_boxes,
)
from benchmarks.placement import operator_lines, placement_figures

LINES = 10
PAGES = 8
"""Pages to calibrate on; the lines on them are what the other two models are calibrated on."""
CALIBRATION_SEED, TEST_SEED = 1, 2

TURN_THRESHOLD = 0.9
"""Score from which a line counts as upside down."""

SIZES = {"det": PAGE, "cls": TURNED, "rec": LINE}
"""Height and width of each model's input."""

Run = Callable[[NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True)
class Reader:
    """The three models, and the characters that the recognition knows."""

    detect: Run
    turned: Run
    recognize: Run
    characters: list[str]

    def boxes(self, pixels: Pixels) -> list[Box]:
        """Where there is text on a page."""
        return text_boxes(self.detect(network_input(pixels)))

    def text(self, crop: Pixels) -> str:
        """The text of one line."""
        if self.turned(network_input(line_pixels(crop, TURNED)))[0, 1] > TURN_THRESHOLD:
            crop = crop[::-1, ::-1]
        return read_text(self.recognize(network_input(line_pixels(crop, LINE))), self.characters)

    def read(self, pixels: Pixels) -> list[str]:
        """The text of all lines of a page."""
        return [self.text(box.crop(pixels)) for box in self.boxes(pixels)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ocr", description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("build/ocr"), help="of models (default: %(default)s)")
    arguments = parser.parse_args()
    models = _unpack(arguments.wheel, arguments.folder / arguments.wheel.stem)
    missed = 0
    for figure in _figures(models):
        print(figure, flush=True)
        missed += figure.missed
    return 1 if missed else 0


def _unpack(wheel: Path, folder: Path) -> dict[str, Path]:
    """The wheel's ONNX files by what they do."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Path] = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            part = next((part for part in SIZES if f"_{part}_" in name), None)
            if part is not None and name.endswith(".onnx"):
                found[part] = folder / Path(name).name
                found[part].write_bytes(archive.read(name))
    return found


def _figures(models: dict[str, Path]) -> Iterator[Figure]:
    sessions = {part: _float_session(path) for part, path in models.items()}
    characters = sessions["rec"].get_modelmeta().custom_metadata_map["character"].splitlines()
    original = Reader(*(_float_run(sessions[part]) for part in SIZES), characters)
    folder = models["det"].parent
    _write_calibration(original, folder)
    generator = np.random.default_rng(TEST_SEED)
    written = [random_text(generator) for _ in range(LINES)]
    pixels = page(written, generator)
    with ExitStack() as stack:
        runs: list[Run] = []
        for part, size in SIZES.items():
            quantized = _quantize(models[part], folder / part, size)
            program = rn.compile(quantized)
            print("\n".join(operator_lines(program)))
            inputs = {program.inputs[0]: np.zeros((1, 3, *size), np.float32)}
            yield from placement_figures(program, quantized.read_bytes(), inputs, least_percent=99)
            session = stack.enter_context(rn.Session(program, "emulator"))
            runs.append(_npu_run(session, program))
        yield from _reading_figures(original, Reader(*runs, characters), pixels, written)


def _reading_figures(original: Reader, npu: Reader, pixels: Pixels, written: list[str]) -> Iterator[Figure]:
    expected, found = original.read(pixels), npu.read(pixels)
    for line, text in enumerate(expected):
        print(f"  float {text!r:30} NPU {found[line] if line < len(found) else None!r}")
    yield Figure("lines that the float models find", len(expected), "", least=LINES)
    yield Figure("lines that the float models read as written", sum(a == b for a, b in zip(expected, written)))  # noqa: B905
    yield Figure("lines that the quantized models find", len(found), "", least=LINES)
    same = sum(a == b for a, b in zip(found, expected))  # noqa: B905
    yield Figure("lines with the float models' text", same, "", least=LINES)
    crops = [box.crop(pixels) for box in original.boxes(pixels)]
    alike = sum(npu.text(crop) == text for crop, text in zip(crops, expected, strict=True))
    yield Figure("the same, lines where the float model finds them", alike, "", least=LINES)


def _write_calibration(reader: Reader, folder: Path) -> None:
    """Pictures for the calibration of each model, in a folder of its name."""
    generator = np.random.default_rng(CALIBRATION_SEED)
    for part in SIZES:
        (folder / part).mkdir(exist_ok=True)
    for number in range(PAGES):
        pixels = page([random_text(generator) for _ in range(LINES)], generator)
        Image.fromarray(pixels).save(folder / "det" / f"{number}.png")
        for line, box in enumerate(reader.boxes(pixels)):
            for part in ("cls", "rec"):
                crop = box.crop(pixels)[::-1, ::-1] if part == "cls" and line % 2 else box.crop(pixels)
                Image.fromarray(line_pixels(crop, SIZES[part])).save(folder / part / f"{number}_{line}.png")


def _quantize(model: Path, pictures: Path, size: tuple[int, int]) -> Path:
    """Run the command that quantizes a model."""
    target = model.with_name(f"{model.stem}.int8.onnx")
    name = _float_session(model).get_inputs()[0].name
    shape = ",".join(map(str, (1, 3, *size)))
    options = ("--input-shape", f"{name}={shape}", "--calibration", pictures, "--mean", MEAN, "--std", STD)
    command = run_command("quantize", model, *options, "-o", target)
    print(Figure("peak memory", command.peak_bytes / MEGABYTE, "MB"))
    return target


def _float_session(model: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _float_run(session: Any) -> Run:
    (name,) = (value.name for value in session.get_inputs())
    return lambda values: session.run(None, {name: values})[0]


def _npu_run(session: rn.Session, program: rn.Program) -> Run:
    (output,) = program.outputs
    return lambda values: session.run(values)[output]


if __name__ == "__main__":
    sys.exit(main())
