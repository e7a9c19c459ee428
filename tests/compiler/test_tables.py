"""The tables of operators agree: each operator that the compiler takes has a lowering and a reader of its options."""

from __future__ import annotations

from rocketnpu.compiler.constraints.table import CONSTRAINTS
from rocketnpu.compiler.lower import LOWERINGS
from rocketnpu.compiler.lower.unary import CLAMPS
from rocketnpu.frontends.tflite.options import KINDS
from rocketnpu.frontends.tflite.shapes import SHAPE_KEEPING
from rocketnpu.unary import FUNCTIONS

ONNX_ONLY = {"LOOKUP"}
"""TFLite has no such operator: the ONNX frontend makes it of any function of one tensor."""


def test_each_operator_has_a_lowering() -> None:
    assert set(CONSTRAINTS) == set(LOWERINGS)


def test_each_operator_has_its_options_read() -> None:
    assert set(CONSTRAINTS) - ONNX_ONLY == set(KINDS)


def test_operators_of_one_tensor_keep_its_shape() -> None:
    assert {*FUNCTIONS, *CLAMPS, "QUANTIZE"} <= SHAPE_KEEPING
