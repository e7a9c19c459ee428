"""Images of ONNX models whose channels are last for a while, and what is moved, on the NPU against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from rocketnpu.compiler.passes.layouts import with_layouts
from rocketnpu.frontends import load_model
from support.onnx_models import OnnxBuilder
from support.onnx_runs import IN, OUT, noise, on_npu, onnx_agreement

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
SHAPE = (1, 8, 4, 5)


def layouts(data: bytes) -> dict[str, str]:
    """Of all tensors with four dimensions that are no constants."""
    tensors = with_layouts(load_model(data)).tensors
    return {name: found.layout for name, found in tensors.items() if len(found.shape) == 4 and found.data is None}


def convolution(model: OnnxBuilder, x: str, channels: int = 24) -> str:
    """A quantized 1x1 convolution of a real tensor, and its result as real numbers."""
    inputs = SHAPE[1] if channels == 24 else 24
    weights = model.weights(noise((channels, inputs, 1, 1), seed=1), 0.01)
    return model.real(model.quantized(model.node("Conv", x, weights), OUT), OUT)


def test_transpositions_around_channels_last_are_nothing_to_do() -> None:
    """As ConvNeXt's blocks are exported: products over the last dimension between two transpositions."""
    model = OnnxBuilder()
    last = model.node("Transpose", convolution(model, model.real_input(SHAPE, IN)), perm=TO_LAST)
    last = model.real(model.quantized(last, OUT, name="last"), OUT)
    product = model.node("MatMul", last, model.weights(noise((24, 40), seed=2), 0.01))
    product = model.real(model.quantized(product, (1.5, 3), name="product"), (1.5, 3))
    gelu = model.node("Erf", product)
    gelu = model.real(model.quantized(gelu, (0.01, 0), name="gelu"), (0.01, 0))
    first = model.quantized(model.node("Transpose", gelu, perm=TO_FIRST), (0.01, 0), name="first")
    data = model.build(first)
    found = layouts(data)
    assert {name: found[name] for name in ("last", "product", "gelu", "first")} == {
        "last": "NHWC",
        "product": "NHWC",
        "gelu": "NHWC",
        "first": "NCHW",
    }
    result = on_npu(data, noise(SHAPE))
    assert result.found["product"].shape == (1, 4, 5, 40)
    assert result.found["first"].shape == (1, 40, 4, 5)


def test_rows_of_a_matrix_become_pixels_in_place() -> None:
    """As PyTorch's exporter writes a product over four dimensions: Reshape, Gemm, Reshape."""
    model = OnnxBuilder()
    last = model.node("Transpose", convolution(model, model.real_input(SHAPE, IN)), perm=TO_LAST)
    flat = model.node("Reshape", last, model.constant(np.array([20, 24])))
    flat = model.real(model.quantized(flat, OUT), OUT)
    product = model.node("Gemm", flat, model.weights(noise((40, 24), seed=2), 0.01), transB=1)
    product = model.real(model.quantized(product, (1.5, 3)), (1.5, 3))
    image = model.node("Reshape", product, model.constant(np.array([1, 4, 5, 40])))
    first = model.quantized(model.node("Transpose", image, perm=TO_FIRST), (1.5, 3))
    on_npu(model.build(first), noise(SHAPE))


def test_an_input_with_its_channels_last_is_turned_for_nothing() -> None:
    """As TensorFlow's networks are exported."""
    model = OnnxBuilder()
    x = model.real_input((1, 4, 5, 8), IN, name="x")
    turned = model.real(model.quantized(model.node("Transpose", x, perm=TO_FIRST), IN), IN)
    weights = model.weights(noise((24, 8, 3, 3), seed=1), 0.01)
    result = model.node("Conv", turned, weights, pads=[1] * 4)
    last = model.node("Transpose", model.real(model.quantized(result, OUT), OUT), perm=TO_LAST)
    data = model.build(model.quantized(last, OUT, name="y"))
    assert (layouts(data)["x"], layouts(data)["y"]) == ("NHWC", "NHWC")
    assert on_npu(data, noise((1, 4, 5, 8))).found["y"].shape == (1, 4, 5, 24)


