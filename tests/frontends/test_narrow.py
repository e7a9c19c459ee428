"""Constants of 4 bits, which the NPU gets as bytes, and 16-bit activations, which it does not compute on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import rocketnpu as rn
from rocketnpu.cpu.onnxruntime import Reference
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.frontends.tflite.packed import unpacked
from support.agreement import agreement, assert_close
from support.models import Grid, ModelBuilder, pack, schema
from support.onnx_models import OnnxBuilder

SEVENS = np.random.default_rng(0).integers(-7, 8, (16, 3, 3, 8)).astype(np.int8)


def packed(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Two numbers in a byte, the first in its low half."""
    flat = np.append(values.reshape(-1), np.zeros(values.size % 2, np.int8)).astype(np.uint8) & 15
    return flat[::2] | flat[1::2] << 4


def with_int4_weights(model: ModelBuilder, *outputs: str) -> bytes:
    tree = model.model(*outputs)
    (weights,) = [tensor for tensor in tree.subgraphs[0].tensors if tensor.name == "weights"]
    weights.type = schema.TensorType.INT4
    stored = tree.buffers[weights.buffer]
    stored.data = packed(np.asarray(stored.data).view(np.int8))
    return pack(tree)


def test_nibbles_are_numbers_with_a_sign() -> None:
    assert unpacked(np.array([0xF1, 0x78], np.uint8), (3,), "w").tolist() == [1, -1, -8]


def test_too_few_bytes_are_named() -> None:
    with pytest.raises(ModelError, match=r"tensor w of shape \(5,\) and type INT4 needs 3 bytes, its buffer has 2"):
        unpacked(np.zeros(2, np.uint8), (5,), "w")


@pytest.mark.parametrize("kind", ["conv2d", "depthwise", "fully_connected"])
def test_int4_weights_of_a_tflite_file_run_on_the_npu(kind: str) -> None:
    model = ModelBuilder(seed=3)
    if kind == "conv2d":
        scales = tuple(np.linspace(0.01, 0.1, 16).tolist())
        y = model.conv2d(model.input((1, 6, 6, 8)), 16, weights=SEVENS, weight_grid=Grid(scales))
    elif kind == "depthwise":
        y = model.depthwise(model.input((1, 6, 6, 8)), weights=SEVENS[:1], weight_grid=Grid(0.05))
    else:
        weights = SEVENS.reshape(16, -1)
        y = model.fully_connected(model.input((1, weights.shape[1])), 16, weights=weights, weight_grid=Grid(0.05))
    result = agreement(with_int4_weights(model, y), model.random_inputs())
    assert not result.reasons(), f"on the CPU: {result.reasons()}"


def test_an_operator_that_would_misread_int4_stays_on_the_cpu() -> None:
    model = ModelBuilder()
    constant = model.constant(SEVENS[:1], Grid(0.1), "weights")
    graph = load_model(with_int4_weights(model, model.add(model.input((1, 3, 3, 8)), constant)))
    assert graph.operators[0].unsupported == "tensor weights has type INT4"


@pytest.mark.parametrize("kind", ["INT4", "UINT4"])
def test_4_bit_weights_of_an_onnx_file_run_on_the_npu(kind: str) -> None:
    model = OnnxBuilder(opset=21)
    x = model.real_input((1, 8, 6, 6), (0.02, 3))
    element, low = getattr(TensorProto, kind), -8 if kind == "INT4" else 0
    values = np.random.default_rng(2).integers(low, low + 16, (16, 8, 3, 3))
    names = [model.name("narrow"), model.name("narrow")]
    for name, array in zip(names, (values, np.array([low + 8] * 16)), strict=True):
        model.constants.append(helper.make_tensor(name, element, array.shape, array.reshape(-1).tolist()))
    scales = model.constant(np.linspace(0.01, 0.02, 16).astype(np.float32))
    weights = model.node("DequantizeLinear", names[0], scales, names[1], axis=0)
    data = model.build(model.quantized(model.node("Conv", x, weights), (0.1, 0)))
    graph = load_model(data)
    inputs = [np.random.default_rng(1).integers(-128, 128, (1, 8, 6, 6)).astype(np.int8)]
    with rn.Session(data, device="emulator") as session:
        assert [step.place for step in session.steps] == ["npu"]
        expected = Reference(data).tensors(inputs)
        assert_close(session.run_isolated(expected), expected)
    assert {str(tensor.dtype) for tensor in graph.tensors.values()} <= {"int8", "uint8"}


