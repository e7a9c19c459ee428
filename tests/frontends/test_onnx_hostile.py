"""ONNX files that are damaged, foreign, endless or not whole: one clear line, or the whole model on the CPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import rocketnpu as rn
from rocketnpu.errors import Error, ModelError
from rocketnpu.frontends import load_model
from support.onnx_models import OnnxBuilder, quantize, small_network

GRID = (0.05, 3)


def relu(shape: tuple[Any, ...] = (1, 4)) -> OnnxBuilder:
    model = OnnxBuilder()
    model.output(model.node("Relu", model.input(shape, name="x"), name="y"), np.float32)
    return model


def refusal(model: onnx.ModelProto | bytes) -> str:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(ModelError) as caught:
        load_model(data)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_file_that_only_begins_like_onnx_is_refused() -> None:
    assert refusal(b"\x08hello, this is no model").startswith("the model is not an ONNX model")


def test_a_truncated_file_is_refused() -> None:
    refusal(relu().proto().SerializeToString()[:-5])


def test_a_node_that_onnx_does_not_know_is_named() -> None:
    model = OnnxBuilder()
    model.output(model.node("Relou", model.input((1, 4))), np.float32)
    assert "No Op registered for Relou" in refusal(model.proto())


def test_a_tensor_read_before_it_is_made_is_refused() -> None:
    model = relu()
    model.nodes.reverse()
    model.nodes.insert(0, helper.make_node("Relu", ["y"], ["early"]))
    assert "topologically sorted" in refusal(model.proto())


def test_weights_that_do_not_fit_the_input_are_refused() -> None:
    model = OnnxBuilder()
    weights = model.weights(np.ones((4, 5, 1, 1), np.int8), 0.1)
    conv = model.node("Conv", model.real_input((1, 3, 4, 4), GRID), weights)
    assert "(Conv) has weights (4, 5, 1, 1) in 1 groups for an input (1, 3, 4, 4)" in refusal(
        model.build(model.quantized(conv, GRID))
    )


def test_matrices_that_do_not_fit_each_other_are_refused() -> None:
    model = OnnxBuilder()
    product = model.node("MatMul", model.real_input((1, 3), GRID), model.weights(np.ones((4, 2), np.int8), 0.1))
    assert "contradicts itself" in refusal(model.build(model.quantized(product, GRID)))


@pytest.mark.parametrize("scale", [np.nan, np.inf, -0.1])
def test_an_unsound_scale_of_a_bias_is_named(scale: float) -> None:
    """Its numbers are not taken for steps of the accumulator."""
    model = OnnxBuilder()
    weights = model.weights(np.ones((2, 3, 1, 1), np.int8), 0.1)
    numbers = model.constant(np.array([7, 8], np.int32), "bias")
    scales = model.constant(np.array([0.01, scale], np.float32))
    biases = model.node("DequantizeLinear", numbers, scales, axis=0)
    conv = model.node("Conv", model.real_input((1, 3, 4, 4), GRID), weights, biases)
    (operator,) = [op for op in load_model(model.build(model.quantized(conv, GRID))).operators if op.kind == "Conv"]
    assert (
        operator.unsupported
        == f"scales and zero points are constants that the NPU can hold (bias has the scale {scale})"
    )


def test_sizes_that_are_not_fixed_are_named() -> None:
    line = refusal(relu((1, 3, "width")).proto())
    assert "leaves sizes of its inputs free, x (1, 3, width): give numbers for width" in line


def test_an_input_without_a_shape_is_named() -> None:
    model = relu().proto()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    refusal(model)


def test_a_batch_that_is_not_fixed_is_1() -> None:
    assert load_model(relu(("n", 3)).proto().SerializeToString()).tensors["x"].shape == (1, 3)


def test_tensors_too_large_for_any_memory_are_refused() -> None:
    assert "is larger than" in refusal(relu((1, 1 << 20, 1 << 20)).proto())


def test_constant_arithmetic_that_explodes_is_left_alone() -> None:
    """Range would make 2^40 numbers of three."""
    model = OnnxBuilder()
    numbers = model.node("Range", *(model.constant(np.array(value)) for value in (0, 1 << 40, 1)))
    model.output(model.node("Identity", numbers), np.int64)
    assert "is larger than" in refusal(model.proto())


def loop() -> bytes:
    """y = x, doubled three times by a Loop."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Add", ["before", "before"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("count", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, [1, 2]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, [1, 2]),
        ],
    )
    model = OnnxBuilder()
    trip, condition = model.constant(np.array(3)), model.constant(np.array(True))
    model.nodes.append(helper.make_node("Loop", [trip, condition, model.input((1, 2), name="x")], ["y"], body=body))
    return model.build("y", dtype=np.float32)