def test_heads_of_a_detector_that_meet_keep_their_channels_last() -> None:
    model = OnnxBuilder()
    x = model.real_input(SHAPE, IN)
    heads: list[str] = []
    for index in range(4):
        last = model.node("Transpose", convolution(model, x), perm=TO_LAST)
        heads.append(model.real(model.quantized(last, OUT, name=f"head{index}"), OUT))
    left, right = (model.node("Concat", *heads[place : place + 2], axis=1) for place in (0, 2))
    sides = [model.real(model.quantized(side, OUT), OUT) for side in (left, right)]
    data = model.build(model.quantized(model.node("Concat", *sides, axis=1), OUT, name="y"))
    found = layouts(data)
    assert {found[name] for name in ("head0", "head1", "head2", "head3", "y")} == {"NHWC"}
    onnx_agreement(data, [noise(SHAPE)])


@pytest.mark.parametrize("op_type", ["Add", "Concat"])
def test_an_image_and_one_with_its_channels_last_are_not_mixed(op_type: str) -> None:
    """One of both keeps its order, and the operator that would mix them stays on the CPU."""
    model = OnnxBuilder()
    shape = (1, 6, 6, 6)
    x = model.quantized(model.node("Relu", model.real_input(shape, IN)), OUT)
    last = model.node("Transpose", model.real(x, OUT), perm=TO_LAST)
    last = model.real(model.quantized(last, OUT, name="last"), OUT)
    attributes = {"axis": 1} if op_type == "Concat" else {}
    data = model.build(model.quantized(model.node(op_type, last, model.real(x, OUT), **attributes), (0.2, 0)))
    result = onnx_agreement(data, [noise(shape)])
    assert set(result.reasons().values()) == {"channels are the same dimension of all data tensors"}


def test_what_works_on_images_has_none_with_its_channels_last() -> None:
    model = OnnxBuilder()
    last = model.node("Transpose", convolution(model, model.real_input(SHAPE, IN)), perm=TO_LAST)
    last = model.real(model.quantized(last, OUT, name="last"), OUT)
    pool = model.node("MaxPool", last, kernel_shape=[1, 2])
    data = model.build(model.quantized(pool, OUT))
    assert set(layouts(data).values()) == {"NCHW"}
    onnx_agreement(data, [noise(SHAPE)])


@pytest.mark.parametrize("axes", [[1, 2], [2, 3], [-1], [1], [1, 2, 3]])
def test_a_mean_over_any_dimensions_after_a_transposition(axes: list[int]) -> None:
    model = OnnxBuilder()
    last = model.node("Transpose", convolution(model, model.real_input(SHAPE, IN)), perm=TO_LAST)
    last = model.real(model.quantized(last, OUT, name="last"), OUT)
    data = model.build(model.quantized(model.node("ReduceMean", last, axes=axes), (0.05, 0)))
    assert layouts(data)["last"] == "NHWC"
    on_npu(data, noise(SHAPE))


@pytest.mark.parametrize(("axes", "layout"), [([1, 2], "NHWC"), ([2, 3], "NCHW"), ([-1], "NCHW"), ([1], "NHWC")])
def test_a_mean_says_which_dimension_is_the_channel(axes: list[int], layout: str) -> None:
    """Where no other operator does."""
    model = OnnxBuilder()
    x = model.real_input(SHAPE, IN, name="x")
    data = model.build(model.quantized(model.node("ReduceMean", x, axes=axes), (0.05, 0)))
    assert layouts(data)["x"] == layout
    on_npu(data, noise(SHAPE))


@pytest.mark.parametrize(
    ("apart", "order"),
    [
        ([1, 2, 12, 4, 5], [0, 2, 1, 3, 4]),
        ([1, 3, 8, 20], [0, 2, 1, 3]),
        ([1, 2, 3, 4, 4, 5], [0, 3, 1, 2, 4, 5]),
    ],
)
def test_channels_that_change_places_are_one_operator(apart: list[int], order: list[int]) -> None:
    model = OnnxBuilder()
    x = convolution(model, model.real_input(SHAPE, IN))
    split = model.node("Reshape", x, model.constant(np.array(apart)))
    split = model.real(model.quantized(split, OUT, name="split"), OUT)
    turned = model.real(model.quantized(model.node("Transpose", split, perm=order), OUT, name="turned"), OUT)
    together = model.node("Reshape", turned, model.constant(np.array([1, 24, 4, 5])))
    data = model.build(model.quantized(together, OUT, name="y"))
    graph = load_model(data)
    assert [operator.kind for operator in graph.operators] == ["CONV_2D", "GATHER"]
    assert (graph.dissolved["split"], graph.dissolved["turned"]) == ("y", "y")
    assert "turned" in load_model(data, keep=["turned"]).tensors
    result = on_npu(data, noise(SHAPE))
    assert np.array_equal(result.found["y"], result.expected["y"])


