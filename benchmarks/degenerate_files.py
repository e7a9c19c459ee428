"""Drawn layers as files: TFLite, ONNX with QuantizeLinear around the operator, and ONNX's QLinear operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.degenerate_draws import CONSTANT_PAIRED, PAIRED, Grid, Layer, same_pads
from rocketnpu.frontends.tflite.flatbuffer import IDENTIFIER, schema

FORMATS = ("TFLite", "QDQ", "QLinear")
TENSORS = ("data", "other", "weights", "bias", "result")
"""Names of tensors in all files."""
OPSET, IR_VERSION = 17, 8
SIGN_FLIP = 128
MEAN = (0, 3, 1, 2)
"""NHWC to NCHW."""


def has_format(kind: str, format_: str) -> bool:
    """Whether a kind of layer exists in a format. QLinear operators that ONNX lacks are ONNX Runtime's."""
    return format_ != "QLinear" or kind not in ("ConvTranspose", "Sub", "Requantize")


def stored(layer: Layer, values: NDArray[Any]) -> NDArray[Any]:
    """Bytes as the file has them."""
    return (values + SIGN_FLIP).astype(np.uint8) if layer.unsigned else values.astype(np.int8)


def write(layer: Layer, format_: str) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """A file with the layer, and its inputs in the file's layout."""
    onnx_layout = format_ != "TFLite"
    arrays = {"data": layer.data}
    if layer.kind in PAIRED:
        assert layer.others is not None
        arrays["other"] = layer.others
    inputs = {name: stored(layer, array.transpose(MEAN) if onnx_layout else array) for name, array in arrays.items()}
    if layer.kind == "FullyConnected":
        inputs = {name: array.reshape(1, -1) for name, array in inputs.items()}
    return (_tflite(layer) if format_ == "TFLite" else _onnx(layer, format_)), inputs


def result_of(layer: Layer, found: NDArray[Any], format_: str) -> NDArray[np.int64]:
    """A run's output as the exact result is: int8 numbers, NHWC."""
    values = found.astype(np.int64) - (SIGN_FLIP if layer.unsigned else 0)
    if layer.kind == "FullyConnected":
        return values.reshape(1, 1, 1, -1)
    return values if format_ == "TFLite" else values.transpose(0, 2, 3, 1)


@dataclass
class _TfliteFile:
    """Tensors and buffers of a model under construction."""

    unsigned: bool
    tensors: list[Any] = field(default_factory=list[Any])
    buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])

    def add(
        self, name: str, shape: tuple[int, ...], scales: Any, zero: int, data: NDArray[Any] | None = None, axis: int = 0
    ) -> int:
        """A tensor with its quantization; its index. Data are stored as they are."""
        kind = ("UINT8" if self.unsigned else "INT8") if data is None else data.dtype.name.upper()
        grid = None
        if scales is not None:
            scale = np.atleast_1d(np.asarray(scales, np.float32))
            zeros = np.full(scale.shape, zero + (SIGN_FLIP if kind == "UINT8" else 0), np.int64)
            grid = schema.QuantizationParametersT(scale=scale, zeroPoint=zeros, quantizedDimension=axis)
        buffer = 0
        if data is not None:
            buffer = len(self.buffers)
            self.buffers.append(schema.BufferT(data=np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)))
        tensor = schema.TensorT(
            shape=np.array(shape, np.int32),
            type=getattr(schema.TensorType, kind),
            buffer=buffer,
            name=name,
            quantization=grid,
        )
        self.tensors.append(tensor)
        return len(self.tensors) - 1


