"""The vendor's model container (RKNN version 6, RK3588): its tensors, nodes, buffers and task records.

The format is not published. Slot numbers and meanings are as observed in files that compilers 1.6.1 to 2.5.0 made. A
file is judged by what it holds, not by the compiler that it names.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.rknn.flat import FlatReader, FlatTable

MAGIC = b"RKNN"
VERSION = 6
PLATFORM = "rk3588"
HEADER_BYTES = 0x40
"""magic, u64 version at 8, u64 body length at 16, zeros; then the FlatBuffer."""

TASK_RECORD = struct.Struct("<8IQ")
"""flags, op_idx, enable_mask, int_mask, int_clear, int_status, regcfg_amount, regcfg_offset, regcmd_addr: the vendor
driver's task descriptor, 40 bytes (hardware/kernels.md)."""

_CUT = "damaged or cut short (copy it again, or convert the model again)"

COMMANDS, TASKS = "regcmd", "task"
"""Names of the tensors whose buffers are the command words and the task records."""

INT8 = 3
"""Code of the element type int8 in `ContainerTensor.dtype`."""

CUBE = 64
"""Code of the feature cube layout in `ContainerTensor.layout`."""

CORE_LISTS = {1: (0,), 2: (1, 2), 3: (3, 4, 5)}
"""Task lists of a program on n cores: a node's task counts are six numbers, in this order."""


@dataclass(frozen=True)
class ContainerTensor:
    """One tensor; `dims` is the model's shape, `native_dims` N, C1, H, W, C2 of a cube (hardware/layouts.md).

    scales and zero points are per tensor (length 1) or absent (length 0). `buffer` is an index into `buffers`, 0 for
    none; without one the tensor lives in the arena at `arena_offset`.
    """

    name: str
    dtype: int
    layout: int
    native_dims: tuple[int, ...]
    dims: tuple[int, ...]
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    size_bytes: int
    arena_offset: int
    buffer: int


@dataclass(frozen=True)
class ContainerNode:
    """One operator: `inputs` and `outputs` are tensor indices; `counts` and `offsets` are the task counts of the six
    core lists (see CORE_LISTS); a node owns counts[i] + offsets[i] consecutive records of list i."""

    kind: str
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    counts: tuple[int, ...]
    offsets: tuple[int, ...]


@dataclass(frozen=True)
class ContainerRelocation:
    """Command words that hold an address inside tensor `tensor`: pairs of word index and byte addend."""

    tensor: str
    words: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TaskRecord:
    """One record of the task table: a list of `body_entries` words and four trailer words at `first_word`."""

    node: int
    enable_mask: int
    interrupt_mask: int
    first_word: int
    body_entries: int


