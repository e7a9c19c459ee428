"""Random images that are smooth, as photographs are: what the YOLO benchmark is calibrated and measured with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

INPUT = "images"
"""Name of the model's input."""
WAVES = (4, 8, 16, 32, 64)
"""Cells of random values along a side, from the coarsest layer of an image to the finest."""


def smooth_images(count: int, size: int, seed: int) -> NDArray[np.float32]:
    """`count` images (count, 3, size, size) in [0, 1] in steps of 1/255: layers of interpolated noise, finer ones
    fainter."""
    generator = np.random.default_rng(seed)
    images = np.zeros((count, 3, size, size))
    for cells in WAVES:
        place = np.linspace(0, cells, size, endpoint=False)
        corner = place.astype(int)
        share = place - corner
        weights = np.zeros((size, cells + 1))
        rows = np.arange(size)
        weights[rows, corner] = 1 - share
        weights[rows, corner + 1] = share
        noise = generator.uniform(-1, 1, (count, 3, cells + 1, cells + 1)) / np.sqrt(cells)
        images += weights @ noise @ weights.T
    low, high = (edge(images, axis=(1, 2, 3), keepdims=True) for edge in (np.min, np.max))
    steps = np.rint((images - low) / (high - low) * 255)
    return (steps / 255).astype(np.float32)
