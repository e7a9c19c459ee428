"""Finding quantized operators among the nodes of an ONNX model.

1. DequantizeLinear (one or more) -> operator -> QuantizeLinear is one operator from quantized to quantized tensors, and
   so it is with Relu or Clip behind the operator, and with several results that each have a QuantizeLinear. The float
   tensors inside then no longer exist.
2. That needs grids that are constant and per tensor, and an operator whose result nothing else reads. A
   DequantizeLinear may serve several operators.
3. An operator that only moves or selects elements may also work on the integers themselves, which keep their grid.
4. Several operators between DequantizeLinear and QuantizeLinear are one if they are a function of one tensor
   (functions.py).
5. A tensor has one grid: that of the QuantizeLinear that makes it, else that of the first DequantizeLinear that reads
   it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from rocketnpu.frontends.onnx.functions import Function, find_function
from rocketnpu.frontends.onnx.net import Net, Node
from rocketnpu.ir import Activation, Quantization

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

ACTIVATED = frozenset(
    {"BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "AveragePool", "MaxPool"}
)
"""Operators that take an activation along; the options of their TFLite forms have a field for it."""

GRID_KEEPING = frozenset(
    {"Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators of rule 3 with one operand that matters."""


@dataclass(frozen=True, eq=False)
class Group:
    """One quantized operator: DequantizeLinear nodes by operand, `core` (None: a change of grid only), QuantizeLinear.

    `quantizes` has a QuantizeLinear for each result. `inside` names the float tensors between them, those that
    DequantizeLinear makes excluded. `function` is the group as a function of one tensor, if it is one; with several
    nodes between it is the only form, and there is no core.
    """

    sources: Mapping[str, Node]
    core: Node | None
    activation: Activation
    quantizes: tuple[Node, ...]
    inside: tuple[str, ...]
    function: Function | None = None

    @property
    def place(self) -> Node:
        """Where the operator stands among the others: after all that it reads, before all that reads its results."""
        return min(self.quantizes, key=lambda node: node.index)


def find_grids(net: Net) -> dict[str, Quantization]:
    """The grid of every quantized tensor (rules 3 and 5), constants included."""
    grids: dict[str, Quantization] = {}
    for node in net.nodes:
        if node.op_type == QUANTIZE:
            grid = net.grid(node)
            if grid is not None:
                grids[node.outputs[0]] = grid
        elif node.op_type == DEQUANTIZE:
            grid = net.grid(node)
            if grid is not None:
                grids.setdefault(node.inputs[0], grid)
        elif node.op_type in GRID_KEEPING and node.inputs[0] in grids:
            grid = grids[node.inputs[0]]
            if grid.axis is None:
                grids.update((name, grid) for name in node.outputs if name and name not in grids)
    return grids


def find_groups(net: Net, grids: Mapping[str, Quantization], keep: Collection[str]) -> dict[int, Group]:
    """All quantized operators of rule 1, by the index of their first QuantizeLinear node.

    `keep` names float tensors that must go on to exist.
    """
    groups: dict[int, Group] = {}
    for node in net.nodes:
        if node.op_type == QUANTIZE:
            group = _group(net, grids, node) or _function_group(net, grids, node)
            if group is not None and not set(keep).intersection((*group.sources, *group.inside)):
                groups[group.place.index] = group
    return groups


def _group(net: Net, grids: Mapping[str, Quantization], quantize: Node) -> Group | None:
    """Rules 1 and 2 for one QuantizeLinear; None when what is before it does not match."""
    result = quantize.inputs[0]
    if not _has_one_grid(grids, quantize):
        return None
    if net.producer(result, DEQUANTIZE) is not None:
        sources = _sources(net, grids, (result,))
        return None if sources is None else Group(sources, None, Activation.NONE, (quantize,), ())
    inside = [result]
    core, activation = _sole_producer(net, result), Activation.NONE
    if core is not None and core.op_type in ("Relu", "Clip"):
        bound = clamp_of(net, core)
        before = _sole_producer(net, core.inputs[0])
        if bound is not None and before is not None and before.op_type in ACTIVATED:
            inside.append(core.inputs[0])
            core, activation = before, bound
    if core is None:
        return None
    quantizes = (quantize,)
    if len(core.outputs) > 1:
        readers = [net.sole_consumer(name) for name in core.outputs]
        quantizes = tuple(node for node in readers if node is not None and node.op_type == QUANTIZE)
        if len(quantizes) != len(core.outputs) or not all(_has_one_grid(grids, node) for node in quantizes):
            return None
        inside = list(core.outputs)
    sources = _sources(net, grids, core.inputs)
    if sources is None:
        return None
    function = find_function(net, quantize) if len(quantizes) == 1 else None
    return Group(sources, core, activation, quantizes, tuple(inside), function)


def _function_group(net: Net, grids: Mapping[str, Quantization], quantize: Node) -> Group | None:
    """Rule 4 for one QuantizeLinear."""
    function = find_function(net, quantize) if _has_one_grid(grids, quantize) else None
    if function is None:
        return None
    sources = {node.outputs[0]: node for node in function.sources}
    inside = tuple(node.outputs[0] for node in function.nodes)
    return Group(sources, None, Activation.NONE, (quantize,), inside, function)


def _has_one_grid(grids: Mapping[str, Quantization], quantize: Node) -> bool:
    return quantize.outputs[0] in grids and grids[quantize.outputs[0]].axis is None


def _sole_producer(net: Net, name: str) -> Node | None:
    """The node that makes a tensor which only one node reads."""
    index = net.producers.get(name)
    return net.nodes[index] if index is not None and net.sole_consumer(name) is not None else None


def _sources(net: Net, grids: Mapping[str, Quantization], operands: Collection[str]) -> dict[str, Node] | None:
    """The DequantizeLinear of each operand that is no constant itself; None unless that is so for all of them.

    At least one must be fed by a tensor that is computed, in that tensor's own grid (rule 5), and each must have
    parameters that are of use: an int32 bias without them would count as something else.
    """
    sources: dict[str, Node] = {}
    computed = False
    for name in operands:
        if not name or name in net.constants:
            continue
        node = net.producer(name, DEQUANTIZE)
        if node is None:
            return None
        sources[name] = node
        grid = net.grid(node)
        if node.inputs[0] in net.constants and grid is not None:
            continue
        if grid is None or grid.axis is not None or not _equal(grid, grids[node.inputs[0]]):
            return None
        computed = True
    return sources if computed else None


def _equal(first: Quantization, second: Quantization) -> bool:
    return np.array_equal(first.scales, second.scales) and np.array_equal(first.zero_points, second.zero_points)


def clamp_of(net: Net, node: Node) -> Activation | None:
    """A Relu or Clip as one of TFLite's activations; None when it is none of them, or its bounds are no constants."""
    if node.op_type == "Relu":
        return Activation.RELU
    bounds: list[float | None] = [node.attributes.get("min"), node.attributes.get("max")]
    for position, name in enumerate(node.inputs[1:3]):
        if name:
            value = net.constants.get(name)
            if value is None or value.size != 1:
                return None
            bounds[position] = float(value.reshape(-1)[0])
    match bounds:
        case [0.0, None]:
            return Activation.RELU
        case [0.0, 6.0]:
            return Activation.RELU6
        case [-1.0, 1.0]:
            return Activation.RELU_N1_TO_1
        case _:
            return None