@dataclass(frozen=True)
class Container:
    """A parsed file; `commands` are the register command words as bytes, `inputs` and `outputs` tensor indices.

    `attributes` is the compiler's note on inputs, outputs and their quantization: a Python literal, unchecked.
    `compiler` is the version that it gives itself, such as "2.5.0".
    """

    tensors: tuple[ContainerTensor, ...]
    nodes: tuple[ContainerNode, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    relocations: tuple[ContainerRelocation, ...]
    buffers: tuple[bytes, ...]
    commands: bytes
    records: tuple[TaskRecord, ...]
    attributes: str = ""
    compiler: str = ""


def parse_container(data: bytes) -> Container:
    """Reads a container; ModelError for another version or platform, and for every inconsistency."""
    root = FlatReader(_body(data), MAGIC).root()
    compiler, platform = root.text(7).partition("(")[0][:40], root.text(8)
    if platform != PLATFORM:
        raise ModelError(f"RKNN file was compiled for {platform[:40]!r}; only {PLATFORM} is supported")
    graphs = root.tables(2, "graph")
    if len(graphs) != 1:
        raise ModelError(f"RKNN file holds {len(graphs)} graphs; only files with one are supported")
    graph = graphs[0]
    buffers = tuple(table.vector(0, np.dtype(np.uint8)).tobytes() for table in root.tables(20, "buffer"))
    tensors = tuple(_tensor(table, len(buffers)) for table in graph.tables(0, "tensor"))
    nodes = tuple(_node(table, len(tensors)) for table in graph.tables(1, "node"))
    commands = _owned_buffer(tensors, buffers, COMMANDS)
    if len(commands) % 8:
        raise ModelError(f"command buffer of {len(commands)} bytes is not a whole number of 64-bit words")
    return Container(
        tensors,
        nodes,
        _indices(graph, 2, len(tensors), "graph inputs"),
        _indices(graph, 3, len(tensors), "graph outputs"),
        tuple(_relocation(table, len(commands) // 8) for table in graph.tables(7, "relocation")),
        buffers,
        commands,
        _records(_owned_buffer(tensors, buffers, TASKS), len(commands) // 8, len(nodes)),
        root.text(3),
        compiler,
    )


def _body(data: bytes) -> bytes:
    """The FlatBuffer between the fixed header and the JSON text, whose length must agree with the file's."""
    if data[: len(MAGIC)] != MAGIC:
        raise ModelError(f"not an RKNN file: it starts with {data[:4]!r}, expected {MAGIC!r}")
    if len(data) < HEADER_BYTES:
        raise ModelError(f"RKNN file is {_CUT}: {len(data)} bytes, its header alone has {HEADER_BYTES}")
    version, length = struct.unpack_from("<QQ", data, 8)
    if version != VERSION:
        advice = "convert the model again with RKNN-Toolkit2 1.6.1 to 2.5.0, whose files have been read"
        raise ModelError(f"the RKNN container has version {version}; only version {VERSION} can be read: {advice}")
    json_start = HEADER_BYTES + length + 8
    if json_start > len(data):
        raise ModelError(f"RKNN file is {_CUT}: {len(data)} bytes, its body needs {json_start}")
    json_length = struct.unpack_from("<Q", data, json_start - 8)[0]
    if json_start + json_length > len(data):
        raise ModelError(f"RKNN file is {_CUT}: {len(data)} bytes, its JSON text ends at {json_start + json_length}")
    return data[HEADER_BYTES : HEADER_BYTES + length]


def _integers(table: FlatTable, slot: int, dtype: type[np.generic] = np.uint32) -> tuple[int, ...]:
    return tuple(int(value) for value in table.vector(slot, np.dtype(dtype)))


def _indices(table: FlatTable, slot: int, limit: int, what: str) -> tuple[int, ...]:
    values = _integers(table, slot)
    if any(value >= limit for value in values):
        raise ModelError(f"{what}: tensor index {max(values)} but the file has {limit} tensors")
    return values


def _tensor(table: FlatTable, buffers: int) -> ContainerTensor:
    name = table.text(5)
    scales = tuple(float(value) for value in table.vector(10, np.dtype(np.float32)))
    tensor = ContainerTensor(
        name,
        table.integer(0, "B"),
        table.integer(1, "B"),
        _integers(table, 3),
        _integers(table, 4),
        scales,
        _integers(table, 11, np.int32),
        table.integer(12, "I"),
        table.integer(13, "I"),
        table.integer(18, "I"),
    )
    if tensor.buffer >= buffers:
        raise ModelError(f"tensor {name!r}: buffer index {tensor.buffer} but the file has {buffers} buffers")
    if len(tensor.scales) != len(tensor.zero_points) or len(tensor.scales) > 1:
        raise ModelError(
            f"tensor {name!r}: {len(tensor.scales)} scales and {len(tensor.zero_points)} zero points; "
            "only one of each, or none, is supported"
        )
    if any(not (0 < scale < float("inf")) for scale in scales):
        raise ModelError(f"tensor {name!r}: scale {scales[0]} is not positive and finite")
    if any(not -128 <= zero <= 127 for zero in tensor.zero_points):
        raise ModelError(f"tensor {name!r}: zero point {tensor.zero_points[0]} is not an int8 value")
    return tensor


def _node(table: FlatTable, tensors: int) -> ContainerNode:
    kind, name = table.text(1), table.text(2)
    counts, offsets = _integers(table, 10), _integers(table, 11)
    lists = sum(len(numbers) for numbers in CORE_LISTS.values())
    if len(counts) != lists or len(offsets) != lists:
        raise ModelError(f"node {name!r}: {len(counts)} task counts and {len(offsets)} offsets, expected {lists} each")
    what = f"node {name!r}"
    return ContainerNode(
        kind, name, _indices(table, 4, tensors, what), _indices(table, 5, tensors, what), counts, offsets
    )


def _relocation(table: FlatTable, words: int) -> ContainerRelocation:
    name = table.text(0)
    pairs = tuple((value >> 32, value & 0xFFFFFFFF) for value in _integers(table, 1, np.uint64))
    for word, _ in pairs:
        if word >= words:
            raise ModelError(f"relocation of {name!r}: command word {word} but there are {words}")
    return ContainerRelocation(name, pairs)


def _owned_buffer(tensors: tuple[ContainerTensor, ...], buffers: tuple[bytes, ...], name: str) -> bytes:
    owners = [tensor for tensor in tensors if tensor.name == name and tensor.buffer]
    if len(owners) != 1:
        raise ModelError(f"RKNN file has {len(owners)} tensors named {name!r} with a buffer, expected one")
    return buffers[owners[0].buffer]


def _records(table: bytes, words: int, nodes: int) -> tuple[TaskRecord, ...]:
    if len(table) % TASK_RECORD.size:
        raise ModelError(f"task table of {len(table)} bytes is not a whole number of {TASK_RECORD.size}-byte records")
    records: list[TaskRecord] = []
    for number, fields in enumerate(TASK_RECORD.iter_unpack(table)):
        _, node, enable, interrupts, _, _, body, offset, address = fields
        if node >= nodes:
            raise ModelError(f"task {number}: node index {node} but the file has {nodes} nodes")
        if offset or address % 8 or address // 8 + body + 4 > words:
            raise ModelError(f"task {number}: list of {body} entries at {address:#x} does not fit in {words} words")
        records.append(TaskRecord(node, enable, interrupts, address // 8, body))
    used = sum(record.body_entries for record in records)
    if used > len(CORE_LISTS) * words:
        raise ModelError(f"task lists of {used} words in all, more than {len(CORE_LISTS)} programs of {words} words")
    return tuple(records)
