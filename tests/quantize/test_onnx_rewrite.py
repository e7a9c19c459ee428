"""ONNX operators that are rewritten before they are quantized: they mean the same, and run on the NPU."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import rocketnpu as rn
from rocketnpu.cpu import onnxruntime as ort
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.quantizer.onnx.repair import repair
from rocketnpu.verify import verify
from support.onnx_models import OnnxBuilder, normal

SHAPE = (1, 8, 12, 10)
BORDER = {"QuantizeLinear", "DequantizeLinear"}


def on_the_cpu(model: bytes) -> set[str]:
    steps = rn.compile(model).steps
    return {operator.kind for step in steps if step.place == "cpu" for operator in step.operators}


def check(model: bytes, shape: tuple[int, ...]) -> None:
    """Repaired, it computes the same; quantized, all of it is on the NPU, and right."""
    original, repaired = ort.Piece(load_model(model).model), ort.Piece(repair(model, "it"))
    values = normal(shape, 1.0, 7)
    for found, expected in zip(repaired.run([values]), original.run([values]), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)  # constants of normalizations are float32 again
    quantized = rn.quantize(model, normal((4, *shape), 1.0, 3))
    assert on_the_cpu(quantized.model) == BORDER
    assert verify(quantized.model, [dict.fromkeys(rn.compile(quantized.model).inputs, values)]).worst_npu_layer <= 1
    assert min(quantized.report.outputs.values()) > 30


def normalization(model: OnnxBuilder, data: str, channels: int) -> str:
    scale, bias, mean, spread = (normal((channels,), 0.5, seed) for seed in range(4))
    operands = [model.constant(values) for values in (scale, bias, mean, spread**2 + 0.5)]
    return model.node("BatchNormalization", data, *operands, epsilon=1e-3)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_sum_is_additions(count: int):
    model = OnnxBuilder()
    x = model.input(SHAPE, name="x")
    weights = [model.constant(normal((8, 8, 1, 1), 0.3, seed)) for seed in range(count)]
    parts = [model.node("Conv", x, values) for values in weights]
    check(model.build(model.node("Sum", *parts, name="y"), dtype=np.float32), SHAPE)


def test_the_partial_sums_have_names_that_no_tensor_has():
    model = OnnxBuilder()
    x = model.input(SHAPE, name="x")
    other = model.node("Relu", x, name="y_0")
    model.node("Sum", x, other, model.node("Sigmoid", x), name="y")
    found = onnx.load_from_string(repair(model.build("y", "y_0", dtype=np.float32), "it"))
    outputs = [name for node in found.graph.node for name in node.output]
    assert len(outputs) == len(set(outputs)) == 4


def test_a_normalization_behind_a_concatenation_is_a_depthwise_convolution():
    model = OnnxBuilder()
    x = model.input(SHAPE, name="x")
    parts = [model.node("Conv", x, model.constant(normal((8, 8, 1, 1), 0.3, seed))) for seed in range(2)]
    y = model.node("Relu", normalization(model, model.node("Concat", *parts, axis=1), 16))
    data = model.build(model.node("Conv", y, model.constant(normal((4, 16, 3, 3), 0.1, 5))), dtype=np.float32)
    check(data, SHAPE)


def test_a_normalization_of_features_is_a_product_and_a_sum():
    model = OnnxBuilder()
    x = model.input((1, 24), name="x")
    hidden = model.node("Sigmoid", model.node("MatMul", x, model.constant(normal((24, 16), 0.3, 0))))
    y = normalization(model, hidden, 16)
    check(model.build(model.node("MatMul", y, model.constant(normal((16, 4), 0.3, 1))), dtype=np.float32), (1, 24))


def test_a_shared_bias_is_not_confused_with_a_tensor_of_a_like_name():
    """ONNX Runtime's quantizer would call its copy of the bias `b` for the second layer `b2`."""
    model = OnnxBuilder()
    x = model.input(SHAPE, name="x")
    bias = model.constant(normal((8,), 0.3, 9), name="b")
    first = model.node("Conv", x, model.constant(normal((8, 8, 1, 1), 0.3, 0)), bias, name="b2")
    second = model.node("Conv", first, model.constant(normal((8, 8, 1, 1), 0.3, 1)), bias)
    check(model.build(model.node("Add", first, second), dtype=np.float32), SHAPE)


def test_pictures_are_normalized_channel_by_channel_on_the_npu():
    """(x / 255 - mean) / deviation, as networks for ImageNet begin."""
    model = OnnxBuilder()
    x = model.input((1, 3, 12, 10), name="x")
    mean, deviation = (
        np.array(values, np.float32).reshape(1, 3, 1, 1) for values in ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    )
    scaled = model.node("Div", x, model.constant(np.float32(255)))
    centred = model.node("Div", model.node("Sub", scaled, model.constant(mean)), model.constant(deviation))
    y = model.node("Conv", centred, model.constant(normal((8, 3, 3, 3), 0.3, 0)))
    data = model.build(y, dtype=np.float32)
    quantized = rn.quantize(data, np.random.default_rng(0).uniform(0, 255, (4, 1, 3, 12, 10)).astype(np.float32))
    assert on_the_cpu(quantized.model) == BORDER
    assert min(quantized.report.outputs.values()) > 30


