"""A small float detector with weights from a seed, and pictures to calibrate it on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from rocketnpu import demo

SIZE = 64
"""Height and width of the network's picture."""

OPSET, IR_VERSION = 17, 8


class _Network:
    """Nodes and constants; convolutions have weights that keep the signal's power (He's initialization)."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._rng = np.random.default_rng(seed)

    def constant(self, values: ArrayLike) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def node(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def conv(self, x: str, channels: int, sources: int, kernel: int, stride: int = 1, groups: int = 1) -> str:
        shape = (channels, sources // groups, kernel, kernel)
        weights = self.constant(self._rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape))
        bias = self.constant(self._rng.normal(0, 0.1, channels))
        return self.node("Conv", x, weights, bias, pads=[kernel // 2] * 4, strides=[stride] * 2, group=groups)

    def normalized(self, x: str, channels: int) -> str:
        scale, variance = (self._rng.uniform(0.5, 1.5, channels) for _ in range(2))
        shift, mean = (self._rng.normal(0, 0.2, channels) for _ in range(2))
        return self.node("BatchNormalization", x, *map(self.constant, (scale, shift, mean, variance)))


def network(seed: int = 0) -> bytes:
    """A float ONNX detector in small: depthwise and residual blocks, a pyramid of two levels, two heads.

    Input x, float32 (N, 3, SIZE, SIZE); outputs: `scores` (N, 4, SIZE/4, SIZE/4) after a sigmoid, `boxes`
    (N, 8, SIZE/8, SIZE/8).
    """
    model = _Network(seed)
    stem = model.node("Relu", model.normalized(model.conv("x", 16, 3, 3, stride=2), 16))
    depthwise = model.node("Relu", model.conv(stem, 16, 16, 3, stride=2, groups=16))
    low = model.node("Relu", model.conv(depthwise, 24, 16, 1))
    inner = model.node("Relu", model.conv(low, 24, 24, 3, groups=24))
    low = model.node("Relu", model.node("Add", low, model.conv(inner, 24, 24, 1)))
    high = model.conv(low, 32, 24, 3, stride=2)
    high = model.node("Mul", high, model.node("Sigmoid", high))
    upsampled = model.node(
        "Resize",
        high,
        "",
        model.constant([1, 1, 2, 2]),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    merged = model.node("Concat", low, upsampled, axis=1)
    merged = model.node("Relu", model.conv(merged, 24, 56, 3))
    model.node("Sigmoid", model.conv(merged, 4, 24, 1), name="scores")
    model.node("Identity", model.conv(high, 8, 32, 1), name="boxes")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, SIZE // step, SIZE // step])
        for name, channels, step in (("x", 3, 1), ("scores", 4, 4), ("boxes", 8, 8))
    ]
    graph = helper.make_graph(model.nodes, "detector", ends[:1], ends[1:], model.constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return proto.SerializeToString()


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
