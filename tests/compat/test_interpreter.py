"""LiteRT's Python interface: the same answers as LiteRT for the same calls."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import rocketnpu as rn
from rocketnpu.compat.interpreter import InterpreterError
from support.models import ModelBuilder, pack, schema

litert: Any = importlib.import_module("ai_edge_litert.interpreter")

TOLERANCE = 1
"""Steps between two correct roundings of one real value; the models here have one layer on the NPU."""

FILES = (
    "mobilenet_v1_0.25_128_quant.tflite",
    "deeplabv3_mnv2_dm05_pascal_quant.tflite",
    "efficientnet_lite0_int8.tflite",
    "face_detection_short_range_float32.tflite",
    "tiny/resnet8_int8.tflite",
    "mesa-ops/conv2d.tflite",
)


def convolution(dtype: str = "int8", per_channel: bool = False) -> tuple[ModelBuilder, str]:
    model = ModelBuilder(seed=1)
    return model, model.conv2d(model.input((1, 8, 8, 16), dtype), 32, per_channel=per_channel, name="conv")


def addition() -> tuple[ModelBuilder, str]:
    model = ModelBuilder(seed=2)
    return model, model.add(model.input((1, 4, 4, 16)), model.input((1, 4, 4, 16)), name="sum")


def on_cpu() -> tuple[ModelBuilder, str]:
    model = ModelBuilder(seed=3)
    return model, model.fully_connected(model.input((1, 20), "float32"), 10)


MODELS = {
    "int8": convolution(),
    "per channel": convolution(per_channel=True),
    "uint8": convolution("uint8"),
    "two inputs": addition(),
    "float32": on_cpu(),
}


def reference(model: bytes) -> Any:
    """LiteRT's own interpreter with its plain kernels, allocated."""
    interpreter = litert.Interpreter(
        model_content=model, experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    return interpreter


def run(interpreter: Any, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """The steps of every LiteRT application."""
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def assert_same_details(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Equal keys and values; arrays with equal dtypes too."""
    np.testing.assert_equal(ours, theirs)
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("file", FILES)
def test_details_of_model_files_are_those_of_litert(file: str, shared: Path) -> None:
    path = str(shared / "models" / file)
    ours, theirs = rn.Interpreter(model_path=path), litert.Interpreter(model_path=path)
    assert_same_details(ours.get_tensor_details(), theirs.get_tensor_details())
    theirs.allocate_tensors()
    assert_same_details(ours.get_input_details(), theirs.get_input_details())
    assert_same_details(ours.get_output_details(), theirs.get_output_details())
    assert ours.num_subgraphs() == theirs.num_subgraphs()


@pytest.mark.parametrize("name", MODELS)
def test_details_and_results_are_those_of_litert(name: str) -> None:
    builder, output = MODELS[name]
    model, inputs = builder.build(output), builder.random_inputs()
    ours, theirs = rn.Interpreter(model_content=model), reference(model)
    assert_same_details(ours.get_tensor_details(), theirs.get_tensor_details())
    for result, expected in zip(run(ours, inputs), run(theirs, inputs), strict=True):
        assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
        if result.dtype == np.float32:
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)  # other order of float additions
        else:
            assert np.abs(result.astype(int) - expected.astype(int)).max() <= TOLERANCE


def test_application_of_a_user(tmp_path: Path) -> None:
    builder, output = convolution("uint8")
    path = tmp_path / "model.tflite"
    path.write_bytes(builder.build(output))
    (image,) = builder.random_inputs()

    interpreter = rn.Interpreter(model_path=path, num_threads=4, experimental_delegates=[])
    interpreter.allocate_tensors()
    input_index = interpreter.get_input_details()[0]["index"]
    interpreter.tensor(input_index)()[0][:, :] = image[0]
    interpreter.invoke()
    (detail,) = interpreter.get_output_details()
    scale, zero = detail["quantization"]
    real = scale * (interpreter.tensor(detail["index"])().astype(np.float32) - zero)

    with rn.Session(path) as session:
        expected = session.run(image)["conv"]
    np.testing.assert_array_equal(real, scale * (expected.astype(np.float32) - zero))


def test_tensors_are_copies_and_arrays_are_not() -> None:
    builder, output = convolution()
    interpreter = rn.Interpreter(model_content=builder.build(output))
    interpreter.allocate_tensors()
    (index,) = (detail["index"] for detail in interpreter.get_input_details())
    value = np.ones((1, 8, 8, 16), np.int8)
    interpreter.set_tensor(index, value)
    value[:] = 2
    copy = interpreter.get_tensor(index)
    copy[:] = 3
    assert interpreter.get_tensor(index).max() == 1
    interpreter.tensor(index)()[:] = 4
    assert interpreter.get_tensor(index).min() == 4


def test_every_run_gives_new_arrays() -> None:
    builder, output = convolution()
    model = builder.build(output)
    interpreter = rn.Interpreter(model_content=model)
    first, second = builder.random_inputs(), builder.random_inputs()
    (old,) = run(interpreter, first)
    kept = interpreter.tensor(interpreter.get_output_details()[0]["index"])()
    (new,) = run(interpreter, second)
    assert not np.array_equal(old, new)
    np.testing.assert_array_equal(kept, old)


def test_constants_can_be_read_and_tensors_between_operators_if_preserved() -> None:
    builder = ModelBuilder(seed=4)
    hidden = builder.conv2d(builder.input((1, 8, 8, 16)), 16, activation="RELU", name="hidden")
    output = builder.conv2d(hidden, 16, name="output")
    model, inputs = builder.build(output), builder.random_inputs()
    index = {detail["name"]: detail["index"] for detail in reference(model).get_tensor_details()}

    theirs = litert.Interpreter(
        model_content=model,
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    ours = rn.Interpreter(model_content=model, experimental_preserve_all_tensors=True)
    run(theirs, inputs)
    run(ours, inputs)
    np.testing.assert_array_equal(ours.get_tensor(index["weights"]), theirs.get_tensor(index["weights"]))
    difference = ours.get_tensor(index["hidden"]).astype(int) - theirs.get_tensor(index["hidden"])
    assert np.abs(difference).max() <= TOLERANCE

    ours = rn.Interpreter(model_content=model)
    run(ours, inputs)
    with pytest.raises(InterpreterError, match="hidden is not kept"):
        ours.get_tensor(index["hidden"])


def with_signature(builder: ModelBuilder, output: str, *keys: str) -> bytes:
    """The model with signatures that call its inputs x0, x1 ... and its output y."""
    model = builder.model(output)
    names = list(builder.tensors)
    model.signatureDefs = [
        schema.SignatureDefT(
            inputs=[
                schema.TensorMapT(name=f"x{number}", tensorIndex=int(index))
                for number, index in enumerate(model.subgraphs[0].inputs)
            ],
            outputs=[schema.TensorMapT(name="y", tensorIndex=names.index(output))],
            signatureKey=key,
            subgraphIndex=0,
        )
        for key in keys
    ]
    return pack(model)


def test_a_signature_is_called_by_its_names() -> None:
    builder, output = addition()
    model = with_signature(builder, output, "add")
    first, second = builder.random_inputs()
    ours, theirs = rn.Interpreter(model_content=model), reference(model)
    assert (
        ours.get_signature_list() == theirs.get_signature_list() == {"add": {"inputs": ["x0", "x1"], "outputs": ["y"]}}
    )
    runner, expected = ours.get_signature_runner("add"), theirs.get_signature_runner("add")
    np.testing.assert_equal(runner.get_input_details(), expected.get_input_details())
    np.testing.assert_equal(runner.get_output_details(), expected.get_output_details())
    result = ours.get_signature_runner()(x0=first, x1=second)
    assert list(result) == ["y"]
    difference = result["y"].astype(int) - expected(x0=first, x1=second)["y"]
    assert np.abs(difference).max() <= TOLERANCE
    with pytest.raises(InterpreterError, match="inputs are x0, x1; x0 were given"):
        runner(x0=first)
    with pytest.raises(InterpreterError, match="'other' was asked for"):
        ours.get_signature_runner("other")


def test_a_runner_needs_exactly_one_signature() -> None:
    builder, output = addition()
    none = rn.Interpreter(model_content=builder.build(output))
    with pytest.raises(InterpreterError, match="0 signatures"):
        none.get_signature_runner()


BAD_CALLS = {
    "index": lambda i: i.get_tensor(99),
    "negative index": lambda i: i.get_tensor(-1),
    "set index": lambda i: i.set_tensor(99, np.zeros(1, np.int8)),
    "set an output": lambda i: i.set_tensor(i.get_output_details()[0]["index"], np.zeros((1, 8, 8, 32), np.int8)),
    "dtype": lambda i: i.set_tensor(0, np.zeros((1, 8, 8, 16), np.float32)),
    "shape": lambda i: i.set_tensor(0, np.zeros((8, 8, 16), np.int8)),
    "size": lambda i: i.resize_tensor_input(0, [2, 8, 8, 16]),
    "subgraph": lambda i: i.get_tensor_details(1),
    "other subgraph": lambda i: i.get_tensor(0, 1),
}


@pytest.mark.parametrize("call", BAD_CALLS)
def test_bad_calls_are_value_errors_of_one_line(call: str) -> None:
    builder, output = convolution()
    interpreter = rn.Interpreter(model_content=builder.build(output))
    interpreter.allocate_tensors()
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        BAD_CALLS[call](interpreter)
    assert isinstance(caught.value, rn.Error)


def test_the_shape_that_a_model_has_can_be_asked_for() -> None:
    builder, output = convolution()
    interpreter = rn.Interpreter(model_content=builder.build(output))
    interpreter.resize_tensor_input(0, np.array([1, 8, 8, 16], np.int32), strict=True)
    assert len(run(interpreter, builder.random_inputs())) == 1


def test_tensors_must_be_allocated_first() -> None:
    builder, output = convolution()
    interpreter = rn.Interpreter(model_content=builder.build(output))
    with pytest.raises(RuntimeError, match="allocate_tensors first"):
        interpreter.invoke()
    with pytest.raises(ValueError, match="allocate_tensors first"):
        interpreter.get_tensor(0)
    with pytest.raises(ValueError, match="allocate_tensors first"):
        interpreter.set_tensor(0, np.zeros((1, 8, 8, 16), np.int8))


def test_closing_gives_the_device_back_until_it_is_needed_again() -> None:
    builder, output = convolution()
    interpreter, inputs = rn.Interpreter(model_content=builder.build(output)), builder.random_inputs()
    before = run(interpreter, inputs)
    interpreter.close()
    interpreter.close()
    with pytest.raises(InterpreterError, match="allocate_tensors first"):
        interpreter.invoke()
    np.testing.assert_array_equal(run(interpreter, inputs), before)


def test_bad_models_are_value_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="either"):
        rn.Interpreter()
    with pytest.raises(ValueError, match="either"):
        rn.Interpreter(model_path="x", model_content=b"y")
    with pytest.raises(ValueError, match="No such file"):
        rn.Interpreter(model_path=tmp_path / "none.tflite")
    with pytest.raises(ValueError, match="the model"):
        rn.Interpreter(model_content=b"TFL3" * 8)
    with pytest.raises(TypeError, match="threads"):
        rn.Interpreter(model_content=b"", threads=1)
