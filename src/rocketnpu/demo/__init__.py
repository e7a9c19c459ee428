"""The embedded model and pictures: handwritten digits (SOURCES.md says where they come from)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files

from PIL import Image

from rocketnpu.images import load_image


@dataclass(frozen=True)
class Sample:
    """A picture that the model has not seen in training, and the digit it shows."""

    image: Image.Image
    digit: int


def model() -> bytes:
    """The classifier as a TFLite file: int8 picture 1x32x32x1 -> int8 scores 1x10."""
    return files(__name__).joinpath("digits.tflite").read_bytes()


def samples() -> list[Sample]:
    """Ten pictures of 32x32 grey pixels, one of each digit."""
    found: list[Sample] = []
    for digit in range(10):
        with as_file(files(__name__).joinpath(f"digit_{digit}.png")) as path:
            found.append(Sample(load_image(path), digit))
    return found