@pytest.mark.parametrize(("apart", "order"), [([1, 2, 12, 4, 5], [0, 2, 1, 4, 3]), ([1, 2, 12, 5, 4], [1, 0, 2, 3, 4])])
def test_other_turns_than_of_channels_are_left_to_the_cpu(apart: list[int], order: list[int]) -> None:
    model = OnnxBuilder()
    split = model.node("Reshape", convolution(model, model.real_input(SHAPE, IN)), model.constant(np.array(apart)))
    turned = model.node("Transpose", split, perm=order)
    together = model.node("Reshape", turned, model.constant(np.array([1, 24, 4, 5])))
    data = model.build(model.quantized(together, OUT, name="y"))
    assert "GATHER" not in [operator.kind for operator in load_model(data).operators]
    assert layouts(data)["y"] == "NCHW"
    onnx_agreement(data, [noise(SHAPE)])


def test_channels_that_change_their_grid_on_the_way_are_left_to_the_cpu() -> None:
    model = OnnxBuilder()
    split = model.node("Reshape", convolution(model, model.real_input(SHAPE, IN)), model.constant([1, 2, 12, 4, 5]))
    turned = model.real(model.quantized(model.node("Transpose", split, perm=[0, 2, 1, 3, 4]), (OUT[0], 3)), (OUT[0], 3))
    together = model.node("Reshape", turned, model.constant([1, 24, 4, 5]))
    data = model.build(model.quantized(together, (OUT[0], 3), name="y"))
    assert "GATHER" not in [operator.kind for operator in load_model(data).operators]
    onnx_agreement(data, [noise(SHAPE)])


def test_chosen_channels_are_gathered() -> None:
    model = OnnxBuilder()
    x = convolution(model, model.real_input(SHAPE, IN))
    chosen = model.node("Gather", x, model.constant(np.array([7, -1, 7, 0])), axis=1)
    result = on_npu(model.build(model.quantized(chosen, OUT, name="y")), noise(SHAPE))
    assert np.array_equal(result.found["y"], result.expected["y"])


def test_a_function_between_reshapes_is_one_still() -> None:
    """Its operand and its result are quantized before they get another shape."""
    model = OnnxBuilder()
    x = model.real_input((20, 24), IN, name="x")
    image = model.node("Reshape", x, model.constant(np.array([1, 4, 5, 24])))
    flat = model.node("Reshape", model.node("Erf", image), model.constant(np.array([20, 24])))
    data = model.build(model.quantized(flat, (0.01, 0), name="y"))
    kinds = [operator.kind for operator in load_model(data).operators]
    assert kinds == ["RESHAPE", "LOOKUP", "RESHAPE"]
    result = on_npu(data, noise((20, 24)))
    assert np.array_equal(result.found["y"], result.expected["y"])


def test_tensors_of_the_file_keep_their_names_and_what_is_added_has_others() -> None:
    model = OnnxBuilder()
    x = model.real_input(SHAPE, IN)
    blocks = model.node("DepthToSpace", x, blocksize=2, name="blocks")
    model.outputs.append(helper.make_tensor_value_info(blocks, 1, None))
    model.node("Neg", blocks, name="blocks/moved")
    model.outputs.append(helper.make_tensor_value_info("blocks/moved", 1, None))
    graph = load_model(model.proto().SerializeToString())
    assert graph.outputs == ("blocks", "blocks/moved")
    assert [operator.kind for operator in graph.operators] == ["DEPTH_TO_SPACE", "DequantizeLinear", "Neg"]
