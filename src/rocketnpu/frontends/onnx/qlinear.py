"""QLinear operators rewritten as what ONNX says they mean: DequantizeLinear, the operator, QuantizeLinear.

ONNX Runtime's own integer kernels for them saturate sums of products at 16 bits on processors without VNNI, so that
results depend on the machine. In this form they do not, and one way to read quantized models is enough. The parameters
that FORMS refers to are listed in ONNX's and ONNX Runtime's operator documentation (ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.frontends.onnx.library import library


@dataclass(frozen=True)
class Form:
    """Where a QLinear operator keeps what `op` needs: each operand and `output` is followed by scale and zero point."""

    op: str
    operands: tuple[int, ...]
    output: int
    bias: int | None = None


FORMS: Mapping[str, Form] = {
    "QLinearConv": Form("Conv", (0, 3), 6, bias=8),
    "QLinearMatMul": Form("MatMul", (0, 3), 6),
    "QGemm": Form("Gemm", (0, 3), 7, bias=6),
    "QLinearAdd": Form("Add", (0, 3), 6),
    "QLinearMul": Form("Mul", (0, 3), 6),
    "QLinearAveragePool": Form("AveragePool", (0,), 3),
    "QLinearGlobalAveragePool": Form("GlobalAveragePool", (0,), 3),
    "QLinearSigmoid": Form("Sigmoid", (0,), 3),
    "QLinearLeakyRelu": Form("LeakyRelu", (0,), 3),
    "QLinearSoftmax": Form("Softmax", (0,), 3),
}
"""QLinearConcat is apart: its output's parameters come first, and it has any number of operands."""

QLINEAR = frozenset({*FORMS, "QLinearConcat"})

DROPPED_ATTRIBUTES = frozenset({"channels_last", "opset"})
"""ONNX Runtime's own."""

SOFTMAX_OVER_ONE_AXIS = 13
"""Before this opset, Softmax normalised over all dimensions from its axis on."""


@dataclass
class _Rewriter:
    """Nodes and constants of the model that is being made."""

    constants: Mapping[str, NDArray[Any]]
    taken: set[str]
    nodes: list[Any] = field(default_factory=list[Any])
    added: list[Any] = field(default_factory=list[Any])

    def name(self, wanted: str) -> str:
        """A name that nothing else has."""
        while wanted in self.taken:
            wanted += "_"
        self.taken.add(wanted)
        return wanted

    def real(self, wanted: str, tensor: str, scale: str, zero_point: str, axis: int) -> str:
        """A DequantizeLinear node; the name of its result."""
        result = self.name(wanted)
        inputs = [tensor, scale, *([zero_point] if zero_point else [])]
        self.nodes.append(library("onnx.helper").make_node("DequantizeLinear", inputs, [result], axis=axis))
        return result

    def constant(self, wanted: str, value: NDArray[Any]) -> str:
        """A new constant; its name."""
        result = self.name(wanted)
        self.added.append(library("onnx.numpy_helper").from_array(value, result))
        return result


def rewrite_qlinear(model: Any) -> None:
    """Rewrite the QLinear operators of an onnx.ModelProto in place; those with computed parameters stay as they are.

    ONNX Runtime's own QuantizeLinear and DequantizeLinear become ONNX's, where both mean the same.
    """
    _adopt(model)
    helper, arrays = library("onnx.helper"), library("onnx.numpy_helper")
    operands = {name for node in model.graph.node if _is_qlinear(node) for name in node.input}
    constants = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in operands}
    if not operands:
        return
    taken = {name for node in model.graph.node for name in (*node.input, *node.output)}
    taken.update(value.name for value in (*model.graph.input, *model.graph.initializer))
    rewriter = _Rewriter({name: arrays.to_array(tensor) for name, tensor in constants.items()}, taken)
    for node in model.graph.node:
        if not _is_qlinear(node) or not _is_plain(node, rewriter.constants):
            rewriter.nodes.append(node)
            continue
        output = node.output[0]
        attributes = [item for item in node.attribute if item.name not in DROPPED_ATTRIBUTES]
        op = "Concat" if node.op_type == "QLinearConcat" else FORMS[node.op_type].op
        inputs = list(_real_operands(rewriter, node))
        result = rewriter.name(f"{output}/real")
        plain = helper.make_node(op, inputs, [result], name=node.name)
        plain.attribute.extend(attributes)
        start = 0 if node.op_type == "QLinearConcat" else FORMS[node.op_type].output
        parameters = [name for name in node.input[start : start + 2] if name]
        rewriter.nodes += [plain, helper.make_node("QuantizeLinear", [result, *parameters], [output])]
    del model.graph.node[:]
    model.graph.node.extend(rewriter.nodes)
    model.graph.initializer.extend(rewriter.added)