def test_4_bit_constants_that_something_else_reads_stay() -> None:
    model = OnnxBuilder(opset=21)
    model.constants.append(helper.make_tensor("narrow", TensorProto.INT4, (4,), [1, -8, 7, 0]))
    cast = model.node("Cast", "narrow", to=TensorProto.FLOAT)
    data = model.build(model.node("Add", cast, model.input((4,), name="x")), dtype=np.float32)
    with rn.Session(data, device="emulator") as session:
        (found,) = session.run(np.ones(4, np.float32)).values()
    assert found.tolist() == [2, -7, 8, 1]


def test_an_integer_convolution_by_itself_runs_on_the_cpu() -> None:
    model = OnnxBuilder()
    x, weights = model.input((1, 4, 3, 3), np.uint8, name="x"), model.constant(SEVENS[:4, 0, 0, :4].reshape(4, 4, 1, 1))
    y = model.node("ConvInteger", x, weights, model.constant(np.uint8(128)), name="y")
    values = np.random.default_rng(0).integers(0, 256, (1, 4, 3, 3)).astype(np.uint8)
    with rn.Session(model.build(y, dtype=np.int32), device="emulator") as session:
        (found,) = session.run(values).values()
        assert [op.reason for step in session.steps for op in step.operators] == [
            "ConvInteger with an int32 result has no NPU form"
        ]
    exact = np.einsum("oi,bihw->bohw", SEVENS[:4, 0, 0, :4].astype(np.int64), values.astype(np.int64) - 128)
    assert np.array_equal(found, exact)


@pytest.mark.parametrize("name", ["t_int16x8.tflite", "q_int16_act.onnx"])
def test_16_bit_activations_run_on_the_cpu_and_say_so(shared: Path, name: str) -> None:
    program = rn.compile(shared / "cases" / name)
    convolutions = [op for step in program.steps for op in step.operators if op.kind == "CONV_2D"]
    assert convolutions
    assert {op.reason for op in convolutions} == {"int16 data has no NPU form"}


def test_a_bias_of_64_bits_belongs_to_16_bit_activations(shared: Path) -> None:
    program = rn.compile(shared / "cases" / "t_int16x8.tflite")
    (layer,) = [op for step in program.steps for op in step.operators if op.kind == "FULLY_CONNECTED"]
    assert layer.reason == "int16 data has no NPU form"


def test_16_bit_qdq_runs() -> None:
    model = OnnxBuilder(opset=21)
    x = model.real_input((1, 4, 5, 5), (1e-4, 0), np.int16)
    weights = model.weights(SEVENS[:4, 0, 0, :4].reshape(4, 4, 1, 1), 0.1)
    data = model.build(model.quantized(model.node("Conv", x, weights), (1e-3, 0), np.int16), dtype=np.int16)
    values = np.random.default_rng(0).integers(-(1 << 15), 1 << 15, (1, 4, 5, 5)).astype(np.int16)
    with rn.Session(data, device="emulator") as session:
        (found,) = session.run(values).values()
        (reason,) = {op.reason for step in session.steps for op in step.operators if op.kind == "CONV_2D"}
    exact = np.einsum("oi,bihw->bohw", SEVENS[:4, 0, 0, :4].astype(np.int64), values.astype(np.int64)) / 100
    assert np.abs(found - np.clip(exact, -(1 << 15), (1 << 15) - 1)).max() <= 0.51
    assert reason == "int16 data has no NPU form"
