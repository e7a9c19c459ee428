"""Accuracy of quantized models on the emulator, beside the published quantizers' own models on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.detector import SIZE, crops, network, picture
from benchmarks.published import Arrays, decibels, onnx_outputs, tflite_outputs
from numpy.typing import NDArray
from PIL import Image

import rocketnpu as rn
from rocketnpu.cpu import litert
from rocketnpu.cpu import onnxruntime as ort
from rocketnpu.frontends import load_model
from rocketnpu.quantizer.tflite.repair import repair
from rocketnpu.verify import verify

SHARE = 0.9
"""Of the published quantizer's decibels: the target of the whole toolchain, the NPU's arithmetic included."""

BORDER = {"QuantizeLinear", "DequantizeLinear", "QUANTIZE", "DEQUANTIZE"}
"""Float to int8 and back is the host's."""


def scaled(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels as -1..1, NHWC."""
    return ((crop.astype(np.float32) - 127.5) / 127.5)[None]


def planes(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The same as NCHW."""
    return np.ascontiguousarray(scaled(crop).transpose(0, 3, 1, 2))


def on_the_npu(program: rn.Program, held: list[NDArray[np.float32]]) -> list[Arrays]:
    with rn.Session(program, device="emulator") as session:
        return [session.run(values) for values in held]


def on_the_cpu(program: rn.Program) -> set[str]:
    return {operator.kind for step in program.steps if step.place == "cpu" for operator in step.operators}


@pytest.fixture(scope="module")
def onnx_inputs() -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Crops of one picture to calibrate on, and other crops of it."""
    image = picture()
    side, steps = 3 * SIZE // 2, SIZE // 2
    used, held = crops(image, side, SIZE, steps), crops(image, side, SIZE, steps, start=steps // 2)
    return [planes(crop) for crop in used], [planes(crop) for crop in held]


def test_a_float_onnx_network_is_as_accurate_on_the_npu_as_onnx_runtimes_own_quantized_model(onnx_inputs):
    calibration, held = onnx_inputs
    model = network()
    quantized = rn.quantize(model, calibration, evaluation=held)
    program = rn.compile(quantized.model)
    assert on_the_cpu(program) == BORDER & {"QuantizeLinear", "DequantizeLinear"}

    float_model = ort.Piece(load_model(model).model)
    expected = [dict(zip(program.outputs, float_model.run([values]), strict=True)) for values in held]
    found = decibels(on_the_npu(program, held), expected)
    for per_channel in (False, True):
        mark = decibels(onnx_outputs(model, calibration, held, per_channel=per_channel), expected)
        assert all(found[name] >= SHARE * mark[name] for name in mark), (found, mark)
    for name, value in quantized.report.outputs.items():
        assert found[name] == pytest.approx(value, abs=0.5), "the report tells what the NPU reaches"


def test_layers_of_a_quantized_onnx_network_are_within_1_of_the_reference(onnx_inputs):
    calibration, held = onnx_inputs
    report = verify(rn.quantize(network(), calibration).model, [{"x": values} for values in held[:2]])
    assert report.worst_npu_layer <= 1


@pytest.fixture(scope="module")
def face(shared: Path) -> tuple[Path, list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """The detector of faces, crops of a portrait to calibrate on, and other crops of it."""
    pixels = np.fromfile(shared / "vectors/golden/grace_hopper_224.bin", np.uint8).reshape(224, 224, 3)
    image = Image.fromarray(pixels)
    used, held = crops(image, 160, 128, 16), crops(image, 160, 128, 16, start=8)
    path = shared / "models/face_detection_short_range_float32.tflite"
    return path, [scaled(crop) for crop in used], [scaled(crop) for crop in held[::2]]


def test_a_face_detector_with_half_floats_is_as_accurate_on_the_npu_as_litert_s_own_quantized_model(face):
    path, calibration, held = face
    quantized = rn.quantize(path, calibration, evaluation=held)
    program = rn.compile(quantized.model)
    assert on_the_cpu(program) == {"QUANTIZE", "DEQUANTIZE", "RESHAPE", "CONCATENATION"}

    graph = load_model(path)
    float_model = litert.Piece(graph.model)
    expected = [dict(zip(graph.outputs, float_model.run([values]), strict=True)) for values in held]
    found = decibels(on_the_npu(program, held), expected)
    mark = decibels(tflite_outputs(repair(graph), calibration, held), expected)
    assert all(found[name] >= SHARE * mark[name] for name in mark), (found, mark)


def test_layers_of_a_quantized_face_detector_are_within_1_of_the_reference(face):
    path, calibration, held = face
    report = verify(rn.quantize(path, calibration[:4]).model, [{"input": held[0]}])
    assert report.worst_npu_layer <= 1