def _adopt(model: Any) -> None:
    """ONNX's QuantizeLinear and DequantizeLinear instead of ONNX Runtime's, for the types that both have."""
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    proto = library("onnx").TensorProto
    for node in model.graph.node:
        if node.domain == "com.microsoft" and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero_type = types.get(node.input[2]) if len(node.input) > 2 else None
            if zero_type in (proto.INT8, proto.UINT8, proto.INT32):
                node.ClearField("domain")


def _is_qlinear(node: Any) -> bool:
    return node.op_type in QLINEAR


def _is_plain(node: Any, constants: Mapping[str, NDArray[Any]]) -> bool:
    """Whether a node can be rewritten: constant parameters, no meaning of ONNX Runtime's own, a quantized output."""
    numbers = {item.name: item.i for item in node.attribute}
    old_softmax = node.op_type == "QLinearSoftmax" and numbers.get("opset", 0) < SOFTMAX_OVER_ONE_AXIS
    if numbers.get("channels_last") or old_softmax:
        return False
    if node.op_type == "QLinearConcat":
        parameters = [0, *range(3, len(node.input), 3)]
        return len(node.input) >= 5 and len(node.input) % 3 == 2 and _scalars(node, parameters, constants)
    form = FORMS[node.op_type]
    if len(node.input) <= form.output or not node.input[form.output]:
        return False
    if any(item.name == "alpha" and item.f != 1.0 for item in node.attribute) and node.op_type == "QGemm":
        return False
    scales = [position + 1 for position in form.operands]
    if any(node.input[position] not in constants for position in scales):
        return False
    # Only weights may have a scale for each channel.
    return _scalars(node, [scales[0], form.output], constants)


def _scalars(node: Any, positions: list[int], constants: Mapping[str, NDArray[Any]]) -> bool:
    found = [constants.get(node.input[position]) for position in positions]
    return all(value is not None and value.size == 1 for value in found)


def _real_operands(rewriter: _Rewriter, node: Any) -> Iterator[str]:
    """DequantizeLinear nodes for the operands of a node; their results, in the order that the plain operator takes."""
    output, inputs = node.output[0], list(node.input)
    if node.op_type == "QLinearConcat":
        for start in range(2, len(inputs), 3):
            yield rewriter.real(f"{output}/{start // 3}", *inputs[start : start + 3], axis=0)
        return
    form = FORMS[node.op_type]
    for number, position in enumerate(form.operands):
        yield rewriter.real(f"{output}/{number}", *inputs[position : position + 3], axis=_weight_axis(node))
    if form.bias is not None and form.bias < len(inputs) and inputs[form.bias]:
        first, second = (rewriter.constants[inputs[position + 1]] for position in form.operands)
        yield _real_bias(rewriter, f"{output}/bias", inputs[form.bias], first.reshape(()).astype(np.float64) * second)


def _real_bias(rewriter: _Rewriter, wanted: str, bias: str, scale: NDArray[np.float64]) -> str:
    """The bias in steps of data times weights: a DequantizeLinear node, or real numbers where float32 can't hold the
    steps."""
    limits, stored = np.finfo(np.float32), rewriter.constants.get(bias)
    if stored is not None and (scale.min() < limits.tiny or scale.max() > limits.max):
        return rewriter.constant(wanted, np.clip(stored * scale, limits.min, limits.max).astype(np.float32))
    steps = np.minimum(scale, limits.max).astype(np.float32)
    name = rewriter.constant(f"{wanted}_scale", steps.reshape(()) if steps.size == 1 else steps)
    return rewriter.real(wanted, bias, name, "", axis=-1)


def _weight_axis(node: Any) -> int:
    """The axis of output channels in the weights."""
    if node.op_type == "QLinearConv":
        return 0
    transposed = any(item.name == "transB" and item.i for item in node.attribute)
    return 0 if transposed else -1
