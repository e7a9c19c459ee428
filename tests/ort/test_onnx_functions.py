"""Functions of one tensor, however many nodes they are: tables that ONNX Runtime fills, so that every byte is equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketnpu.cpu.onnxruntime import Reference
from rocketnpu.frontends import load_model
from support.onnx_models import Grid, OnnxBuilder
from support.onnx_runs import IN, OUT, every_byte, on_npu

SINGLE: dict[str, dict[str, Any]] = {
    "Abs": {},
    "Acos": {},
    "Asinh": {},
    "Atan": {},
    "Ceil": {},
    "Celu": {"alpha": 0.7},
    "Cos": {},
    "Elu": {"alpha": 0.5},
    "Erf": {},
    "Exp": {},
    "Floor": {},
    "Gelu": {"approximate": "tanh"},
    "HardSigmoid": {"alpha": 1 / 6},
    "HardSwish": {},
    "Log": {},
    "Mish": {},
    "Neg": {},
    "Reciprocal": {},
    "Round": {},
    "Selu": {},
    "Shrink": {"lambd": 1.0},
    "Sign": {},
    "Sigmoid": {},
    "Sin": {},
    "Softplus": {},
    "Softsign": {},
    "Sqrt": {},
    "Tan": {},
    "Tanh": {},
    "ThresholdedRelu": {"alpha": 0.9},
}


def scalar(model: OnnxBuilder, value: float) -> str:
    return model.constant(np.float32(value))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("op_type", SINGLE)
def test_every_function_of_one_tensor_has_the_references_bytes(op_type: str, dtype: Any) -> None:
    model = OnnxBuilder(20)
    zero = 9 if dtype == np.int8 else 137
    # Where the reference divides by zero or takes the root of a negative number, the byte is what it makes of that.
    x = model.real_input((1, 16, 4, 4), (0.06, zero), dtype)
    result = model.quantized(model.node(op_type, x, **SINGLE[op_type]), (0.03, zero), dtype, name="y")
    found = on_npu(model.build(result, dtype=dtype), every_byte(dtype))
    assert np.array_equal(found.found["y"], found.expected["y"])


def _gelu(model: OnnxBuilder, x: str) -> str:
    erf = model.node("Erf", model.node("Div", x, scalar(model, 2**0.5)))
    return model.node("Mul", model.node("Mul", x, model.node("Add", erf, scalar(model, 1))), scalar(model, 0.5))


def _mish(model: OnnxBuilder, x: str) -> str:
    return model.node("Mul", x, model.node("Tanh", model.node("Softplus", x)))


def _hard_swish(model: OnnxBuilder, x: str) -> str:
    clip = model.node("Clip", model.node("Add", x, scalar(model, 3)), scalar(model, 0), scalar(model, 6))
    return model.node("Div", model.node("Mul", x, clip), scalar(model, 6))


def _log_sigmoid(model: OnnxBuilder, x: str) -> str:
    return model.node("Log", model.node("Sigmoid", x))


def _where(model: OnnxBuilder, x: str) -> str:
    return model.node("Where", model.node("Greater", x, scalar(model, 0.5)), x, scalar(model, -1))


def _power(model: OnnxBuilder, x: str) -> str:
    return model.node("Pow", x, model.constant(np.array(2, np.int64)))


@pytest.mark.parametrize("function", [_gelu, _mish, _hard_swish, _log_sigmoid, _where, _power])
def test_functions_that_exporters_take_apart_are_one_operator(function: Callable[[OnnxBuilder, str], str]) -> None:
    model = OnnxBuilder()
    result = model.quantized(function(model, model.real_input((1, 16, 4, 4), (0.06, 9), name="x")), OUT, name="y")
    data = model.build(result)
    graph = load_model(data)
    assert [(operator.kind, operator.inputs, operator.outputs) for operator in graph.operators] == [
        ("LOOKUP", ("x",), ("y",))
    ]
    found = on_npu(data, every_byte())
    assert np.array_equal(found.found["y"], found.expected["y"])


scales = st.floats(0.001, 2)
grids: st.SearchStrategy[Grid] = st.tuples(scales, st.integers(-128, 127))


@given(before=grids, after=grids, low=st.floats(-20, 20), size=st.floats(0, 30))
def test_clips_to_any_bounds(before: Grid, after: Grid, low: float, size: float) -> None:
    model = OnnxBuilder()
    bounds = scalar(model, low), scalar(model, low + size)
    result = model.quantized(model.node("Clip", model.real_input((1, 16, 4, 4), before), *bounds), after)
    found = on_npu(model.build(result), every_byte())
    assert np.array_equal(found.found[result], found.expected[result])


@given(grid=grids, low=st.floats(-8, 8), size=st.floats(0, 8))
@settings(max_examples=20)
def test_a_clip_behind_a_sum_comes_after_its_rounding(grid: Grid, low: float, size: float) -> None:
    """Both round a value that lies between the bounds to the same byte, and one beyond to the bound's."""
    model = OnnxBuilder()
    first, second = model.real_input((1, 16, 4, 4), IN), model.real_input((1, 16, 4, 4), OUT)
    clip = model.node("Clip", model.node("Add", first, second), scalar(model, low), scalar(model, low + size))
    data = model.build(model.quantized(clip, grid, name="y"))
    assert "Add" not in [operator.kind for operator in load_model(data).operators]
    values = [every_byte(), every_byte()[:, ::-1, ::-1, ::-1].copy()]
    expected = Reference(data).tensors(values)["y"]
    assert np.array_equal(Reference(load_model(data).model).tensors(values)["y"], expected)


