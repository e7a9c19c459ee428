"""Small ONNX models for tests: quantized ones written by hand, and float ones quantized by ONNX Runtime's own tool."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

OPSET = 17
IR_VERSION = 8
"""Of the same age as the opset."""

Grid = tuple[float, int]
"""Scale and zero point of one tensor."""


class OnnxBuilder:
    """A model between DequantizeLinear and QuantizeLinear nodes; every method returns the name of a tensor."""

    def __init__(self, opset: int = OPSET) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.opset = opset
        self._count = 0

    def name(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}_{self._count}"

    def constant(self, value: Any, name: str = "") -> str:
        name = name or self.name("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def input(self, shape: Sequence[int | str | None], dtype: Any = np.float32, name: str = "") -> str:
        name = name or self.name("input")
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(helper.make_tensor_value_info(name, element, shape))
        return name

    def node(self, op_type: str, *inputs: str, name: str = "", domain: str = "", **attributes: Any) -> str:
        name = name or self.name(op_type.lower())
        self.nodes.append(helper.make_node(op_type, inputs, [name], domain=domain, **attributes))
        return name

    def split(self, tensor: str, sizes: Sequence[int], axis: int) -> list[str]:
        """A Split node; its results."""
        parts = [self.name("part") for _ in sizes]
        self.nodes.append(helper.make_node("Split", [tensor, self.constant(np.array(sizes))], parts, axis=axis))
        return parts

    def real(self, tensor: str, grid: Grid, dtype: Any = np.int8) -> str:
        """A DequantizeLinear node with one scale."""
        scale, zero = grid
        return self.node("DequantizeLinear", tensor, self.constant(np.float32(scale)), self.constant(dtype(zero)))

    def quantized(self, tensor: str, grid: Grid, dtype: Any = np.int8, name: str = "") -> str:
        """A QuantizeLinear node with one scale."""
        scale, zero = grid
        parameters = self.constant(np.float32(scale)), self.constant(dtype(zero))
        return self.node("QuantizeLinear", tensor, *parameters, name=name)

    def real_input(self, shape: Sequence[int], grid: Grid, dtype: Any = np.int8, name: str = "") -> str:
        """A quantized input and its DequantizeLinear node."""
        return self.real(self.input(shape, dtype, name), grid, dtype)

    def weights(self, values: NDArray[Any], scales: Any, zeros: Any = 0, axis: int = 0) -> str:
        """Quantized constants and their DequantizeLinear node; `scales` may have one value for each index on `axis`."""
        scale = np.asarray(scales, np.float32)
        zero = np.broadcast_to(np.asarray(zeros, values.dtype), scale.shape)
        operands = self.constant(values), self.constant(scale), self.constant(zero)
        return self.node("DequantizeLinear", *operands, axis=axis)

    def output(self, tensor: str, dtype: Any = np.int8, shape: Sequence[int] | None = None) -> str:
        """Declare an output; without a shape, inference finds it."""
        element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.outputs.append(helper.make_tensor_value_info(tensor, element, shape))
        return tensor

    def proto(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "test", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    def build(self, *outputs: str, dtype: Any = np.int8) -> bytes:
        for tensor in outputs:
            self.output(tensor, dtype)
        return self.proto().SerializeToString()


def normal(shape: Sequence[int], scale: float, seed: int) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def small_network() -> onnx.ModelProto:
    """A float network of operators that have a form on the NPU, its batch not fixed; input x, output y."""
    model = OnnxBuilder()
    x = model.input(("N", 3, 32, 32), name="x")
    first = model.node("Conv", x, _normal(model, 16, 3, 3, 3), _normal(model, 16), pads=[1] * 4, strides=[2, 2])
    first = model.node("Relu", first, name="first")
    bounds = model.constant(np.float32(0)), model.constant(np.float32(6))
    depthwise = model.node("Conv", first, _normal(model, 16, 1, 3, 3), _normal(model, 16), pads=[1] * 4, group=16)
    depthwise = model.node("Clip", depthwise, *bounds, name="depthwise")
    pointwise = model.node("Conv", depthwise, _normal(model, 16, 16, 1, 1), name="pointwise")
    added = model.node("Add", pointwise, first, name="added")
    pooled = model.node("AveragePool", added, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, name="pooled")
    mean = model.node("GlobalAveragePool", pooled, name="mean")
    flat = model.node("Flatten", mean, name="flat")
    model.output(model.node("Gemm", flat, _normal(model, 10, 16), _normal(model, 10), transB=1, name="y"), np.float32)
    return model.proto()


def _normal(model: OnnxBuilder, *shape: int) -> str:
    return model.constant(normal(shape, 0.3, seed=len(model.constants)))


class _Samples(CalibrationDataReader):
    def __init__(self, samples: Iterator[dict[str, NDArray[Any]]]) -> None:
        self._samples = samples

    def get_next(self) -> dict[str, NDArray[Any]] | None:  # type: ignore[override]
        return next(self._samples, None)


def quantize(
    model: onnx.ModelProto,
    *,
    per_channel: bool = False,
    activations: str = "QInt8",
    weights: str = "QInt8",
    quantization: str = "QDQ",
) -> bytes:
    """A float model quantized by ONNX Runtime's tool, its ranges taken from random inputs."""
    shapes = {
        value.name: [size.dim_value or 1 for size in value.type.tensor_type.shape.dim] for value in model.graph.input
    }
    samples = ({name: normal(shape, 1.0, seed) for name, shape in shapes.items()} for seed in range(4))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantized.onnx"
        quantize_static(
            model,
            target,
            _Samples(samples),
            quant_format=QuantFormat[quantization],
            per_channel=per_channel,
            activation_type=QuantType[activations],
            weight_type=QuantType[weights],
        )
        return target.read_bytes()
