"""Models whose weights are integers already: `repair` makes float models of them, which quantize as a whole."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

import rocketnpu as rn
from rocketnpu.cpu import onnxruntime as ort
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.frontends.onnx.library import refusal_is_model_error
from rocketnpu.quantizer.onnx.repair import repair
from support.models import Grid, ModelBuilder, schema
from support.onnx_models import OnnxBuilder, normal

SHAPE = (1, 3, 12, 12)
BORDER = {"QuantizeLinear", "DequantizeLinear"}


def float_network() -> bytes:
    """Two convolutions and a matrix; input x, output y."""
    model = OnnxBuilder()
    x = model.input(SHAPE, name="x")
    y = model.node("Conv", x, model.constant(normal((8, 3, 3, 3), 0.2, 0)), model.constant(normal((8,), 0.2, 1)))
    y = model.node("Relu", y)
    y = model.node("Conv", y, model.constant(normal((16, 8, 1, 1), 0.3, 2)), model.constant(normal((16,), 0.2, 3)))
    y = model.node("Flatten", model.node("GlobalAveragePool", y))
    y = model.node("Gemm", y, model.constant(normal((16, 5), 0.3, 4)), model.constant(normal((5,), 0.2, 5)), name="y")
    return model.build(y, dtype=np.float32)


def dynamic_network() -> bytes:
    """The same after ONNX Runtime's tool for dynamic ranges."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "dynamic.onnx"
        source.write_bytes(float_network())
        quantize_dynamic(source, target, weight_type=QuantType.QUInt8)
        return target.read_bytes()


def run(model: bytes, values: NDArray[np.float32]) -> NDArray[np.float32]:
    (found,) = ort.Piece(load_model(model).model).run([values])
    return np.asarray(found)


def kinds(model: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(model).graph.node}


