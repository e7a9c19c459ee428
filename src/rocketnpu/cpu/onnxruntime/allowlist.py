"""Operators that ONNX Runtime was seen to survive, whatever a file says of their shapes, attributes and constants.

The list comes of running damaged models: single operators with other shapes, attributes, constants and inputs than they
need (`benchmarks/hostile.py` repeats it). Most that is wrong ONNX Runtime refuses. It died of LayerNormalization with
scales of another shape, Mod of the smallest integer by -1, DFT, Einsum, OneHot, and Unique of an empty tensor; many
operators nobody tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

_NAMES = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip Concat
Constant Conv ConvTranspose Cos Cosh DepthToSpace DequantizeLinear Div Dropout Elu Equal Erf Exp Expand Flatten Floor
Gather Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity
InstanceNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mish Mul Neg Not Or Pad
Pow PRelu QuantizeLinear Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Resize Round Selu
Shape Sigmoid Sign Sin Sinh Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh
ThresholdedRelu Tile Transpose Unsqueeze Where Xor
"""

VOUCHED_FOR = frozenset(_NAMES.split())


def operators_of(model: Any) -> list[str]:
    """The types of all nodes of an onnx.ModelProto, also of those in its functions; with the domain if not ONNX's own.

    A function or another domain may give any operator the name of one that is on the allow-list.
    """
    nodes = chain(model.graph.node, *(function.node for function in model.functions))
    return [node.op_type if node.domain in ("", "ai.onnx") else f"{node.op_type} ({node.domain})" for node in nodes]


def is_allowed(operators: Iterable[str]) -> bool:
    """Whether all operators of a model are; `operators` are those that `operators_of` names."""
    return VOUCHED_FOR.issuperset(operators)
