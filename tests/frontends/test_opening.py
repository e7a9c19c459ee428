"""Sizes that a file leaves free are given by the caller, and a model ends where the caller says."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from onnx import TensorProto, helper

import rocketnpu as rn
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.frontends.opening import make_opening
from rocketnpu.ir import Graph
from rocketnpu.verify import verify
from support.models import ModelBuilder
from support.onnx_models import OnnxBuilder, normal
from support.partition_models import detector


def graph(source: Path | bytes, **opening: Any) -> Graph:
    return load_model(source, opening=make_opening(**opening))


def refusal(source: Path | bytes, **opening: Any) -> str:
    with pytest.raises(ModelError) as caught:
        graph(source, **opening)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def two_inputs() -> bytes:
    """Images and masks of one size, which is free."""
    model = OnnxBuilder()
    x, mask = (model.input(("N", channels, "h", "w"), name=name) for name, channels in (("x", 3), ("mask", 1)))
    model.output(model.node("Mul", x, mask, name="y"), np.float32)
    return model.proto().SerializeToString()


def chain(custom_tail: bool = False) -> bytes:
    """Relu -> Sigmoid -> another output, or an operator that nobody knows."""
    model = OnnxBuilder()
    inner = model.node("Sigmoid", model.node("Relu", model.input((1, 4), name="x"), name="a"), name="b")
    if custom_tail:
        tail = model.node("Magic", inner, domain="own", name="c")
    else:
        tail = model.node("Add", inner, model.input((1, 4), name="unneeded"), name="c")
    model.output(tail, np.float32, (1, 4))
    proto = model.proto()
    proto.opset_import.append(helper.make_opsetid("own", 1))
    return proto.SerializeToString()


def test_a_shape_fixes_its_input_and_the_same_symbols_elsewhere() -> None:
    found = graph(two_inputs(), input_shapes={"x": (2, 3, 8, 16)})
    assert [found.tensors[name].shape for name in ("x", "mask", "y")] == [(2, 3, 8, 16), (2, 1, 8, 16), (2, 3, 8, 16)]
    assert not found.notes


def test_symbols_are_given_once_for_all_inputs() -> None:
    found = graph(two_inputs(), dims={"h": 8, "w": 16, "N": 4})
    assert [found.tensors[name].shape for name in ("x", "mask", "y")] == [(4, 3, 8, 16), (4, 1, 8, 16), (4, 3, 8, 16)]


def test_a_batch_that_nobody_gives_is_1_and_noted() -> None:
    found = graph(two_inputs(), dims={"h": 8, "w": 16})
    assert found.tensors["y"].shape == (1, 3, 8, 16)
    assert found.notes == (
        "the batch of input x is free, so that 1 was taken: dims={'N': ...} (--dim N=...) gives another",
    )


def test_free_sizes_name_the_options_with_the_models_own_inputs() -> None:
    assert refusal(two_inputs(), dims={"h": 8}) == (
        "the model leaves sizes of its inputs free, x (1, 3, 8, w), mask (1, 1, 8, w): give numbers for w with "
        "input_shapes={'x': (1, 3, 8, w), 'mask': (1, 1, 8, w)} or dims={'w': ...}; on the command line "
        "--input-shape x=1,3,8,w --input-shape mask=1,1,8,w or --dim w=..."
    )


def test_free_sizes_without_a_symbol_need_a_shape() -> None:
    model = OnnxBuilder()
    x = model.input((1, None), name="x")
    model.inputs[0].type.tensor_type.shape.dim[1].dim_value = -1  # as some exporters write it
    model.output(model.node("Relu", x, name="y"), np.float32)
    data = model.proto().SerializeToString()
    line = refusal(data)
    assert line.endswith("for ? with input_shapes={'x': (1, ?)}; on the command line --input-shape x=1,?")
    assert graph(data, input_shapes={"x": [1, 5]}).tensors["y"].shape == (1, 5)


def test_a_question_mark_is_no_symbol_that_two_sizes_share() -> None:
    model = OnnxBuilder()
    model.output(model.node("Relu", model.input((1, 3, "?", "?"), name="x"), name="y"), np.float32)
    data = model.proto().SerializeToString()
    assert graph(data, input_shapes={"x": (1, 3, 4, 5)}).tensors["y"].shape == (1, 3, 4, 5)
    assert "--dim" not in refusal(data)


def test_an_input_without_a_shape_takes_one() -> None:
    model = OnnxBuilder()
    model.output(model.node("Relu", model.input((), name="x"), name="y"), np.float32)
    model.inputs[0].type.tensor_type.ClearField("shape")
    data = model.proto().SerializeToString()
    assert refusal(data).startswith("input x of the model has no shape: give it with input_shapes={'x': (...,)}")
    assert graph(data, input_shapes={"x": (2, 3)}).tensors["y"].shape == (2, 3)


@pytest.mark.parametrize(
    ("opening", "line"),
    [
        ({"input_shapes": {"z": (1,)}}, "the model has no input 'z'; its inputs are 'x', 'mask'"),
        ({"dims": {"H": 3}}, "the model has no size 'H'; its symbols are 'N', 'h', 'w'"),
        ({"input_shapes": {"x": (1, 3, 8)}}, "input x of the model is (N, 3, h, w); a shape of 3 sizes was given"),
        ({"input_shapes": {"x": (1, 4, 8, 8)}}, "was given, but only sizes that the file leaves free change"),
        (
            {"input_shapes": {"x": (1, 3, 8, 8)}, "dims": {"h": 9}},
            "input x of the model is (N, 3, h, w); h can't be both 9 and 8",
        ),
        (
            {"input_shapes": {"x": (1, 3, 8, 8), "mask": (1, 1, 8, 9)}},
            "input mask of the model is (N, 1, h, w); w can't be both 8 and 9",
        ),
        ({"input_shapes": {"x": (1, 3, 0, 8)}}, "a size of 'x' in input_shapes is a whole number of at least 1, not 0"),
        ({"input_shapes": {"x": "1,3,8,8"}}, "the shape of 'x' in input_shapes is a sequence of sizes, not '1,3,8,8'"),
        ({"input_shapes": (1, 3)}, "input_shapes is {input name: shape}, not (1, 3)"),
        ({"dims": {"h": True}}, "the size of 'h' in dims is a whole number of at least 1, not True"),
        ({"dims": {"h": 1 << 40, "w": 8}}, "is larger than"),
        ({"outputs": 3}, "outputs is the name of a tensor or a collection of names, not 3"),
        ({"outputs": ["y", "y"]}, "outputs names 'y' twice"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(opening: dict[str, Any], line: str) -> None:
    assert line in refusal(two_inputs(), **opening)


def test_a_model_ends_at_the_tensors_that_are_named() -> None:
    found = graph(chain(), outputs=["b", "a"])
    assert (found.inputs, found.outputs) == (("x",), ("b", "a"))
    assert [operator.kind for operator in found.operators] == ["Relu", "Sigmoid"]
    x = np.array([[-1, 0, 1, 2]], np.float32)
    with rn.Session(chain(), "emulator", outputs="a") as session:
        assert session.run(x)["a"].tolist() == [[0, 0, 1, 2]]


def opaque_operators(found: Graph) -> list[str]:
    return [operator.kind for operator in found.operators if operator.opaque is not None]


def test_it_does_not_matter_what_is_left_out() -> None:
    assert opaque_operators(graph(chain(custom_tail=True)))
    found = graph(chain(custom_tail=True), outputs="b")
    assert not opaque_operators(found)
    assert [operator.kind for operator in found.operators] == ["Relu", "Sigmoid"]


def test_an_operator_that_no_one_knows_may_be_left_out() -> None:
    model = OnnxBuilder()
    model.output(
        model.node("Nonsense", model.node("Relu", model.input((1, 4)), name="a"), name="c"), np.float32, (1, 4)
    )
    data = model.proto().SerializeToString()
    assert "No Op registered for Nonsense" in refusal(data)
    assert graph(data, outputs=["a"]).outputs == ("a",)


def test_tensors_that_nested_graphs_read_stay() -> None:
    branches = [
        helper.make_graph(
            [helper.make_node(kind, ["a"], ["z"])],
            kind,
            [],
            [helper.make_tensor_value_info("z", TensorProto.FLOAT, [4])],
        )
        for kind in ("Relu", "Neg")
    ]
    model = OnnxBuilder()
    model.node("Abs", model.input((4,), name="x"), name="a")
    condition = model.input((), np.bool_, name="c")
    model.node("If", condition, then_branch=branches[0], else_branch=branches[1], name="y")
    model.output(model.node("Exp", "y", name="end"), np.float32)
    with rn.Session(model.proto().SerializeToString(), "emulator", outputs="y") as session:
        found = session.run({"x": np.array([1, -2, 3, -4], np.float32), "c": np.array(False)})
    assert found["y"].tolist() == [-1, -2, -3, -4]


def test_functions_that_nobody_calls_any_more_are_left_out() -> None:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "F", ["a"], ["b"], [helper.make_node("Exp", ["a"], ["b"])], opsets[:1])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"]
    nodes = [helper.make_node("Abs", ["x"], ["a"]), helper.make_node("F", ["a"], ["y"], domain="own")]
    model = helper.make_model(
        helper.make_graph(nodes, "net", ends[:1], ends[1:]), opset_imports=opsets, functions=[function], ir_version=8
    )
    assert opaque_operators(graph(model.SerializeToString()))
    assert not opaque_operators(graph(model.SerializeToString(), outputs="a"))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("x", "the model can't end at 'x': it is an input"),
        ("w", "the model can't end at 'w': it is a constant"),
        ("relu_42", "the model has no tensor 'relu_42'; did you mean 'relu_4'?"),
        ("", "the model has no tensor ''; it ends at 'relu_4'"),
    ],
)
def test_a_name_that_is_no_result_is_refused(name: str, line: str) -> None:
    model = OnnxBuilder()
    w = model.constant(np.ones(4, np.float32), "w")
    model.output(model.node("Relu", model.node("Add", model.input((4,), name="x"), w), name="relu_4"), np.float32)
    assert refusal(model.proto().SerializeToString(), outputs=[name]) == line


def test_the_detector_with_free_height_and_width_runs_in_each_size(shared: Path) -> None:
    path = shared / "cases" / "scrfd_dyn_hw.onnx"
    reference = onnxruntime.InferenceSession(path)
    for height, width in ((96, 128), (64, 32)):
        x = np.random.default_rng(0).random((1, 3, height, width), np.float32)
        expected = dict(zip(("68", "72", "77", "81"), reference.run(None, {"x": x}), strict=True))
        with rn.Session(path, "emulator", dims={"h": height, "w": width}) as session:
            found = session.run(x)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5)  # another order of float32 sums


def test_every_way_to_open_a_model_takes_the_same_arguments(tmp_path: Path) -> None:
    model = OnnxBuilder()
    x = model.input((1, 3, "h", "w"), name="x")
    y = model.node("Conv", x, model.constant(normal((8, 3, 3, 3), 0.2, seed=1)), pads=[1] * 4, name="y")
    model.output(model.node("Sigmoid", y, name="z"), np.float32)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.proto().SerializeToString())
    opening: dict[str, Any] = {"input_shapes": {"x": (1, 3, 8, 12)}, "outputs": ["y"]}
    inputs = normal((4, 3, 8, 12), 1.0, seed=2)
    quantized = rn.quantize(path, inputs, **opening)
    assert graph(quantized.model).tensors["y"].shape == (1, 8, 8, 12)
    assert rn.compile(path, **opening).outputs == ("y",)
    assert verify(path, [{"x": inputs[:1]}], **opening).outputs.keys() == {"y"}
    program = rn.compile(quantized.model)
    for source in (program, _saved(program, tmp_path)):
        with pytest.raises(ModelError, match=r"outputs is for a model; .* is compiled already"):
            rn.Session(cast(Any, source), "emulator", outputs="y")


def _saved(program: rn.Program, folder: Path) -> Path:
    program.save(folder / "m.rnpu")
    return folder / "m.rnpu"


def test_types_of_new_outputs_need_no_declaration() -> None:
    model = onnx.load_model_from_string(chain())
    del model.graph.value_info[:]
    found = graph(model.SerializeToString(), outputs=["a"])
    assert found.tensors["a"].dtype == np.float32
    assert onnx.load_model_from_string(found.model).graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def tflite() -> bytes:
    model = ModelBuilder(seed=1)
    x = model.input((1, 8, 8, 16), name="x")
    return model.build(model.max_pool(model.conv2d(x, 32, name="y"), name="z"))


def test_a_tflite_model_takes_other_sizes() -> None:
    x = np.random.default_rng(0).integers(-128, 128, (1, 12, 20, 16)).astype(np.int8)
    with rn.Session(tflite(), "emulator", input_shapes={"x": x.shape}) as session:
        assert session.outputs[0].shape == (1, 6, 10, 32)
        found = session.run(x)["z"]
    interpreter = Interpreter(model_content=tflite(), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert verify(tflite(), input_shapes={"x": (1, 9, 7, 16)}).worst_npu_layer <= 1


def test_a_tflite_model_ends_before_an_operator_that_no_one_has() -> None:
    data = detector(kernel="Nobody")
    with pytest.raises(ModelError, match=r"no kernel for the custom operator Nobody; .*outputs=\['dequantize', 'deq"):
        load_model(data)
    ends = ["dequantize_2", "dequantize"]
    found = load_model(data, opening=make_opening(outputs=ends))
    assert list(found.outputs) == ends
    assert all(operator.kind != "CUSTOM" for operator in found.operators)
    assert verify(data, outputs=ends).worst_npu_layer <= 1


@pytest.mark.parametrize(
    ("opening", "line"),
    [
        ({"outputs": "yy"}, "no operator that makes 'yy'; there are 'y'"),
        ({"outputs": "x"}, "no operator that makes 'x'; there are 'y', 'z'"),
        ({"input_shapes": {"y": (1, 8, 8, 16)}}, "has no input 'y'; its inputs are 'x'"),
        ({"input_shapes": {"x": (8, 8, 16)}}, "has 4 dimensions; the shape (8, 8, 16) has 3"),
        ({"input_shapes": {"x": (1, 8, 8, 17)}}, "CONV_2D"),
        ({"dims": {"n": 3}}, "names no sizes, as TFLite files don't"),
    ],
)
def test_what_does_not_fit_a_tflite_model_is_named(opening: dict[str, Any], line: str) -> None:
    assert line in refusal(tflite(), **opening)
