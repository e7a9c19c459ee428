"""Models that ONNX Runtime dies of: one line, and this process lives on. The ordinary ones start no child."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from rocketnpu.cli import main
from rocketnpu.cpu.onnxruntime import Piece, Reference
from rocketnpu.cpu.onnxruntime.allowlist import is_allowed, operators_of
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from support.dying import Dying
from support.onnx_models import OnnxBuilder, quantize, small_network

SMALLEST = np.full(4, np.iinfo(np.int32).min, np.int32)


@pytest.fixture
def hostile() -> bytes:
    """Its only operator is not on the allow-list: in some releases it overflows in a way that the processor reports."""
    model = OnnxBuilder()
    return model.build(model.node("Mod", model.constant(SMALLEST), model.input((4,), np.int32)), dtype=np.int32)


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime ends its process, whatever release it is."""
    monkeypatch.setattr("rocketnpu.cpu.onnxruntime.engine.Engine", Dying)
    monkeypatch.setattr("rocketnpu.cpu.onnxruntime.reference.Segments", Dying)


@pytest.mark.usefixtures("dying")
def test_a_model_that_onnx_runtime_dies_of_is_refused(hostile: bytes) -> None:
    model = load_model(hostile).model
    for run in (Piece(model).run, Reference(model).tensors):
        with pytest.raises(
            ModelError, match=r"^ONNX Runtime crashes on the model's operators Mod \(.*SIGFPE\)"
        ) as caught:
            run([np.full(4, -1, np.int32)])
        assert "\n" not in str(caught.value)


def test_a_piece_keeps_no_data_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even in a function's nested graph: ONNX Runtime would read it from the current folder."""
    (tmp_path / "secret").write_bytes(bytes(16))
    monkeypatch.chdir(tmp_path)
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    tensor = onnx.TensorProto(name="w", data_type=kind, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret")
    ends = [make.make_tensor_value_info(name, kind, [4]) for name in "xy"]
    inner = make.make_graph([make.make_node("Identity", ["w"], ["z"])], "inner", [], [], [tensor])
    branch = make.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    opsets = [make.make_opsetid("", 17), make.make_opsetid("own", 1)]
    function = make.make_function("own", "F", ["c"], ["y"], [branch], opsets[:1])
    plain = make.make_model(
        make.make_graph([make.make_node("Identity", ["w"], ["y"])], "net", ends[:1], ends[1:], [tensor])
    )
    nested = make.make_model(
        make.make_graph([make.make_node("F", ["x"], ["y"], domain="own")], "net", ends[:1], ends[1:]),
        functions=[function],
        opset_imports=opsets,
    )
    for model in (plain, nested):
        for open_piece in (Piece, Reference):
            with pytest.raises(ModelError, match="keeps w in another file"):
                open_piece(model.SerializeToString(), "the piece")


def test_names_that_are_no_text_are_refused() -> None:
    model = OnnxBuilder()
    data = model.build(model.node("Relu", model.input((4,), name="x")), dtype=np.float32)
    for read in (load_model, Piece):
        with pytest.raises(ModelError, match="that is not UTF-8 text"):
            read(data.replace(b"Relu", b"R\xfflu"))


def test_shape_arithmetic_that_doubles_at_each_step_takes_no_memory() -> None:
    model = OnnxBuilder()
    x = model.constant(np.zeros(4, np.int64))
    for _ in range(40):
        x = model.node("Concat", x, x, axis=0)
    with pytest.raises(ModelError, match="is larger than"):
        load_model(model.build(model.node("Add", x, model.input((1,), np.int64)), dtype=np.int64))


@pytest.mark.usefixtures("dying")
def test_a_function_that_is_named_like_an_operator_is_not_taken_for_it() -> None:
    make, kind = onnx.helper, onnx.TensorProto.INT32
    opsets = [make.make_opsetid("", 13), make.make_opsetid("own", 1)]
    body = [make.make_node("Mod", ["a", "b"], ["c"])]
    function = make.make_function("own", "Relu", ["a", "b"], ["c"], body, opsets[:1])
    ends = [make.make_tensor_value_info(name, kind, [4]) for name in "abc"]
    graph = make.make_graph([make.make_node("Relu", ["a", "b"], ["c"], domain="own")], "net", ends[:2], ends[2:])
    model = make.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)
    assert operators_of(model) == ["Relu (own)", "Mod"]
    with pytest.raises(ModelError, match="ONNX Runtime crashes on the model's operators Relu"):
        Piece(load_model(model.SerializeToString()).model).run([SMALLEST, np.full(4, -1, np.int32)])


def test_what_runs_in_a_child_gives_the_same_tensors(hostile: bytes) -> None:
    divisors = np.array([3, 5, 7, 9], np.int32)
    model = load_model(hostile).model
    (found,) = Piece(model).run([divisors])
    assert found.tolist() == (SMALLEST % divisors).tolist()
    assert list(Reference(model).tensors([divisors]).values())[1].tolist() == found.tolist()


@pytest.mark.usefixtures("dying")
def test_the_command_line_says_so_in_one_line(
    tmp_path: Path, hostile: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hostile.onnx").write_bytes(hostile)
    np.save(tmp_path / "x.npy", np.full(4, -1, np.int32))
    code = main(["run", str(tmp_path / "hostile.onnx"), "--input", str(tmp_path / "x.npy")])
    *_, line = capsys.readouterr().err.splitlines()
    assert code == 2
    assert line.startswith("rocketnpu: ONNX Runtime crashes on the model's operators Mod (its process died of SIGFPE)")


@pytest.mark.parametrize("data", [quantize(small_network()), small_network().SerializeToString()])
def test_ordinary_networks_run_in_this_process(data: bytes) -> None:
    assert is_allowed(operators_of(onnx.load_from_string(load_model(data).model)))
