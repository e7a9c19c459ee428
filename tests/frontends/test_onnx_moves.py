"""ONNX operators that move data, in TFLite's terms; dimensions count as in the file, NCHW."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rocketnpu.frontends import load_model
from rocketnpu.ir import (
    BlockOptions,
    ConcatOptions,
    GatherOptions,
    Operator,
    PadOptions,
    ResizeOptions,
    SliceOptions,
    SplitOptions,
    TransposeOptions,
)
from support.onnx_models import OnnxBuilder

GRID = (0.05, 3)
SHAPE = (1, 8, 6, 4)


def operator(
    op_type: str, *constants: Any, shape: tuple[int, ...] = SHAPE, opset: int = 17, **attributes: Any
) -> Operator:
    """The only operator of a model: `op_type` on a quantized image and constants, None for one that is left out."""
    model = OnnxBuilder(opset)
    operands = ["" if value is None else model.constant(np.asarray(value)) for value in constants]
    result = model.node(op_type, model.real_input(shape, GRID), *operands, **attributes)
    graph = load_model(model.build(model.quantized(result, GRID)))
    assert len(graph.operators) == 1, str(graph)
    return graph.operators[0]


def test_concatenation_along_channels_is_along_dimension_1() -> None:
    model = OnnxBuilder()
    both = model.node("Concat", model.real_input(SHAPE, GRID), model.real_input(SHAPE, GRID), axis=-3)
    (found,) = load_model(model.build(model.quantized(both, GRID))).operators
    assert (found.kind, len(found.inputs), found.options) == ("CONCATENATION", 2, ConcatOptions(1))


def test_a_split_is_one_operator_when_every_part_is_quantized() -> None:
    model = OnnxBuilder()
    parts = model.split(model.real_input(SHAPE, GRID), [2, 6], axis=1)
    graph = load_model(model.build(*(model.quantized(part, GRID) for part in parts)))
    (found,) = graph.operators
    assert (found.kind, found.outputs, found.options) == ("SPLIT_V", graph.outputs, SplitOptions(1, (2, 6)))
    assert set(parts) <= graph.dissolved.keys()


def test_a_part_that_stays_real_is_split_as_integers_and_then_unpacked() -> None:
    model = OnnxBuilder()
    parts = model.split(model.real_input(SHAPE, GRID), [2, 6], axis=1)
    model.output(parts[1], np.float32)
    graph = load_model(model.build(model.quantized(parts[0], GRID)))
    assert [operator.kind for operator in graph.operators] == ["SPLIT_V", "DequantizeLinear", "QUANTIZE"]
    assert parts[1] in graph.tensors


def test_blocks_that_become_real_pixels_are_moved_as_integers() -> None:
    """The end of a network that enlarges images."""
    model = OnnxBuilder()
    model.output(model.node("DepthToSpace", model.real_input(SHAPE, GRID), blocksize=2, name="y"), np.float32)
    graph = load_model(model.build())
    assert [operator.kind for operator in graph.operators] == ["DEPTH_TO_SPACE", "DequantizeLinear"]
    assert graph.outputs == ("y",)


@pytest.mark.parametrize("op_type", ["MaxPool", "Transpose"])
def test_what_is_moved_onto_another_grid_is_moved_first(op_type: str) -> None:
    model = OnnxBuilder()
    attributes: dict[str, Any] = {"kernel_shape": [2, 2]} if op_type == "MaxPool" else {"perm": [0, 2, 3, 1]}
    moved = model.node(op_type, model.real_input(SHAPE, GRID), **attributes)
    graph = load_model(model.build(model.quantized(moved, (0.07, 1))))
    kind = {"MaxPool": "MAX_POOL_2D", "Transpose": "TRANSPOSE"}[op_type]
    assert [operator.kind for operator in graph.operators] == [kind, "QUANTIZE"]


def test_a_reshape_to_real_numbers_is_left_to_the_cpu() -> None:
    model = OnnxBuilder()
    model.output(model.node("Flatten", model.real_input(SHAPE, GRID)), np.float32)
    assert [operator.kind for operator in load_model(model.build()).operators] == ["DequantizeLinear", "Flatten"]


def test_integers_are_split_with_their_grid() -> None:
    model = OnnxBuilder()
    parts = model.split(model.quantized(model.input(SHAPE), GRID), [2, 6], axis=1)
    graph = load_model(model.build(*parts))
    assert [operator.kind for operator in graph.operators] == ["QuantizeLinear", "SPLIT_V"]
    assert all(graph.tensors[part].quantization is not None for part in parts)


def test_a_slice_has_a_place_for_every_dimension() -> None:
    found = operator("Slice", [2, -3], [1 << 40, -1], [1, 2])
    assert (found.kind, found.options) == (
        "STRIDED_SLICE",
        SliceOptions(begins=(0, 2, 3, 0), sizes=(1, 6, 2, 4), steps=(1, 1, 1, 1)),
    )


def test_a_slice_may_take_every_other_row() -> None:
    assert operator("Slice", [1], [6], [2], [2]).options == SliceOptions((0, 0, 1, 0), (1, 8, 3, 4), (1, 1, 2, 1))


def test_a_slice_that_runs_backwards_is_left_to_the_cpu() -> None:
    assert operator("Slice", [-1], [-100], [2], [-1]).kind == "Slice"


@pytest.mark.parametrize(
    ("value", "stored"), [(None, None), (np.float32(0), 3), (np.float32(0.26), 8), (np.float32("-inf"), -128)]
)
def test_a_border_of_one_value_holds_it_as_the_tensor_does(value: Any, stored: int | None) -> None:
    found = operator("Pad", [0, 0, 1, 2, 0, 0, 3, 0], value)
    pads = ((0, 0), (0, 0), (1, 3), (2, 0))
    assert (found.kind, found.options) == ("PAD" if value is None else "PADV2", PadOptions(pads, stored))


def test_borders_may_name_their_dimensions() -> None:
    found = operator("Pad", [1, 2, 3, 0], None, [2, -1], opset=19)
    assert (found.kind, found.options) == ("PAD", PadOptions(((0, 0), (0, 0), (1, 3), (2, 0))))


def test_a_border_that_repeats_the_edge_once_is_mirrored_with_the_edge() -> None:
    found = operator("Pad", [0, 0, 1, 1, 0, 0, 0, 1], mode="edge")
    assert (found.kind, found.options) == ("MIRROR_PAD", PadOptions(((0, 0), (0, 0), (1, 0), (1, 1)), mirror=0))
    assert operator("Pad", [0, 0, 2, 1, 0, 0, 0, 1], mode="edge").kind == "Pad"


def test_a_mirrored_border_leaves_out_the_edge() -> None:
    found = operator("Pad", [0, 0, 1, 2, 0, 0, 3, 0], mode="reflect")
    assert (found.kind, found.options) == ("MIRROR_PAD", PadOptions(((0, 0), (0, 0), (1, 3), (2, 0)), mirror=1))


@pytest.mark.parametrize(
    ("attributes", "kind", "options"),
    [
        (
            {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            "RESIZE_NEAREST_NEIGHBOR",
            ResizeOptions(False, False),
        ),
        ({}, "RESIZE_NEAREST_NEIGHBOR", ResizeOptions(False, True)),
        ({"mode": "linear"}, "RESIZE_BILINEAR", ResizeOptions(False, True)),
        (
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            "RESIZE_BILINEAR",
            ResizeOptions(True, False),
        ),
        (
            {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
            "RESIZE_BILINEAR",
            ResizeOptions(False, False),
        ),
        ({"mode": "cubic"}, "Resize", None),
        ({"coordinate_transformation_mode": "asymmetric"}, "Resize", None),
    ],
)
def test_images_made_larger_by_whole_factors(attributes: dict[str, Any], kind: str, options: Any) -> None:
    found = operator("Resize", None, np.array([1, 1, 2, 3], np.float32), **attributes)
    assert (found.kind, found.options) == (kind, options)


def test_factors_that_are_not_those_of_the_sizes_are_left_to_the_cpu() -> None:
    """ONNX Runtime samples by the factors of the file: 2.1 makes 16 pixels of 8, whose neighbours are others."""
    assert operator("Resize", None, np.array([1, 1, 2.1, 2], np.float32), shape=(1, 8, 8, 8)).kind == "Resize"


def test_chosen_channels_in_even_steps_are_a_slice() -> None:
    assert operator("Gather", [1, 3, 5], axis=1).options == SliceOptions((0, 1, 0, 0), (1, 3, 6, 4), (1, 2, 1, 1))
    assert operator("Gather", [1, 3, -1], axis=1).options == GatherOptions(1, (1, 3, 7))


def test_an_image_made_smaller_is_left_to_the_cpu() -> None:
    assert operator("Resize", None, np.array([1, 1, 0.5, 0.5], np.float32)).kind == "Resize"


def test_a_transposition_without_a_permutation_reverses() -> None:
    assert operator("Transpose").options == TransposeOptions((3, 2, 1, 0))
    assert operator("Transpose", perm=[0, 2, 3, 1]).options == TransposeOptions((0, 2, 3, 1))


def test_blocks_go_between_depth_and_space_in_either_order() -> None:
    found = operator("DepthToSpace", blocksize=2)
    assert (found.kind, found.options) == ("DEPTH_TO_SPACE", BlockOptions(2))
    assert operator("DepthToSpace", blocksize=2, mode="CRD").options == BlockOptions(2, channel_first=True)
    found = operator("SpaceToDepth", blocksize=2)
    assert (found.kind, found.options) == ("SPACE_TO_DEPTH", BlockOptions(2))


def test_the_larger_of_two_tensors_but_not_of_three() -> None:
    for count, kind in ((2, "MAXIMUM"), (3, "Max")):
        model = OnnxBuilder()
        largest = model.node("Max", *(model.real_input(SHAPE, GRID) for _ in range(count)))
        (found,) = load_model(model.build(model.quantized(largest, GRID))).operators
        assert found.kind == kind
