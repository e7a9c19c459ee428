"""ONNX models of several images: the NPU against ONNX Runtime, on QDQ models of ONNX Runtime's own quantizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import rocketnpu as rn
from rocketnpu.verify import verify
from support.onnx_models import OnnxBuilder, normal

BATCH = 3
SHAPE = (BATCH, 8, 10, 12)


class Noise(CalibrationDataReader):
    """Two batches of noise."""

    def __init__(self) -> None:
        self._left = [np.random.default_rng(seed).normal(0, 1, SHAPE).astype(np.float32) for seed in range(2)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return {"x": self._left.pop()} if self._left else None


def pointwise(model: OnnxBuilder, x: str, seed: int = 0) -> str:
    return model.node("Conv", x, model.constant(normal((16, 8, 1, 1), 0.3, seed)))


def pooled(model: OnnxBuilder, x: str) -> str:
    return model.node("GlobalAveragePool", pointwise(model, x))


def squeezed(model: OnnxBuilder, x: str) -> str:
    a = pointwise(model, x)
    return model.node("Mul", a, model.node("Sigmoid", model.node("GlobalAveragePool", a)))


def added(model: OnnxBuilder, x: str) -> str:
    a = pointwise(model, x)
    return model.node("Add", a, model.node("Conv", a, model.constant(normal((16, 16, 3, 3), 0.2, 3)), pads=[1] * 4))


def attended(model: OnnxBuilder, x: str) -> str:
    rows = model.node("Reshape", pointwise(model, x), model.constant(np.array([BATCH, 16, 120])))
    return model.node("MatMul", model.node("Transpose", rows, perm=[0, 2, 1]), model.constant(normal((16, 7), 0.3, 1)))


NETWORKS: dict[str, Callable[[OnnxBuilder, str], str]] = {
    "Conv": lambda m, x: m.node("Conv", x, m.constant(normal((16, 8, 3, 3), 0.3, 0)), strides=[2, 2]),
    "depthwise": lambda m, x: m.node("Conv", x, m.constant(normal((8, 1, 3, 3), 0.3, 0)), group=8, pads=[1] * 4),
    "MaxPool": lambda m, x: m.node("MaxPool", pointwise(m, x), kernel_shape=[2, 2], strides=[2, 2]),
    "AveragePool": lambda m, x: m.node("AveragePool", pointwise(m, x), kernel_shape=[3, 3], strides=[2, 2]),
    "Gemm": lambda m, x: m.node("Gemm", m.node("Flatten", pooled(m, x)), m.constant(normal((16, 5), 0.3, 1))),
    "Gemm of all pixels": lambda m, x: m.node(
        "Gemm", m.node("Flatten", pointwise(m, x)), m.constant(normal((16 * 120, 5), 0.1, 1))
    ),
    "Add": added,
    "Mul of squeezed": squeezed,
    "Concat": lambda m, x: m.node("Concat", pointwise(m, x), pointwise(m, x, 2), axis=1),
    "Concat of batches": lambda m, x: m.node("Concat", pointwise(m, x), pointwise(m, x, 2), axis=0),
    "ConvTranspose": lambda m, x: m.node("ConvTranspose", x, m.constant(normal((8, 16, 2, 2), 0.3, 0)), strides=[2, 2]),
    "Transpose": attended,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_runs_on_the_npu_as_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    model = OnnxBuilder(opset=17)
    source, target = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    source.write_bytes(model.build(NETWORKS[name](model, model.input(SHAPE, name="x")), dtype=np.float32))
    quantize_static(
        source,
        target,
        Noise(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )
    program = rn.compile(target)
    on_cpu = {op.kind for step in program.steps if step.place == "cpu" for op in step.operators}
    assert on_cpu == {"QuantizeLinear", "DequantizeLinear"}
    assert len([step for step in program.steps if step.place == "npu"]) >= 1
    assert verify(target).worst_npu_layer <= 1