@pytest.mark.parametrize("divisor", [0.0, 1e-40])
def test_a_divisor_without_a_reciprocal_stays(divisor: float):
    model = OnnxBuilder()
    values = np.array([[2.0, divisor, 3.0]], np.float32)
    model.node("Div", model.input((1, 3), name="x"), model.constant(values), name="y")
    found = onnx.load_from_string(repair(model.build("y", dtype=np.float32), "it"))
    assert [node.op_type for node in found.graph.node] == ["Div"]


@pytest.mark.parametrize(
    ("opset", "kind", "keeps"), [(17, "GlobalMaxPool", True), (17, "ReduceMax", True), (18, "ReduceMax", False)]
)
def test_the_largest_value_of_each_channel_is_a_pool(opset: int, kind: str, keeps: bool):
    model = OnnxBuilder(opset)
    layer = model.node("Conv", model.input(SHAPE, name="x"), model.constant(normal((16, 8, 3, 3), 0.3, 0)))
    if kind == "GlobalMaxPool":
        largest = model.node(kind, layer)
    elif opset < 18:
        largest = model.node(kind, layer, axes=[-1, 2], keepdims=int(keeps))
    else:
        largest = model.node(kind, layer, model.constant(np.array([2, 3])), keepdims=int(keeps))
    rows = model.node("Flatten", largest) if keeps else largest
    check(model.build(model.node("MatMul", rows, model.constant(normal((16, 4), 0.3, 1))), dtype=np.float32), SHAPE)


def test_the_largest_of_rows_is_no_pool_of_images():
    model = OnnxBuilder(18)
    model.node("ReduceMax", model.input(SHAPE, name="x"), model.constant(np.array([2])), name="y")
    found = onnx.load_from_string(repair(model.build("y", dtype=np.float32), "it"))
    assert [node.op_type for node in found.graph.node] == ["ReduceMax"]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_resize_keeps_the_grid(mode: str):
    """A smooth image between two resizes has a smaller range than what was resized."""
    model = OnnxBuilder(18)
    layer = model.node("Conv", model.input(SHAPE, name="x"), model.constant(normal((16, 8, 1, 1), 0.3, 0)))
    scales = model.constant(np.array([1, 1, 2, 2], np.float32))
    larger = model.node("Resize", layer, "", scales, mode=mode)
    y = model.node("Conv", larger, model.constant(normal((4, 16, 1, 1), 0.3, 1)))
    check(model.build(y, dtype=np.float32), SHAPE)


@pytest.mark.parametrize("shape", [(1, 4), (1,), (), (1, 1), (4,)])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_the_bias_of_a_gemm_broadcasts(shape: tuple[int, ...], is_transposed: bool):
    model = OnnxBuilder()
    x = model.input((1, 24), name="x")
    weights = normal((24, 4), 0.3, 0)
    bias = model.constant(normal(shape, 0.5, 1))
    operands = model.constant(weights.T.copy() if is_transposed else weights), bias
    check(model.build(model.node("Gemm", x, *operands, transB=int(is_transposed)), dtype=np.float32), (1, 24))


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_a_classifier_of_words_is_quantized(dtype: type):
    """Its input is indices, so that nothing but what is behind the table of words has ranges."""
    model = OnnxBuilder()
    rows = model.node("Gather", model.constant(normal((50, 8), 1.0, 0)), model.input((1, 6), dtype, name="words"))
    hidden = model.node("Gemm", model.node("Flatten", rows), model.constant(normal((48, 32), 0.3, 1)))
    y = model.node("Gemm", model.node("Relu", hidden), model.constant(normal((32, 4), 0.3, 2)))
    words = np.random.default_rng(0).integers(0, 50, (8, 1, 6)).astype(dtype)
    quantized = rn.quantize(model.build(y, dtype=np.float32), words)
    steps = rn.compile(quantized.model).steps
    on_npu = [op.kind for step in steps if step.place == "npu" for op in step.operators]
    assert [kind for kind in on_npu if kind != "RESHAPE"] == ["FULLY_CONNECTED"] * 2
    assert min(quantized.report.outputs.values()) > 30


def test_a_model_without_float_tensors_is_refused():
    model = OnnxBuilder()
    x = model.input((1, 6), np.int32, name="x")
    data = model.build(model.node("Add", x, model.constant(np.int32(1))), dtype=np.int32)
    with pytest.raises(ModelError, match="has no float tensor, so there is nothing to quantize"):
        rn.quantize(data, np.zeros((1, 1, 6), np.int32))