def test_dynamic_ranges_become_the_float_model_with_the_stored_weights() -> None:
    data = dynamic_network()
    assert {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger"} <= kinds(data)
    repaired = repair(data, "it")
    assert kinds(repaired) <= {"Conv", "Flatten", "GlobalAveragePool", "Gemm", "MatMul", "Add", "Relu"}
    # Weights of 8 bits: the results of the float model, but for a hundredth of their size.
    values = normal(SHAPE, 1.0, 9)
    expected = run(float_network(), values)
    assert np.abs(run(repaired, values) - expected).max() < 0.02 * np.abs(expected).max()


def test_a_model_of_dynamic_ranges_runs_on_the_npu_after_quantize() -> None:
    data = dynamic_network()
    reasons = {op.reason for step in rn.compile(data).steps for op in step.operators if op.kind == "ConvInteger"}
    assert reasons == {"a scale that is chosen at each run has no NPU form"}
    result = rn.quantize(data, [normal(SHAPE, 1.0, seed) for seed in range(4)])
    steps = rn.compile(result.model).steps
    assert {op.kind for step in steps for op in step.operators if step.place == "cpu"} <= BORDER


@pytest.mark.parametrize("block", [0, 4])
def test_weights_that_are_stored_small_become_real(block: int) -> None:
    model = OnnxBuilder(opset=21)
    values = np.random.default_rng(0).integers(-128, 128, (16, 5)).astype(np.int8)
    scales = np.random.default_rng(1).uniform(0.001, 0.01, (16 // block, 5) if block else (5,)).astype(np.float32)
    zeros = np.full(scales.shape, 3, np.int8)
    attributes = {"axis": 0, "block_size": block} if block else {"axis": 1}
    operands = (model.constant(values), model.constant(scales), model.constant(zeros))
    weights = model.node("DequantizeLinear", *operands, **attributes)
    data = model.build(model.node("MatMul", model.input((1, 16), name="x"), weights), dtype=np.float32)
    repaired = repair(data, "it")
    assert kinds(repaired) == {"MatMul"}
    x = normal((1, 16), 1.0, 2)
    np.testing.assert_allclose(run(repaired, x), run(data, x), rtol=1e-5, atol=1e-6)


def test_a_product_with_dynamic_ranges_in_one_operator() -> None:
    model = OnnxBuilder()
    values = np.random.default_rng(0).integers(0, 256, (16, 5)).astype(np.uint8)
    operands = [model.constant(np.float32(0.02)), model.constant(np.uint8(120)), model.constant(normal((5,), 1, 1))]
    x = model.input((2, 16), name="x")
    y = model.node("DynamicQuantizeMatMul", x, model.constant(values), *operands, domain="com.microsoft")
    data = model.build(y, dtype=np.float32)
    inputs = normal((2, 16), 1.0, 3)
    exact = inputs @ ((values.astype(np.float32) - 120) * np.float32(0.02)) + normal((5,), 1, 1)
    np.testing.assert_allclose(run(repair(data, "it"), inputs), exact, rtol=1e-4, atol=1e-4)


def test_a_quantized_activation_is_still_no_float_model() -> None:
    model = OnnxBuilder()
    data = model.build(model.quantized(model.input((4,)), (0.1, 0)))
    with pytest.raises(ModelError, match="is quantized already: it has QuantizeLinear"):
        repair(data, "it")


@pytest.mark.parametrize("groups", [2, 4])
def test_transposed_convolutions_in_groups_are_quantized(groups: int) -> None:
    model = OnnxBuilder()
    weights, bias = normal((8, 12 // groups, 3, 3), 0.3, 0), normal((12,), 0.2, 1)
    operands = (model.input((1, 8, 6, 6), name="x"), model.constant(weights), model.constant(bias))
    y = model.node("ConvTranspose", *operands, group=groups, strides=[2, 2], name="y")
    data = model.build(y, dtype=np.float32)
    x = normal((1, 8, 6, 6), 1.0, 2)
    np.testing.assert_allclose(run(repair(data, "it"), x), run(data, x), rtol=1e-4, atol=1e-5)
    result = rn.quantize(data, [normal((1, 8, 6, 6), 1.0, seed) for seed in range(4)])
    steps = rn.compile(result.model).steps
    assert {op.kind for step in steps for op in step.operators if step.place == "npu"} == {"TRANSPOSE_CONV"}


def test_the_grouped_case(shared: Path) -> None:
    path = shared / "cases" / "deconv_group2.onnx"
    result = rn.quantize(path, [normal((1, 3, 16, 16), 1.0, seed) for seed in range(4)])
    steps = rn.compile(result.model).steps
    assert {op.kind for step in steps for op in step.operators if step.place == "cpu"} <= BORDER


def test_a_tflite_model_of_dynamic_ranges_runs_on_the_npu_after_quantize() -> None:
    model = ModelBuilder(seed=2)
    x = model.input((1, 32), "float32", name="x")
    weights = np.random.default_rng(0).integers(-127, 128, (8, 32)).astype(np.int8)
    operands = [x, model.constant(weights, Grid(0.01), "weights"), model.constant(normal((8,), 1.0, 1), name="bias")]
    options = schema.FullyConnectedOptionsT(asymmetricQuantizeInputs=True)
    data = model.build(model.operator("FULLY_CONNECTED", operands, (1, 8), None, options, "FullyConnectedOptions"))
    reasons = {op.reason for step in rn.compile(data).steps for op in step.operators}
    assert reasons == {"float32 data has no NPU form"}
    result = rn.quantize(data, [normal((1, 32), 1.0, seed) for seed in range(4)])
    places = {op.kind: step.place for step in rn.compile(result.model).steps for op in step.operators}
    assert places["FULLY_CONNECTED"] == "npu"


def test_a_name_that_a_library_looks_for_in_vain_is_not_the_whole_message() -> None:
    with (
        pytest.raises(ModelError, match=r"^the tool refuses the model: it looks for '140_scale' in vain$"),
        refusal_is_model_error("the tool refuses the model"),
    ):
        raise KeyError("140_scale")
