"""From a vendor container to a Program: segments, relocations, tasks and one step for each node that has tasks."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import CNA, DESTINATIONS, DPU_RDMA, PC, PPU_RDMA, register_of
from rocketnpu.program.model import (
    COMMANDS,
    RKNPU,
    NpuStep,
    OperatorEntry,
    Program,
    Relocation,
    Segment,
    Task,
    TensorEntry,
)
from rocketnpu.program.target import unseen_by_rocket
from rocketnpu.rknn.container import (
    CORE_LISTS,
    Container,
    ContainerNode,
    ContainerTensor,
    TaskRecord,
    parse_container,
)
from rocketnpu.rknn.places import ALIGNMENT_BYTES, Place, align, place_tensors, relocated, reshaped_entry, tensor_entry

INPUT, OUTPUT, RESHAPE = "InputOperator", "OutputOperator", "Reshape"
"""Node kinds without tasks."""

LEFT_OUT = ""
"""Stands for the kind of a node that the outputs don't need."""

LISTED = 5
"""How many tensors an error names."""

SOURCES = (
    CNA.FEATURE_DATA_ADDR,
    CNA.DCOMP_ADDR0,
    DPU_RDMA.RDMA_SRC_BASE_ADDR,
    DPU_RDMA.RDMA_BS_BASE_ADDR,
    DPU_RDMA.RDMA_BN_BASE_ADDR,
    DPU_RDMA.RDMA_EW_BASE_ADDR,
    PPU_RDMA.RDMA_SRC_BASE_ADDR,
)
"""Registers that hold an address of a tensor (hardware/registers.md)."""


def load_rknn(data: bytes, name: str, outputs: Collection[str] = ()) -> Program:
    """The program in a vendor container (.rknn), for 1 core and for 2 and 3 where the file has tasks for them.

    Every node that has tasks is a step. Nodes run one after the other on any number of cores, which is the order of
    the task table (hardware/regcmd.md, Chaining): trailers may lead elsewhere after a node's last task. A
    program without tasks of the pooling unit alone fits either driver.

    `outputs` names tensors at which the program ends. What only later nodes need is left out, such as operators that
    the vendor's runtime has on the CPU.

    Raises ModelError for malformed files and for everything outside the observed format.
    """
    container = parse_container(data)
    try:
        return _program(_ended(container, outputs), name)
    except ModelError as error:
        raise ModelError(f"{error} (compiled by version {container.compiler or 'unknown'})") from error


def _ended(container: Container, outputs: Collection[str]) -> Container:
    """The container with other outputs, without the nodes that these don't need. Their tasks stay in the table."""
    if not outputs:
        return container
    numbers = {tensor.name: index for index, tensor in enumerate(container.tensors)}
    makers = {index: node for node in container.nodes for index in node.outputs}
    missing = [name for name in outputs if numbers.get(name) not in makers]
    if missing:
        computed = ", ".join(container.tensors[index].name for index in list(makers)[-LISTED:])
        raise ModelError(f"outputs names {missing[0]!r}, which no node computes; the last ones are {computed}")
    found = tuple(numbers[name] for name in outputs)
    needed, left = set[str](), list(found)
    while left:
        node = makers.get(left.pop())
        if node is not None and node.name not in needed:
            needed.add(node.name)
            left += node.inputs
    nodes = tuple(
        node if node.name in needed or node.kind == INPUT else replace(node, kind=LEFT_OUT) for node in container.nodes
    )
    return replace(container, nodes=nodes, outputs=found)


def _program(container: Container, name: str) -> Program:
    words = np.frombuffer(container.commands, "<u8")
    places, segments = place_tensors(container, _written_tensors(container, words))
    padded = container.commands.ljust(align(len(container.commands), ALIGNMENT_BYTES), b"\0")
    lists = _node_tasks(container)
    entries, steps = _steps(container, places, lists)
    program = Program(
        name,
        (Segment(COMMANDS, len(padded), padded), *segments),
        _relocations(container, words, places),
        _tasks(container, words, lists),
        steps,
        tuple(entries.values()),
        _names(container, container.inputs, entries),
        _names(container, container.outputs, entries),
    )
    only_rknpu = next(unseen_by_rocket(program), None) is not None
    return replace(program, target=RKNPU) if only_rknpu else program


