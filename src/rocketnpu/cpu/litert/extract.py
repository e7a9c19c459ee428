"""Cutting operators out of a TFLite file into a smaller TFLite file."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.frontends.tflite.flatbuffer import IDENTIFIER, Reader, malformed_is_model_error, read_root, schema
from rocketnpu.ir import Graph

_flatbuffers: Any = importlib.import_module("flatbuffers")

BUFFER_ALIGNMENT = 16
"""Constant data starts at a multiple of this (schema.fbs, `force_align` of Buffer.data)."""


def extract_piece(graph: Graph, operators: Sequence[int], inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """A TFLite file of some operators of a graph, with the tensors and constants that they need.

    `operators` are values of `Operator.index`; `inputs` and `outputs` are tensor names and become the piece's inputs
    and outputs in that order. Tensors keep the graph's names. An opaque graph can't be cut: `graph.model` is its piece.
    Raises ModelError when the operators don't compute the outputs from the inputs and constants alone.
    """
    if graph.opaque is not None:
        raise ModelError(f"the model can't be cut into pieces: {graph.opaque}")
    root = read_root(graph.model, "the model")
    with malformed_is_model_error("the model"):
        return _extract(graph, root, sorted(set(operators)), inputs, outputs)


def _extract(
    graph: Graph, root: Any, operators: Sequence[int], input_names: Sequence[str], output_names: Sequence[str]
) -> bytes:
    names = list(graph.tensors)
    place = {name: index for index, name in enumerate(names)}
    inputs, outputs = [place[name] for name in input_names], [place[name] for name in output_names]
    reader = Reader(graph.model)
    subgraph = root.Subgraphs(0)
    tables = [schema.OperatorT.InitFromObj(subgraph.Operators(index)) for index in operators]
    for table in tables:
        _spend_on_options(reader, table)
    used = {int(index) for table in tables for index in _operands(table) if index >= 0}
    order = sorted(used | set(inputs) | set(outputs))
    position = {tensor: index for index, tensor in enumerate(order)}
    position[-1] = -1  # an optional input that is left out stays so

    buffers = [AlignedBuffer(b"")]  # buffer 0 is the empty one (schema.fbs, table Model)
    tensors: list[Any] = []
    origin = set(inputs) | {int(index) for table in tables for index in table.outputs}
    for index in order:
        tensor = schema.TensorT.InitFromObj(subgraph.Tensors(index))
        tensor.name = names[index]
        tensor.shape = np.array(graph.tensors[names[index]].shape, np.int32)
        tensor.shapeSignature = None  # a piece has the static shapes of the graph
        data = reader.stored(root.Buffers(tensor.buffer))
        reader.spend(data.nbytes)
        tensor.buffer = 0
        if index not in origin:
            if data.size == 0 and 0 not in graph.tensors[names[index]].shape:
                raise ModelError(f"the piece needs tensor {names[index]}, which is neither its input nor a constant")
            tensor.buffer = len(buffers)
            buffers.append(AlignedBuffer(data.tobytes()))
        tensors.append(tensor)

    codes = sorted({table.opcodeIndex for table in tables})
    for table in tables:
        table.opcodeIndex = codes.index(table.opcodeIndex)
        table.inputs = _moved(table.inputs, position)
        table.outputs = _moved(table.outputs, position)
        table.intermediates = None  # scratch tensors of stateful operators, which no piece contains
        table.mutatingVariableInputs = None
        table.debugMetadataIndex = -1

    piece = schema.SubGraphT(
        tensors=tensors,
        inputs=_moved(inputs, position),
        outputs=_moved(outputs, position),
        operators=tables,
        name="main",
    )
    packed = schema.ModelT(
        version=3,
        operatorCodes=[schema.OperatorCodeT.InitFromObj(root.OperatorCodes(code)) for code in codes],
        subgraphs=[piece],
        description="rocketnpu piece",
        buffers=buffers,
    )
    builder = _flatbuffers.Builder(sum(constant.size_bytes for constant in buffers) + 4096)
    builder.Finish(packed.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _operands(table: Any) -> list[int]:
    return [*(() if table.inputs is None else table.inputs), *(() if table.outputs is None else table.outputs)]


def _moved(indices: Sequence[int] | None, position: dict[int, int]) -> Any:
    """Tensor indices of the source as those of the piece."""
    return np.array([position[int(index)] for index in (() if indices is None else indices)], np.int32)


def _spend_on_options(reader: Reader, table: Any) -> None:
    """Count the vectors of an operator's options, so that operators which share one can't multiply it."""
    for holder in (table, table.builtinOptions):
        fields: dict[str, Any] = {} if holder is None else holder.__dict__
        for value in fields.values():
            if isinstance(value, np.ndarray):
                reader.spend(value.nbytes)


class AlignedBuffer:
    """A Buffer table to be written with its data aligned, which the generated `BufferT` does not do."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size_bytes(self) -> int:
        """Room in the file, padding included."""
        return len(self._data) + 2 * BUFFER_ALIGNMENT

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the name that the generated ModelT.Pack calls
        """Write the table; an empty buffer has no data vector."""
        data = None
        if self._data:
            builder.Prep(BUFFER_ALIGNMENT, len(self._data))
            data = builder.CreateByteVector(self._data)
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)
