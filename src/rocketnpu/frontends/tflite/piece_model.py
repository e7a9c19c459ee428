"""A TFLite file put together from parts of another: operator codes, buffers and subgraphs get new numbers."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.frontends.tflite.flatbuffer import Reader, schema
from rocketnpu.frontends.tflite.opaque import custom_options
from rocketnpu.frontends.tflite.shared_state import subgraph_fields

BUFFER_ALIGNMENT = 16
"""Constant data starts at a multiple of this (schema.fbs, `force_align` of Buffer.data)."""

DEEPEST = 64
"""Levels of objects inside one another in an operator's options; honest files have three."""


class PieceModel:
    """The parts of the new file. Operators come from the source's tables; numbers of codes, buffers and subgraphs in
    them are changed to those of the new file.
    """

    def __init__(self, reader: Reader, root: Any) -> None:
        self._reader, self._root = reader, root
        self._buffers = [AlignedBuffer(b"")]  # buffer 0 is the empty one (schema.fbs, table Model)
        self._operators: list[Any] = []
        self._subgraphs: dict[int, int] = {}
        self._waiting: list[int] = []
        self._others: list[Any] = []

    def operator(self, table: Any) -> Any:
        """An operator of the source (`OperatorT`) for the new file; its tensors are still those of the source."""
        operator = schema.OperatorT.InitFromObj(table)
        if operator.largeCustomOptionsOffset > 1:
            operator.customOptions = np.frombuffer(custom_options(self._reader, table), np.uint8)
            operator.largeCustomOptionsOffset = operator.largeCustomOptionsSize = 0
        spend_on(self._reader, operator)
        for options in (operator.builtinOptions, operator.builtinOptions2):
            for field, value in subgraph_fields(options):
                numbers = [self._renumbered(int(index)) for index in np.atleast_1d(value)]
                setattr(options, field, numbers[0] if np.ndim(value) == 0 else np.array(numbers, np.int32))
        operator.debugMetadataIndex = -1
        self._operators.append(operator)
        return operator

    def add_buffer(self, data: bytes) -> int:
        """The number of a buffer with this content; 0 for none."""
        if not data:
            return 0
        self._buffers.append(AlignedBuffer(data))
        return len(self._buffers) - 1

    def finished(self, main: Any) -> Any:
        """The new file (`ModelT`) with `main` (`SubGraphT`) as its first subgraph; the last thing done with this."""
        while self._waiting:
            self._others.append(self._copied(self._waiting.pop(0)))
        codes = sorted({operator.opcodeIndex for operator in self._operators})
        for operator in self._operators:
            operator.opcodeIndex = codes.index(operator.opcodeIndex)
        return schema.ModelT(
            version=3,
            operatorCodes=[schema.OperatorCodeT.InitFromObj(self._root.OperatorCodes(code)) for code in codes],
            subgraphs=[main, *self._others],
            description="rocketnpu piece",
            buffers=self._buffers,
        )

    def _renumbered(self, index: int) -> int:
        """The number that a subgraph has in the new file, where it goes along; negative numbers stand for none."""
        if index < 0:
            return index
        if not 0 < index < self._root.SubgraphsLength():
            raise ModelError(f"the model has no subgraph {index} that an operator could call")
        if index not in self._subgraphs:
            self._subgraphs[index] = len(self._subgraphs) + 1
            self._waiting.append(index)
        return self._subgraphs[index]

    def _copied(self, index: int) -> Any:
        """A whole subgraph."""
        subgraph = self._root.Subgraphs(index)
        tensors: list[Any] = []
        for table in self._reader.tables(subgraph, "Tensors"):
            tensor = schema.TensorT.InitFromObj(table)
            spend_on(self._reader, tensor)
            if tensor.buffer >= self._root.BuffersLength():
                raise ModelError(f"a tensor of subgraph {index} refers to buffer {tensor.buffer}, which the file lacks")
            data = self._reader.stored(self._root.Buffers(tensor.buffer))
            self._reader.spend(data.nbytes)
            tensor.buffer = self.add_buffer(data.tobytes())
            tensors.append(tensor)
        return schema.SubGraphT(
            tensors=tensors,
            inputs=np.array(self._reader.numbers(subgraph, "Inputs"), np.int32),
            outputs=np.array(self._reader.numbers(subgraph, "Outputs"), np.int32),
            operators=[self.operator(table) for table in self._reader.tables(subgraph, "Operators")],
            name=subgraph.Name(),
        )


def spend_on(reader: Reader, table: Any, depth: int = 0) -> None:
    """Count the vectors of an object and of those inside it, so that tables which share one can't multiply it."""
    if depth > DEEPEST:
        raise ModelError("the file's tables hold one another without end")
    fields: dict[str, Any] = getattr(table, "__dict__", {})
    for value in fields.values():
        if isinstance(value, np.ndarray):
            reader.spend(value.nbytes)
        elif isinstance(value, bytes | str):
            reader.spend(len(value))
        elif isinstance(value, list):
            items = cast(list[Any], value)
            reader.spend(4 * len(items))
            for item in items:
                spend_on(reader, item, depth + 1)
        else:
            spend_on(reader, value, depth + 1)


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