def _tflite(layer: Layer) -> bytes:
    file = _TfliteFile(layer.unsigned)
    shape = (1, layer.data.shape[3]) if layer.kind == "FullyConnected" else layer.data.shape
    inputs = [file.add("data", shape, layer.first.scale, layer.first.zero)]
    outside = [0]
    if layer.weights is not None:
        operands = _tflite_operands(layer, file, inputs[0])
    elif layer.second is not None:
        assert layer.others is not None
        constant = stored(layer, layer.others[:, :1, :1]) if layer.kind in CONSTANT_PAIRED else None
        size = layer.data.shape if constant is None else constant.shape
        inputs.append(file.add("other", size, layer.second.scale, layer.second.zero, constant))
        outside += [1] if constant is None else []
        operands = inputs
    else:
        operands = inputs
    kind, table, options = _tflite_operator(layer)
    result = file.add("result", _tflite_result(layer), layer.output.scale, layer.output.zero)
    number = getattr(schema.BuiltinOperator, kind)
    operator = schema.OperatorT(
        opcodeIndex=0,
        inputs=np.array(operands, np.int32),
        outputs=np.array([result], np.int32),
        builtinOptionsType=getattr(schema.BuiltinOptions, table),
        builtinOptions=options,
    )
    graph = schema.SubGraphT(
        tensors=file.tensors,
        inputs=np.array(outside, np.int32),
        outputs=np.array([result], np.int32),
        operators=[operator],
        name="main",
    )
    codes = [schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=1)]
    model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=file.buffers)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _tflite_operands(layer: Layer, file: _TfliteFile, data: int) -> list[int]:
    assert layer.weights is not None
    weights, axis = layer.weights, 0
    if layer.kind == "DepthwiseConv":
        weights, axis = weights.transpose(3, 1, 2, 0), 3
    if layer.kind == "FullyConnected":
        weights = weights.reshape(weights.shape[0], -1)
    scales = layer.weight_scales if len(set(layer.weight_scales)) > 1 else layer.weight_scales[:1]
    filters = file.add("weights", weights.shape, scales, layer.weight_zero, stored(layer, weights), axis)
    count = layer.weights.shape[0]
    values = np.zeros(count, np.int32) if layer.bias is None else layer.bias.astype(np.int32)
    bias = file.add("bias", (count,), None, 0, values)
    if layer.kind == "ConvTranspose":
        shape = np.array(_tflite_result(layer), np.int32)
        return [file.add("shape", shape.shape, None, 0, shape), filters, data, bias]
    return [data, filters, bias]


