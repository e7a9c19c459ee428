"""Pages and lines of rendered text, and how PP-OCR's models are fed and read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

PAGE = (480, 640)
"""Height and width of a page in pixels."""

LINE = (48, 320)
"""Height and width of a line for recognition."""

TURNED = (48, 192)
"""Height and width of a line for the model that tells whether it is upside down."""

MEAN = STD = 127.5
"""A model's value is (pixel - MEAN) / STD."""

TEXT_THRESHOLD = 0.3
"""Probability from which a pixel of the detection's map counts as text."""

BOX_THRESHOLD = 0.5
"""Mean probability of a box that is kept."""

GROWTH = 1.6
"""The detection is trained on shrunken boxes: each grows by GROWTH * area / perimeter on all sides."""

SMALLEST_SIDE = 3
"""Pixels of the smallest side of a box that is kept."""

_WORDS = """
silent river amber garden quick lantern winter paper orange bridge velvet engine cotton marble thunder pocket yellow
window ginger market copper island purple basket frozen ladder hollow meadow bright candle
"""
WORDS = _WORDS.split()
"""What the lines are made of."""

Pixels = NDArray[np.uint8]


def random_text(generator: np.random.Generator) -> str:
    """Two words, the first with a capital, and a number: about 20 characters."""
    first, second = generator.choice(WORDS, 2)
    return f"{first.capitalize()} {second} {generator.integers(100, 9999)}"


def page(texts: Sequence[str], generator: np.random.Generator) -> Pixels:
    """Lines of text on an RGB picture of PAGE, in shades, sizes and places that are drawn."""
    paper = tuple(int(value) for value in generator.integers(200, 256, 3))
    picture = Image.new("RGB", PAGE[::-1], paper)
    draw = ImageDraw.Draw(picture)
    row = PAGE[0] // len(texts)
    for number, text in enumerate(texts):
        ink = tuple(int(value) for value in generator.integers(0, 90, 3))
        font = ImageFont.load_default(float(generator.integers(row * 5 // 10, row * 6 // 10)))
        left = int(generator.integers(10, PAGE[1] - 20 - int(draw.textlength(text, font))))
        draw.text((left, number * row + row // 8), text, fill=ink, font=font)
    return np.asarray(picture)


def network_input(pixels: Pixels) -> NDArray[np.float32]:
    """Pixels (height, width, 3) as an input (1, 3, height, width)."""
    return ((pixels.astype(np.float32) - MEAN) / STD).transpose(2, 0, 1)[None]


def line_pixels(crop: Pixels, size: tuple[int, int]) -> Pixels:
    """A crop scaled to the height of `size`, filled up on the right with grey, which is 0 for the network."""
    height, width = size
    wide = min(width, max(1, round(crop.shape[1] * height / crop.shape[0])))
    scaled = Image.fromarray(crop).resize((wide, height), Image.Resampling.BILINEAR)
    filled = Image.new("RGB", (width, height), (round(MEAN),) * 3)
    filled.paste(scaled)
    return np.asarray(filled)


@dataclass(frozen=True)
class Box:
    """A piece of text on a page, in pixels; right and bottom are excluded."""

    top: int
    left: int
    bottom: int
    right: int

    def crop(self, pixels: Pixels) -> Pixels:
        """What lies in it."""
        return pixels[self.top : self.bottom, self.left : self.right]


def text_boxes(probabilities: NDArray[Any]) -> list[Box]:
    """The boxes of a detection's map (1, 1, height, width), from top to bottom."""
    chances = probabilities[0, 0]
    labels, _ = ndimage.label(chances > TEXT_THRESHOLD)
    return sorted(_boxes(labels, chances), key=lambda box: (box.top, box.left))


def _boxes(labels: NDArray[Any], chances: NDArray[Any]) -> Iterator[Box]:
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        height, width = rows.stop - rows.start, columns.stop - columns.start
        region = labels[rows, columns] == number
        if min(height, width) < SMALLEST_SIDE or chances[rows, columns][region].mean() < BOX_THRESHOLD:
            continue
        grown = round(GROWTH * height * width / (2 * (height + width)))
        yield Box(
            max(rows.start - grown, 0),
            max(columns.start - grown, 0),
            min(rows.stop + grown, chances.shape[0]),
            min(columns.stop + grown, chances.shape[1]),
        )


def read_text(scores: NDArray[Any], characters: Sequence[str]) -> str:
    """The text of a recognition's scores (1, steps, characters + 2): index 0 is blank, the last one a space."""
    best = scores[0].argmax(axis=1)
    alphabet = ("", *characters, " ")
    kept = best[np.flatnonzero(np.diff(best, prepend=0))]
    return "".join(alphabet[index] for index in kept)
