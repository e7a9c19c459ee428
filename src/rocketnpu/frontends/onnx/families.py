"""Families of ONNX operators (onnx.ai/onnx/operators, and ONNX Runtime's ContribOperators.md)."""

from __future__ import annotations

_NAMES = """
Abs Acos Acosh Add And Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp FastGelu Floor Gelu
Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod
Mul Neg Not Or Pow PRelu QuickGelu Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub
Sum Swish Tan Tanh ThresholdedRelu Where Xor
"""

ELEMENT_BY_ELEMENT = frozenset(_NAMES.split())
"""Each element of the result follows from the same element of the operands."""

MOVING = frozenset({"DepthToSpace", "GlobalMaxPool", "MaxPool", "ReduceMax", "Slice", "SpaceToDepth", "Split"})
"""The result's elements are some of the operand's."""

RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""The result has all of the operand's elements in another shape."""