def _tflite_result(layer: Layer) -> tuple[int, ...]:
    if layer.weights is None:
        return layer.data.shape
    count, size = layer.weights.shape[:2]
    if layer.kind == "FullyConnected":
        return (1, count)
    rows, columns = layer.data.shape[1:3]
    if layer.kind == "ConvTranspose":
        return (1, (rows - 1) * layer.stride + size, (columns - 1) * layer.stride + size, count)
    return (1, -(-rows // layer.stride), -(-columns // layer.stride), count)


def _tflite_operator(layer: Layer) -> tuple[str, str, Any]:
    kinds = {
        "Conv": ("CONV_2D", "Conv2DOptions"),
        "GroupedConv": ("CONV_2D", "Conv2DOptions"),
        "DepthwiseConv": ("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"),
        "ConvTranspose": ("TRANSPOSE_CONV", "TransposeConvOptions"),
        "FullyConnected": ("FULLY_CONNECTED", "FullyConnectedOptions"),
        "Requantize": ("QUANTIZE", "QuantizeOptions"),
        "Add": ("ADD", "AddOptions"),
        "AddConstant": ("ADD", "AddOptions"),
        "Sub": ("SUB", "SubOptions"),
        "Mul": ("MUL", "MulOptions"),
        "MulConstant": ("MUL", "MulOptions"),
    }
    kind, table = kinds[layer.kind]
    options = getattr(schema, f"{table}T")()
    if layer.kind != "Requantize":
        options.fusedActivationFunction = getattr(schema.ActivationFunctionType, layer.activation)
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
        options.strideH = options.strideW = layer.stride
        options.padding = schema.Padding.VALID if kind == "TRANSPOSE_CONV" else schema.Padding.SAME
    if kind == "DEPTHWISE_CONV_2D":
        options.depthMultiplier = 1
    return kind, table, options


class _OnnxFile:
    """Nodes and constants of a model under construction."""

    def __init__(self, dtype: Any) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.dtype = dtype

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def parameters(self, name: str, scales: Any, zero: int) -> list[str]:
        """Names of scale and zero point."""
        scale = np.asarray(scales, np.float32)
        zeros = np.full(scale.shape, zero + (SIGN_FLIP if self.dtype == np.uint8 else 0)).astype(self.dtype)
        return [self.constant(f"{name}_scale", scale), self.constant(f"{name}_zero", zeros)]

    def grid(self, name: str, grid: Grid) -> list[str]:
        return self.parameters(name, grid.scale, grid.zero)


def _onnx(layer: Layer, format_: str) -> bytes:
    file = _OnnxFile(np.dtype(np.uint8 if layer.unsigned else np.int8))
    shape = [1, layer.data.shape[3]] if layer.kind == "FullyConnected" else np.transpose(layer.data, MEAN).shape
    names = ["data"]
    if layer.second is not None:
        names.append("other")
    if layer.kind in CONSTANT_PAIRED:
        assert layer.others is not None
        file.constant("other", stored(layer, layer.others[:, :1, :1].transpose(MEAN)))
    (_qdq if format_ == "QDQ" else _qlinear)(layer, file)
    element = helper.np_dtype_to_tensor_dtype(file.dtype)
    known = {constant.name for constant in file.constants}
    inputs = [helper.make_tensor_value_info(name, element, shape) for name in names if name not in known]
    outputs = [helper.make_tensor_value_info("result", element, None)]
    graph = helper.make_graph(file.nodes, "drawn", inputs, outputs, file.constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    return model.SerializeToString()


def _qdq(layer: Layer, file: _OnnxFile) -> None:
    operands = [file.node("DequantizeLinear", ["data", *file.grid("data", layer.first)], "data_real")]
    if layer.second is not None:
        grid = file.grid("other", layer.second)
        operands.append(file.node("DequantizeLinear", ["other", *grid], "other_real"))
    if layer.weights is not None:
        operands += _qdq_weights(layer, file)
    ops = {"Add": "Add", "AddConstant": "Add", "Sub": "Sub", "Mul": "Mul", "MulConstant": "Mul"}
    ops |= {"ConvTranspose": "ConvTranspose", "FullyConnected": "Gemm"}
    real = operands[0]
    if layer.kind != "Requantize":
        op = ops.get(layer.kind, "Conv")
        real = file.node(op, operands, "result_real", **_attributes(layer, op))
    if layer.activation == "RELU":
        real = file.node("Relu", [real], "result_active")
    elif layer.activation == "RELU6":
        bounds = [file.constant("low", np.float32(0)), file.constant("high", np.float32(6))]
        real = file.node("Clip", [real, *bounds], "result_active")
    file.node("QuantizeLinear", [real, *file.grid("result", layer.output)], "result")


def _attributes(layer: Layer, op: str) -> dict[str, Any]:
    if op == "Gemm":
        return {"transB": 1}
    if op == "ConvTranspose":
        return {"strides": [layer.stride] * 2}
    if op != "Conv":
        return {}
    rows, columns = same_pads(layer)
    pads = [rows[0], columns[0], rows[1], columns[1]]
    return {"strides": [layer.stride] * 2, "pads": pads, "group": layer.groups}


def _onnx_weights(layer: Layer) -> NDArray[Any]:
    assert layer.weights is not None
    weights = stored(layer, layer.weights)
    if layer.kind == "FullyConnected":
        return weights.reshape(weights.shape[0], -1)
    return weights.transpose(3, 0, 1, 2) if layer.kind == "ConvTranspose" else weights.transpose(MEAN)


def _qdq_weights(layer: Layer, file: _OnnxFile) -> list[str]:
    per_channel = len(set(layer.weight_scales)) > 1
    scales = layer.weight_scales if per_channel else layer.weight_scales[0]
    names = [file.constant("weights", _onnx_weights(layer)), *file.parameters("weights", scales, layer.weight_zero)]
    axis = {"axis": 1 if layer.kind == "ConvTranspose" else 0} if per_channel else {}
    operands = [file.node("DequantizeLinear", names, "weights_real", **axis)]
    if layer.bias is not None:
        bias = [file.constant("bias", layer.bias.astype(np.int32))]
        bias.append(file.constant("bias_scale", np.array(list(map(float, layer.bias_steps)), np.float32)))
        operands.append(file.node("DequantizeLinear", bias, "bias_real", axis=0))
    return operands


def _qlinear(layer: Layer, file: _OnnxFile) -> None:
    data = ["data", *file.grid("data", layer.first)]
    output = file.grid("result", layer.output)
    if layer.second is not None:
        op = "QLinearMul" if layer.kind.startswith("Mul") else "QLinearAdd"
        other = ["other", *file.grid("other", layer.second)]
        file.node(op, [*data, *other, *output], "result", domain="com.microsoft")
        return
    per_channel = len(set(layer.weight_scales)) > 1
    scales = layer.weight_scales if per_channel else layer.weight_scales[0]
    weights = [file.constant("weights", _onnx_weights(layer)), *file.parameters("weights", scales, layer.weight_zero)]
    bias = [] if layer.bias is None else [file.constant("bias", layer.bias.astype(np.int32))]
    if layer.kind == "FullyConnected":
        inputs = [*data, *weights, *(bias or [""]), *output]
        file.node("QGemm", inputs, "result", domain="com.microsoft", transB=1)
    else:
        file.node("QLinearConv", [*data, *weights, *output, *bias], "result", **_attributes(layer, "Conv"))
