"""What the TFLite frontend makes of real models and of every option of the operators it knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rocketnpu.cpu.litert import Piece, extract_piece
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.frontends.tflite.reader import unique_names
from rocketnpu.ir import (
    Activation,
    ConvOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    Graph,
    Padding,
    PoolOptions,
    ReduceOptions,
)
from support.models import Grid, ModelBuilder, pack, schema


def built(model: ModelBuilder, *outputs: str) -> Graph:
    return load_model(model.build(*outputs))


@pytest.mark.parametrize("folder", ["models", "models/mesa-ops", "models/tiny", "vectors/golden"])
def test_every_shared_model_loads_and_can_be_compiled(shared: Path, folder: str) -> None:
    files = sorted((shared / folder).glob("*.tflite"))
    assert files
    for file in files:
        graph = load_model(file)
        assert graph.operators, file.name
        assert [operator.opaque for operator in graph.operators if operator.opaque] == [], file.name
        assert [operator.unsupported for operator in graph.operators if operator.unsupported] == [], file.name


def test_mobilenet_v1_is_read_as_its_authors_describe_it(shared: Path) -> None:
    graph = load_model(shared / "models/mobilenet_v1_1.0_224_quant.tflite")
    kinds = [operator.kind for operator in graph.operators]
    assert kinds.count("CONV_2D") == 15
    assert kinds.count("DEPTHWISE_CONV_2D") == 13
    assert [graph.tensors[name].shape for name in graph.inputs] == [(1, 224, 224, 3)]
    first = graph.operators[0]
    assert first.options == ConvOptions(Padding.SAME, 2, 2, 1, 1, Activation.NONE)
    weights = graph.tensors[first.inputs[1] or ""]
    assert weights.data is not None
    assert weights.data.shape == (32, 3, 3, 3)
    assert not weights.data.flags.writeable


def test_a_tensors_position_is_its_index_in_the_file() -> None:
    model = ModelBuilder()
    x = model.input((1, 4, 4, 2))
    graph = built(model, model.conv2d(x, 4))
    assert list(graph.tensors) == list(model.tensors)


def test_convolution_options_are_read() -> None:
    model = ModelBuilder()
    x = model.input((1, 20, 20, 2))
    conv = model.conv2d(x, 4, kernel=(3, 2), stride=(2, 1), padding="VALID", dilation=(2, 3), activation="RELU6")
    depthwise = model.depthwise(x, multiplier=3, activation="RELU_N1_TO_1")
    options = [operator.options for operator in built(model, conv, depthwise).operators]
    assert options == [
        ConvOptions(Padding.VALID, 2, 1, 2, 3, Activation.RELU6),
        ConvOptions(Padding.SAME, 1, 1, 1, 1, Activation.RELU_N1_TO_1, multiplier=3),
    ]


def test_other_options_are_read() -> None:
    model = ModelBuilder()
    x = model.input((1, 8, 8, 2))
    a = model.average_pool(x, kernel=(3, 2), stride=(2, 3), padding="SAME")
    b = model.max_pool(x)
    c = model.add(x, x, activation="RELU")
    d = model.mean(x, axes=(-1, 1), keep_dims=False)
    e = model.fully_connected(x, 5, activation="RELU", keep_num_dims=True)
    f = model.softmax(x)
    options = [operator.options for operator in built(model, a, b, c, d, e, f).operators]
    assert options == [
        PoolOptions(Padding.SAME, 2, 3, 3, 2),
        PoolOptions(Padding.VALID, 2, 2, 2, 2),
        ElementwiseOptions(Activation.RELU),
        ReduceOptions(axes=(1, 3), keep_dims=False),
        FullyConnectedOptions(Activation.RELU, keep_num_dims=True),
        None,
    ]


def test_absent_options_are_the_schemas_defaults_where_those_make_sense() -> None:
    model = ModelBuilder()
    x = model.input((1, 2, 2, 4))
    axes = model.constant(np.array([1, 2], np.int32))
    total = model.operator("ADD", [x, x], (1, 2, 2, 4), Grid(0.1))
    mean = model.operator("MEAN", [x, axes], (1, 4), Grid(0.1))
    options = [operator.options for operator in built(model, total, mean).operators]
    assert options == [ElementwiseOptions(), ReduceOptions((1, 2), keep_dims=False)]


def test_a_convolution_without_options_is_refused() -> None:
    model = ModelBuilder()
    x = model.input((1, 2, 2, 4))
    y = model.operator("AVERAGE_POOL_2D", [x], (1, 1, 1, 4), Grid(0.02, 3))
    with pytest.raises(ModelError, match=r"operator 0 \(AVERAGE_POOL_2D\) has no options"):
        built(model, y)


def test_per_channel_scales_have_their_axis_and_zero_points() -> None:
    model = ModelBuilder()
    x = model.input((1, 4, 4, 6))
    graph = built(model, model.depthwise(x, per_channel=True), model.conv2d(x, 5, per_channel=True))
    for operator, axis, channels in zip(graph.operators, (3, 0), (6, 5), strict=True):
        weights = graph.tensors[operator.inputs[1] or ""].quantization
        assert weights is not None
        assert (weights.axis, weights.scales.shape, weights.zero_points.tolist()) == (axis, (channels,), [0] * channels)
        bias = graph.tensors[operator.inputs[2] or ""].quantization
        assert bias is not None
        assert bias.axis == 0
        np.testing.assert_allclose(bias.scales, weights.scales * np.float32(0.02), rtol=1e-6)


def test_an_omitted_optional_input_is_none() -> None:
    model = ModelBuilder()
    x = model.input((1, 4))
    weights = model.constant(np.zeros((3, 4), np.int8), Grid(0.1))
    y = model.operator("FULLY_CONNECTED", [x, weights, None], (1, 3), Grid(0.1))
    assert built(model, y).operators[0].inputs == (x, weights, None)


def test_names_that_repeat_or_are_empty_get_their_index() -> None:
    assert unique_names(["a", "b", "a", "", "a#2", "b"], ()) == ["a", "b", "a#2", "#3", "a#2#4", "b#5"]


def test_graph_inputs_and_outputs_keep_their_names() -> None:
    assert unique_names(["x", "x", "y", "y", "y"], (1, 4)) == ["x#0", "x", "y#2", "y#3", "y"]


def test_of_two_outputs_with_one_name_the_second_gets_its_index() -> None:
    assert unique_names(["x", "y", "y"], (0, 2, 1)) == ["x", "y#1", "y"]


def test_scales_of_float_tensors_are_dropped() -> None:
    model = ModelBuilder()
    x = model.input((1, 4), "float32")
    tree = model.model(model.operator("RELU", [x], (1, 4), Grid(0.5)))
    assert load_model(pack(tree)).tensors["relu"].quantization is None


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("weightsFormat", schema.FullyConnectedOptionsWeightsFormat.SHUFFLED4x16INT8, "its weights are shuffled"),
        ("quantizedBiasType", schema.TensorType.INT16, "its quantized bias type is INT16"),
    ],
)
def test_what_the_compiler_cannot_analyse_is_marked(field: str, value: object, reason: str) -> None:
    model = ModelBuilder()
    tree = model.model(model.fully_connected(model.input((1, 4)), 3))
    setattr(tree.subgraphs[0].operators[0].builtinOptions, field, value)
    graph = load_model(pack(tree))
    assert graph.operators[0].opaque is None
    assert graph.operators[0].unsupported == reason


def test_custom_quantization_marks_the_operators_that_touch_it() -> None:
    model = ModelBuilder()
    x = model.input((1, 4))
    y = model.operator("RELU", [x], (1, 4), Grid(0.1))
    z = model.operator("RELU", [y], (1, 4), Grid(0.1))
    tree = model.model(z)
    grid = tree.subgraphs[0].tensors[0].quantization
    grid.detailsType, grid.details = schema.QuantizationDetails.CustomQuantization, schema.CustomQuantizationT()
    reasons = [operator.unsupported for operator in load_model(pack(tree)).operators]
    assert reasons == ["tensor input0 has custom quantization", None]


def relu_model(kind: str = "RELU", dtype: str = "int8") -> tuple[ModelBuilder, str]:
    model = ModelBuilder()
    return model, model.operator(kind, [model.input((1, 4), dtype)], (1, 4), Grid(0.1) if dtype == "int8" else None)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("IF", "IF is control flow, which has no NPU form"),
        ("SVDF", "SVDF keeps state, which has no NPU form"),
    ],
)
def test_an_operator_that_only_litert_runs_is_opaque_and_no_other_one(kind: str, reason: str) -> None:
    model = ModelBuilder()
    x = model.operator("RELU", [model.input((1, 4))], (1, 4), Grid(0.1))
    y = model.operator(kind, [x], (1, 4), Grid(0.1))
    graph = built(model, model.operator("RELU", [y], (1, 4), Grid(0.1)))
    assert [operator.opaque for operator in graph.operators] == [None, reason, None]


def test_operators_on_a_variable_are_opaque_and_share_it() -> None:
    model, output = relu_model()
    tree = model.model(output)
    tree.subgraphs[0].tensors[1].isVariable = True
    (operator,) = load_model(pack(tree)).operators
    assert (operator.opaque, operator.shares) == ("RELU keeps state, which has no NPU form", {"relu"})


@pytest.mark.parametrize("type_name", ["STRING", "INT4", "BFLOAT16", "RESOURCE"])
def test_operators_on_types_without_a_numpy_dtype_are_opaque(type_name: str) -> None:
    model, output = relu_model(dtype="float32")
    tree = model.model(output)
    tree.subgraphs[0].tensors[0].type = getattr(schema.TensorType, type_name)
    graph = load_model(pack(tree))
    assert graph.operators[0].opaque == f"the type {type_name} of tensor input0 has no NPU form"
    assert graph.tensors["input0"].dtype == np.dtype(object)


def test_a_reshape_to_a_shape_computed_from_shapes_is_static() -> None:
    model = ModelBuilder()
    x = model.input((1, 2, 2, 4))
    shape = model.operator("SHAPE", [x], (4,), dtype="int32")
    y = model.operator("RESHAPE", [x, shape], (1, 2, 2, 4), Grid(0.02, 3))
    assert built(model, y).tensors[y].shape == (1, 2, 2, 4)


def test_a_reshape_to_a_shape_that_is_an_input_has_unknown_sizes() -> None:
    model = ModelBuilder()
    x = model.input((1, 16))
    shape = model.input((2,), "int32")
    y = model.operator("RESHAPE", [x, shape], (4, 4), Grid(0.02, 3))
    assert built(model, y).tensors[y].shape == (-1, -1)


def contradicting_model(after: str) -> bytes:
    """A convolution that gives (1, 4, 4, 4), whatever the file says, and an operator on its result."""
    model = ModelBuilder()
    y = model.conv2d(model.input((1, 4, 4, 2)), 4, name="y")
    tree = model.model(model.operator(after, [y], (1, 3, 3, 4), Grid(0.1), name="z"))
    tree.subgraphs[0].tensors[-2].shape = np.array([1, 3, 3, 4], np.int32)
    return pack(tree)


def test_shapes_are_those_that_the_operands_give_not_those_that_the_file_states() -> None:
    graph = load_model(contradicting_model("RELU"))
    assert (graph.tensors["y"].shape, graph.tensors["z"].shape) == ((1, 4, 4, 4), (1, 4, 4, 4))


def test_an_unknown_kind_after_a_wrong_shape_has_unknown_sizes() -> None:
    graph = load_model(contradicting_model("SQUARE"))
    assert (graph.tensors["y"].shape, graph.tensors["z"].shape) == ((1, 4, 4, 4), (-1, -1, -1, -1))


@pytest.mark.parametrize("target", [(4, 4), (-1, 8), (2, 2, -1)])
def test_reshape_fills_in_the_open_dimension(target: tuple[int, ...]) -> None:
    model = ModelBuilder()
    x = model.input((1, 16))
    operands = [x, model.constant(np.array(target, np.int32))]
    graph = built(model, model.operator("RESHAPE", operands, (16,), Grid(0.02, 3)))
    assert graph.tensors["reshape"].shape == np.zeros(16).reshape(target).shape


def test_a_reshape_whose_target_is_left_out_takes_the_shape_that_the_file_states() -> None:
    model = ModelBuilder()
    y = model.operator("RESHAPE", [model.input((1, 16)), None], (4, 4), Grid(0.02, 3))
    assert built(model, y).tensors[y].shape == (4, 4)


def test_mesas_two_layer_model_has_the_shape_that_litert_gives(shared: Path) -> None:
    """The file says that the last layer gives 8x8x8; it gives 4x4x8."""
    graph = load_model(shared / "models/mesa-ops/mb01.tflite")
    assert graph.tensors[graph.outputs[0]].shape == (1, 4, 4, 8)
    assert Piece(graph.model).run([np.zeros((1, 8, 8, 3), np.uint8)])[0].shape == (1, 4, 4, 8)


def test_constants_behind_the_flatbuffer_are_read_and_go_into_pieces() -> None:
    """LiteRT's quantizer stores large constants so."""
    model = ModelBuilder()
    x = model.input((1, 8, 8, 4), name="x")
    tree = model.model(model.conv2d(x, 8, name="y"))
    inline = pack(tree)
    payload = b""
    for final in (False, True):  # the second time with the length of the flatbuffer, which the first one tells
        start = len(pack(tree)) if final else 1 << 20
        moved, payload = model.model("y"), b""
        for buffer in moved.buffers:
            if buffer.data is not None and len(buffer.data):
                content = np.asarray(buffer.data, np.uint8).tobytes()
                buffer.data, buffer.offset, buffer.size = None, start + len(payload), len(content)
                payload += content
        tree = moved
    data = pack(tree) + payload
    assert len(pack(tree)) < len(inline)
    graph, expected = load_model(data), load_model(inline)
    for name, tensor in expected.tensors.items():
        if tensor.data is not None:
            np.testing.assert_array_equal(graph.tensors[name].data, tensor.data)
    values = model.random_inputs()
    found, wanted = (Piece(extract_piece(each, [0], ["x"], ["y"])).run(values)[0] for each in (graph, expected))
    np.testing.assert_array_equal(found, wanted)
