"""What the TFLite frontend makes of element-wise operators: options, shapes, and files that contradict themselves."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.ir import Activation, ElementwiseOptions, UnaryOptions
from support.models import Grid, ModelBuilder


@pytest.mark.parametrize("kind", ["SUB", "MUL"])
def test_activations_and_broadcast_shapes(kind: str) -> None:
    model = ModelBuilder()
    a, b = model.input((2, 1, 5, 3)), model.input((4, 1, 3))
    y = model.elementwise(kind, a, b, activation="RELU6")
    graph = load_model(model.build(y))
    assert graph.operators[0].options == ElementwiseOptions(Activation.RELU6)
    assert graph.tensors[y].shape == (2, 4, 5, 3)


@pytest.mark.parametrize("kind", ["SUB", "MUL", "MAXIMUM", "MINIMUM", "PRELU"])
def test_operands_that_do_not_broadcast_are_refused(kind: str) -> None:
    model = ModelBuilder()
    inputs = [model.input((1, 4, 5, 3)), model.input((1, 4, 5, 2))]
    data = model.build(model.operator(kind, inputs, (1, 4, 5, 3), Grid(0.1)))
    message = f"operator 0 ({kind}) has inputs (1, 4, 5, 3) and (1, 4, 5, 2) that do not broadcast"
    with pytest.raises(ModelError, match=re.escape(message)):
        load_model(data)


@pytest.mark.parametrize("kind", ["SUB", "MUL", "MAXIMUM", "MINIMUM", "PRELU", "QUANTIZE", "TANH", "GELU"])
def test_a_wrong_number_of_inputs_is_refused(kind: str) -> None:
    model = ModelBuilder()
    x = model.input((1, 4, 5, 3))
    with pytest.raises(ModelError, match=rf"operator 0 \({kind}\) has 3 inputs"):
        load_model(model.build(model.operator(kind, [x, x, x], (1, 4, 5, 3), Grid(0.1))))


def test_slopes_and_formulas_are_read() -> None:
    model = ModelBuilder()
    x = model.input((1, 4))
    y = model.unary("GELU", model.unary("LEAKY_RELU", x, alpha=0.25), approximate=True)
    graph = load_model(model.build(y))
    assert [op.options for op in graph.operators] == [UnaryOptions(alpha=0.25), UnaryOptions(approximate=True)]


@pytest.mark.parametrize("alpha", [math.nan, math.inf, -math.inf])
def test_a_slope_that_is_no_number_cannot_be_analysed(alpha: float) -> None:
    model = ModelBuilder()
    graph = load_model(model.build(model.unary("LEAKY_RELU", model.input((1, 4)), alpha=alpha)))
    assert graph.operators[0].unsupported == f"its alpha is {alpha}"


@pytest.mark.parametrize("kind", ["EXP", "LOG", "TANH", "QUANTIZE"])
def test_shapes_stay(kind: str) -> None:
    model = ModelBuilder()
    y = model.operator(kind, [model.input((1, 4, 5, 3))], (7,), Grid(0.1))
    graph = load_model(model.build(y))
    assert graph.tensors[y].shape == (1, 4, 5, 3)
    assert graph.tensors[y].dtype == np.int8
