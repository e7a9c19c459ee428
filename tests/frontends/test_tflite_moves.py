"""Options of TFLite's operators that move data: read as LiteRT reads them, and never trusted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rocketnpu as rn
from rocketnpu.frontends import load_model
from rocketnpu.ir import (
    ConcatOptions,
    Operator,
    Options,
    PadOptions,
    ResizeOptions,
    SliceOptions,
    SplitOptions,
    TransposeConvOptions,
    TransposeOptions,
)
from support.models import ModelBuilder, pack

Build = Callable[[ModelBuilder, str], str]


def last(build: Build) -> Operator:
    model = ModelBuilder()
    return load_model(model.build(build(model, model.input((1, 4, 6, 8))))).operators[-1]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda m, x: m.concat([x, x], axis=-1), ConcatOptions(3)),
        (lambda m, x: m.split(x, 2, axis=-3)[0], SplitOptions(1, (2, 2))),
        (lambda m, x: m.split_v(x, (2, 6))[1], SplitOptions(3, (2, 6))),
        (lambda m, x: m.slice(x, (0, 1, 2, 3), (1, 2, -1, 4)), SliceOptions((0, 1, 2, 3), (1, 2, 4, 4), (1,) * 4)),
        (
            lambda m, x: m.strided_slice(x, (slice(None), slice(None, -1, 2), 5)),
            SliceOptions((0, 0, 5, 0), (1, 2, 1, 8), (1, 2, 1, 1), (2,)),
        ),
        (lambda m, x: m.pad(x, ((0, 0), (1, 2), (3, 4), (0, 0))), PadOptions(((0, 0), (1, 2), (3, 4), (0, 0)))),
        (lambda m, x: m.pad(x, ((0, 0),) * 4, value=-9), PadOptions(((0, 0),) * 4, -9)),
        (lambda m, x: m.pad(x, ((0, 0),) * 4, mirror="REFLECT"), PadOptions(((0, 0),) * 4, None, 1)),
        (lambda m, x: m.pad(x, ((0, 0),) * 4, mirror="SYMMETRIC"), PadOptions(((0, 0),) * 4, None, 0)),
        (lambda m, x: m.resize(x, 2, half_pixel_centers=True), ResizeOptions(False, True)),
        (lambda m, x: m.transpose(x, (0, 2, -3, 3)), TransposeOptions((0, 2, 1, 3))),
    ],
)
def test_options(build: Build, expected: Options) -> None:
    operator = last(build)
    assert operator.unsupported is None
    assert operator.options == expected


def test_transpose_conv_options() -> None:
    options = last(lambda m, x: m.transpose_conv(x, 4, 3, (2, 1))).options
    assert isinstance(options, TransposeConvOptions)
    assert (options.stride_h, options.stride_w) == (2, 1)


def set_data(name: str, values: Any) -> Callable[[Any], None]:
    """Replace a constant's data."""

    def spoil(tree: Any) -> None:
        tensor = next(tensor for tensor in tree.subgraphs[0].tensors if tensor.name == name)
        tree.buffers[tensor.buffer].data = np.frombuffer(np.array(values, np.int32).tobytes(), np.uint8)

    return spoil


@pytest.mark.parametrize(
    ("build", "spoil", "reason"),
    [
        (lambda m, x: m.slice(x, (0, 1, 2, 3), (1, 2, 2, 4)), set_data("range", (0, 3, 2, 3)), "reaches beyond"),
        (lambda m, x: m.slice(x, (0, 1, 2, 3), (1, 2, 2, 4)), set_data("range_2", (1, 1, 2, 4)), "another shape"),
        (lambda m, x: m.split(x, 2)[0], set_data("axis", 9), "not a dimension"),
        (lambda m, x: m.split_v(x, (2, 6))[0], set_data("sizes", (2, 7)), "do not add up"),
        (lambda m, x: m.split_v(x, (2, 6))[0], set_data("sizes", (10, -2)), "do not add up"),
        (lambda m, x: m.pad(x, ((0, 0),) * 4), set_data("pads", (0, 0, 0, 0, -1, 1, 0, 0)), "not a constant vector"),
        (lambda m, x: m.resize(x, 2), set_data("size", (8, 13)), "another shape"),
        (lambda m, x: m.transpose(x, (0, 2, 1, 3)), set_data("permutation", (0, 2, 2, 3)), "does not fit"),
        (lambda m, x: m.transpose_conv(x, 4), set_data("shape", (1, 8, 12, 5)), "another shape"),
    ],
)
def test_operands_that_contradict_the_file_are_left_to_litert(
    build: Build, spoil: Callable[[Any], None], reason: str
) -> None:
    model = ModelBuilder()
    tree = model.model(build(model, model.input((1, 4, 6, 8))))
    spoil(tree)
    operator = load_model(pack(tree)).operators[-1]
    assert operator.unsupported is not None
    assert reason in operator.unsupported


def moving_model() -> bytes:
    model = ModelBuilder(seed=1)
    x = model.conv2d(model.input((1, 6, 6, 4)), 16, 1)
    left, right = model.split_v(x, (4, 12))
    joined = model.concat([right, left])
    padded = model.pad(model.max_pool(joined, 2, 2), ((0, 0), (1, 0), (0, 2), (0, 0)))
    upsampled = model.resize(model.strided_slice(padded, (slice(None), slice(1, 4), slice(None, None, 2))), 2)
    deep = model.depth_to_space(model.space_to_depth(upsampled, 2), 2)
    return model.build(model.transpose_conv(model.slice(deep, (0, 1, 0, 3), (1, -1, -1, 9)), 5))


SAMPLE = moving_model()


@settings(max_examples=150, deadline=20_000)
@given(data=st.data())
def test_flipped_bytes_compile_or_are_refused(data: st.DataObject) -> None:
    model = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 3))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    message = ""
    try:
        rn.compile(bytes(model))
    except rn.Error as error:
        message = str(error)
    assert "\n" not in message
