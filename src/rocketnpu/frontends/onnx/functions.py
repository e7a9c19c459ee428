"""Functions of one quantized tensor: whatever real arithmetic lies between its DequantizeLinear and a QuantizeLinear.

1. All nodes between work element by element, in floating point, on that one tensor and on constants of one element.
   Their results are read by one another only, and the last one has the tensor's shape.
2. Such nodes are a table with the result of each of the 256 values, which ONNX Runtime computes from these nodes, with
   its optimizations off: the reference itself, whatever the function.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.frontends.onnx.families import ELEMENT_BY_ELEMENT
from rocketnpu.frontends.onnx.library import library
from rocketnpu.frontends.onnx.net import Net, Node
from rocketnpu.frontends.onnx.session import build_session, run_session
from rocketnpu.ir import BYTE_TYPES

MOST_NODES = 64
"""No function that exporters take apart has as many nodes."""


@dataclass(frozen=True, eq=False)
class Function:
    """The nodes of one function in the model's order, and the DequantizeLinear nodes that they read."""

    sources: tuple[Node, ...]
    nodes: tuple[Node, ...]


def find_function(net: Net, quantize: Node) -> Function | None:
    """The function whose result a QuantizeLinear takes (rule 1), None where there is none."""
    found: dict[int, Node] = {}
    sources: dict[int, Node] = {}
    wanted = [quantize.inputs[0]]
    while wanted:
        name = wanted.pop()
        constant = net.constants.get(name)
        if not name or (constant is not None and constant.size == 1):
            continue
        index = net.producers.get(name)
        node = None if index is None else net.nodes[index]
        if node is None or len(node.outputs) != 1:
            return None
        if node.op_type == "DequantizeLinear":
            if not _has_one_scale(net, node):
                return None
            sources[node.index] = node
        elif node.op_type in ELEMENT_BY_ELEMENT and node.index not in found:
            found[node.index] = node
            wanted += node.inputs
        elif node.index not in found:
            return None
        if len(found) > MOST_NODES:
            return None
    inside = {*found, quantize.index}
    made = [node.outputs[0] for node in found.values()]
    if any(name in net.outputs or not inside.issuperset(net.consumers[name]) for name in made):
        return None
    if any(net.types[name].dtype.kind not in "fb" for name in made):  # some arithmetic on integers ends the process
        return None
    data = {node.inputs[0] for node in sources.values() if not _is_one_number(net, node)}
    if not found or len(data) != 1 or not _maps_bytes(net, data.pop(), quantize):
        return None
    return Function(*(tuple(part[index] for index in sorted(part)) for part in (sources, found)))


def _has_one_scale(net: Net, node: Node) -> bool:
    grid = net.grid(node)
    return grid is not None and grid.scales.size == 1


def _is_one_number(net: Net, node: Node) -> bool:
    constant = net.constants.get(node.inputs[0])
    return constant is not None and constant.size == 1


def _maps_bytes(net: Net, source: str, quantize: Node) -> bool:
    before, after = net.types[source], net.types[quantize.outputs[0]]
    bytes_only = before.dtype in BYTE_TYPES and after.dtype in BYTE_TYPES
    return source not in net.constants and bytes_only and bool(before.shape) and before.shape == after.shape


def tabulate(model: Any, net: Net, function: Function, quantize: Node) -> NDArray[Any]:
    """The results for all values of the source from the smallest on (rule 2): (256,) of the result's dtype.

    `model` is the onnx.ModelProto that `net` describes. Raises ModelError when ONNX Runtime refuses the nodes.
    """
    helper = library("onnx.helper")
    data = next(node.inputs[0] for node in function.sources if not _is_one_number(net, node))
    source, result = net.types[data], net.types[quantize.outputs[0]]
    assert source.shape is not None
    shape = (256, *[1] * (len(source.shape) - 1))
    indices = [node.index for node in (*function.sources, *function.nodes, quantize)]
    nodes = [model.graph.node[index] for index in indices]
    needed = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "function",
        [helper.make_tensor_value_info(data, helper.np_dtype_to_tensor_dtype(source.dtype), shape)],
        [helper.make_tensor_value_info(quantize.outputs[0], helper.np_dtype_to_tensor_dtype(result.dtype), shape)],
        [tensor for tensor in model.graph.initializer if tensor.name in needed],
    )
    packed = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = build_session(packed.SerializeToString(), optimize=False)
    limits = np.iinfo(source.dtype.str)
    values = np.arange(limits.min, limits.max + 1).astype(source.dtype).reshape(shape)
    (found,) = run_session(session, [quantize.outputs[0]], {data: values})
    return found.reshape(-1)
