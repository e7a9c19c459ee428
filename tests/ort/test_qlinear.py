"""QLinear operators mean what ONNX Runtime's own integer kernels compute, within one rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from rocketnpu.cpu.onnxruntime import Reference
from rocketnpu.frontends import load_model
from support.onnx_models import Grid, OnnxBuilder

MICROSOFT = "com.microsoft"
X: Grid = (0.03, 118)
Y: Grid = (0.05, 131)


def noise(shape: tuple[int, ...], dtype: Any = np.uint8, seed: int = 0) -> NDArray[Any]:
    low, high = (0, 255) if dtype == np.uint8 else (-63, 63)  # 7-bit weights saturate no sum of two products
    return np.random.default_rng(seed).integers(low, high, shape, dtype, endpoint=True)


class QLinearBuilder(OnnxBuilder):
    """Operands of QLinear nodes: a tensor, its scale and its zero point."""

    def grid(self, grid: Grid, dtype: Any = np.uint8) -> tuple[str, str]:
        return self.constant(np.float32(grid[0])), self.constant(dtype(grid[1]))

    def operand(self, shape: tuple[int, ...], grid: Grid) -> tuple[str, str, str]:
        return (self.input(shape, np.uint8), *self.grid(grid))

    def matrix(self, values: NDArray[Any], scales: Any) -> tuple[str, str, str]:
        scale = np.asarray(scales, np.float32)
        return self.constant(values), self.constant(scale), self.constant(np.zeros(scale.shape, values.dtype))


def compare(model: QLinearBuilder, output: str, shape: tuple[int, ...], op_type: str) -> None:
    """The node is rewritten, and its result is ONNX Runtime's for the file as it is, but for roundings."""
    model.output(output, np.uint8, shape)
    data = model.proto().SerializeToString()
    graph = load_model(data)
    assert not any("QLinear" in operator.kind or operator.kind == "QGemm" for operator in graph.operators)
    assert all(operator.opaque is None for operator in graph.operators)
    inputs = {name: noise(graph.tensors[name].shape, seed=seed) for seed, name in enumerate(graph.inputs)}
    (expected,) = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, inputs)
    found = Reference(graph.model).tensors(list(inputs.values()))[output]
    difference = np.abs(found.astype(int) - expected.astype(int))
    assert difference.max() <= 1, f"{op_type}: {found.reshape(-1)[:8]} and {expected.reshape(-1)[:8]}"


@pytest.mark.parametrize("op_type", ["QLinearAdd", "QLinearMul"])
def test_two_tensors(op_type: str) -> None:
    model = QLinearBuilder()
    operands = (*model.operand((1, 8, 4, 4), X), *model.operand((1, 8, 4, 4), Y), *model.grid((0.2, 120)))
    compare(model, model.node(op_type, *operands, domain=MICROSOFT), (1, 8, 4, 4), op_type)


@pytest.mark.parametrize(("op_type", "attributes"), [("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.1})])
def test_one_tensor(op_type: str, attributes: dict[str, Any]) -> None:
    model = QLinearBuilder()
    grid = (1 / 256, 0) if op_type == "QLinearSigmoid" else Y
    operands = (*model.operand((1, 8, 4, 4), X), *model.grid(grid))
    compare(model, model.node(op_type, *operands, domain=MICROSOFT, **attributes), (1, 8, 4, 4), op_type)


def test_a_softmax_over_one_axis() -> None:
    model = QLinearBuilder()
    operands = (*model.operand((1, 8, 4, 4), X), *model.grid((1 / 256, 0)))
    softmax = model.node("QLinearSoftmax", *operands, domain=MICROSOFT, axis=1, opset=13)
    compare(model, softmax, (1, 8, 4, 4), "QLinearSoftmax")


@pytest.mark.parametrize("op_type", ["QLinearAveragePool", "QLinearGlobalAveragePool"])
def test_pools(op_type: str) -> None:
    model = QLinearBuilder()
    pool = op_type == "QLinearAveragePool"
    attributes: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]} if pool else {}
    operands = (*model.operand((1, 8, 4, 4), X), *model.grid((0.021, 99)))
    shape = (1, 8, 2, 2) if pool else (1, 8, 1, 1)
    compare(model, model.node(op_type, *operands, domain=MICROSOFT, channels_last=0, **attributes), shape, op_type)


def test_concatenation() -> None:
    model = QLinearBuilder()
    operands = (*model.grid(Y), *model.operand((1, 3, 4, 4), X), *model.operand((1, 5, 4, 4), Y))
    compare(model, model.node("QLinearConcat", *operands, domain=MICROSOFT, axis=1), (1, 8, 4, 4), "QLinearConcat")


@pytest.mark.parametrize("per_channel", [False, True])
def test_convolutions(per_channel: bool) -> None:
    model = QLinearBuilder()
    scales = np.geomspace(0.005, 0.02, 6) if per_channel else 0.01
    weights = model.matrix(noise((6, 4, 3, 3), np.int8, seed=5), scales)
    bias = model.constant(np.arange(-3000, 3000, 1000, dtype=np.int32))
    operands = (*model.operand((1, 4, 7, 7), X), *weights, *model.grid((0.3, 120)), bias)
    compare(model, model.node("QLinearConv", *operands, pads=[1] * 4), (1, 6, 7, 7), "QLinearConv")


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("transposed", [0, 1])
def test_matrices_with_bias(transposed: int, per_channel: bool) -> None:
    model = QLinearBuilder()
    values = noise((6, 20) if transposed else (20, 6), np.int8, seed=5)
    weights = model.matrix(values, np.geomspace(0.005, 0.02, 6) if per_channel else 0.01)
    bias = model.constant(np.arange(-3000, 3000, 1000, dtype=np.int32))
    operands = (*model.operand((2, 20), X), *weights, bias, *model.grid((0.3, 120)))
    compare(model, model.node("QGemm", *operands, domain=MICROSOFT, transB=transposed), (2, 6), "QGemm")


def test_matrices() -> None:
    model = QLinearBuilder()
    weights = model.matrix(noise((20, 6), np.int8, seed=5), 0.01)
    operands = (*model.operand((2, 20), X), *weights, *model.grid((0.3, 120)))
    compare(model, model.node("QLinearMatMul", *operands), (2, 6), "QLinearMatMul")


def test_channels_last_is_left_to_onnx_runtime() -> None:
    model = QLinearBuilder()
    operands = (*model.operand((1, 4, 4, 8), X), *model.grid(Y))
    pool = model.node("QLinearGlobalAveragePool", *operands, domain=MICROSOFT, channels_last=1)
    model.output(pool, np.uint8, (1, 1, 1, 8))
    graph = load_model(model.proto().SerializeToString())
    assert [operator.kind for operator in graph.operators] == ["QLinearGlobalAveragePool"]
    assert all(operator.opaque for operator in graph.operators)
