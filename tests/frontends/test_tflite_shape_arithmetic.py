"""Shapes that a TFLite file computes from shapes: how converters keep a batch of any size."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketnpu.frontends import load_model
from rocketnpu.frontends.tflite.flatbuffer import schema
from support.agreement import agreement, run_on_npu
from support.models import Grid, ModelBuilder, pack

SIZE = (1, 6, 8, 12)


def number(model: ModelBuilder, value: int | list[int]) -> str:
    return model.constant(np.array(value, np.int32))


def shape_of(model: ModelBuilder, x: str) -> str:
    options = schema.ShapeOptionsT(outType=schema.TensorType.INT32)
    return model.operator("SHAPE", [x], (len(model.tensors[x].shape),), None, options, "ShapeOptions", dtype="int32")


def packed(model: ModelBuilder, *parts: str) -> str:
    options = schema.PackOptionsT(valuesCount=len(parts))
    return model.operator("PACK", parts, (len(parts),), None, options, "PackOptions", dtype="int32")


def reshaped(model: ModelBuilder, x: str, target: str, shape: tuple[int, ...]) -> str:
    return model.operator("RESHAPE", [x, target], shape, model.tensors[x].grid)


def kinds(data: bytes) -> list[str]:
    return [operator.kind for operator in load_model(data).operators]


def behind(model: ModelBuilder, y: str) -> bytes:
    """The model with an addition that reads `y`, as its output."""
    shape = model.tensors[y].shape
    return model.build(
        model.operator("ADD", [model.input(shape, "int32"), y], shape, None, schema.AddOptionsT(), "AddOptions")
    )


def flattened(model: ModelBuilder) -> str:
    """What Keras' Flatten becomes when the batch is free."""
    x = model.conv2d(model.input(SIZE), 16)
    batch = model.strided_slice(shape_of(model, x), [0])
    return reshaped(model, x, packed(model, batch, number(model, -1)), (1, 6 * 8 * 16))


def test_a_reshape_that_keeps_the_batch_runs_on_the_npu() -> None:
    model = ModelBuilder(seed=1)
    y = model.fully_connected(flattened(model), 10)
    run_on_npu(model, y)
    assert kinds(model.build(y)) == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]


def test_a_shape_that_is_an_output_is_still_computed() -> None:
    model = ModelBuilder(seed=2)
    x = model.conv2d(model.input(SIZE), 16)
    sizes = shape_of(model, x)
    result = agreement(model.build(x, sizes), model.random_inputs())
    assert result.expected[sizes].tolist() == [1, 6, 8, 16]
    assert kinds(model.build(x, sizes)) == ["CONV_2D", "SHAPE"]


def test_the_sizes_of_a_dense_layer_on_rows_are_products() -> None:
    """Keras' Dense on three dimensions. The file states 1x1 for the rows, as converters do for unknown sizes."""
    model = ModelBuilder(seed=3)
    x = model.conv2d(model.input((1, 5, 1, 12)), 16, 1)
    rows = model.reshape(x, (1, 5, 16))
    sizes = shape_of(model, rows)
    outer = model.operator(
        "GATHER", [sizes, number(model, [0, 1])], (2,), None, schema.GatherOptionsT(), "GatherOptions"
    )
    options = schema.ReducerOptionsT()
    count = model.operator("REDUCE_PROD", [outer, number(model, [0])], (), None, options, "ReducerOptions")
    flat = reshaped(model, rows, packed(model, count, number(model, 16)), (5, 16))
    y = model.fully_connected(flat, 8)
    proto = model.model(y)
    stated = list(model.tensors).index(flat)
    proto.subgraphs[0].tensors[stated].shape = np.array([1, 1], np.int32)
    proto.subgraphs[0].tensors[stated].shapeSignature = np.array([-1, -1], np.int32)
    result = agreement(pack(proto), model.random_inputs())
    assert not result.reasons()
    assert result.found[y].shape == (5, 8)


