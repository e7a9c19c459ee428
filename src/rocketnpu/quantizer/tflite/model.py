"""A TFLite file as objects that can be changed: its only subgraph, tensors by name, and the way back to a file."""

from __future__ import annotations

import importlib
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.frontends.tflite.flatbuffer import IDENTIFIER, enum_names, schema
from rocketnpu.frontends.tflite.piece_model import AlignedBuffer

SIGNATURE = "serving_default"
"""The key that LiteRT's converters give a model's only signature."""

QUANTIZED = "_quantized"
"""What LiteRT's quantizer puts behind a tensor's name for the result of a QUANTIZE."""

_flatbuffers: Any = importlib.import_module("flatbuffers")
TYPES: dict[type[np.generic], int] = {
    np.float32: schema.TensorType.FLOAT32,
    np.int8: schema.TensorType.INT8,
    np.int32: schema.TensorType.INT32,
}
_KINDS = enum_names("BuiltinOperator")


class TfliteModel:
    """The objects of schema.fbs (`ModelT` and its parts, which are untyped) of a file with one subgraph."""

    def __init__(self, data: bytes) -> None:
        """`data` is a file that `litert.extract_piece` or LiteRT's quantizer wrote: none from outside."""
        self._model: Any = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        for buffer in self._model.buffers:
            if buffer.offset > 1:  # behind the flatbuffer, where LiteRT's quantizer puts constants (schema.fbs, Buffer)
                buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
        for code in self._model.operatorCodes:  # old files have the second field only, which the quantizer ignores
            code.builtinCode = max(code.builtinCode, code.deprecatedBuiltinCode)
        self._graph: Any = self._model.subgraphs[0]
        self.names = [tensor.name.decode() for tensor in self._graph.tensors]
        self.places = {name: place for place, name in enumerate(self.names)}

    @property
    def operators(self) -> list[Any]:
        """The operators (`OperatorT`) in execution order; the list may be changed."""
        return self._graph.operators

    @property
    def results(self) -> list[str]:
        """Names of the graph's outputs."""
        return [self.names[place] for place in self._graph.outputs]

    def set_result(self, place: int, name: str) -> None:
        """Let the graph's output at a place be the tensor of this name."""
        results = np.array(self._graph.outputs)
        results[place] = self.places[name]
        self._graph.outputs = results

    def kind(self, operator: Any) -> str:
        """The operator's name (CONV_2D ...)."""
        return _KINDS[self._model.operatorCodes[operator.opcodeIndex].builtinCode]

    def inputs(self, operator: Any) -> list[str | None]:
        """Names of what an operator reads, None for an optional input that is left out."""
        return [self.names[place] if place >= 0 else None for place in operator.inputs]

    def outputs(self, operator: Any) -> list[str]:
        """Names of what an operator makes."""
        return [self.names[place] for place in operator.outputs]

    def tensor(self, name: str) -> Any:
        """The tensor (`TensorT`) of a name."""
        return self._graph.tensors[self.places[name]]

    def rewire(self, operator: Any, old: str, new: str, *, output: bool = False) -> None:
        """Let an operator read (or make) the tensor `new` instead of `old`."""
        end = "outputs" if output else "inputs"
        places = np.array(getattr(operator, end))
        places[places == self.places[old]] = self.places[new]
        setattr(operator, end, places)

    def constant(self, name: str, dtype: type[np.generic] = np.float32) -> NDArray[Any] | None:
        """A constant of its shape; None for what is no constant, or not of this dtype (a key of TYPES)."""
        tensor = self.tensor(name)
        data = self._model.buffers[tensor.buffer].data
        if data is None or tensor.type != TYPES[dtype]:
            return None
        return np.frombuffer(bytes(data), dtype).reshape(tensor.shape)

    def set_constant(self, name: str, values: NDArray[Any]) -> None:
        """Make a tensor a constant, of the values' dtype (a key of TYPES); a float one has no grid."""
        tensor = self.tensor(name)
        tensor.type = TYPES[values.dtype.type]
        if values.dtype.kind == "f":
            tensor.quantization = None
        tensor.buffer = len(self._model.buffers)
        self._model.buffers.append(schema.BufferT(data=np.frombuffer(values.tobytes(), np.uint8)))

    def set_grid(self, name: str, scale: float, zero_point: int) -> None:
        """Make a tensor int8 with one scale."""
        tensor = self.tensor(name)
        tensor.type = schema.TensorType.INT8
        tensor.quantization = schema.QuantizationParametersT(
            scale=np.array([scale], np.float32), zeroPoint=np.array([zero_point], np.int64)
        )

    def grid(self, name: str) -> tuple[float, int] | None:
        """Scale and zero point of an int8 tensor with one scale; None for other tensors."""
        tensor = self.tensor(name)
        if tensor.type != schema.TensorType.INT8 or tensor.quantization is None or len(tensor.quantization.scale) != 1:
            return None
        return float(tensor.quantization.scale[0]), int(tensor.quantization.zeroPoint[0])

    def add_copy(self, name: str, new: str) -> None:
        """Add a tensor `new` that is like the tensor `name`, but that nothing uses yet."""
        self.places[new] = len(self.names)
        self.names.append(new)
        tensor = copy(self.tensor(name))
        tensor.name = new.encode()
        self._graph.tensors.append(tensor)

    def dequantize(self, source: str, result: str) -> None:
        """Add a DEQUANTIZE behind the operator that makes `source`."""
        made = next(place for place, operator in enumerate(self.operators) if source in self.outputs(operator))
        operator = schema.OperatorT(
            inputs=np.array([self.places[source]], np.int32), outputs=np.array([self.places[result]], np.int32)
        )
        self.set_kind(operator, "DEQUANTIZE", "DequantizeOptions", schema.DequantizeOptionsT())
        self.operators.insert(made + 1, operator)

    def unused(self, name: str) -> str:
        """`name`, or something like it if a tensor has it already."""
        while name in self.places:
            name += "#"
        return name

    def rename(self, old: str, new: str) -> None:
        """Give a tensor another name, which no tensor has."""
        self.tensor(old).name = new.encode()
        place = self.places.pop(old)
        self.names[place] = new
        self.places[new] = place

    def set_kind(self, operator: Any, kind: str, options: str, values: Any) -> None:
        """Make an operator one of another kind, with options of a table's name and the table itself."""
        number = getattr(schema.BuiltinOperator, kind)
        operator.opcodeIndex = len(self._model.operatorCodes)
        self._model.operatorCodes.append(
            schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=min(number, 127))
        )
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
        operator.builtinOptions = values

    def sign(self) -> None:
        """Give the file a signature of its inputs and outputs."""
        tensors = [
            [schema.TensorMapT(name=self.names[place], tensorIndex=int(place)) for place in places]
            for places in (self._graph.inputs, self._graph.outputs)
        ]
        self._model.signatureDefs = [schema.SignatureDefT(*tensors, SIGNATURE, 0)]

    def _drop_unused(self) -> None:
        graph = self._graph
        ends = [graph, *graph.operators]
        lists = [(end, field) for end in ends for field in ("inputs", "outputs") if getattr(end, field) is not None]
        used = sorted({int(place) for end, field in lists for place in getattr(end, field) if place >= 0})
        moved = {place: index for index, place in enumerate(used)} | {-1: -1}
        for end, field in lists:
            setattr(end, field, np.array([moved[int(place)] for place in getattr(end, field)], np.int32))
        for signature in self._model.signatureDefs or ():
            for entry in (*signature.inputs, *signature.outputs):
                entry.tensorIndex = moved[int(entry.tensorIndex)]
        graph.tensors = [graph.tensors[place] for place in used]
        codes = sorted({operator.opcodeIndex for operator in graph.operators})
        for operator in graph.operators:
            operator.opcodeIndex = codes.index(operator.opcodeIndex)
        self._model.operatorCodes = [self._model.operatorCodes[code] for code in codes]
        holders = [*graph.tensors, *(self._model.metadata or ())]
        buffers = sorted({0, *(holder.buffer for holder in holders)})  # 0 is the empty one (schema.fbs, Model)
        for holder in holders:
            holder.buffer = buffers.index(holder.buffer)
        self._model.buffers = [self._model.buffers[buffer] for buffer in buffers]
        self.names = [self.names[place] for place in used]
        self.places = {name: place for place, name in enumerate(self.names)}

    def build(self) -> bytes:
        """The file: without tensors that nothing uses, its constants aligned as schema.fbs asks for.

        The last thing that is done with this object.
        """
        self._drop_unused()
        for place, buffer in enumerate(self._model.buffers):
            self._model.buffers[place] = AlignedBuffer(b"" if buffer.data is None else bytes(buffer.data))
        builder = _flatbuffers.Builder(sum(buffer.size_bytes for buffer in self._model.buffers) + 4096)
        builder.Finish(self._model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())
