"""A TFLite file made operator by operator: what the float library computes for the emulator."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

_flatbuffers: Any = importlib.import_module("flatbuffers")
_schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")

_TYPES: dict[type[np.generic], int] = {np.float32: _schema.TensorType.FLOAT32, np.int8: _schema.TensorType.INT8}
_FILE_VERSION = 3
_VERSIONS = {"QUANTIZE": 2, "DEQUANTIZE": 2}
"""Operator versions with int8; others are of version 1 (LiteRT's register.cc)."""


class LibraryModel:
    """Tensors are numbered in the order of their making; int8 ones stand for their whole numbers times a scale."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [_schema.BufferT()]
        self._operators: list[Any] = []
        self._codes: list[str] = []
        self._shapes: list[tuple[int, ...]] = []

    def tensor(self, shape: tuple[int, ...], dtype: type[np.generic] = np.float32, scale: float = 1) -> int:
        """A tensor that an operator writes, or an input of the model; `scale` is that of an int8 one."""
        tensor = _schema.TensorT()
        tensor.shape, tensor.type = np.array(shape, np.int32), _TYPES[dtype]
        tensor.name = f"t{len(self._tensors)}".encode()
        if dtype is np.int8:
            tensor.quantization = _schema.QuantizationParametersT()
            tensor.quantization.scale = np.full(1, scale, np.float32)
            tensor.quantization.zeroPoint = np.zeros(1, np.int64)
        self._tensors.append(tensor)
        self._shapes.append(shape)
        return len(self._tensors) - 1

    def constant(self, values: Array) -> int:
        """A float32 constant."""
        return self._stored(self.tensor(values.shape), np.ascontiguousarray(values, np.float32))

    def int8_weights(self, values: NDArray[np.int8]) -> int:
        """Weights [OC, KH, KW, IC] for a convolution of floats, with a scale of 1 for each output channel."""
        index = self.tensor(values.shape, np.int8)
        self._tensors[index].quantization.scale = np.ones(len(values), np.float32)
        self._tensors[index].quantization.zeroPoint = np.zeros(len(values), np.int64)
        return self._stored(index, np.ascontiguousarray(values))

    def _stored(self, index: int, values: Array) -> int:
        buffer = _schema.BufferT()
        buffer.data = values.reshape(-1).view(np.uint8)
        self._tensors[index].buffer = len(self._buffers)
        self._buffers.append(buffer)
        return index

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: tuple[int, ...] | None = None,
        *,
        options: str,
        settings: Mapping[str, int] = MappingProxyType({}),
    ) -> int:
        """A float operator by its TFLite name; its output, by default of the first input's shape."""
        output = self.tensor(self._shapes[inputs[0]] if shape is None else shape)
        self._add(kind, inputs, output, options, settings)
        return output

    def quantized(self, tensor: int, scale: float) -> int:
        """round(tensor / scale), saturated to int8."""
        output = self.tensor(self._shapes[tensor], np.int8, scale)
        self._add("QUANTIZE", [tensor], output, "QuantizeOptions", {})
        return output

    def _add(self, kind: str, inputs: Sequence[int], output: int, options: str, settings: Mapping[str, int]) -> None:
        if kind not in self._codes:
            self._codes.append(kind)
        operator = _schema.OperatorT()
        operator.opcodeIndex = self._codes.index(kind)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        operator.builtinOptionsType = getattr(_schema.BuiltinOptions, options)
        operator.builtinOptions = getattr(_schema, options + "T")()
        for name, value in settings.items():
            setattr(operator.builtinOptions, name, value)
        self._operators.append(operator)

    def file(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The TFLite file."""
        graph = _schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        model = _schema.ModelT()
        model.version, model.buffers, model.subgraphs = _FILE_VERSION, self._buffers, [graph]
        model.operatorCodes = [_code(kind) for kind in self._codes]
        builder = _flatbuffers.Builder(sum(b.data.nbytes for b in self._buffers if b.data is not None) + 4096)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def _code(kind: str) -> Any:
    code = _schema.OperatorCodeT()
    code.builtinCode = getattr(_schema.BuiltinOperator, kind)
    code.deprecatedBuiltinCode, code.version = code.builtinCode, _VERSIONS.get(kind, 1)
    return code