def _written_tensors(container: Container, words: regcmd.Words) -> set[str]:
    """Tensors that tasks write, by the registers that address them; also checks what each relocated word is."""
    written: set[str] = set()
    for relocation in container.relocations:
        for word, addend in relocation.words:
            command = regcmd.decode(int(words[word]))
            register = register_of(command.target, command.offset)
            if register not in DESTINATIONS and register not in SOURCES:
                raise ModelError(f"relocation of {relocation.tensor!r}: command word {word} holds no address")
            if command.value != addend:
                raise ModelError(
                    f"relocation of {relocation.tensor!r}: command word {word} holds {command.value:#x}, "
                    f"the table says {addend:#x}"
                )
            if register in DESTINATIONS:
                written.add(relocation.tensor)
    return written


def _relocations(container: Container, words: regcmd.Words, places: Mapping[str, Place]) -> tuple[Relocation, ...]:
    """Tensor addresses in task bodies, and the address of the next list in trailers, by word."""
    found: dict[int, Relocation] = {}
    for relocation in container.relocations:
        place = places.get(relocation.tensor)
        if place is None:
            raise ModelError(f"relocation of {relocation.tensor!r}: no such tensor")
        for word, addend in relocation.words:
            if word in found:
                raise ModelError(f"command word {word} is relocated twice")
            found[word] = Relocation(word, place.segment, relocated(place, relocation.tensor, addend))
    for record in container.records:
        word = record.first_word + record.body_entries
        address = _next_address(int(words[word]), word)
        if address is None:
            continue
        if address >= len(container.commands) or address % (2 * words.itemsize):
            raise ModelError(f"command word {word}: next list at {address:#x} is outside the commands or misaligned")
        if found.setdefault(word, Relocation(word, COMMANDS, address)).segment != COMMANDS:
            raise ModelError(f"command word {word} is relocated twice")
    return tuple(found[word] for word in sorted(found))


def _next_address(trailer_word: int, word: int) -> int | None:
    """Byte address of the list that follows, from the first trailer word; None in the last list of a chain."""
    if trailer_word == regcmd.EMPTY:
        return None
    command = regcmd.decode(trailer_word)
    if register_of(command.target, command.offset) is not PC.BASE_ADDRESS:
        raise ModelError(f"command word {word} is {trailer_word:#x}, expected the trailer's next address")
    return command.value


def _node_tasks(container: Container) -> Mapping[int, tuple[tuple[int, ...], ...]]:
    """Record numbers of each node for the six core lists; the table holds list after list, in them node after node."""
    lists: dict[int, list[tuple[int, ...]]] = {number: [] for number in range(len(container.nodes))}
    start = 0
    for core_list in range(sum(map(len, CORE_LISTS.values()))):
        for number, node in enumerate(container.nodes):
            count = node.counts[core_list] + node.offsets[core_list]
            if start + count > len(container.records):
                raise ModelError(f"node {node.name!r}: task records {start} to {start + count} are not in the table")
            records = tuple(range(start, start + count))
            if any(container.records[record].node != number for record in records):
                raise ModelError(f"node {node.name!r}: its task records {start} to {start + count} name another node")
            # The one-core program is a single chain; on more cores only a node's own tasks need to be.
            single = core_list in CORE_LISTS[1]
            _check_chain(container, node, range(max(start - single, 0), start + count))
            lists[number].append(records)
            start += count
    if start != len(container.records):
        raise ModelError(f"the task table has {len(container.records)} records, its nodes use {start}")
    return {number: tuple(core_lists) for number, core_lists in lists.items()}


def _check_chain(container: Container, node: ContainerNode, records: range) -> None:
    """The trailer of each list leads to the next one, so that a device can run them in one go."""
    for first, second in itertools.pairwise(records):
        end = container.records[first].first_word + container.records[first].body_entries
        word = int.from_bytes(container.commands[8 * end : 8 * end + 8], "little")
        if _next_address(word, end) != 8 * container.records[second].first_word:
            raise ModelError(f"node {node.name!r}: the trailer of task {first} does not lead to task {second}")


def _tasks(
    container: Container, words: regcmd.Words, lists: Mapping[int, tuple[tuple[int, ...], ...]]
) -> tuple[Task, ...]:
    """One Task for each record; records of several core lists may share the same words."""
    names = {
        record: f"{_short(container.nodes[number])}[{index}]"
        for number, core_lists in lists.items()
        for records in core_lists
        for index, record in enumerate(records)
    }
    return tuple(_task(record, names[number], words) for number, record in enumerate(container.records))


