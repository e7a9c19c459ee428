"""Multiply-accumulate operations of an operator, against published figures and counts by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.compiler.macs import macs
from rocketnpu.frontends import load_model
from support.models import ModelBuilder
from support.onnx_models import OnnxBuilder


def total(source: Path | bytes) -> int:
    graph = load_model(source)
    return sum(macs(graph, operator) for operator in graph.operators)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        # A. G. Howard et al., "MobileNets", 2017, tables 6 to 8: "Million Mult-Adds"
        ("mobilenet_v1_1.0_224_quant.tflite", 569),
        ("mobilenet_v1_0.25_128_quant.tflite", 14),
        # M. Sandler et al., "MobileNetV2", 2018, table 4: 300M
        ("mobilenet_v2_1.0_224_quant.tflite", 300),
        ("mobilenet_v2_qlinear.onnx", 300),
    ],
)
def test_published_networks_have_their_published_figures(shared: Path, name: str, millions: int) -> None:
    assert total(shared / "models" / name) / 1e6 == pytest.approx(millions, abs=1)


def test_layers_of_tflite() -> None:
    model = ModelBuilder()
    x = model.conv2d(model.input((1, 9, 7, 3)), 8)  # 3x3, SAME
    x = model.depthwise(x, multiplier=2)
    x = model.fully_connected(model.reshape(x, (1, 9 * 7 * 16)), 5)
    expected = 63 * 8 * 3 * 9 + 63 * 16 * 9 + 63 * 16 * 5
    graph = load_model(model.build(model.softmax(x)))
    found = {operator.kind: macs(graph, operator) for operator in graph.operators}
    shapes = {name: tensor.shape for name, tensor in graph.tensors.items() if tensor.data is not None}
    assert sum(found.values()) == expected, (found, shapes)
    assert (found["RESHAPE"], found["SOFTMAX"]) == (0, 0)


def onnx_layer(kind: str, shape: Sequence[int], *weights: Sequence[int], **attributes: Any) -> bytes:
    model = OnnxBuilder()
    operands = [model.constant(np.zeros(size, np.float32)) for size in weights]
    return model.build(model.node(kind, model.input(shape), *operands, **attributes), dtype=np.float32)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (onnx_layer("Conv", (2, 6, 8, 8), (4, 3, 3, 3), group=2), 2 * 6 * 6 * 4 * 27),
        (onnx_layer("Conv", (1, 6, 8), (4, 6, 3)), 6 * 4 * 18),
        (onnx_layer("ConvTranspose", (1, 6, 8, 8), (6, 4, 2, 2), strides=[2, 2]), 6 * 64 * 4 * 4),
        (onnx_layer("MatMul", (5, 3, 7), (7, 4)), 5 * 3 * 7 * 4),
        (onnx_layer("MatMul", (3, 7), (7,)), 3 * 7),
        (onnx_layer("MatMul", (7,), (7, 4)), 7 * 4),
        (onnx_layer("Gemm", (7, 3), (4, 7), transA=1, transB=1), 3 * 7 * 4),
        (onnx_layer("LSTM", (5, 2, 3), (1, 16, 3), (1, 16, 4), hidden_size=4), 5 * 2 * 16 * (3 + 4)),
        (onnx_layer("Softmax", (5, 2)), 0),
    ],
)
def test_layers_of_onnx_on_the_cpu(data: bytes, expected: int) -> None:
    assert total(data) == expected
    placement = rn.compile(data).placement
    assert (placement.npu_macs, placement.macs, placement.npu_percent) == (0, expected, 0.0)


def test_what_the_npu_takes_is_counted_once() -> None:
    """A reshape adds nothing."""
    model = ModelBuilder()
    x = model.conv2d(model.input((1, 4, 4, 8)), 8)
    found = rn.compile(model.build(model.reshape(x, (1, 16, 8)))).placement
    assert (found.npu_operators, found.operators) == (2, 2)
    assert found.npu_macs == found.macs
    assert found.npu_percent == 100.0


def test_a_model_without_macs_counts_operators() -> None:
    model = ModelBuilder()
    x = model.input((1, 4, 4, 8))
    found = rn.compile(model.build(model.softmax(model.add(x, x)))).placement
    assert (found.npu_macs, found.macs, found.npu_percent) == (0, 0, 50.0)
