"""TFLite models: what is repaired before LiteRT's quantizer, what is mended after it, and what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import rocketnpu as rn
from rocketnpu.cpu import litert
from rocketnpu.cpu.litert.interpreter import build_interpreter
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model, load_tflite
from rocketnpu.ir import Activation
from rocketnpu.quantizer import equalize
from rocketnpu.quantizer.ranges import measure
from rocketnpu.quantizer.tflite import equalize as tflite_equalize
from rocketnpu.quantizer.tflite.model import TfliteModel
from rocketnpu.quantizer.tflite.repair import repair
from rocketnpu.verify import verify
from support.models import Grid, ModelBuilder, pack, schema

SHAPE = (1, 12, 12, 3)


def inputs(count: int = 6, shape: tuple[int, ...] = SHAPE) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    return [rng.normal(0, 1, shape).astype(np.float32) for _ in range(count)]


def outputs(model: bytes, values: NDArray[np.float32]) -> list[NDArray[Any]]:
    return litert.Piece(model).run([values])


def weights(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """That keep the power of what they multiply, more or less."""
    return np.random.default_rng(seed).normal(0, shape[-1] ** -0.5 / 3, shape).astype(np.float32)


def kinds(model: bytes) -> list[str]:
    return [operator.kind for operator in load_model(model).operators]


def on_the_cpu(model: bytes) -> set[str]:
    steps = rn.compile(model).steps
    return {operator.kind for step in steps if step.place == "cpu" for operator in step.operators}


def halves() -> bytes:
    """A convolution and a RELU as old converters write them: float16 constants, a batch of no fixed size, no signature,
    operator codes in their old field only."""
    model = ModelBuilder(1)
    x = model.input(SHAPE, "float32", name="x")
    kernel, bias = (
        model.operator("DEQUANTIZE", [model.constant(values.astype(np.float16))], values.shape, None)
        for values in (weights(8, 3, 3, 3), np.linspace(-1, 1, 8))
    )
    options = schema.Conv2DOptionsT(strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    y = model.operator("CONV_2D", [x, kernel, bias], (1, 12, 12, 8), None, options, "Conv2DOptions")
    data = model.build(model.unary("RELU", y, name="y"))
    objects = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    for code in objects.operatorCodes:
        code.deprecatedBuiltinCode, code.builtinCode = code.builtinCode, 0
    objects.subgraphs[0].tensors[0].shapeSignature = np.array([-1, *SHAPE[1:]], np.int32)
    return pack(objects)


def test_repair_unpacks_halves_fixes_sizes_joins_clamps_and_signs():
    data = halves()
    repaired = repair(load_tflite(data, "it"))
    graph = load_tflite(repaired, "it")
    assert [(operator.kind, operator.options.activation) for operator in graph.operators] == [
        ("CONV_2D", Activation.RELU)
    ]
    root = schema.Model.GetRootAs(repaired, 0)
    assert root.SignatureDefs(0).SignatureKey() == b"serving_default"
    assert root.OperatorCodes(0).BuiltinCode() == schema.BuiltinOperator.CONV_2D
    assert root.Subgraphs(0).Tensors(0).ShapeSignatureLength() == 0
    for values in inputs(2):
        found, expected = outputs(repaired, values)[0], outputs(data, values)[0]
        np.testing.assert_allclose(found, expected, atol=1e-5)  # LiteRT adds up in another order


def test_a_model_of_halves_is_quantized_and_runs_on_the_npu():
    quantized = rn.quantize(halves(), inputs())
    assert kinds(quantized.model) == ["QUANTIZE", "CONV_2D", "DEQUANTIZE"]
    assert on_the_cpu(quantized.model) == {"QUANTIZE", "DEQUANTIZE"}
    assert quantized.report.outputs["y"] > 40
    (values,) = inputs(1)
    with rn.Session(quantized.model, device="emulator") as session:
        (found,) = session.run(values).values()
    (expected,) = outputs(halves(), values)
    step = float(np.abs(expected).max()) / 255
    assert np.abs(found - expected).max() < 3 * step  # half a step of the input, the weights and the output each


def test_a_clamp_that_is_not_alone_stays():
    model = ModelBuilder(1)
    x = model.input(SHAPE, "float32")
    y = model.conv2d(x, 8)
    data = model.build(model.unary("RELU", y), model.conv2d(y, 4))
    assert "RELU" in kinds(repair(load_tflite(data, "it")))


def test_equalization_changes_weights_and_not_what_they_compute():
    model = ModelBuilder(2)
    x = model.input(SHAPE, "float32", name="x")
    uneven = weights(16, 3, 3, 3) * np.geomspace(0.01, 10, 16, dtype=np.float32)[:, None, None, None]
    y = model.conv2d(x, 16, weights=uneven, bias=np.zeros(16), activation="RELU", name="first")
    y = model.depthwise(y, weights=weights(1, 3, 3, 16, seed=1), name="second")
    y = model.conv2d(model.unary("LEAKY_RELU", y, alpha=0.1), 8, kernel=1, weights=weights(8, 1, 1, 16, seed=2))
    data = repair(load_tflite(model.build(y), "it"))
    run = litert.Reference(data, kernels="plain").tensors
    ranges = measure((run([values]) for values in inputs()), -1, lambda: None)
    equal, changed = tflite_equalize.equalize(data, ranges)
    for name in ("first", "second"):
        before, after = (found[name].magnitude for found in (ranges, changed))
        assert after.max() / after.min() < before.max() / before.min() / 2, name
    measured = measure(
        (litert.Reference(equal, kernels="plain").tensors([values]) for values in inputs()), -1, lambda: None
    )
    for name, found in measured.items():
        np.testing.assert_allclose(found.high, changed[name].high, rtol=1e-3, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(found.mean, changed[name].mean, rtol=1e-2, atol=1e-4, err_msg=name)
    for values in inputs(2):
        found, expected = outputs(equal, values)[0], outputs(data, values)[0]
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_factors_leave_dead_channels_alone_and_stay_in_bounds():
    magnitude = np.array([0, 1e-30, 1, 4, 1e30], np.float32)
    found = equalize.factors(magnitude, np.array([1, 1, 0, 1, 1], np.float32), own_scales=False)
    assert found[0] == found[2] == 1
    assert found.max() <= equalize.LARGEST_FACTOR * 1.001
    assert found.min() >= 0.999 / equalize.LARGEST_FACTOR
    own = equalize.factors(np.array([1, 4], np.float32), np.ones(2, np.float32), own_scales=True)
    assert own.tolist() == pytest.approx([0.5, 2.0])


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e-6])
def test_a_channel_that_is_all_bias_keeps_it(scale: float):
    model = ModelBuilder(3)
    x = model.input(SHAPE, "float32")
    kernel = weights(8, 3, 3, 3)
    kernel[2] *= scale
    y = model.conv2d(x, 8, weights=kernel, bias=np.full(8, 3, np.float32), name="y")
    quantized = rn.quantize(model.build(y), inputs())
    assert quantized.report.outputs["y"] > 40
    (found,) = outputs(quantized.model, inputs(1)[0])
    assert found[..., 2] == pytest.approx(3, abs=0.05)
    assert on_the_cpu(quantized.model) == {"QUANTIZE", "DEQUANTIZE"}


def test_bias_correction_takes_the_mean_error_of_the_weights_away():
    """One-sided inputs and few large weights, so that rounding the small ones shifts a channel."""
    rng = np.random.default_rng(0)
    kernel = rng.choice([0.4, 0.5, 0.6], (4, 1, 1, 64)).astype(np.float32) / 127
    kernel[..., 0] = 1
    model = ModelBuilder(4)
    x = model.input((1, 8, 8, 64), "float32")
    y = model.conv2d(x, 4, kernel=1, weights=kernel, bias=np.zeros(4, np.float32), name="y")
    values = [rng.uniform(0, 1, (1, 8, 8, 64)).astype(np.float32) for _ in range(4)]
    data = model.build(y)
    quantized = rn.quantize(data, values)
    found = np.mean([outputs(quantized.model, one)[0] for one in values], (0, 1, 2, 3))
    expected = np.mean([outputs(data, one)[0] for one in values], (0, 1, 2, 3))
    graph = load_model(quantized.model)
    conv = next(operator for operator in graph.operators if operator.kind == "CONV_2D")
    stored = graph.tensors[conv.inputs[1]]
    rounded = stored.data * stored.quantization.scales[:, None, None, None]
    error = (rounded - kernel).sum((1, 2, 3)) / 2
    assert np.abs(error).max() > 0.02, "the model is one that needs correction"
    assert np.abs(found - expected).max() < 0.2 * np.abs(error).max()


def test_operators_that_the_quantizer_does_not_know_are_int8_on_the_npu():
    model = ModelBuilder(5)
    x = model.input(SHAPE, "float32", name="x")
    y = model.unary("LEAKY_RELU", model.conv2d(x, 16, weights=weights(16, 3, 3, 3)), alpha=0.1, name="leaky")
    slopes = model.constant(np.linspace(0, 0.5, 16, dtype=np.float32).reshape(1, 1, 16))
    y = model.prelu(model.conv2d(y, 16, weights=weights(16, 3, 3, 16)), slopes, name="prelu")
    y = model.depth_to_space(y, 2, name="wide")
    y = model.unary("ABS", model.conv2d(y, 8, weights=weights(8, 3, 3, 4)), name="abs")
    y = model.unary("RELU6", y, name="y")
    quantized = rn.quantize(model.build(y), inputs())
    assert (
        kinds(quantized.model).count("QUANTIZE") <= 2
    )  # of the input, and to the grid that DEPTH_TO_SPACE can't change
    assert on_the_cpu(quantized.model) == {"QUANTIZE", "DEQUANTIZE"}
    assert quantized.report.outputs["y"] > 25
    assert {"leaky", "prelu", "wide", "abs"} <= {layer.tensor for layer in quantized.report.layers}
    assert verify(quantized.model, [{"x": inputs(1)[0]}]).worst_npu_layer <= 1


def test_outputs_keep_their_names_also_where_others_read_them():
    model = ModelBuilder(6)
    x = model.input(SHAPE, "float32", name="x")
    first = model.conv2d(x, 8, weights=weights(8, 3, 3, 3), activation="RELU6", name="first")
    slope = model.unary("LEAKY_RELU", first, alpha=0.5, name="slope")
    last = model.conv2d(slope, 4, weights=weights(4, 3, 3, 8), name="last")
    data = model.build(last, slope, first)
    quantized = rn.quantize(data, inputs())
    graph = load_model(quantized.model)
    assert graph.outputs == ("last", "slope", "first")
    assert [graph.tensors[name].dtype for name in (*graph.inputs, *graph.outputs)] == [np.float32] * 4
    assert min(quantized.report.outputs.values()) > 30
    assert {"first", "slope", "last"} <= {layer.tensor for layer in quantized.report.layers}
    runner = build_interpreter(quantized.model, "plain").get_signature_runner()
    assert {name: values.dtype for name, values in runner(x=inputs(1)[0]).items()} == dict.fromkeys(
        graph.outputs, np.float32
    )


def test_a_classifier_computes_on_the_npu_up_to_its_softmax():
    model = ModelBuilder(9)
    x = model.input(SHAPE, "float32", name="x")
    y = model.mean(model.conv2d(x, 16, weights=weights(16, 3, 3, 3), activation="RELU"), keep_dims=True)
    y = model.operator("SQUEEZE", [y], (1, 16), None, schema.SqueezeOptionsT(squeezeDims=[1, 2]), "SqueezeOptions")
    y = model.fully_connected(y, 10, weights=weights(10, 16))
    options = schema.SoftmaxOptionsT(beta=1.0)
    data = model.build(model.operator("SOFTMAX", [y], (1, 10), None, options, "SoftmaxOptions", "y"))
    quantized = rn.quantize(data, inputs())
    assert on_the_cpu(quantized.model) == {"QUANTIZE", "DEQUANTIZE", "SOFTMAX"}
    assert quantized.report.outputs["y"] > 40
    assert verify(quantized.model, [{"x": inputs(1)[0]}]).worst_npu_layer <= 1


def test_weights_of_bytes_in_a_float_model_become_float_first():
    kernel = np.random.default_rng(0).integers(-127, 128, (8, 3, 3, 3), np.int8)
    model = ModelBuilder(10)
    x = model.input(SHAPE, "float32", name="x")
    packed = model.constant(kernel, Grid((0.002,) * 8, 0, 0))
    options = schema.Conv2DOptionsT(strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
    bias = model.constant(np.zeros(8, np.float32))
    y = model.operator("CONV_2D", [x, packed, bias], (1, 12, 12, 8), None, options, "Conv2DOptions", "y")
    repaired = repair(load_tflite(model.build(y), "it"))
    plain = ModelBuilder(10)
    x = plain.input(SHAPE, "float32", name="x")
    y = plain.conv2d(x, 8, weights=(kernel * np.float32(0.002)).astype(np.float32), bias=np.zeros(8, np.float32))
    for values in inputs(2):
        np.testing.assert_allclose(
            outputs(repaired, values)[0], outputs(plain.build(y), values)[0], rtol=1e-4, atol=1e-5
        )
    assert on_the_cpu(rn.quantize(repaired, inputs()).model) == {"QUANTIZE", "DEQUANTIZE"}


def test_constants_that_are_no_numbers_are_refused():
    data = bytearray(halves())
    place = bytes(data).index(weights(8, 3, 3, 3).astype(np.float16).tobytes())
    data[place : place + 2] = np.array([np.inf], np.float16).tobytes()
    with pytest.raises(ModelError, match="holds NaN or infinity; repair the model before quantizing it"):
        rn.quantize(bytes(data), inputs(1))


def test_heads_that_are_put_together_keep_grids_of_their_own():
    model = ModelBuilder(7)
    x = model.input((1, 8, 8, 3), "float32", name="x")
    small = model.conv2d(x, 4, weights=weights(4, 3, 3, 3), name="small")
    large = model.conv2d(x, 4, weights=1000 * weights(4, 3, 3, 3, seed=1), name="large")
    data = model.build(model.concat([small, large], axis=3, output=None, name="y"))
    quantized = rn.quantize(data, inputs(shape=(1, 8, 8, 3)))
    found, expected = (outputs(file, inputs(1, (1, 8, 8, 3))[0])[0][..., :4] for file in (quantized.model, data))
    step = float(np.abs(expected).max()) / 127
    assert np.abs(found - expected).max() < 3 * step, "the small head is not on the large one's grid"


def test_constants_that_the_quantizer_puts_behind_the_flatbuffer_come_back_inside():
    model = ModelBuilder(8)
    x = model.input((1, 4, 4, 300), "float32")
    data = rn.quantize(
        model.build(model.conv2d(x, 400, weights=weights(400, 3, 3, 300))), inputs(2, (1, 4, 4, 300))
    ).model
    root = schema.Model.GetRootAs(data, 0)
    assert all(root.Buffers(index).Offset() == 0 for index in range(root.BuffersLength()))
    assert on_the_cpu(data) == {"QUANTIZE", "DEQUANTIZE"}


def test_a_model_that_is_changed_has_no_waste():
    model = TfliteModel(repair(load_tflite(halves(), "it")))
    name = str(model.inputs(model.operators[0])[1])
    kernel = model.constant(name)
    assert kernel is not None
    size = len(model.build())
    for _ in range(3):
        changed = TfliteModel(repair(load_tflite(halves(), "it")))
        changed.set_constant(name, 2 * kernel)
        changed.set_constant(name, kernel)
    assert len(changed.build()) == size
