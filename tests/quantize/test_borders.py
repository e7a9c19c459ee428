"""What stays float: functions of one tensor whole, and from the first operator on the CPU on what int8 makes worse."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import rocketnpu as rn
from rocketnpu.frontends import load_model
from support.onnx_models import OnnxBuilder, normal

SHAPE = (1, 3, 16, 16)


def inputs(count: int = 4) -> list[NDArray[np.float32]]:
    return [normal(SHAPE, 1.0, seed) for seed in range(count)]


def kinds(model: bytes, place: str) -> Counter[str]:
    steps = rn.compile(model).steps
    return Counter(operator.kind for step in steps if step.place == place for operator in step.operators)


def scalar(model: OnnxBuilder, value: float) -> str:
    return model.constant(np.float32(value))


def gelu_of_erf(model: OnnxBuilder, x: str) -> str:
    error = model.node("Erf", model.node("Div", x, scalar(model, 2**0.5)))
    return model.node("Mul", model.node("Mul", x, model.node("Add", error, scalar(model, 1))), scalar(model, 0.5))


def gelu_of_tanh(model: OnnxBuilder, x: str) -> str:
    cubed = model.node("Mul", scalar(model, 0.044715), model.node("Pow", x, scalar(model, 3)))
    bent = model.node("Tanh", model.node("Mul", scalar(model, 0.7978846), model.node("Add", x, cubed)))
    return model.node("Mul", scalar(model, 0.5), model.node("Mul", x, model.node("Add", scalar(model, 1), bent)))


def silu(model: OnnxBuilder, x: str) -> str:
    return model.node("Mul", x, model.node("Sigmoid", x))


def hard_swish(model: OnnxBuilder, x: str) -> str:
    bounds = scalar(model, 0), scalar(model, 6)
    clamped = model.node("Clip", model.node("Add", x, scalar(model, 3)), *bounds)
    return model.node("Div", model.node("Mul", x, clamped), scalar(model, 6))


def mish(model: OnnxBuilder, x: str) -> str:
    softplus = model.node("Log", model.node("Add", model.node("Exp", x), scalar(model, 1)))
    return model.node("Mul", x, model.node("Tanh", softplus))


def residual_function(model: OnnxBuilder, x: str) -> str:
    return model.node("Add", x, model.node("Sin", x))


def root(model: OnnxBuilder, x: str) -> str:
    return model.node("Sqrt", model.node("Abs", x))


FUNCTIONS = [gelu_of_erf, gelu_of_tanh, silu, hard_swish, mish, residual_function, root]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_function_of_one_tensor_is_one_lookup(function: Callable[[OnnxBuilder, str], str]):
    model = OnnxBuilder(opset=17)
    x = model.node("Conv", model.input(SHAPE, name="x"), model.constant(normal((8, 3, 3, 3), 0.3, 0)))
    last = model.constant(normal((4, 8, 1, 1), 0.3, 1))
    data = model.build(model.node("Conv", function(model, x), last, name="y"), dtype=np.float32)
    quantized = rn.quantize(data, inputs())
    assert kinds(quantized.model, "npu") == {"CONV_2D": 2, "LOOKUP": 1}
    assert quantized.report.outputs["y"] > 30


def test_a_function_that_others_look_into_ends_there():
    model = OnnxBuilder(opset=17)
    x = model.node("Conv", model.input(SHAPE, name="x"), model.constant(normal((8, 3, 3, 3), 0.3, 0)))
    inner = model.node("Sigmoid", x)
    outer = model.node("Mul", x, inner)
    kernels = [model.constant(normal((4, 8, 1, 1), 0.3, seed)) for seed in (1, 2)]
    results = [model.node("Conv", inner, kernels[0], name="y"), model.node("Conv", outer, kernels[1], name="z")]
    quantized = rn.quantize(model.build(*results, dtype=np.float32), inputs())
    assert kinds(quantized.model, "npu") == {"CONV_2D": 3, "LOOKUP": 1, "MUL": 1}


def test_a_clamp_stays_with_its_layer():
    model = OnnxBuilder(opset=17)
    x = model.node("Conv", model.input(SHAPE, name="x"), model.constant(normal((8, 3, 3, 3), 0.3, 0)))
    y = model.node("Sqrt", model.node("Relu", x, name="clamped"))
    last = model.constant(normal((4, 8, 1, 1), 0.3, 1))
    quantized = rn.quantize(model.build(model.node("Conv", y, last, name="y"), dtype=np.float32), inputs())
    assert kinds(quantized.model, "npu") == {"CONV_2D": 2, "LOOKUP": 1}
    assert "clamped" in [layer.tensor for layer in quantized.report.layers]


def detector(*, softmax: bool) -> bytes:
    """A convolution whose results are distances from anchors over a picture of 640 pixels; a softmax over 16 bins makes
    them in one kind of detectors."""
    model = OnnxBuilder(opset=17)
    x = model.node("Conv", model.input(SHAPE, name="x"), model.constant(normal((16, 3, 3, 3), 0.3, 0)), pads=[1] * 4)
    bins = model.node("Reshape", model.node("Relu", x), model.constant(np.array([1, 16, 256])))
    bins = model.node("Reshape", bins, model.constant(np.array([1, 16, 1, 256])))
    if softmax:
        bins = model.node("Conv", model.node("Softmax", bins, axis=1), model.constant(normal((1, 16, 1, 1), 8, 1)))
    anchors = model.constant(np.linspace(0, 640, 256, dtype=np.float32).reshape(1, 1, 1, 256))
    scaled = model.node("Mul", model.node("Sub", anchors, bins), scalar(model, 8))
    return model.build(model.node("Add", scaled, scalar(model, 1), name="y"), dtype=np.float32)


@pytest.mark.parametrize("softmax", [False, True])
def test_boxes_are_decoded_in_float(softmax: bool):
    quantized = rn.quantize(detector(softmax=softmax), inputs())
    assert set(kinds(quantized.model, "npu")) - {"RESHAPE"} == {"CONV_2D"}  # a reshape without bytes to move is free
    left = {"Sub", "Mul", "Add", *(("Softmax", "Conv") if softmax else ())}
    assert set(kinds(quantized.model, "cpu")) - {"Reshape"} == {"QuantizeLinear", "DequantizeLinear", *left}
    assert quantized.report.outputs["y"] > 60


def test_a_layer_behind_the_cpu_is_worth_going_back_to_the_npu():
    model = OnnxBuilder(opset=17)
    x = model.node("Conv", model.input(SHAPE, name="x"), model.constant(normal((32, 3, 3, 3), 0.3, 0)))
    soft = model.node("Softmax", x, axis=1)
    bent = model.node("Add", soft, model.constant(normal((1, 32, 1, 1), 0.1, 1)))
    y = model.node("Conv", bent, model.constant(normal((32, 32, 3, 3), 0.1, 2)), name="y")
    quantized = rn.quantize(model.build(y, dtype=np.float32), inputs())
    assert kinds(quantized.model, "npu") == {"CONV_2D": 2, "ADD": 1}
    assert set(kinds(quantized.model, "cpu")) == {"QuantizeLinear", "DequantizeLinear", "Softmax"}


def test_the_sums_of_a_transformer_stay_float_between_its_normalizations():
    model = OnnxBuilder(opset=17)
    shape, ones = (1, 12, 16), np.ones(16, np.float32)
    stream = model.input(shape, name="x")
    for seed in range(2):
        normed = model.node("LayerNormalization", stream, model.constant(ones))
        stream = model.node("Add", stream, model.node("MatMul", normed, model.constant(normal((16, 16), 0.3, seed))))
    data = model.build(model.node("LayerNormalization", stream, model.constant(ones), name="y"), dtype=np.float32)
    quantized = rn.quantize(data, [normal(shape, 1.0, seed) for seed in range(4)])
    assert kinds(quantized.model, "npu")["FULLY_CONNECTED"] == 2
    assert kinds(quantized.model, "cpu")["Add"] == 2


def test_heads_of_unlike_ranges_keep_grids_of_their_own():
    model = OnnxBuilder(opset=17)
    x = model.input(SHAPE, name="x")
    heads = [model.node("Conv", x, model.constant(normal((4, 3, 1, 1), scale, 0))) for scale in (0.01, 10.0)]
    joined = model.node("Sigmoid", model.node("Concat", *heads, axis=1), name="y")
    quantized = rn.quantize(model.build(joined, dtype=np.float32), inputs())
    assert kinds(quantized.model, "npu") == {"CONV_2D": 2}
    tensors = load_model(quantized.model).tensors
    scales = [float(tensors[f"{name}_QuantizeLinear_Output"].quantization.scales[0]) for name in heads]
    assert scales[1] > 100 * scales[0]
