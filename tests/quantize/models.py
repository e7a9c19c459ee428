"""Float models to be quantized, with weights from a seed, and pictures to calibrate them on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onnx_models import OnnxBuilder
from rocketnpu import demo

SIZE = 64
"""Height and width of the network's picture."""


class _Network(OnnxBuilder):
    """Convolutions whose weights keep the signal's power (He's initialization)."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = np.random.default_rng(seed)

    def conv(self, x: str, channels: int, sources: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        shape = (channels, sources // groups, kernel, kernel)
        weights = self._rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        bias = self._rng.normal(0, 0.1, channels).astype(np.float32)
        pads, strides = [kernel // 2] * 4, [stride] * 2
        return self.node(
            "Conv", x, self.constant(weights), self.constant(bias), pads=pads, strides=strides, group=groups
        )

    def normalized(self, x: str, channels: int) -> str:
        scale, variance = (self._rng.uniform(0.5, 1.5, channels).astype(np.float32) for _ in range(2))
        shift, mean = (self._rng.normal(0, 0.2, channels).astype(np.float32) for _ in range(2))
        operands = (self.constant(values) for values in (scale, shift, mean, variance))
        return self.node("BatchNormalization", x, *operands)


def network(seed: int = 0) -> bytes:
    """A float ONNX detector in small: depthwise and residual blocks, a pyramid of two levels, two heads.

    Input x, float32 (N, 3, SIZE, SIZE); outputs: `scores` (N, 4, SIZE/4, SIZE/4) after a sigmoid, `boxes`
    (N, 8, SIZE/8, SIZE/8).
    """
    model = _Network(seed)
    x = model.input(("N", 3, SIZE, SIZE), name="x")
    stem = model.node("Relu", model.normalized(model.conv(x, 16, 3, 3, stride=2), 16))
    depthwise = model.node("Relu", model.conv(stem, 16, 16, 3, stride=2, groups=16))
    low = model.node("Relu", model.conv(depthwise, 24, 16, 1))
    inner = model.node("Relu", model.conv(low, 24, 24, 3, groups=24))
    low = model.node("Relu", model.node("Add", low, model.conv(inner, 24, 24, 1)))
    high = model.conv(low, 32, 24, 3, stride=2)
    high = model.node("Mul", high, model.node("Sigmoid", high))
    scales = model.constant(np.array([1, 1, 2, 2], np.float32))
    upsampled = model.node(
        "Resize", high, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    merged = model.node("Concat", low, upsampled, axis=1)
    merged = model.node("Relu", model.conv(merged, 24, 56, 3))
    scores = model.node("Sigmoid", model.conv(merged, 4, 24, 1), name="scores")
    boxes = model.node("Identity", model.conv(high, 8, 32, 1), name="boxes")
    for name in (scores, boxes):
        model.output(name, np.float32)
    return model.proto().SerializeToString()


def picture(size: int = 3 * SIZE) -> Image.Image:
    """The demo's ten digits side by side, an RGB picture of size x size."""
    tiles = [np.asarray(sample.image.convert("L")) for sample in demo.samples()]
    rows = [np.hstack([tiles[(3 * row + column) % 10] for column in range(4)]) for row in range(4)]
    grey = np.vstack(rows)
    shades = np.stack([grey, np.roll(grey, 16, 0), 255 - grey], axis=2)
    return Image.fromarray(shades).resize((size, size), Image.Resampling.BILINEAR)


def crops(image: Image.Image, side: int, size: int, steps: int, start: int = 0) -> list[NDArray[np.uint8]]:
    """Square crops of `side` pixels, every `steps` pixels down and right from `start`, as (size, size, channels)."""
    found: list[NDArray[np.uint8]] = []
    for top in range(start, image.height - side + 1, steps):
        for left in range(start, image.width - side + 1, steps):
            crop = image.crop((left, top, left + side, top + side))
            found.append(np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR)))
    return found