def reason_of(data: bytes) -> str:
    return load_model(data).operators[0].opaque or ""


def test_control_flow_runs_as_a_whole_on_the_cpu() -> None:
    with rn.Session(loop(), device="emulator") as session:
        (step,) = session.steps
        assert "its operator Loop is control flow" in str(step.operators[0].reason)
        assert session.run(np.array([[1.0, -2.0]], np.float32))["y"].tolist() == [[8.0, -16.0]]


def test_shapes_that_depend_on_data_leave_the_model_to_the_cpu() -> None:
    model = OnnxBuilder()
    found = model.node("NonZero", model.input((1, 4), name="x"), name="found")
    data = model.build(found, dtype=np.int64)
    assert "the shape of found, which node 0 (NonZero) makes, is not known before the run" in reason_of(data)
    with rn.Session(data, device="emulator") as session:
        assert session.run(np.array([[0, 5, 0, 6]], np.float32))["found"].tolist() == [[0, 0], [1, 3]]


def test_a_foreign_operator_is_refused_by_name_when_the_model_runs() -> None:
    model = OnnxBuilder()
    model.output(model.node("Secret", model.input((1, 4), name="x"), name="y", domain="acme"), np.float32, (1, 4))
    proto = model.proto()
    proto.opset_import.append(helper.make_opsetid("acme", 1))
    data = proto.SerializeToString()
    assert "its operator Secret is not ONNX's (acme)" in reason_of(data)
    with (
        rn.Session(data, device="emulator") as session,
        pytest.raises(ModelError, match=r"ONNX Runtime refuses the model: .*Secret"),
    ):
        session.run(np.zeros((1, 4), np.float32))


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    data = relu().proto().SerializeToString()
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(Error, match=r"need the package onnx; install it with: pip install 'rocketnpu\[onnx\]'"):
        load_model(data)


QUANTIZED = quantize(small_network())


def complaint(action: Callable[[], object]) -> str:
    """The text of the package's own error, "" if there is none; other exceptions pass."""
    try:
        action()
    except Error as error:
        return str(error)
    return ""


@settings(derandomize=True, max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damaged_bytes_give_a_graph_or_one_line(data: st.DataObject) -> None:
    damaged = bytearray(QUANTIZED)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    assert "\n" not in complaint(lambda: load_model(bytes(damaged)))


ODD_NUMBERS = st.sampled_from([-(2**63), -(2**31), -1, 0, 1, 2, 3, 7, 100, 2**31, 2**62])


@settings(derandomize=True, max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_odd_numbers_in_attributes_give_a_program_or_one_line(data: st.DataObject) -> None:
    model = onnx.load_model_from_string(QUANTIZED)
    nodes = [node for node in model.graph.node if node.attribute]
    for _ in range(data.draw(st.integers(1, 2))):
        attribute = data.draw(st.sampled_from(list(data.draw(st.sampled_from(nodes)).attribute)))
        if attribute.ints:
            attribute.ints[data.draw(st.integers(0, len(attribute.ints) - 1))] = data.draw(ODD_NUMBERS)
        else:
            attribute.i = data.draw(ODD_NUMBERS)
    assert "\n" not in complaint(lambda: rn.compile(model.SerializeToString()))
