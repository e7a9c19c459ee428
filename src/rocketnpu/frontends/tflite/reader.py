"""TFLite files to graphs: every tensor and operator of the first subgraph, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import ModelError, counted
from rocketnpu.frontends.tflite.flatbuffer import Reader, enum_names, malformed_is_model_error, read_root
from rocketnpu.frontends.tflite.opaque import custom_options, custom_shapes, missing_kernel, opaque_reason
from rocketnpu.frontends.tflite.options import read_options
from rocketnpu.frontends.tflite.packed import PACKED, UNPACKING, unpacked
from rocketnpu.frontends.tflite.shape_arithmetic import computed
from rocketnpu.frontends.tflite.shapes import ShapeInference, check_shape
from rocketnpu.frontends.tflite.shared_state import SharedState
from rocketnpu.frontends.tflite.sparse import dense_constant
from rocketnpu.ir import SMALLEST_SCALE, UNKNOWN_SIZE, Graph, Operator, Quantization, Tensor

DTYPES: dict[str, np.dtype[np.generic]] = {
    "FLOAT32": np.dtype("<f4"),
    "FLOAT16": np.dtype("<f2"),
    "FLOAT64": np.dtype("<f8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "BOOL": np.dtype("?"),
    "COMPLEX64": np.dtype("<c8"),
    "COMPLEX128": np.dtype("<c16"),
}
"""Tensor types that numpy can hold; constants of 4 bits are unpacked (packed.py). The others (strings ...) have dtype
object: operators on them run on the CPU."""

_TYPE_NAMES = enum_names("TensorType")
_KIND_NAMES = enum_names("BuiltinOperator")


@dataclass(frozen=True)
class _SourceTensor:
    """A tensor as the graph sees it, and what else of it decides what can be done with its operators.

    `signature`: its shape with -1 for the sizes that may change, empty where the file has none. `opaque` and
    `unsupported` say why operators on it are left to LiteRT. `is_stored`: the file holds its data.
    `is_packed`: it does so in 4 bits.
    """

    tensor: Tensor
    signature: tuple[int, ...]
    is_variable: bool
    is_stored: bool
    is_packed: bool
    opaque: str | None
    unsupported: str | None


def load_tflite(model: bytes, name: str, open_inputs: bool = False) -> Graph:
    """The graph of the first subgraph of a TFLite file; `name` is what error messages call the file.

    Sizes of inputs that the file leaves open have the values that it states besides; with `open_inputs` they are
    unknown. Raises ModelError for a file that is malformed, contradicts itself, or keeps buffers outside itself.
    """
    root = read_root(model, name)
    reader = Reader(model)
    with malformed_is_model_error(f"the list of subgraphs of {name}"):
        if root.SubgraphsLength() < 1:
            raise ModelError(f"{name} has no subgraph")
        subgraph = root.Subgraphs(0)
        tables = reader.tables(subgraph, "Tensors")
        buffers = reader.tables(root, "Buffers")
        inputs = _indices(reader, subgraph, "Inputs", len(tables), f"input list of {name}")
        outputs = _indices(reader, subgraph, "Outputs", len(tables), f"output list of {name}")
    if len(set(inputs)) != len(inputs):
        raise ModelError(f"{name} lists a graph input twice")
    names = unique_names([_name(reader, index, table) for index, table in enumerate(tables)], (*inputs, *outputs))
    sources = [_read_tensor(reader, table, names[index], buffers) for index, table in enumerate(tables)]
    if open_inputs:
        for index in inputs:
            sources[index] = _opened(sources[index])
    ends = [[names[index] for index in indices] for indices in (inputs, outputs)]
    operators, tensors = _Operators(reader, root, sources, *ends).read(name)
    graph = Graph(
        tensors=tensors,
        operators=operators,
        inputs=tuple(names[index] for index in inputs),
        outputs=tuple(names[index] for index in outputs),
        model=model,
    )
    _check_order(graph, {source.tensor.name for source in sources if source.is_variable or source.is_stored})
    return graph


def unique_names(names: Sequence[str], first: Sequence[int]) -> list[str]:
    """Names that differ: those that repeat or are empty get `#index`; the indices in `first` choose first."""
    result = [""] * len(names)
    taken: set[str] = set()
    for index in dict.fromkeys((*first, *range(len(names)))):
        unique = names[index] or f"#{index}"
        while unique in taken:
            unique += f"#{index}"
        taken.add(unique)
        result[index] = unique
    return result


def _name(reader: Reader, index: int, table: Any) -> str:
    with malformed_is_model_error(f"the name of tensor {index}"):
        return reader.text(table, "Name")


def _indices(reader: Reader, table: Any, field: str, count: int, where: str) -> tuple[int, ...]:
    """A list of tensor indices, all of them in 0..count-1."""
    indices = tuple(int(index) for index in reader.numbers(table, field))
    for index in indices:
        if not 0 <= index < count:
            raise ModelError(f"the {where} names tensor {index}, but the file has {counted(count, 'tensor')}")
    return indices


def _read_tensor(reader: Reader, table: Any, name: str, buffers: Sequence[Any]) -> _SourceTensor:
    """One tensor, its shape, type, quantization and constant data checked against each other."""
    with malformed_is_model_error(f"tensor {name}"):
        type_name = _TYPE_NAMES.get(table.Type())
        if type_name is None:
            raise ModelError(f"tensor {name} has unknown type number {table.Type()}")
        index = _buffer(table, name, buffers)
        stored = reader.stored(buffers[index])
        is_packed = type_name == PACKED and stored.size > 0 and table.Sparsity() is None
        dtype = np.dtype(np.int8) if is_packed else DTYPES.get(type_name, np.dtype(object))
        shape = tuple(int(size) for size in reader.numbers(table, "Shape"))
        check_shape(name, shape, dtype)
        quantization = table.Quantization()
        details = "" if quantization is None or not quantization.DetailsType() else "custom quantization"
        grid = None if quantization is None else _read_quantization(reader, quantization, name, shape, dtype)
        opaque = None if not dtype.hasobject else f"the type {type_name} of tensor {name} has no NPU form"
        data = None
        if is_packed:
            reader.spend(math.prod(shape))
            data = unpacked(stored, shape, name)
        elif table.Sparsity() is not None and stored.size and opaque is None:
            values = _values(reader, stored, name, (stored.size // dtype.itemsize,), dtype)
            data = dense_constant(reader, table.Sparsity(), values, shape, name)
        elif stored.size and opaque is None:
            data = _values(reader, stored, name, shape, dtype)
        if data is None and grid is not None and grid.scales.min() < SMALLEST_SCALE:
            raise ModelError(
                f"tensor {name} has the scale {grid.scales.min():.3g}; scales of activations are at least"
                f" {SMALLEST_SCALE:.3g}"
            )
        return _SourceTensor(
            tensor=Tensor(name, shape, dtype, grid, data),
            signature=tuple(int(size) for size in reader.numbers(table, "ShapeSignature")),
            is_variable=bool(table.IsVariable()),
            is_stored=stored.size > 0,
            is_packed=is_packed,
            opaque=opaque,
            unsupported=f"tensor {name} has {details}" if details else None,
        )


def _opened(source: _SourceTensor) -> _SourceTensor:
    """The tensor with the sizes unknown that its signature leaves open."""
    if UNKNOWN_SIZE not in source.signature:
        return source
    return replace(source, tensor=replace(source.tensor, shape=source.signature))


def _read_quantization(
    reader: Reader, table: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> Quantization | None:
    """The quantization of an integer tensor; None when it has no scales (converters also note ranges of float ones)."""
    with np.errstate(invalid="ignore"):  # a damaged scale may be a signalling NaN, which is refused below
        scales = reader.numbers(table, "Scale").astype(np.float64)
    zero_points = reader.numbers(table, "ZeroPoint").astype(np.int64)
    if scales.size == 0 or dtype.kind not in "iu":
        return None
    sound = np.isfinite(scales) & (scales > 0)
    if not sound.all():
        raise ModelError(f"tensor {name} has the scale {scales[~sound][0]}; scales must be finite and positive")
    if zero_points.size not in (0, 1, scales.size):
        raise ModelError(
            f"tensor {name} has {counted(scales.size, 'scale')} but {counted(zero_points.size, 'zero point')}"
        )
    zero_points = np.broadcast_to(zero_points if zero_points.size else np.zeros(1, np.int64), scales.shape)
    limits = np.iinfo(dtype.str)
    if (zero_points < limits.min).any() or (zero_points > limits.max).any():
        wrong = zero_points[(zero_points < limits.min) | (zero_points > limits.max)][0]
        raise ModelError(f"tensor {name} has the zero point {wrong}, outside the range of {dtype}")
    if scales.size == 1:
        return Quantization(scales, zero_points)
    axis: int = table.QuantizedDimension()
    if not 0 <= axis < len(shape) or shape[axis] != scales.size:
        raise ModelError(f"tensor {name} of shape {shape} has {counted(scales.size, 'scale')} along axis {axis}")
    return Quantization(scales, zero_points, axis)


def _buffer(table: Any, name: str, buffers: Sequence[Any]) -> int:
    """The number of the buffer that a tensor refers to."""
    index: int = table.Buffer()
    if index >= len(buffers):
        raise ModelError(f"tensor {name} refers to buffer {index}, but the file has {counted(len(buffers), 'buffer')}")
    if table.ExternalBuffer():
        raise ModelError(f"tensor {name} keeps its data in another file; convert the model to a single file")
    return index


def _values(
    reader: Reader, stored: NDArray[np.uint8], name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]
) -> NDArray[Any]:
    """Constant data as a read-only array of `shape`."""
    expected = math.prod(shape) * dtype.itemsize
    if stored.size != expected:
        raise ModelError(
            f"tensor {name} of shape {shape} and type {dtype} needs {expected} bytes, its buffer has {stored.size}"
        )
    data = stored.view(dtype).reshape(shape)
    if not data.flags.aligned:
        reader.spend(stored.size)
        data = data.copy()
        data.flags.writeable = False
    return data


class _Operators:
    """The operators of the first subgraph while they are read, and the tensors with their settled shapes."""

    def __init__(
        self,
        reader: Reader,
        root: Any,
        sources: Sequence[_SourceTensor],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        self._reader, self._root, self._sources = reader, root, sources
        signatures = {source.tensor.name: source.signature for source in sources if source.signature}
        self._shapes = ShapeInference({source.tensor.name: source.tensor for source in sources}, inputs, signatures)
        self._inputs, self._outputs = frozenset(inputs), frozenset(outputs)

    def read(self, model_name: str) -> tuple[tuple[Operator, ...], dict[str, Tensor]]:
        """All operators but those that give constants, and all tensors."""
        reader = self._reader
        with malformed_is_model_error(f"the list of operators of {model_name}"):
            codes = reader.tables(self._root, "OperatorCodes")
            kinds = [_kind(code) for code in codes]
            customs = [reader.text(code, "CustomCode") for code in codes]
            tables = reader.tables(self._root.Subgraphs(0), "Operators")
        shared = SharedState(reader, self._root, kinds)
        operators: list[Operator] = []
        for index, table in enumerate(tables):
            with malformed_is_model_error(f"operator {index}"):
                code: int = table.OpcodeIndex()
                if code >= len(kinds):
                    raise ModelError(
                        f"operator {index} has operator code {code}, but the file has {counted(len(kinds), 'code')}"
                    )
                operator = self._read_operator(table, index, kinds[code], customs[code], shared)
            if not self._gives_constant(operator):
                operators.append(operator)
        return tuple(operators), self._shapes.tensors

    def _read_operator(self, table: Any, index: int, kind: str, custom: str, shared: SharedState) -> Operator:
        where = f"operator {index} ({kind})"
        reader, sources = self._reader, self._sources
        outputs = _indices(reader, table, "Outputs", len(sources), f"output list of {where}")
        inputs: list[int | None] = []
        for tensor in reader.numbers(table, "Inputs"):
            if not -1 <= tensor < len(sources):
                raise ModelError(f"{where} reads tensor {tensor}, but the file has {counted(len(sources), 'tensor')}")
            inputs.append(int(tensor) if tensor >= 0 else None)  # -1: an optional input that is left out
        used = [sources[tensor] for tensor in (*inputs, *outputs) if tensor is not None]
        names = [None if tensor is None else sources[tensor].tensor.name for tensor in inputs]
        mutates = bool(reader.numbers(table, "MutatingVariableInputs").any())
        resources = shared.of_operator(table, kind, where)
        opaque = next((source.opaque for source in used if source.opaque), None)
        if any(source.is_variable for source in used):
            opaque = f"{kind} keeps state, which has no NPU form"
        operator = Operator(
            kind=kind,
            index=index,
            inputs=tuple(names),
            outputs=tuple(sources[tensor].tensor.name for tensor in outputs),
            opaque=opaque_reason(kind, custom, mutates) or opaque,
            shares=resources | {source.tensor.name for source in used if self._is_shared(source)},
            no_kernel=missing_kernel(kind, custom),
        )
        stated = custom_shapes(custom, custom_options(reader, table), where) if kind == "CUSTOM" else None
        operator = self._with_options(operator, table, where, used)
        self._shapes.settle(operator, stated)
        return operator

    def _with_options(self, operator: Operator, table: Any, where: str, used: Sequence[_SourceTensor]) -> Operator:
        """The operator with its options; those for LiteRT, and on tensors of no static shape, need none."""
        tensors = self._shapes.tensors
        operands = tuple(None if name is None else tensors[name] for name in operator.inputs)
        if operator.opaque is not None or not all(tensor is None or tensor.has_static_shape for tensor in operands):
            return operator
        results = tuple(tensors[name] for name in operator.outputs)
        options, unsupported = read_options(self._reader, table, operator.kind, where, operands, results)
        unsupported = unsupported or next((source.unsupported for source in used if source.unsupported), None)
        packed = next((source.tensor.name for source in used if source.is_packed), None)
        if packed is not None and operator.kind not in UNPACKING:
            unsupported = unsupported or f"tensor {packed} has type {PACKED}"
        return replace(operator, options=options, unsupported=unsupported)

    def _is_shared(self, source: _SourceTensor) -> bool:
        """Whether operators that use the tensor must run in one piece (shared_state.py, rule 1)."""
        if source.is_variable:
            return True
        return source.tensor.dtype.hasobject and not source.is_stored and source.tensor.name not in self._inputs

    def _gives_constant(self, operator: Operator) -> bool:
        """Whether the operator's result is a constant of the graph from now on: a dense one, or a shape."""
        tensors = self._shapes.tensors
        if not self._outputs.isdisjoint(operator.outputs):
            return False
        data = _dense(operator, tensors)
        if data is None:
            data = computed(operator, tensors)
        if data is None:
            return False
        tensors[operator.outputs[0]] = replace(tensors[operator.outputs[0]], data=data)
        return True


