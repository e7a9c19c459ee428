"""Functions of one tensor in float ONNX models: their nodes stay together, so that the NPU looks the result up once.

1. A function's nodes work element by element, in floating point, on one tensor and on constants of one element. Other
   nodes do not read what is between them, and the result has the tensor's shape.
2. A function is as large as it can be. One node is a function if the quantizer does not know the node itself.
3. A clamp directly behind a layer is no part of a function: the layer clamps for free, and its grid then spans less.
4. For the quantizer a function is one node of a type of its own. `unwrap` puts the nodes back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rocketnpu.frontends.onnx.families import ELEMENT_BY_ELEMENT
from rocketnpu.frontends.onnx.functions import MOST_NODES
from rocketnpu.frontends.onnx.library import library
from rocketnpu.frontends.onnx.net import Net, Node, build_net
from rocketnpu.frontends.onnx.qdq import ACTIVATED, clamp_of

FUNCTION = "FunctionOfOneTensor"
"""The type of the node that stands for a function while the quantizer works."""

DOMAIN = "rocketnpu"

Names = tuple[str, ...]
"""The results of a function's nodes in the model's order; the last one is the function's."""


def find_functions(data: bytes, known: Collection[str]) -> list[Names]:
    """The functions of a float model; no node belongs to two. `known` are the operators that the quantizer knows."""
    net = build_net(library("onnx").load_model_from_string(data), "the model")
    taken: set[int] = set()
    found: list[Names] = []
    for node in reversed(net.nodes):
        nodes = () if node.index in taken else _largest(net, node, taken)
        if len(nodes) > 1 or (nodes and node.op_type not in known):
            taken.update(nodes)
            found.append(tuple(net.nodes[index].outputs[0] for index in nodes))
    return found[::-1]


def _largest(net: Net, last: Node, taken: Collection[int]) -> tuple[int, ...]:
    """The nodes of the largest function that ends in `last` (rules 1 to 3), in order; none if there is none."""
    inside: set[int] = set()
    wanted = {last.outputs[0]}
    best: tuple[int, ...] = ()
    while len(inside) < MOST_NODES:
        open_ = [net.producers[name] for name in wanted if _may_join(net, name, last, inside, taken)]
        if not open_:
            break
        node = net.nodes[max(open_)]  # the latest first: what lies between two paths comes before their beginning
        inside.add(node.index)
        wanted.remove(node.outputs[0])
        wanted.update(name for name in node.inputs if name and name not in net.constants)
        if len(wanted) == 1 and _maps_floats(net, next(iter(wanted)), last.outputs[0]):
            best = tuple(sorted(inside))
    return best


def _maps_floats(net: Net, source: str, result: str) -> bool:
    before, after = net.types[source], net.types[result]
    return before.dtype == after.dtype == np.float32 and before.shape == after.shape


def _may_join(net: Net, name: str, last: Node, inside: set[int], taken: Collection[int]) -> bool:
    """Whether the node that makes a tensor is one of the function's."""
    index = net.producers.get(name)
    if index is None or index in taken:
        return False
    node = net.nodes[index]
    if node.op_type not in ELEMENT_BY_ELEMENT or len(node.outputs) != 1 or net.types[name].dtype.kind not in "fb":
        return False
    if any(net.constants[operand].size != 1 for operand in node.inputs if operand in net.constants):
        return False
    if node is last:
        return True
    read_inside_only = name not in net.outputs and inside.issuperset(net.consumers[name])
    return read_inside_only and not _is_clamp_of_layer(net, node)


def _is_clamp_of_layer(net: Net, node: Node) -> bool:
    """Rule 3. A sum with one number is no layer."""
    if node.op_type not in ("Relu", "Clip") or clamp_of(net, node) is None:
        return False
    index = net.producers.get(node.inputs[0])
    if index is None or net.nodes[index].op_type not in ACTIVATED or net.sole_consumer(node.inputs[0]) is None:
        return False
    return all(net.constants[name].size != 1 for name in net.nodes[index].inputs if name in net.constants)


@dataclass(frozen=True, eq=False)
class Folded:
    """What a node of type FUNCTION stands for: nodes (onnx.NodeProto), the tensor that they read, their constants."""

    source: str
    nodes: tuple[Any, ...]
    constants: tuple[Any, ...]


def wrap(model: Any, functions: Sequence[Names]) -> dict[str, Folded]:
    """Let one node stand for each function of an onnx.ModelProto; what it stands for, by its name."""
    model.opset_import.append(library("onnx.helper").make_opsetid(DOMAIN, 1))
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    members = {name: function for function in functions for name in function}
    inside: dict[str, list[Any]] = {function[-1]: [] for function in functions}
    folded: dict[str, Folded] = {}
    nodes: list[Any] = []
    for node in graph.node:
        function = members.get(node.output[0])
        if function is None:
            nodes.append(node)
            continue
        inside[function[-1]].append(node)
        if node.output[0] == function[-1]:
            found = _folded(inside[function[-1]], constants)
            name = f"{FUNCTION}_{len(folded)}"
            nodes.append(
                library("onnx.helper").make_node(FUNCTION, [found.source], [function[-1]], name, domain=DOMAIN)
            )
            folded[name] = found
    del graph.node[:]
    graph.node.extend(nodes)
    return folded


def unwrap(model: Any, folded: Mapping[str, Folded]) -> None:
    """Put the nodes that `wrap` has taken out back, between what now makes and reads their tensors."""
    opsets = [entry for entry in model.opset_import if entry.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(opsets)
    graph = model.graph
    nodes: list[Any] = []
    missing: dict[str, Any] = {}
    for node in graph.node:
        if node.op_type != FUNCTION:
            nodes.append(node)
            continue
        function = folded[node.name]
        for inner in function.nodes:
            operands = [node.input[0] if name == function.source else name for name in inner.input]
            del inner.input[:]
            inner.input.extend(operands)
        function.nodes[-1].output[0] = node.output[0]
        nodes += function.nodes
        missing.update((tensor.name, tensor) for tensor in function.constants)
    del graph.node[:]
    graph.node.extend(nodes)
    for tensor in graph.initializer:
        missing.pop(tensor.name, None)
    graph.initializer.extend(missing.values())


def _folded(nodes: Sequence[Any], constants: Mapping[str, Any]) -> Folded:
    made = {name for node in nodes for name in node.output}
    read = dict.fromkeys(name for node in nodes for name in node.input if name and name not in made)
    (source,) = (name for name in read if name not in constants)
    return Folded(source, tuple(nodes), tuple(constants[name] for name in read if name in constants))
