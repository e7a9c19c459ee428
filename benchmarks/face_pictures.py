"""Pictures with and without faces, out of scikit-image's wheel, and how short-range detectors' outputs are read."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FOLDER = "skimage/data/"
FACES = f"{FOLDER}lfw_subset.npy"
"""200 grey pictures of 25 x 25 in [0, 1], the first 100 of which are faces."""
FACE_COUNT = 100

MONTAGES = ((1, 256), (2, 128), (3, 96), (4, 64))
"""Faces in a row and column of a montage, and the pixels of each."""

CROPPED = 0.75
"""Share of a picture's height and width in each of the two crops that are calibrated on."""

FOUND = 0.5
"""Score from which an anchor counts as a detection."""

SAME = 0.5
"""Overlap (intersection over union) from which two boxes are the same face."""

STRIDES = {896: (8, 16, 16, 16), 2304: (4,), 2016: (8, 16, 16, 16)}
"""Pixels between anchors, by the number of anchors; those of an input of 256 x 256 are twice as far apart."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """RGB pictures of any size: to calibrate on, and others to measure with."""

    calibration: list[Pixels]
    tests: list[Pixels]

    @staticmethod
    def read(wheel: Path) -> Pictures:
        """Of scikit-image's wheel: crops and half of the faces for calibration; whole pictures and the other half."""
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(FOLDER) and name[-4:] in (".png", ".jpg")]
            whole = [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in sorted(names)]
            grey = np.load(io.BytesIO(archive.read(FACES)))[:FACE_COUNT]
        faces = np.rint(grey * 255).astype(np.uint8)
        crops = [crop for pixels in whole for crop in _corners(pixels)]
        return Pictures([*crops, *_montages(faces[0::2])], [*whole, *_montages(faces[1::2])])


def _corners(pixels: Pixels) -> Iterator[Pixels]:
    height, width = (round(CROPPED * size) for size in pixels.shape[:2])
    yield pixels[:height, :width]
    yield pixels[-height:, -width:]


def _montages(faces: Pixels) -> Iterator[Pixels]:
    """Squares of faces that each appear once, as many as there are faces for."""
    used = 0
    for count, side in MONTAGES:
        rows = [
            np.hstack([_enlarged(face, side) for face in faces[start : start + count]])
            for start in range(used, used + count**2, count)
        ]
        used += count**2
        yield np.repeat(np.vstack(rows)[:, :, None], 3, axis=2)


def _enlarged(face: Pixels, side: int) -> Pixels:
    return np.asarray(Image.fromarray(face).resize((side, side), Image.Resampling.BICUBIC))


def anchors(count: int, size: int) -> NDArray[np.float64]:
    """Middles of the anchors as (count, 2), x and y in pixels of an input of size x size."""
    strides = [stride * (2 if size == 256 else 1) for stride in STRIDES[count]]
    middles: list[NDArray[np.float64]] = []
    for stride in sorted(set(strides)):
        cells = size // stride
        place = (np.arange(cells) + 0.5) * stride
        grid = np.stack(np.meshgrid(place, place), axis=-1).reshape(-1, 2)
        each = strides.count(stride) * (1 if len(strides) == 1 else 2)
        middles.append(np.repeat(grid, each, axis=0))
    return np.concatenate(middles)


@dataclass(frozen=True)
class Detections:
    """What a model says of each anchor: its score in [0, 1], and its box as left, top, right, bottom in pixels."""

    scores: NDArray[np.float64]
    boxes: NDArray[np.float64]

    @staticmethod
    def of(arrays: list[NDArray[Any]], size: int) -> Detections:
        """From a model's two outputs: (1, anchors, 16 or 18) with boxes first, and (1, anchors, 1) with logits."""
        numbers, logits = sorted(arrays, key=lambda array: -array.shape[-1])
        middles = numbers[0, :, :2].astype(np.float64) + anchors(numbers.shape[1], size)
        halves = numbers[0, :, 2:4].astype(np.float64) / 2
        scores = 1 / (1 + np.exp(-logits[0, :, 0].astype(np.float64).clip(-80, 80)))
        return Detections(scores, np.hstack([middles - halves, middles + halves]))

    def faces(self) -> list[int]:
        """The anchors that are left of those above FOUND when weaker boxes on stronger ones are dropped."""
        kept: list[int] = []
        for anchor in np.argsort(-self.scores):
            if self.scores[anchor] < FOUND:
                break
            if all(overlap(self.boxes[[other]], self.boxes[anchor])[0] < SAME for other in kept):
                kept.append(int(anchor))
        return kept

    def score_of(self, box: NDArray[np.float64]) -> float:
        """The best score of a box that is the same face; 0 where there is none."""
        return float(self.scores[overlap(self.boxes, box) >= SAME].max(initial=0.0))


def overlap(boxes: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of each of `boxes` (n, 4) with one box (4)."""
    inner = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = inner.clip(0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1) + (box[2:] - box[:2]).clip(0).prod()
    return shared / np.maximum(areas - shared, 1e-9)
