"""Functions of one tensor, element by element: the operators that the NPU computes with a lookup table.

One row here makes such an operator known everywhere: the TFLite frontend reads it and knows its shape, the compiler
accepts it and builds its table. docs/contributing/add-an-operator.md walks through one.

ONNX needs no rows: its frontend tabulates any function of one quantized tensor (frontends/onnx/functions.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.ir import UnaryOptions

__all__ = ["FUNCTIONS", "Reals"]

Reals: TypeAlias = NDArray[np.float64]

_SMALLEST = 1e-300
"""Replaces numbers that are not positive under LOG and RSQRT. The result then lies outside every int8 grid."""


def _gelu(x: Reals, options: UnaryOptions) -> Reals:
    if options.approximate:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.array([math.erf(value / math.sqrt(2)) for value in x.tolist()]))


def _logistic(x: Reals, _: UnaryOptions) -> Reals:
    return 0.5 * (1 + np.tanh(x / 2))  # 1 / (1 + exp(-x)) without overflow


FUNCTIONS: Mapping[str, Callable[[Reals, UnaryOptions], Reals]] = MappingProxyType(
    {
        "ABS": lambda x, _: np.abs(x),
        "ELU": lambda x, _: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
        "EXP": lambda x, _: np.exp(np.minimum(x, 700)),
        "GELU": _gelu,
        "HARD_SWISH": lambda x, _: x * np.clip(x + 3, 0, 6) / 6,
        "LEAKY_RELU": lambda x, options: np.where(x < 0, options.alpha * x, x),
        "LOG": lambda x, _: np.log(np.maximum(x, _SMALLEST)),
        "LOGISTIC": _logistic,
        "RELU_N1_TO_1": lambda x, _: np.clip(x, -1, 1),
        "RSQRT": lambda x, _: 1 / np.sqrt(np.maximum(x, _SMALLEST)),
        "SQRT": lambda x, _: np.sqrt(np.maximum(x, 0)),
        "TANH": lambda x, _: np.tanh(x),
    }
)
"""The function of each TFLite operator: real inputs, float64 (n,), and its options to real results, float64 (n,)."""
