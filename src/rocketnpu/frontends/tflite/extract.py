"""Cutting operators out of a TFLite file into a smaller TFLite file.

1. The piece has the tensors and constants that the operators need, and the subgraphs that they call.
2. A piece that shares state (frontends/tflite/shared_state.py) begins with the file's CALL_ONCE operators, which
   initialise it. Each piece runs in an interpreter of its own, so that each needs them.
3. Sizes that are not known before the run are marked in the shape signature.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.frontends.tflite.flatbuffer import IDENTIFIER, Reader, malformed_is_model_error, read_root, schema
from rocketnpu.frontends.tflite.piece_model import PieceModel
from rocketnpu.ir import UNKNOWN_SIZE, Graph, Tensor

_flatbuffers: Any = importlib.import_module("flatbuffers")

INITIALISER = "CALL_ONCE"
"""The operator of rule 2."""


def extract_piece(graph: Graph, operators: Sequence[int], inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """A TFLite file of some operators of a graph, with the tensors and constants that they need.

    `operators` are values of `Operator.index`; `inputs` and `outputs` are tensor names and become the piece's inputs
    and outputs in that order. Tensors keep the graph's names.
    Raises ModelError when the operators don't compute the outputs from the inputs and constants alone.
    """
    chosen = set(operators)
    if any(op.shares for op in graph.operators if op.index in chosen):
        chosen.update(op.index for op in graph.operators if op.kind == INITIALISER)
    root = read_root(graph.model, "the model")
    with malformed_is_model_error("the model"):
        return _extract(graph, root, sorted(chosen), inputs, outputs)


def _extract(
    graph: Graph, root: Any, operators: Sequence[int], input_names: Sequence[str], output_names: Sequence[str]
) -> bytes:
    names = list(graph.tensors)
    place = {name: index for index, name in enumerate(names)}
    inputs, outputs = [place[name] for name in input_names], [place[name] for name in output_names]
    reader = Reader(graph.model)
    piece = PieceModel(reader, root)
    subgraph = root.Subgraphs(0)
    tables = [piece.operator(subgraph.Operators(index)) for index in operators]
    used = {int(index) for table in tables for index in _operands(table) if index >= 0}
    order = sorted(used | set(inputs) | set(outputs))
    position = {tensor: index for index, tensor in enumerate(order)}
    position[-1] = -1  # an optional input that is left out stays so

    origin = {index for table in tables for index in (*_numbers(table.outputs), *_numbers(table.intermediates))}
    origin.update(inputs)
    tensors: list[Any] = []
    for index in order:
        known = graph.tensors[names[index]]
        tensor = schema.TensorT.InitFromObj(subgraph.Tensors(index))
        tensor.name = known.name
        _set_shape(tensor, known)
        data = _data(reader, root, tensor, known)
        tensor.buffer = 0
        if index not in origin:
            if not data and 0 not in known.shape and not tensor.isVariable:
                raise ModelError(f"the piece needs tensor {known.name}, which is neither its input nor a constant")
            tensor.buffer = piece.add_buffer(data)
        tensors.append(tensor)

    for table in tables:
        table.inputs = _moved(table.inputs, position)
        table.outputs = _moved(table.outputs, position)
        table.intermediates = None if table.intermediates is None else _moved(table.intermediates, position)
    main = schema.SubGraphT(
        tensors=tensors,
        inputs=_moved(inputs, position),
        outputs=_moved(outputs, position),
        operators=tables,
        name="main",
    )
    packed = piece.finished(main)
    builder = _flatbuffers.Builder(sum(buffer.size_bytes for buffer in packed.buffers) + 4096)
    builder.Finish(packed.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _set_shape(tensor: Any, known: Tensor) -> None:
    """The graph's shape; where sizes are unknown, 1 for each of them and a signature (rule 3)."""
    tensor.shapeSignature = None if known.has_static_shape else np.array(known.shape, np.int32)
    tensor.shape = np.array([1 if size == UNKNOWN_SIZE else size for size in known.shape], np.int32)


def _data(reader: Reader, root: Any, tensor: Any, known: Tensor) -> bytes:
    """A constant's bytes; a sparse one has become dense."""
    if tensor.sparsity is not None and known.data is not None:
        tensor.sparsity = None
        return known.data.tobytes()
    data = reader.stored(root.Buffers(tensor.buffer))
    if data.size == 0 and known.data is not None:  # unpacked by the frontend (DENSIFY)
        return known.data.tobytes()
    reader.spend(data.nbytes)
    return data.tobytes()


def _operands(table: Any) -> list[int]:
    return [index for indices in (table.inputs, table.outputs, table.intermediates) for index in _numbers(indices)]


def _numbers(indices: Sequence[int] | None) -> list[int]:
    return [] if indices is None else [int(index) for index in indices]


def _moved(indices: Sequence[int] | None, position: dict[int, int]) -> Any:
    """Tensor indices of the source as those of the piece."""
    return np.array([position[index] for index in _numbers(indices)], np.int32)
