"""Malformed and hostile TFLite files: a graph or a ModelError, quickly, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.runtime.load import compile_model
from support.models import Grid, ModelBuilder, pack, schema


def small_model() -> Any:
    """Tensors: 0 input, 1 weights, 2 bias, 3 convolution, 4 addition."""
    model = ModelBuilder()
    x = model.input((1, 4, 4, 2), name="x")
    y = model.conv2d(x, 2, per_channel=True, name="y")
    return model.model(model.add(x, y, name="z"))


def tensor(index: int, field: str, value: object) -> Callable[[Any], None]:
    return lambda tree: setattr(tree.subgraphs[0].tensors[index], field, value)


def scale(index: int, field: str, value: list[float], dtype: str) -> Callable[[Any], None]:
    return lambda tree: setattr(tree.subgraphs[0].tensors[index].quantization, field, np.array(value, dtype))


def operator(index: int, field: str, value: object) -> Callable[[Any], None]:
    return lambda tree: setattr(tree.subgraphs[0].operators[index], field, value)


def axis_of_weights(tree: Any) -> None:
    tree.subgraphs[0].tensors[1].quantization.quantizedDimension = 1


def option(field: str, value: object) -> Callable[[Any], None]:
    return lambda tree: setattr(tree.subgraphs[0].operators[0].builtinOptions, field, value)


def indices(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (tensor(3, "shape", indices(1, -4, 4, 2)), "tensor y has a negative dimension"),
        (tensor(3, "shape", indices(*[2**30] * 4)), "tensor y .* is larger than"),
        (tensor(3, "shape", indices(*[1] * 9)), "tensor y has 9 dimensions"),
        (tensor(3, "name", b"\xff\xfe"), "the name of tensor 3 is malformed: 'utf-8' codec can't decode"),
        (tensor(3, "type", 99), "tensor y has unknown type number 99"),
        (tensor(1, "shape", indices(2, 3, 3, 3)), "tensor weights .* needs 54 bytes, its buffer has 36"),
        (tensor(1, "buffer", 99), "tensor weights refers to buffer 99, but the file has 3 buffers"),
        (tensor(1, "externalBuffer", 1), "tensor weights keeps its data in another file"),
        (tensor(0, "buffer", 1), r"needs 32 bytes, its buffer has 36"),
        (scale(3, "scale", [0.0], "f4"), "tensor y has the scale 0.0; scales must be finite and positive"),
        (scale(3, "scale", [1e-44], "f4"), "tensor y has the scale .*e-4"),
        (scale(3, "scale", [np.nan], "f4"), "tensor y has the scale nan"),
        (scale(3, "zeroPoint", [128], "i8"), "tensor y has the zero point 128, outside the range of int8"),
        (scale(3, "zeroPoint", [1, 2], "i8"), "tensor y has 1 scale but 2 zero points"),
        (scale(1, "scale", [1, 1, 1], "f4"), "tensor weights has 3 scales but 2 zero points"),
        (
            lambda tree: setattr(tree.subgraphs[0].tensors[1].quantization, "quantizedDimension", 1),
            "scales along axis 1",
        ),
        (operator(0, "inputs", indices(0, 1, 99)), "reads tensor 99, but the file has 5 tensors"),
        (operator(0, "inputs", indices(0, 1, -2)), "reads tensor -2"),
        (operator(0, "inputs", indices(0, -1, 2)), "leaves out its input 1, which is not optional"),
        (operator(0, "inputs", indices(0)), "has 1 input; it takes 2 to 3"),
        (operator(0, "outputs", indices(-1)), "names tensor -1"),
        (operator(0, "outputs", indices(3, 4)), "has 2 outputs; it must have 1"),
        (operator(0, "outputs", indices(1)), "produces weights, which exists already"),
        (operator(0, "inputs", indices(4, 1, 2)), r"operator 0 \(CONV_2D\) reads z before it is produced"),
        (operator(1, "outputs", indices(3)), "produces y, which exists already"),
        (operator(0, "opcodeIndex", 7), "operator 0 has operator code 7, but the file has 2 codes"),
        (operator(0, "builtinOptionsType", schema.BuiltinOptions.AddOptions), "has options of type AddOptions"),
        (option("strideH", 0), "has StrideH 0; it must be positive"),
        (option("dilationWFactor", -1), "has DilationWFactor -1; it must be positive"),
        (option("padding", 7), "has unknown padding number 7"),
        (option("fusedActivationFunction", 77), "has unknown activation number 77"),
        (lambda tree: setattr(tree.operatorCodes[0], "builtinCode", 5000), "operator code 5000 is not known"),
        (lambda tree: setattr(tree, "version", 2), "schema version 2"),
        (lambda tree: setattr(tree, "subgraphs", []), "has no subgraph"),
        (lambda tree: setattr(tree.subgraphs[0], "inputs", indices(0, 0)), "lists a graph input twice"),
        (lambda tree: setattr(tree.subgraphs[0], "inputs", indices(0, 1)), "graph input weights is a constant"),
        (lambda tree: setattr(tree.subgraphs[0], "inputs", indices()), "reads x before it is produced"),
        (lambda tree: setattr(tree.subgraphs[0], "outputs", indices(5)), "names tensor 5"),
        (lambda tree: setattr(tree.buffers[1], "offset", 1 << 40), "a buffer names bytes 1099511627776 to"),
        (lambda tree: setattr(tree.buffers[1], "size", 1 << 62), "cut short or damaged"),
    ],
)
def test_a_spoiled_model_is_refused_by_name(spoil: Callable[[Any], None], message: str) -> None:
    tree = small_model()
    spoil(tree)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(pack(tree))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "message"),
    [((5, 1, 1, 3), "do not fit the input"), ((5, 9, 9, 2), "does not fit the input"), ((5, 2), "4 dimensions")],
)
def test_weights_that_do_not_fit_the_input_are_refused(weights: tuple[int, ...], message: str) -> None:
    model = ModelBuilder()
    x = model.input((1, 4, 4, 2))
    operand = model.constant(np.zeros(weights, np.int8), Grid(0.1))
    options = schema.Conv2DOptionsT(padding=schema.Padding.VALID, strideH=1, strideW=1)
    y = model.operator("CONV_2D", [x, operand], (1, 1, 1, 5), Grid(0.1), options, "Conv2DOptions")
    with pytest.raises(ModelError, match=message):
        load_model(model.build(y))


def test_a_long_name_shared_by_many_tensors_is_not_multiplied() -> None:
    """The file is small, its tables are not: 20,000 tensors whose names are one string of 200,000 bytes."""
    builder = flatbuffers.Builder(1 << 20)
    name = builder.CreateString("n" * 200_000)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    shared = schema.TensorEnd(builder)
    schema.SubGraphStartTensorsVector(builder, 20_000)
    for _ in range(20_000):
        builder.PrependUOffsetTRelative(shared)
    tensors = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    subgraph = schema.SubGraphEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(subgraph)
    subgraphs = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, 3)
    schema.ModelAddSubgraphs(builder, subgraphs)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    start = time.perf_counter()
    with pytest.raises(ModelError, match="far more data than the file holds"):
        load_model(bytes(builder.Output()))
    assert time.perf_counter() - start < 1.0  # 4 GB of names would take much longer


@pytest.fixture(scope="module")
def samples(shared: Path) -> list[bytes]:
    """A built model, and small real ones of two converters."""
    files = ("models/mesa-ops/mb1.tflite", "models/mesa-ops/mb30.tflite", "vectors/golden/test_concat.tflite")
    return [pack(small_model()), *((shared / file).read_bytes() for file in files)]


def loads_or_refuses(data: bytes) -> None:
    """Anything but a graph or a ModelError of one line fails the test; hypothesis bounds the time."""
    message = ""
    try:
        load_model(data)
    except ModelError as error:
        message = str(error)
    assert "\n" not in message


@settings(max_examples=400, deadline=20_000)
@given(data=st.data())
def test_flipped_bytes_load_or_are_refused(samples: list[bytes], data: st.DataObject) -> None:
    model = bytearray(data.draw(st.sampled_from(samples)))
    for _ in range(data.draw(st.integers(1, 4))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    loads_or_refuses(bytes(model))


@settings(max_examples=300, deadline=20_000)
@given(data=st.data())
def test_words_overwritten_by_extreme_ones_load_or_are_refused(samples: list[bytes], data: st.DataObject) -> None:
    model = bytearray(data.draw(st.sampled_from(samples)))
    offset = 4 * data.draw(st.integers(0, len(model) // 4 - 1))
    word = data.draw(st.sampled_from([0, 1, 4, len(model), 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
    model[offset : offset + 4] = word.to_bytes(4, "little")
    loads_or_refuses(bytes(model))


@settings(max_examples=200, deadline=20_000)
@given(data=st.data())
def test_truncated_files_load_or_are_refused(samples: list[bytes], data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(samples))
    loads_or_refuses(model[: data.draw(st.integers(0, len(model) - 1))])


@settings(max_examples=100, deadline=20_000)
@given(tail=st.binary(max_size=200))
@example(tail=b"")
def test_noise_behind_the_identifier_is_refused_or_loads(tail: bytes) -> None:
    loads_or_refuses(b"\x08\x00\x00\x00TFL3" + tail)


def test_padding_of_thousands_of_millions_is_left_to_the_cpu_at_once() -> None:
    model = ModelBuilder()
    y = model.conv2d(model.input((1, 4, 4, 16)), 16, kernel=2, dilation=1 << 30)
    started = time.monotonic()
    program = compile_model(model.build(y))
    assert [step.place for step in program.steps] == ["cpu"]
    assert time.monotonic() - started < 5
