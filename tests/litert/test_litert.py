"""Pieces cut out of a model, their runner, and the reference tensors."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from rocketnpu.cpu.litert import Piece, Reference, check_input, extract_piece
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.ir import Graph, Tensor
from support.models import Grid, ModelBuilder


def small_model() -> tuple[ModelBuilder, bytes]:
    model = ModelBuilder(seed=5)
    x = model.input((1, 8, 8, 4), "int8", name="x")
    a = model.conv2d(x, 8, name="a")
    b = model.depthwise(a, per_channel=True, name="b")
    c = model.add(a, b, name="c")
    return model, model.build(c)


def varying(graph: Graph, names: tuple[str | None, ...]) -> list[str]:
    """The inputs of an operator that are not constants."""
    return [name for name in dict.fromkeys(names) if name is not None and graph.tensors[name].data is None]


def noise(graph: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    tensors = [graph.tensors[name] for name in graph.inputs]
    return [
        rng.integers(0, 256, tensor.shape, np.uint8).view(tensor.dtype)
        if tensor.dtype.itemsize == 1
        else rng.normal(size=tensor.shape).astype(tensor.dtype)
        for tensor in tensors
    ]


@pytest.mark.parametrize(
    "path",
    [
        "models/tiny/kws_dscnn_int8.tflite",
        "models/tiny/resnet8_int8.tflite",
        "models/mobilenet_v1_0.25_128_quant.tflite",
        "models/face_detection_short_range_float32.tflite",
        "vectors/golden/test_concat.tflite",
        "vectors/golden/test_resize.tflite",
    ],
)
def test_every_operator_alone_gives_the_reference_tensor(shared: Path, path: str) -> None:
    graph = load_model(shared / path)
    reference = Reference(graph.model).tensors(noise(graph))
    for operator in graph.operators:
        inputs = varying(graph, operator.inputs)
        piece = Piece(extract_piece(graph, [operator.index], inputs, operator.outputs))
        for name, got in zip(operator.outputs, piece.run([reference[name] for name in inputs]), strict=True):
            want = reference[name]
            assert got.dtype == want.dtype
            if got.dtype.kind == "f":  # XNNPACK sums in another order than the reference kernels
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4, err_msg=name)
            else:  # LiteRT's optimised kernels round twice where its reference kernels round once
                np.testing.assert_allclose(got.astype(int), want.astype(int), rtol=0, atol=1, err_msg=name)


def test_a_piece_of_all_operators_gives_the_bytes_of_the_whole_model(shared: Path) -> None:
    graph = load_model(shared / "models/tiny/resnet8_int8.tflite")
    whole = Piece(graph.model).run(noise(graph))
    everything = extract_piece(graph, range(len(graph.operators)), graph.inputs, graph.outputs)
    for got, want in zip(Piece(everything).run(noise(graph)), whole, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_piece_has_its_inputs_and_outputs_in_the_order_asked_for() -> None:
    model, data = small_model()
    graph = load_model(data)
    piece = Piece(extract_piece(graph, [2], ["b", "a"], ["c"]))
    assert [tensor.name for tensor in piece.inputs] == ["b", "a"]
    reference = Reference(data).tensors(model.random_inputs())
    np.testing.assert_array_equal(piece.run([reference["b"], reference["a"]])[0], reference["c"])


def test_a_piece_holds_only_its_own_constants() -> None:
    graph = load_model(small_model()[1])
    piece = load_model(extract_piece(graph, [2], ["a", "b"], ["c"]))
    assert list(piece.tensors) == ["a", "b", "c"]


def test_a_piece_keeps_constants_at_multiples_of_sixteen_bytes() -> None:
    graph = load_model(small_model()[1])
    data = extract_piece(graph, [0, 1, 2], ["x"], ["c"])
    base = np.frombuffer(data, np.uint8).ctypes.data
    starts = [tensor.data.ctypes.data - base for tensor in load_model(data).tensors.values() if tensor.data is not None]
    assert starts
    assert [start % 16 for start in starts] == [0] * len(starts)


def test_a_piece_that_lacks_an_operand_is_refused() -> None:
    graph = load_model(small_model()[1])
    with pytest.raises(ModelError, match="needs tensor a, which is neither its input nor a constant"):
        extract_piece(graph, [2], ["b"], ["c"])


def test_reference_gives_inputs_and_every_operators_output() -> None:
    model, data = small_model()
    tensors = Reference(data).tensors(model.random_inputs())
    assert set(tensors) == {"x", "a", "b", "c"}


def test_reference_is_reusable_and_its_results_stay() -> None:
    model, data = small_model()
    reference = Reference(data)
    inputs = model.random_inputs()
    first = reference.tensors(inputs)
    copy = {name: value.copy() for name, value in first.items()}
    reference.tensors([np.zeros_like(value) for value in inputs])
    for name, value in first.items():
        np.testing.assert_array_equal(value, copy[name])


def test_one_piece_serves_several_threads() -> None:
    model, data = small_model()
    piece = Piece(data)
    inputs = [model.random_inputs() for _ in range(8)]
    expected = [Piece(data).run(values)[0] for values in inputs]
    got: dict[int, np.ndarray] = {}

    def work(index: int) -> None:
        got[index] = piece.run(inputs[index])[0]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, want in enumerate(expected):
        np.testing.assert_array_equal(got[index], want)


def test_what_litert_refuses_is_one_line() -> None:
    model = ModelBuilder()
    x = model.input((1, 4), "int8")
    y = model.operator("RELU", [x], (1, 4), Grid(0.5, 3), dtype="int32")
    with pytest.raises(ModelError, match="LiteRT refuses the model: ") as caught:
        Reference(model.build(y)).tensors([np.zeros((1, 4), np.int8)])
    assert "\n" not in str(caught.value)


TENSOR = Tensor("x", (2, 3), np.dtype("i1"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros((3, 2), np.int8), r"needs int8 of shape \(2, 3\); the shape given is \(3, 2\)"),
        (np.zeros((2, 3), np.float32), "float32 was given: quantize it"),
        (np.full((2, 3), np.nan), "NaN or infinity was given"),
        (np.full((2, 3), 128), r"the values given, 128\.\.128, do not fit"),
        (np.zeros((2, 3), bool), "bool was given"),
        ([["a", "b", "c"]] * 2, "<U1 was given"),
        ([[1, 2, 3], [4]], "not an array"),
    ],
)
def test_a_wrong_input_is_refused_by_name(value: object, message: str) -> None:
    with pytest.raises(ModelError, match=rf"^input 'x' .*{message}"):
        check_input(TENSOR, value)  # type: ignore[arg-type]


def test_integers_that_fit_are_taken() -> None:
    got = check_input(TENSOR, [[-128, 0, 127], [1, 2, 3]])
    assert got.dtype == np.int8
    assert got.tolist() == [[-128, 0, 127], [1, 2, 3]]


def test_the_number_of_inputs_must_match() -> None:
    piece = Piece(small_model()[1])
    with pytest.raises(ModelError, match=r"the model needs an array for each of its inputs \('x'\); given: 2"):
        piece.run([np.zeros((1, 8, 8, 4), np.int8)] * 2)


def test_a_model_that_ends_only_the_reference_kernels_is_compared_with_the_optimised_ones() -> None:
    """LiteRT's reference SOFTMAX scales its input by scale * 2^26 and ends the process where that is below 1."""
    model = ModelBuilder(seed=41)
    x = model.input((1, 10), scale=2.0**-27, zero=0)
    y = model.softmax(x)
    reference = Reference(model.build(y))
    found = reference.tensors(model.random_inputs())[y]
    assert reference.note == "LiteRT's reference kernels crash on the model: compared with its optimised kernels"
    assert np.abs(found.astype(int) + 128 - 25.6).max() <= 1  # ten classes that are all but equal, in steps of 1/256
