"""Why a node stays as the file has it although the compiler knows its operator: the cause, not the form.

1. A QuantizeLinear or DequantizeLinear beside it has parameters that are of no use: which tensor, which number.
2. It computes on real numbers: a tensor that should be quantized is not.
3. Its scales are chosen at each run ("dynamic range"). `rocketnpu quantize` makes constants of them.
"""

from __future__ import annotations

import numpy as np

from rocketnpu.frontends.onnx.layers import LAYERS
from rocketnpu.frontends.onnx.net import Net, Node
from rocketnpu.frontends.onnx.operators import is_known
from rocketnpu.frontends.onnx.qdq import DEQUANTIZE, QUANTIZE

DYNAMIC = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul"})
"""Operators that choose a scale."""
INTEGER = frozenset({"ConvInteger", "MatMulInteger"})
"""Operators without a scale of their own, mostly behind such a one."""
RULE = "scales and zero points are constants that the NPU can hold"


def why_as_it_is(net: Net, node: Node) -> str | None:
    """A sentence on `node`, which is no part of a quantized operator; None where nothing else is known of it."""
    if node.op_type in (QUANTIZE, DEQUANTIZE):
        found = flaw(net, node)
        return None if found is None else f"{RULE} ({found})"
    if node.op_type in DYNAMIC or (
        node.op_type in INTEGER and net.producer(node.inputs[0], "DynamicQuantizeLinear") is not None
    ):
        return "a scale that is chosen at each run has no NPU form"
    if node.op_type in INTEGER:
        return f"{node.op_type} with an int32 result has no NPU form"
    if not is_known(node.op_type):
        return None
    beside = [net.producer(name, DEQUANTIZE) for name in node.inputs if name]
    beside += [reader for name in node.outputs for reader in _readers(net, name)]
    flaws = [flaw(net, each) for each in beside if each is not None]
    first = next((found for found in flaws if found is not None), None)
    if first is not None:
        return f"{RULE} ({first})"
    real = next((name for name in _data(net, node) if net.producer(name, DEQUANTIZE) is None), None)
    if real is None:
        return f"{node.op_type} without a quantized result has no NPU form"
    found = net.types.get(real)
    return None if found is None else f"{found.dtype} data has no NPU form"


def _data(net: Net, node: Node) -> list[str]:
    """The operands that a quantized form needs on a grid: those that are computed, and weights."""
    weights = node.inputs[1:2] if node.op_type in LAYERS else ()
    return [name for name in node.inputs if name and (name not in net.constants or name in weights)]


def _readers(net: Net, name: str) -> list[Node]:
    return [net.nodes[index] for index in net.consumers.get(name, ()) if net.nodes[index].op_type == QUANTIZE]


def flaw(net: Net, node: Node) -> str | None:
    """What is wrong with the parameters of a QuantizeLinear or DequantizeLinear, for which `net.grid` is None."""
    if net.grid(node) is not None:
        return None
    tensor = node.outputs[0] if node.op_type == QUANTIZE else node.inputs[0]
    scale = net.constants.get(node.inputs[1])
    if scale is None:
        return f"the scale of {tensor}, {node.inputs[1]}, is computed"
    if node.attributes.get("block_size"):
        return f"{tensor} is quantized in blocks of {node.attributes['block_size']}"
    if scale.dtype != np.float32:
        return f"{tensor} has scales of type {scale.dtype}"
    numbers = scale.astype(np.float64).reshape(-1)
    smallest = net.smallest_scale(tensor)
    legal = np.isfinite(numbers) & (numbers >= smallest)
    if not legal.all():
        wrong = float(numbers[~legal][0])
        below = f", below {smallest:.3g}" if 0 < wrong < smallest else ""
        return f"{tensor} has the scale {wrong:.6g}{below}"
    return f"the scales or zero points of {tensor}, {numbers.size} of them, do not match its shape or are computed"