def _dense(operator: Operator, tensors: Mapping[str, Tensor]) -> NDArray[Any] | None:
    """The result of a DENSIFY of a constant, which is dense from the start."""
    if operator.kind != "DENSIFY" or len(operator.inputs) != 1 or len(operator.outputs) != 1:
        return None
    source, result = tensors[operator.inputs[0] or ""], tensors[operator.outputs[0]]
    return source.data if (source.shape, source.dtype) == (result.shape, result.dtype) else None


def _kind(code: Any) -> str:
    """The operator's name: old files have an 8-bit code only, new ones both (schema.fbs, table OperatorCode)."""
    number = max(code.DeprecatedBuiltinCode(), code.BuiltinCode())
    kind = _KIND_NAMES.get(number)
    if kind is None:
        raise ModelError(f"operator code {number} is not known to the installed TFLite schema")
    return kind


def _check_order(graph: Graph, unread: set[str]) -> None:
    """Each tensor has one origin (graph input, constant or operator) and is read only after it exists.

    Operators in execution order cannot form a cycle. Tensors without elements need no origin, and neither do those in
    `unread`: variables, and constants whose data has no numpy type.
    """
    known = {name for name, tensor in graph.tensors.items() if tensor.data is not None or 0 in tensor.shape} | unread
    for name in graph.inputs:
        if graph.tensors[name].data is not None:
            raise ModelError(f"graph input {name} is a constant")
    known |= set(graph.inputs)
    produced = {*graph.inputs, *(name for name, tensor in graph.tensors.items() if tensor.data is not None)}
    for operator in graph.operators:
        for name in operator.inputs:
            if name is not None and name not in known:
                raise ModelError(f"operator {operator.index} ({operator.kind}) reads {name} before it is produced")
        for name in operator.outputs:
            if name in produced:
                raise ModelError(f"operator {operator.index} ({operator.kind}) produces {name}, which exists already")
            produced.add(name)
            known.add(name)
    for name in graph.outputs:
        if name not in known:
            raise ModelError(f"graph output {name} is never produced")
