"""What the graph of an ONNX model says: operators, grids, layouts and names."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from rocketnpu.frontends import load_model
from rocketnpu.ir import Activation, ConvOptions, Graph, Operator, PoolOptions, ReduceOptions
from support.onnx_models import OnnxBuilder, quantize, small_network

GRID = (0.05, 3)


def kinds(graph: Graph) -> list[str]:
    return [operator.kind for operator in graph.operators]


def only(graph: Graph) -> Operator:
    assert len(graph.operators) == 1, str(graph)
    return graph.operators[0]


@pytest.mark.parametrize("quantization", ["QDQ", "QOperator"])
def test_both_forms_of_quantized_models_become_the_same_operators(quantization: str) -> None:
    graph = load_model(quantize(small_network(), quantization=quantization))
    assert kinds(graph) == [
        "QuantizeLinear",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "CONV_2D",
        "ADD",
        "AVERAGE_POOL_2D",
        "MEAN",
        "RESHAPE",
        "FULLY_CONNECTED",
        "DequantizeLinear",
    ]
    assert graph.format == "onnx"
    assert all(operator.opaque is None for operator in graph.operators)


def test_images_keep_their_shape() -> None:
    model = OnnxBuilder()
    x = model.real_input((1, 3, 8, 6), GRID, name="x")
    pooled = model.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    graph = load_model(model.build(model.quantized(pooled, GRID, name="y")))
    assert [graph.tensors[name].shape for name in "xy"] == [(1, 3, 8, 6), (1, 3, 4, 3)]
    assert only(graph).options == PoolOptions("VALID", 2, 2, 2, 2, pads=(0, 0, 0, 0))


def test_convolution_weights_are_given_in_tflites_order() -> None:
    values = np.arange(5 * 3 * 2 * 4, dtype=np.int8).reshape(5, 3, 2, 4)
    model = OnnxBuilder()
    weights = model.weights(values, np.full(5, 0.1))
    conv = model.node(
        "Conv", model.real_input((1, 3, 9, 9), GRID), weights, strides=[1, 2], pads=[1, 2, 0, 1], dilations=[2, 1]
    )
    operator = only(graph := load_model(model.build(model.quantized(conv, GRID))))
    stored = graph.tensors[operator.inputs[1] or ""]
    assert np.array_equal(stored.data, values.transpose(0, 2, 3, 1))
    assert stored.quantization is not None
    assert stored.quantization.axis == 0
    assert operator.options == ConvOptions("VALID", 1, 2, 2, 1, pads=(1, 2, 0, 1))


def test_depthwise_weights_are_given_in_tflites_order() -> None:
    values = np.arange(8 * 3 * 3, dtype=np.int8).reshape(8, 1, 3, 3)
    model = OnnxBuilder()
    conv = model.node("Conv", model.real_input((1, 4, 9, 9), GRID), model.weights(values, np.full(8, 0.1)), group=4)
    operator = only(graph := load_model(model.build(model.quantized(conv, GRID))))
    stored = graph.tensors[operator.inputs[1] or ""]
    assert operator.kind == "DEPTHWISE_CONV_2D"
    assert np.array_equal(stored.data, values.transpose(1, 2, 3, 0))
    assert stored.quantization is not None
    assert stored.quantization.axis == 3
    assert isinstance(operator.options, ConvOptions)
    assert operator.options.multiplier == 2


def test_asymmetric_int8_weights_are_the_same_weights_as_uint8() -> None:
    values = np.array([[-128, -1], [0, 127]], np.int8).reshape(2, 2, 1, 1)
    model = OnnxBuilder()
    conv = model.node("Conv", model.real_input((1, 2, 3, 3), GRID), model.weights(values, 0.1, 5))
    operator = only(graph := load_model(model.build(model.quantized(conv, GRID))))
    stored = graph.tensors[operator.inputs[1] or ""]
    assert stored.dtype == np.uint8
    assert stored.data is not None
    assert stored.quantization is not None
    assert stored.data.reshape(-1).tolist() == [0, 127, 128, 255]
    assert stored.quantization.zero_points.tolist() == [133]


@pytest.mark.parametrize("as_float", [True, False])
def test_a_bias_counts_in_units_of_the_accumulator(as_float: bool) -> None:
    model = OnnxBuilder()
    x = model.real_input((1, 1, 3, 3), (0.5, 0))
    weights = model.weights(np.ones((2, 1, 1, 1), np.int8), [0.25, 0.5])
    real = np.array([1.0, -3.0], np.float32)
    bias = model.constant(real) if as_float else model.weights(np.array([2, -6], np.int32), 0.5)
    conv = model.node("Conv", x, weights, bias)
    operator = only(graph := load_model(model.build(model.quantized(conv, GRID))))
    stored = graph.tensors[operator.inputs[2] or ""].data
    assert stored is not None
    assert stored.tolist() == [8, -12]


@pytest.mark.parametrize(
    ("bounds", "activation"),
    [((0.0, 6.0), Activation.RELU6), ((-1.0, 1.0), Activation.RELU_N1_TO_1), ((0.0, None), Activation.RELU)],
)
def test_a_clip_behind_a_convolution_is_its_activation(
    bounds: tuple[float, float | None], activation: Activation
) -> None:
    model = OnnxBuilder()
    conv = model.node("Conv", model.real_input((1, 1, 3, 3), GRID), model.weights(np.ones((1, 1, 1, 1), np.int8), 0.1))
    limits = [model.constant(np.float32(value)) for value in bounds if value is not None]
    clip = model.node("Clip", conv, *limits)
    graph = load_model(model.build(model.quantized(clip, GRID, name="y")))
    options = only(graph).options
    assert isinstance(options, ConvOptions)
    assert options.activation is activation
    assert (graph.dissolved[conv], graph.dissolved[clip]) == ("y", "y")


def test_a_clip_that_is_no_activation_of_tflite_is_an_operator_of_its_own() -> None:
    model = OnnxBuilder()
    conv = model.node("Conv", model.real_input((1, 1, 3, 3), GRID), model.weights(np.ones((1, 1, 1, 1), np.int8), 0.1))
    clip = model.node("Clip", conv, model.constant(np.float32(-2)), model.constant(np.float32(3)))
    graph = load_model(model.build(model.quantized(clip, GRID)))
    assert kinds(graph) == ["CONV_2D", "LOOKUP"]


def test_one_dequantizelinear_may_serve_several_operators() -> None:
    model = OnnxBuilder()
    x = model.real_input((1, 4, 3, 3), GRID, name="x")
    left = model.real(model.quantized(model.node("Relu", x), GRID, name="left"), GRID)
    right = model.quantized(model.node("Add", x, left), GRID, name="right")
    graph = load_model(model.build(right))
    assert kinds(graph) == ["RELU", "ADD"]
    assert graph.operators[1].inputs == ("x", "left")


def test_a_float_tensor_that_something_else_reads_goes_on_to_exist() -> None:
    model = OnnxBuilder()
    x = model.real_input((1, 4, 3, 3), GRID)
    relu = model.node("Relu", x, name="relu")
    model.output(model.node("Exp", relu), np.float32)
    graph = load_model(model.build(model.quantized(relu, GRID)))
    assert sorted(kinds(graph)) == ["DequantizeLinear", "Exp", "QuantizeLinear", "Relu"]
    assert not graph.dissolved


def test_a_float_tensor_that_is_to_be_kept_goes_on_to_exist() -> None:
    data = quantize(small_network())
    assert "pointwise" in load_model(data).dissolved
    kept = load_model(data, keep=["pointwise"])
    assert "pointwise" in kept.tensors
    assert "pointwise" not in kept.dissolved
    assert "Conv" in kinds(kept)


def test_a_tensor_read_on_another_grid_than_it_is_made_on_is_left_to_the_cpu() -> None:
    model = OnnxBuilder()
    relu = model.quantized(model.node("Relu", model.real_input((1, 4, 2, 2), (0.1, 0))), (0.1, 0))
    pool = model.node("MaxPool", model.real(relu, (0.2, 0)), kernel_shape=[2, 2])
    graph = load_model(model.build(model.quantized(pool, (0.2, 0))))
    assert kinds(graph) == ["RELU", "DequantizeLinear", "MaxPool", "QuantizeLinear"]


def test_a_function_may_read_its_tensor_on_any_grid() -> None:
    model = OnnxBuilder()
    relu = model.quantized(model.node("Relu", model.real_input((1, 4), (0.1, 0))), (0.1, 0))
    again = model.node("Relu", model.real(relu, (0.2, 0)))
    graph = load_model(model.build(model.quantized(again, (0.2, 0))))
    assert kinds(graph) == ["RELU", "LOOKUP"]


def test_a_change_of_grid_alone_is_an_operator() -> None:
    model = OnnxBuilder()
    x = model.real_input((1, 4), (0.1, 0), name="x")
    operator = only(load_model(model.build(model.quantized(x, (0.2, 5), name="y"))))
    assert (operator.kind, operator.inputs, operator.outputs) == ("QUANTIZE", ("x",), ("y",))


def test_operators_that_move_integers_pass_their_grid_on() -> None:
    model = OnnxBuilder()
    x = model.quantized(model.input((1, 2, 4, 4)), (0.25, -7))
    pooled = model.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    flat = model.node("Flatten", pooled, name="flat")
    graph = load_model(model.build(flat))
    assert kinds(graph) == ["QuantizeLinear", "MAX_POOL_2D", "RESHAPE"]
    grid = graph.tensors["flat"].quantization
    assert grid is not None
    assert (grid.scales.tolist(), grid.zero_points.tolist()) == ([0.25], [-7])


def test_matrices_are_given_with_a_row_for_each_unit() -> None:
    values = np.arange(12, dtype=np.int8).reshape(4, 3)
    for op_type, stored, attributes in (("MatMul", values, {}), ("Gemm", values.T, {"transB": 1})):
        model = OnnxBuilder()
        weights = model.weights(np.ascontiguousarray(stored), np.full(3, 0.1), axis=1 if op_type == "MatMul" else 0)
        product = model.node(op_type, model.real_input((2, 4), GRID), weights, **attributes)
        operator = only(graph := load_model(model.build(model.quantized(product, GRID))))
        found = graph.tensors[operator.inputs[1] or ""]
        assert operator.kind == "FULLY_CONNECTED"
        assert np.array_equal(found.data, values.T), op_type
        assert found.quantization is not None
        assert found.quantization.axis == 0


@pytest.mark.parametrize("opset", [13, 18])
def test_the_axes_of_a_mean_come_as_attribute_or_operand(opset: int) -> None:
    model = OnnxBuilder(opset)
    x = model.real_input((1, 4, 3, 3), GRID)
    if opset < 18:
        mean = model.node("ReduceMean", x, axes=[-1, 2], keepdims=0)
    else:
        mean = model.node("ReduceMean", x, model.constant(np.array([-1, 2])), keepdims=0)
    operator = only(load_model(model.build(model.quantized(mean, GRID))))
    assert (operator.kind, operator.options) == ("MEAN", ReduceOptions((2, 3), keep_dims=False))


@pytest.mark.parametrize(
    ("auto_pad", "pads"), [("SAME_UPPER", (0, 1, 1, 1)), ("SAME_LOWER", (1, 1, 0, 1)), ("VALID", (0, 0, 0, 0))]
)
def test_automatic_padding_is_counted(auto_pad: str, pads: tuple[int, int, int, int]) -> None:
    model = OnnxBuilder()
    weights = model.weights(np.ones((1, 1, 3, 3), np.int8), 0.1)
    conv = model.node("Conv", model.real_input((1, 1, 8, 7), GRID), weights, strides=[2, 2], auto_pad=auto_pad)
    options = only(load_model(model.build(model.quantized(conv, GRID)))).options
    assert isinstance(options, ConvOptions)
    assert options.pads == pads


def test_an_average_that_counts_its_padding_is_a_convolution() -> None:
    model = OnnxBuilder()
    x = model.real_input((1, 2, 8, 8), GRID)
    pool = model.node("AveragePool", x, kernel_shape=[3, 4], pads=[1] * 4, count_include_pad=1)
    operator = only(graph := load_model(model.build(model.quantized(pool, GRID))))
    weights = graph.tensors[operator.inputs[1] or ""]
    assert (operator.kind, weights.shape) == ("DEPTHWISE_CONV_2D", (1, 3, 4, 2))
    assert operator.options == ConvOptions("VALID", 1, 1, multiplier=1, pads=(1, 1, 1, 1))
    assert weights.quantization is not None
    assert weights.quantization.scales.tolist() == [1 / 12]


def test_windows_beyond_the_image_are_padding() -> None:
    model = OnnxBuilder()
    pool = model.node("MaxPool", model.real_input((1, 1, 8, 8), GRID), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    options = only(load_model(model.build(model.quantized(pool, GRID)))).options
    assert options == PoolOptions("VALID", 2, 2, 3, 3, pads=(0, 0, 1, 1))


def test_an_average_that_counts_padding_and_rounds_up_is_named() -> None:
    model = OnnxBuilder()
    attributes = {"pads": [1] * 4, "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1}
    pool = model.node("AveragePool", model.real_input((1, 1, 8, 8), GRID), kernel_shape=[3, 3], **attributes)
    found = only(load_model(model.build(model.quantized(pool, GRID))))
    assert found.unsupported == "it counts padding, and rounds its size up"


def test_a_shape_that_is_computed_from_shapes_is_a_constant() -> None:
    """How PyTorch writes x.view(x.size(0), -1)."""
    model = OnnxBuilder()
    x = model.real_input(("batch", 4, 3, 3), GRID, name="x")  # type: ignore[arg-type]
    batch = model.node("Gather", model.node("Shape", x), model.constant(np.array(0)), axis=0)
    rows = model.node("Unsqueeze", batch, model.constant(np.array([0])))
    flat = model.node("Reshape", x, model.node("Concat", rows, model.constant(np.array([-1])), axis=0))
    graph = load_model(model.build(model.quantized(flat, GRID, name="y")))
    assert kinds(graph) == ["RESHAPE"]
    assert (graph.inputs, graph.outputs) == (("x",), ("y",))
    assert graph.tensors["y"].shape == (1, 36)


def test_onnx_runtimes_own_quantizelinear_is_onnxs() -> None:
    model = OnnxBuilder()
    model.quantized(model.node("Relu", model.real_input((1, 4), GRID)), GRID, name="y")
    for node in model.nodes:
        if node.op_type != "Relu":
            node.domain = "com.microsoft"
    model.output("y", shape=(1, 4))
    assert kinds(load_model(model.proto().SerializeToString())) == ["RELU"]


def test_constants_in_nodes_and_dropout_are_tidied_away() -> None:
    model = OnnxBuilder()
    x = model.real_input((1, 4), GRID)
    model.nodes.append(helper.make_node("Constant", [], ["two"], value=onnx.numpy_helper.from_array(np.array([2, 2]))))
    reshaped = model.node("Reshape", model.node("Dropout", x), "two")
    graph = load_model(model.build(model.quantized(reshaped, GRID, name="y")))
    assert kinds(graph) == ["RESHAPE"]
    assert graph.outputs == ("y",)


def test_inputs_that_are_constants_too_are_constants() -> None:
    model = OnnxBuilder()
    weights = np.ones((2, 4), np.float32)
    model.output(model.node("MatMul", model.constant(weights), model.input((4, 3), name="x")), np.float32)
    model.inputs.append(helper.make_tensor_value_info(model.constants[0].name, onnx.TensorProto.FLOAT, [2, 4]))
    assert load_model(model.build()).inputs == ("x",)


def test_a_float_model_keeps_onnxs_operators() -> None:
    graph = load_model(small_network().SerializeToString())
    assert set(kinds(graph)) == {"Conv", "Relu", "Clip", "Add", "AveragePool", "GlobalAveragePool", "Flatten", "Gemm"}
    assert graph.tensors["x"].shape == (1, 3, 32, 32)


def test_models_older_than_opset_13_are_brought_to_it(shared) -> None:
    graph = load_model(shared / "models" / "mobilenet_v2_qlinear.onnx")
    assert graph.inputs == ("input",)
    assert kinds(graph).count("CONV_2D") + kinds(graph).count("DEPTHWISE_CONV_2D") == 52
    assert kinds(graph).count("DEPTHWISE_CONV_2D") == 17
    assert "QLinearConv" not in kinds(graph)
