"""The inputs that `verify`, `run --random` and `bench` draw."""

from __future__ import annotations

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.verify import random_inputs, verify
from support.onnx_models import OnnxBuilder, normal


def embedding(words: int, dtype: type) -> bytes:
    """A classifier of four words of a vocabulary."""
    model = OnnxBuilder()
    table = model.constant(normal((words, 8), 1.0, 0))
    rows = model.node("Gather", table, model.input((1, 4), dtype, name="words"), axis=0)
    features = model.node("Flatten", rows)
    return model.build(
        model.node("MatMul", features, model.constant(normal((32, 3), 0.3, 1)), name="y"), dtype=np.float32
    )


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_indices_are_small_enough_for_a_table_of_two(dtype: type) -> None:
    data = embedding(2, dtype)
    assert verify(data, None).outputs["y"].maximum == 0
    drawn = [values["words"] for values in random_inputs(rn.compile(data), 8)]
    assert {values.dtype for values in drawn} == {np.dtype(dtype)}
    assert set(np.unique(drawn)) == {0, 1}


def test_stored_bytes_take_their_full_range() -> None:
    model = OnnxBuilder()
    x = model.real_input((1, 64, 8, 8), (0.1, 3), name="x")
    y = model.quantized(model.node("Sigmoid", x), (1 / 256, -128), name="y")
    (values,) = random_inputs(rn.compile(model.build(y)), 1)
    assert (values["x"].min(), values["x"].max()) == (-128, 127)