@pytest.mark.parametrize(
    ("kind", "table", "first", "second", "expected"),
    [
        ("ADD", "AddOptions", [3, 4], [1, 2], [4, 6]),
        ("SUB", "SubOptions", [3, 4], [1, 7], [2, -3]),
        ("MUL", "MulOptions", [3, 4], 5, [15, 20]),
        ("MAXIMUM", "MaximumMinimumOptions", [3, 4], [9, 1], [9, 4]),
        ("MINIMUM", "MaximumMinimumOptions", [3, 4], [9, 1], [3, 1]),
        ("CONCATENATION", "ConcatenationOptions", [3, 4], [9], [3, 4, 9]),
        ("EXPAND_DIMS", "ExpandDimsOptions", [3, 4], 0, [[3, 4]]),
        ("RESHAPE", "ReshapeOptions", [3, 4], [2, 1], [[3], [4]]),
        ("CAST", "CastOptions", [3, 4], None, [3, 4]),
        ("GATHER", "GatherOptions", [3, 4, 5], [2, 0, 2], [5, 3, 5]),
        ("REDUCE_PROD", "ReducerOptions", [3, 4, 5], [0], 60),
    ],
)
def test_arithmetic_gives_what_litert_gives(kind: str, table: str, first, second, expected) -> None:
    """LiteRT computes the same operator on an input, the reader on a constant."""
    results: list[NDArray[np.int32]] = []
    for is_input in (True, False):
        model = ModelBuilder(seed=4)
        data = model.input(np.shape(first), "int32") if is_input else number(model, first)
        operands = [data] if second is None else [data, number(model, second)]
        options = getattr(schema, f"{table}T")()
        if kind == "CAST":
            options = schema.CastOptionsT(inDataType=schema.TensorType.INT32, outDataType=schema.TensorType.INT32)
        y = model.operator(kind, operands, np.shape(expected), None, options, table)
        if is_input:
            results.append(agreement(model.build(y), [np.array(first, np.int32)]).expected[y])
            continue
        graph = load_model(behind(model, y))
        assert [operator.kind for operator in graph.operators] == ["ADD"]
        assert graph.tensors[y].data is not None
        results.append(graph.tensors[y].data)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], expected)


@pytest.mark.parametrize(
    ("kind", "table", "first", "second", "shape"),
    [
        ("GATHER", "GatherOptions", [3, 4], [2], (1,)),
        ("MUL", "MulOptions", [1 << 20], [1 << 20], (1,)),
        ("REDUCE_PROD", "ReducerOptions", [[3, 4], [5, 6]], [0], (2,)),
    ],
    ids=["an index outside", "beyond 32 bits", "one of two dimensions"],
)
def test_what_is_no_arithmetic_on_shapes_is_left_to_litert(kind: str, table: str, first, second, shape) -> None:
    model = ModelBuilder(seed=5)
    y = model.operator(
        kind, [number(model, first), number(model, second)], shape, None, getattr(schema, f"{table}T")(), table
    )
    assert kinds(behind(model, y)) == [kind, "ADD"]


def test_blocks_moved_into_the_batch_have_the_shapes_of_their_operands() -> None:
    """A dilated convolution of a free batch: the file states a batch of 1 between the two operators."""
    model = ModelBuilder(seed=6)
    grid = Grid(0.05, 3)
    x = model.max_pool(model.input((1, 7, 9, 8), scale=grid.scale, zero=grid.zero), 2, 1)
    height, width = model.tensors[x].shape[1:3]
    pads = [[2, 2 + height % 2], [2, 2 + width % 2]]
    operands = [x, number(model, [2, 2]), number(model, pads)]
    inner = ((height + 5) // 2, (width + 5) // 2)
    blocks = model.operator("SPACE_TO_BATCH_ND", operands, (4, *inner, 8), model.tensors[x].grid)
    y = model.max_pool(blocks, 2, 1)
    proto = model.model(y)
    for name in (blocks, y):
        tensor = proto.subgraphs[0].tensors[list(model.tensors).index(name)]
        tensor.shape = np.array([1, *tensor.shape[1:]], np.int32)
        tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)
    graph = load_model(pack(proto))
    assert graph.tensors[blocks].shape == (4, *inner, 8)
    result = agreement(pack(proto), model.random_inputs())
    assert result.found[y].shape == result.expected[y].shape