def test_a_function_that_reads_a_second_tensor_is_none_of_one() -> None:
    model = OnnxBuilder()
    first, second = (model.real_input((1, 4), IN) for _ in range(2))
    power = model.node("Pow", first, model.node("Sigmoid", second))
    kinds = [operator.kind for operator in load_model(model.build(model.quantized(power, OUT))).operators]
    assert "LOOKUP" not in kinds


def test_a_function_whose_middle_is_read_elsewhere_is_left_to_the_cpu() -> None:
    model = OnnxBuilder()
    erf = model.node("Erf", model.real_input((1, 4), IN))
    model.output(erf, np.float32)
    kinds = [operator.kind for operator in load_model(model.build(model.quantized(erf, OUT))).operators]
    assert kinds == ["DequantizeLinear", "Erf", "QuantizeLinear"]


def test_a_constant_for_each_channel_is_no_function_of_a_byte() -> None:
    model = OnnxBuilder()
    powers = model.constant(np.arange(1, 5, dtype=np.float32))
    result = model.node("Pow", model.real_input((1, 4), IN), powers)
    kinds = [operator.kind for operator in load_model(model.build(model.quantized(result, OUT))).operators]
    assert kinds == ["Pow"]


def test_integers_in_between_are_left_to_the_cpu() -> None:
    """The smallest one modulo -1 ends the process that computes it."""
    model = OnnxBuilder()
    whole = model.node("Cast", model.real_input((1, 4), IN), to=onnx.TensorProto.INT32)
    real = model.node("Cast", model.node("Mod", whole, model.constant(np.int32(-1))), to=onnx.TensorProto.FLOAT)
    kinds = [operator.kind for operator in load_model(model.build(model.quantized(real, OUT))).operators]
    assert "LOOKUP" not in kinds


def test_a_float_tensor_of_a_function_can_be_kept() -> None:
    model = OnnxBuilder()
    erf = model.node("Erf", model.real_input((1, 4), IN))
    data = model.build(model.quantized(erf, OUT))
    assert load_model(data).dissolved[erf] == load_model(data).outputs[0]
    assert erf in load_model(data, keep=[erf]).tensors


@pytest.mark.parametrize("opset", [13, 19, 21, 23, 25, onnx.defs.onnx_opset_version()])
def test_functions_in_every_opset(opset: int) -> None:
    model = OnnxBuilder(opset)
    result = model.quantized(_mish(model, model.real_input((1, 16, 4, 4), IN)), OUT)
    on_npu(model.build(result), every_byte())
