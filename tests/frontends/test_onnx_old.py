"""Old ONNX files: constants that are no inputs before IR version 4, and opsets that ONNX Runtime has no kernels for."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

import rocketnpu as rn
from rocketnpu.verify import verify
from support.onnx_models import OnnxBuilder, normal

SHAPE = (1, 4, 6, 5)


def old(model: OnnxBuilder, *outputs: str, opset: int, ir_version: int = 3, listed: bool = True) -> bytes:
    """The file of a model as exporters wrote it before 2019; `listed`: constants are inputs too."""
    for name in outputs:
        model.output(name, np.float32)
    proto = model.proto()
    proto.ir_version = ir_version
    del proto.opset_import[:]
    proto.opset_import.append(helper.make_opsetid("", opset))
    if listed:
        for constant in model.constants:
            proto.graph.input.append(helper.make_tensor_value_info(constant.name, constant.data_type, constant.dims))
    return proto.SerializeToString()


def run(model: bytes, x: NDArray[np.float32]) -> NDArray[np.float32]:
    with rn.Session(model) as session:
        (found,) = session.run(x).values()
    return found


@pytest.mark.parametrize(("shape", "axis"), [((4,), 1), ((6, 5), 2), ((5,), 3), ((4, 6), 1), ((5,), -1), ((1, 4), 0)])
@pytest.mark.parametrize("is_constant", [True, False])
def test_operands_of_opset_6_begin_at_the_axis_that_is_named(shape: tuple[int, ...], axis: int, is_constant: bool):
    model, x, other = OnnxBuilder(), normal(SHAPE, 1.0, 0), normal(shape, 1.0, 1)
    second = model.constant(other) if is_constant else model.node("Relu", model.constant(other))
    y = model.node("Sub", model.input(SHAPE, name="x"), second, broadcast=1, axis=axis, name="y")
    other = other if is_constant else np.maximum(other, 0)
    behind = x.ndim - axis % x.ndim - other.ndim
    expected = x - other.reshape(other.shape + (1,) * behind)
    np.testing.assert_array_equal(run(old(model, y, opset=6), x), expected)


def test_slopes_of_opset_6_belong_to_the_channels():
    model, x, slopes = OnnxBuilder(), normal(SHAPE, 1.0, 0), normal((4,), 1.0, 1)
    y = model.node("PRelu", model.input(SHAPE, name="x"), model.constant(slopes), name="y")
    expected = np.where(x < 0, x * slopes[:, None, None], x)
    np.testing.assert_array_equal(run(old(model, y, opset=6), x), expected)


def test_a_normalization_of_opset_6_is_that_of_inference():
    model, x = OnnxBuilder(), normal(SHAPE, 1.0, 0)
    scale, bias, mean, spread = (normal((4,), 1.0, seed) for seed in range(1, 5))
    operands = [model.constant(values) for values in (scale, bias, mean, spread**2 + 1)]
    y = model.node("BatchNormalization", model.input(SHAPE, name="x"), *operands, is_test=1, name="y")
    scale, bias, mean, spread = (values[:, None, None] for values in (scale, bias, mean, spread))
    expected = (x - mean) / np.sqrt(spread**2 + 1 + 1e-5) * scale + bias
    np.testing.assert_allclose(run(old(model, y, opset=6), x), expected, atol=1e-5)  # float32, in another order


@pytest.mark.parametrize("listed", [True, False])
def test_constants_need_not_be_inputs_of_files_of_any_age(listed: bool):
    model, x, weights = OnnxBuilder(), normal((1, 8), 1.0, 0), normal((8, 3), 1.0, 1)
    model.node("MatMul", model.input((1, 8), name="x"), model.constant(weights), name="y")
    np.testing.assert_allclose(run(old(model, "y", opset=9, listed=listed), x), x @ weights, atol=1e-5)


def test_an_old_file_without_constants_is_quantized():
    model = OnnxBuilder()
    model.node("Sigmoid", model.input(SHAPE, name="x"), name="y")
    quantized = rn.quantize(old(model, "y", opset=6), normal((4, *SHAPE), 3.0, 0))
    report = verify(quantized.model)
    assert [layer.place for layer in report.layers if "LOOKUP" in layer.operators or layer.place == "npu"]
    assert report.worst_npu_layer <= 1
    assert quantized.report.outputs["y"] > 40


def test_a_model_of_another_domain_only_has_no_opset_to_convert():
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in "xy"]
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[1.0], scale=[2.0])
    graph = helper.make_graph([node], "net", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("ai.onnx.ml", 1)], ir_version=3)
    onnx.checker.check_model(model)
    x = normal((1, 4), 1.0, 0)
    np.testing.assert_allclose(run(model.SerializeToString(), x), (x - 1) * 2, atol=1e-6)
