"""ONNX files to graphs: quantized operators as one operator each, everything else node by node.

A graph holds the cleaned model (model.py) as its source, from which pieces for the CPU are cut by the names of the
tensors between them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from rocketnpu.frontends.files import ModelFile
from rocketnpu.frontends.onnx.call import Call, Translation
from rocketnpu.frontends.onnx.functions import tabulate
from rocketnpu.frontends.onnx.layers import dequantized
from rocketnpu.frontends.onnx.library import refusal_is_model_error
from rocketnpu.frontends.onnx.model import Source, read_model
from rocketnpu.frontends.onnx.net import Net, Node, TensorType, build_net, declared_types
from rocketnpu.frontends.onnx.operators import translate
from rocketnpu.frontends.onnx.qdq import DEQUANTIZE, GRID_KEEPING, Group, find_grids, find_groups
from rocketnpu.frontends.onnx.reasons import why_as_it_is
from rocketnpu.frontends.onnx.shuffle import fold_shuffles
from rocketnpu.frontends.opening import AS_IT_IS, Opening
from rocketnpu.ir import UNKNOWN_SHAPE, UNKNOWN_SIZE, Activation, Graph, LookupOptions, Operator, Tensor

PROTOBUF_START = b"\x08"
"""The tag of `ir_version`, the first field of every ONNX file (onnx.proto)."""


def load_onnx(file: ModelFile, keep: Collection[str] = (), opening: Opening = AS_IT_IS) -> Graph:
    """The graph of an ONNX file.

    `keep` names tensors that must exist when the model runs, also those between DequantizeLinear and QuantizeLinear.
    Raises ModelError for a file that is malformed, contradicts itself, is not whole, or has inputs of no fixed size,
    for an `opening` that does not fit it, and Error when the packages that read ONNX files are missing.
    """
    name = file.where
    with refusal_is_model_error(f"{name} is malformed"):
        source = read_model(file, opening)
        if source.opaque is not None:
            return _opaque_graph(source, declared_types(source.model.graph))
        net = build_net(source.model, name)
        unknown = _unknown(net)
        if unknown is not None:
            return _opaque_graph(replace(source, opaque=unknown), net.types)
        return fold_shuffles(_Builder(source, net, keep).graph(), keep, source.names)


def _unknown(net: Net) -> str | None:
    """Why the graph must be left to ONNX Runtime as a whole: a tensor that has no fixed shape or no numpy type."""
    for node in net.nodes:
        for name in node.outputs:
            found = net.types.get(name)
            if name and (found is None or found.shape is None or None in found.shape):
                return f"the shape of {name}, which {node} makes, is not known before the run"
            if found is not None and found.dtype.hasobject:
                return f"tensor {name} has a type that numpy lacks"
    for name in net.inputs:
        if net.types[name].dtype.hasobject:
            return f"input {name} has a type that numpy lacks"
    return None


def _opaque_graph(source: Source, types: Mapping[str, TensorType]) -> Graph:
    """What is known of a model that runs as a whole."""
    graph = source.model.graph
    inputs, outputs = (tuple(value.name for value in values) for values in (graph.input, graph.output))
    reason = f"a model that runs as one piece ({source.opaque}) has no NPU form"
    operators = tuple(
        Operator(
            node.op_type,
            index,
            inputs if index == 0 else (),
            tuple(name for name in node.output if name),
            opaque=reason,
            shares=frozenset({"the model"}),
        )
        for index, node in enumerate(graph.node)
    )
    names = dict.fromkeys((*inputs, *(name for operator in operators for name in operator.outputs), *outputs))
    tensors: dict[str, Tensor] = {}
    for name in names:
        found = types.get(name, TensorType(np.dtype(object), None))
        sizes = [UNKNOWN_SIZE if size is None else size for size in found.shape or ()]
        tensors[name] = Tensor(name, UNKNOWN_SHAPE if found.shape is None else tuple(sizes), found.dtype)
    model = source.model.SerializeToString()
    return Graph(tensors, operators, inputs, outputs, model, format="onnx", notes=source.notes)


class _Builder:
    """The graph of one net while it grows."""

    def __init__(self, source: Source, net: Net, keep: Collection[str]) -> None:
        self._source = source
        self._net = net
        self._keep = frozenset(keep)
        self._grids = find_grids(net)
        self._groups = find_groups(net, self._grids, keep)
        self._members = {node.index: group for group in self._groups.values() for node in _readers(group)}
        self._tensors: dict[str, Tensor] = {}
        self._constants: dict[str, str] = {}
        self._operators: list[Operator] = []

    def graph(self) -> Graph:
        """All operators in order, and the tensors between them."""
        net = self._net
        for name in net.inputs:
            self._activation(name)
        dissolved = self._dissolved()
        absorbed = {node.index for group in self._groups.values() for node in group.quantizes}
        for node in net.nodes:
            if node.index in self._groups:
                self._add_group(self._groups[node.index])
            elif node.index in absorbed:
                continue
            elif dissolved.keys().isdisjoint(node.outputs) and not self._is_constant(node):
                self._add_node(node)
        for name in net.outputs:
            self._operand(name)
        return Graph(
            tensors=self._tensors,
            operators=tuple(self._operators),
            inputs=net.inputs,
            outputs=net.outputs,
            model=self._source.model.SerializeToString(),
            format="onnx",
            dissolved={name: absorber for name, absorber in dissolved.items() if name in self._source.names},
            notes=self._source.notes,
        )

    def _dissolved(self) -> dict[str, str]:
        """Float tensors that no longer exist, with the operator that stands for what made and read them."""
        dissolved: dict[str, str] = {}
        for group in self._groups.values():
            dissolved.update(dict.fromkeys(group.inside, _name(group)))
        for node in self._net.nodes:
            name = node.outputs[0] if node.outputs else ""
            readers = [self._members.get(index) for index in self._net.consumers.get(name, ())]
            if node.op_type != DEQUANTIZE or not readers or name in self._keep or name in self._net.outputs:
                continue
            if all(group is not None and name in group.sources for group in readers) and not self._is_constant(node):
                assert readers[0] is not None
                dissolved[name] = _name(readers[0])
        return dissolved

    def _is_constant(self, node: Node) -> bool:
        """Whether a node only unpacks a constant; its result is a constant of the graph, if anything needs it."""
        return node.op_type == DEQUANTIZE and node.inputs[0] in self._net.constants and self._net.grid(node) is not None

    def _add_group(self, group: Group) -> None:
        outputs = [self._activation(node.outputs[0]) for node in group.quantizes]
        if group.core is not None:
            operands = [self._group_operand(group, name) for name in group.core.inputs]
            found = self._translated(group.core, operands, outputs, group.activation)
            if found.is_mapped or group.function is None:
                self._add_translated(found, group.place, outputs)
                return
        data = next(node for node in group.sources.values() if node.inputs[0] not in self._net.constants)
        operator = _operator("QUANTIZE", group.place, [self._quantized(data)], outputs)
        if group.function is not None:
            table = tabulate(self._source.model, self._net, group.function, group.place)
            operator = replace(operator, kind="LOOKUP", options=LookupOptions(table.tobytes()))
        self._operators.append(operator)

    def _add_node(self, node: Node) -> None:
        works_on_integers = (
            node.op_type in GRID_KEEPING and node.inputs[0] in self._grids and node.inputs[0] not in self._net.constants
        )
        if works_on_integers and all(node.outputs) and (len(node.outputs) == 1 or node.op_type == "Split"):
            operands = [self._raw(name) if name else None for name in node.inputs]
            outputs = [self._activation(name) for name in node.outputs]
            self._add_translated(self._translated(node, operands, outputs, Activation.NONE), node, outputs)
            return
        inputs = [self._operand(name) if name else None for name in node.inputs]
        outputs = [self._activation(name) for name in node.outputs if name]
        operator = _operator(node.op_type, node, inputs, outputs)
        self._operators.append(replace(operator, unsupported=why_as_it_is(self._net, node)))

    def _translated(
        self, node: Node, operands: list[Tensor | None], outputs: list[Tensor], activation: Activation
    ) -> Translation:
        return translate(Call(node.op_type, str(node), node.attributes, tuple(operands), tuple(outputs), activation))

    def _add_translated(self, found: Translation, place: Node, outputs: list[Tensor]) -> None:
        inputs = [operand if operand is None else self._placed(operand, place) for operand in found.operands]
        operator = _operator(found.kind, place, inputs, outputs)
        self._operators.append(replace(operator, options=found.options, unsupported=found.unsupported))

    def _group_operand(self, group: Group, name: str) -> Tensor | None:
        if not name:
            return None
        return self._quantized(group.sources[name]) if name in group.sources else self._raw(name)

    def _quantized(self, node: Node) -> Tensor:
        """What a DequantizeLinear reads."""
        name = node.inputs[0]
        if name not in self._net.constants:
            return self._activation(name)
        return replace(self._raw(name), quantization=self._net.grid(node))

    def _raw(self, name: str) -> Tensor:
        """A tensor, or a constant as the file has it."""
        value = self._net.constants.get(name)
        return self._activation(name) if value is None else Tensor(name, value.shape, value.dtype, data=value)

    def _operand(self, name: str) -> Tensor:
        """What a node on the CPU reads, placed in the graph."""
        if name in self._constants:
            return self._tensors[self._constants[name]]
        node = self._net.producer(name, DEQUANTIZE)
        if name in self._net.constants:
            tensor = self._raw(name)
        elif node is not None and self._is_constant(node):
            values = dequantized(self._quantized(node)).astype(np.float32)
            tensor = Tensor(name, values.shape, values.dtype, data=values)
        else:
            return self._activation(name)
        self._tensors[name] = tensor
        self._constants[name] = name
        return tensor

    def _placed(self, operand: Tensor, node: Node) -> Tensor:
        """An operand in the graph; a constant, which is made for this one operator, under a name of its own."""
        if operand.data is None:
            return operand
        name = operand.name
        while name in self._tensors or (name != operand.name and name in self._net.types):
            name += f"#{node.index}"
        self._tensors[name] = replace(operand, name=name)
        return self._tensors[name]

    def _activation(self, name: str) -> Tensor:
        if name not in self._tensors:
            found = self._net.types[name]
            assert found.shape is not None
            shape = tuple(size or 0 for size in found.shape)
            grid = self._grids.get(name) if found.dtype.kind in "iu" else None
            self._tensors[name] = Tensor(name, shape, found.dtype, grid)
        return self._tensors[name]


def _readers(group: Group) -> tuple[Node, ...]:
    """The nodes that read what the DequantizeLinear nodes of a group make."""
    if group.core is not None:
        return (group.core,)
    return (group.place,) if group.function is None else group.function.nodes


def _name(group: Group) -> str:
    """The name of the operator that a group becomes."""
    return group.quantizes[0].outputs[0]


def _operator(kind: str, node: Node, inputs: Sequence[Tensor | None], outputs: Sequence[Tensor]) -> Operator:
    names = tuple(None if tensor is None else tensor.name for tensor in inputs)
    return Operator(kind, node.index, names, tuple(tensor.name for tensor in outputs))
