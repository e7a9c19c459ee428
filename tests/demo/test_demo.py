"""The embedded model and its pictures."""

from __future__ import annotations

import numpy as np
from PIL import Image

from rocketnpu import demo
from rocketnpu.cli.demo import draw
from rocketnpu.cpu.litert import Reference
from rocketnpu.frontends import load_model
from rocketnpu.images import image_to_input


def test_the_reference_kernels_classify_all_ten_pictures() -> None:
    graph = load_model(demo.model())
    picture = graph.tensors[graph.inputs[0]]
    reference = Reference(demo.model())
    answers: list[int] = []
    for sample in demo.samples():
        x = image_to_input(sample.image, picture.shape, picture.dtype, picture.quantization)
        answers.append(int(reference.tensors([x])["scores"].argmax()))
    assert answers == list(range(10))


def test_the_model_exercises_each_kind_of_unit() -> None:
    kinds = [operator.kind for operator in load_model(demo.model()).operators]
    needed = {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "FULLY_CONNECTED", "SOFTMAX"}
    assert needed <= set(kinds), kinds


def test_convolution_weights_have_a_scale_for_each_output_channel() -> None:
    tensors = load_model(demo.model()).tensors
    grid = tensors["conv_2/weights"].quantization
    assert grid is not None
    assert (grid.axis, len(set(grid.scales.tolist()))) == (0, 32)


def test_the_model_stays_small() -> None:
    assert len(demo.model()) < 200_000


def test_a_drawing_has_two_pixels_a_character() -> None:
    checks = np.zeros((14, 14), np.uint8)
    checks[0, 0], checks[1, 1], checks[0:2, 2] = 255, 255, 255
    assert draw(Image.fromarray(checks), ascii_only=False).splitlines()[0].rstrip() == "▀▄█"
    assert draw(Image.fromarray(checks), ascii_only=True).splitlines()[0].rstrip() == "'.#"