def _task(record: TaskRecord, name: str, words: regcmd.Words) -> Task:
    """The task of a record, whose enable mask must be the one in its list's last entry."""
    last = record.first_word + record.body_entries + regcmd.TRAILER_ENTRIES - 1
    command = regcmd.decode(int(words[last]))
    if register_of(command.target, command.offset) is not PC.TARGET_BROADCAST or command.value != record.enable_mask:
        raise ModelError(
            f"task {name!r}: command word {last} does not enable blocks {record.enable_mask:#x}, as its record says"
        )
    return Task(name, record.first_word, record.body_entries, record.enable_mask, record.interrupt_mask)


def _steps(
    container: Container, places: Mapping[str, Place], lists: Mapping[int, tuple[tuple[int, ...], ...]]
) -> tuple[dict[str, TensorEntry], tuple[NpuStep, ...]]:
    """The activations by name, and the steps in node order; a reshape only adds a name to its producer's outputs."""
    entries: dict[str, TensorEntry] = {}
    steps: list[NpuStep] = []
    counts = _core_counts(lists)
    for number, node in enumerate(container.nodes):
        inputs, outputs = ([container.tensors[index] for index in side] for side in (node.inputs, node.outputs))
        known = tuple(tensor.name for tensor in inputs if tensor.name in entries)
        if node.kind == LEFT_OUT:
            continue
        if any(lists[number]):
            _add_entries(node, outputs, places, entries)
            operator = OperatorEntry(_short(node), node.kind)
            names = tuple(tensor.name for tensor in outputs)
            steps.append(NpuStep(names[0], (operator,), known, names, _core_tasks(node, lists[number], counts)))
        elif node.kind == INPUT:
            _add_entries(node, outputs, places, entries)
        elif node.kind == RESHAPE and len(known) == len(outputs) == 1 and outputs[0].name not in entries:
            entries[outputs[0].name] = reshaped_entry(outputs[0], entries[known[0]])
            steps = [_with_output(step, known[0], outputs[0].name) for step in steps]
        elif node.kind != OUTPUT:
            read = " ".join(tensor.name for tensor in inputs if tensor.name in entries)
            raise ModelError(
                f"node {node.name!r}: {node.kind} has no NPU tasks, and the vendor's runtime computes it elsewhere; "
                f"end the program before it: outputs={read!r}"
            )
    return entries, tuple(steps)


def _add_entries(
    node: ContainerNode, tensors: list[ContainerTensor], places: Mapping[str, Place], entries: dict[str, TensorEntry]
) -> None:
    if not tensors:
        raise ModelError(f"node {node.name!r}: {node.kind} has no output")
    for tensor in tensors:
        if tensor.name not in places or tensor.name in entries:
            raise ModelError(f"node {node.name!r}: output {tensor.name!r} has no memory, or is computed twice")
        entries[tensor.name] = tensor_entry(tensor, places[tensor.name])


def _core_counts(lists: Mapping[int, tuple[tuple[int, ...], ...]]) -> tuple[int, ...]:
    """The numbers of cores that some node has tasks for: 1, and more unless the file was compiled for one core."""
    return tuple(
        cores
        for cores, indices in CORE_LISTS.items()
        if cores == 1 or any(core_lists[index] for core_lists in lists.values() for index in indices)
    )


def _core_tasks(
    node: ContainerNode, core_lists: tuple[tuple[int, ...], ...], counts: tuple[int, ...]
) -> Mapping[int, tuple[tuple[tuple[int, ...], ...], ...]]:
    """One segment for each number of cores; cores without tasks in it have an empty list."""
    tasks = {cores: (tuple(core_lists[index] for index in CORE_LISTS[cores]),) for cores in counts}
    for cores, (segment,) in tasks.items():
        if not any(segment):
            raise ModelError(f"node {node.name!r}: no tasks for {cores} cores")
    return tasks


def _with_output(step: NpuStep, source: str, name: str) -> NpuStep:
    if source not in step.outputs:
        return step
    return NpuStep(step.name, step.operators, step.inputs, (*step.outputs, name), step.tasks)


def _names(container: Container, indices: tuple[int, ...], entries: Mapping[str, TensorEntry]) -> tuple[str, ...]:
    names = tuple(container.tensors[index].name for index in indices)
    missing = [name for name in names if name not in entries]
    if missing or not names:
        raise ModelError(f"graph input or output {missing[0] if missing else ''!r} is not computed by any node")
    return names


def _short(node: ContainerNode) -> str:
    """The name after the operator kind: Conv:conv1 is conv1."""
    return node.name.partition(":")[2] or node.name
