"""Pieces of ONNX models on ONNX Runtime, and the reference for all tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import rocketnpu as rn
from rocketnpu.cpu.onnxruntime import Piece, Reference, extract_piece
from rocketnpu.errors import CompileError, DeviceError, ModelError
from rocketnpu.frontends import load_model
from support.onnx_models import OnnxBuilder, normal, quantize, small_network


def diamond() -> bytes:
    """a = relu(x); b = exp(a); c = a + b, on real numbers."""
    model = OnnxBuilder()
    a = model.node("Relu", model.input((1, 3), name="x"), name="a")
    return model.build(model.node("Add", a, model.node("Exp", a, name="b"), name="c"), dtype=np.float32)


def test_a_piece_holds_only_what_lies_between_its_inputs_and_outputs() -> None:
    graph = load_model(diamond())
    piece = onnx.load_model_from_string(extract_piece(graph, ["a"], ["b"]))
    onnx.checker.check_model(piece, full_check=True)
    assert [node.op_type for node in piece.graph.node] == ["Exp"]


def test_a_piece_gives_what_the_whole_gives() -> None:
    graph = load_model(diamond())
    x = normal((1, 3), 1.0, seed=0)
    (a,) = Piece(extract_piece(graph, ["x"], ["a"])).run([x])
    (c,) = Piece(extract_piece(graph, ["a"], ["c"])).run([a])
    assert np.array_equal(c, Reference(graph.model).tensors([x])["c"])


def test_a_piece_brings_the_constants_it_needs() -> None:
    graph = load_model(quantize(small_network()))
    conv = graph.operators[1]
    piece = onnx.load_model_from_string(extract_piece(graph, [conv.inputs[0] or ""], conv.outputs))
    assert [node.op_type for node in piece.graph.node].count("Conv") == 1
    assert {tensor.name for tensor in piece.graph.initializer} < {
        name for node in piece.graph.node for name in node.input
    }


def test_a_piece_whose_inputs_do_not_suffice_is_refused() -> None:
    with pytest.raises(ModelError, match=r"the piece needs tensor x, which is neither its input nor a constant"):
        extract_piece(load_model(diamond()), ["b"], ["c"])


def test_a_piece_gives_inner_tensors_by_name() -> None:
    found = Piece(diamond()).tensors([np.zeros((1, 3), np.float32)])
    assert {name: found[name].tolist() for name in "abc"} == {"a": [[0.0] * 3], "b": [[1.0] * 3], "c": [[1.0] * 3]}


def test_the_reference_gives_every_tensor_in_the_graph() -> None:
    graph = load_model(quantize(small_network()))
    found = Reference(graph.model).tensors([normal((1, 3, 32, 32), 1.0, seed=9)])
    for operator in graph.operators:
        for name in operator.outputs:
            tensor = graph.tensors[name]
            assert (found[name].shape, found[name].dtype) == (tensor.shape, tensor.dtype), name


def test_the_reference_of_a_qlinear_model_is_onnx_runtimes_own_result_but_for_roundings() -> None:
    """With 7-bit weights no product sum saturates, so that ONNX Runtime's integer kernels are right on any machine."""
    data = quantize(small_network(), activations="QUInt8", weights="QInt8", quantization="QOperator")
    model = onnx.load_model_from_string(data)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.int8 and values.ndim > 1:
            tensor.CopyFrom(onnx.numpy_helper.from_array((values // 2).astype(np.int8), tensor.name))
    graph = load_model(model.SerializeToString())
    conv = next(node for node in model.graph.node if node.op_type == "QLinearConv")
    model.graph.output.append(onnx.ValueInfoProto(name=conv.output[0]))
    x = normal((1, 3, 32, 32), 1.0, seed=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    _, expected = session.run(None, {"x": x})
    found = Reference(graph.model).tensors([x])[conv.output[0]]
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.999


def test_onnx_runtimes_complaints_are_one_line() -> None:
    with pytest.raises(ModelError, match=r"ONNX Runtime refuses the model") as refused:
        Reference(b"").tensors([])
    with pytest.raises(DeviceError, match=r"ONNX Runtime fails to run the model") as failed:
        Piece(diamond()).run([np.zeros((1, 4), np.float32)])
    assert "\n" not in f"{refused.value}{failed.value}"


def test_a_saved_program_runs_its_onnx_pieces(tmp_path: Path) -> None:
    program = rn.compile(quantize(small_network()))
    program.save(tmp_path / "small.rnpu")
    x = normal((1, 3, 32, 32), 1.0, seed=9)
    results = []
    for source in (program, tmp_path / "small.rnpu"):
        with rn.Session(source, device="emulator") as session:
            results.append(session.run(x)["y"])
    assert np.array_equal(*results)


def test_floats_inside_quantized_operators_are_named_with_what_absorbed_them() -> None:
    data = quantize(small_network())
    x = normal((1, 3, 32, 32), 1.0, seed=9)
    with (
        rn.Session(data, device="emulator") as session,
        pytest.raises(CompileError, match=r"'added' does not exist .* step 'added_QuantizeLinear_Output' absorbed it"),
    ):
        session.run(x, fetch=["added"])
    with rn.Session(data, device="emulator", fetch=["added"]) as session:
        assert session.run(x, fetch=["added"])["added"].dtype == np.float32


def test_tensors_inside_a_piece_can_be_fetched() -> None:
    with rn.Session(diamond(), device="emulator") as session:
        assert session.run(np.zeros((1, 3), np.float32), fetch=["b"])["b"].tolist() == [[1.0] * 3]
