"""Well-formed models that LiteRT dies of: one line, and this process lives on. The ordinary ones start no child."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.cpu.litert import Piece, Reference
from rocketnpu.cpu.litert.allowlist import is_allowed
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from support.models import Grid, ModelBuilder, pack

SHAPE = (1, 4, 4, 8)


def _addition_without_scales(model: ModelBuilder) -> Any:
    x = model.input(SHAPE, "int8")
    tree = model.model(model.add(x, model.input(SHAPE, "int8")))
    tree.subgraphs[0].tensors[-1].quantization = None
    return tree


def _depthwise_convolution_without_its_bias(model: ModelBuilder) -> Any:
    tree = model.model(model.depthwise(model.input(SHAPE, "int8")))
    operator = tree.subgraphs[0].operators[0]
    operator.inputs = operator.inputs[:2]
    return tree


def _addition_onto_a_far_finer_grid(model: ModelBuilder) -> Any:
    x, y = (model.input(SHAPE, "int8", 1.0, 0) for _ in range(2))
    return model.model(model.add(x, y, output=Grid(2.0**-24, 0)))


HOSTILE = [_addition_without_scales, _addition_onto_a_far_finer_grid, _depthwise_convolution_without_its_bias]


@pytest.fixture(params=HOSTILE)
def hostile(request: pytest.FixtureRequest) -> bytes:
    """A model that LiteRT does not survive, or refuses."""
    spoil: Callable[[ModelBuilder], Any] = request.param
    return pack(spoil(ModelBuilder()))


def test_a_model_that_litert_dies_of_is_refused(hostile: bytes) -> None:
    graph = load_model(hostile)
    assert not is_allowed(graph)
    values = [np.zeros(graph.tensors[name].shape, graph.tensors[name].dtype) for name in graph.inputs]
    kind = graph.operators[0].kind
    with pytest.raises(ModelError, match=rf"^LiteRT crashes on the model's operators {kind} \(its process died of SIG"):
        Piece(hostile).run(values)


@pytest.mark.parametrize("scale", [1e-7, 1e-30])
def test_an_addition_onto_a_much_finer_grid_ends_litert_s_process(scale: float) -> None:
    """Its kernel asks for a multiplier below 1 (quantization_util.cc)."""
    model = ModelBuilder()
    x, y = (model.input(SHAPE, "int8", scale=scale_) for scale_ in (0.5, 0.25))
    data = model.build(model.add(x, y, output=Grid(scale)))
    assert not is_allowed(load_model(data))
    with pytest.raises(ModelError, match="LiteRT crashes on the model's operators ADD"):
        Piece(data).run([np.zeros(SHAPE, np.int8)] * 2)


def test_layers_of_usual_scales_start_no_child_and_others_do() -> None:
    """Published files have scales from a millionth to some hundreds, and dead channels with smaller ones."""
    for scale, allowed in ((1e-6, True), (300.0, True), (1e-13, False), (1e9, False)):
        model = ModelBuilder()
        x = model.input(SHAPE, "int8", scale, 0)
        assert is_allowed(load_model(model.build(model.unary("RELU", x)))) == allowed, scale


def test_types_that_do_not_fit_one_another_are_not_vouched_for() -> None:
    """LiteRT writes past the end of a tensor of smaller elements, which may show or not."""
    model = ModelBuilder()
    x = model.input(SHAPE, "float32")
    assert not is_allowed(load_model(model.build(model.operator("SOFTMAX", [x], SHAPE, Grid(0.1), dtype="uint8"))))


def test_the_reference_is_guarded_as_well() -> None:
    data = pack(_addition_without_scales(ModelBuilder()))
    with pytest.raises(ModelError, match=r"^LiteRT crashes on the model's operators ADD"):
        Reference(data).tensors([np.zeros(SHAPE, np.int8)] * 2)


@pytest.mark.parametrize("command", [["run", "--random", "1"], ["verify", "--inputs", "1"]])
def test_the_command_line_says_so_in_one_line(tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "hostile.tflite"
    file.write_bytes(pack(_addition_without_scales(ModelBuilder())))
    found = subprocess.run(
        [sys.executable, "-m", "rocketnpu", *command, str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 2, found
    (line,) = found.stderr.splitlines()
    assert line.startswith("rocketnpu: LiteRT crashes on the model's operators ADD (its process died of SIG")


def test_what_runs_in_a_child_gives_the_same_tensors() -> None:
    model = ModelBuilder()
    x = model.input(SHAPE, "float32", name="x")
    data = model.build(model.operator("SIN", [x], SHAPE, dtype="float32", name="y"))
    assert not is_allowed(load_model(data))
    values = np.linspace(-3, 3, 128, dtype=np.float32).reshape(SHAPE)
    piece = Piece(data)
    for _ in range(2):
        (found,) = piece.run([values])
        np.testing.assert_allclose(found, np.sin(values), atol=1e-6)  # numpy's sine is another one
    tensors = Reference(data).tensors([values])
    assert list(tensors) == ["x", "y"]
    np.testing.assert_allclose(tensors["y"], found, atol=1e-6)


@pytest.mark.parametrize(
    "path",
    [
        "models/tiny/kws_dscnn_int8.tflite",
        "models/tiny/resnet8_int8.tflite",
        "models/mobilenet_v1_0.25_128_quant.tflite",
        "models/efficientnet_lite0_int8.tflite",
        "models/deeplabv3_mnv2_dm05_pascal_quant.tflite",
        "models/face_detection_short_range_float32.tflite",
    ],
)
def test_ordinary_models_run_in_this_process(shared: Path, path: str) -> None:
    assert is_allowed(load_model(shared / path))
    for step in rn.compile(shared / path).steps:
        assert step.place == "npu" or is_allowed(load_model(step.model))
