"""How many multiply-accumulate operations (MACs) an operator of the model takes, as its layer is written.

1. Convolutions, fully connected layers, matrix products and recurrent layers have MACs. All other operators count as
   0: what they compute is small beside these, or moves no more than it reads.
2. A MAC counts wherever it runs. What the compiler makes of an operator (padding of channels, pools as convolutions)
   does not matter, so that the share on the NPU means the same for every model.
3. Operators on the CPU may have ONNX's names, and ONNX's layout of weights: output channels first.
4. Where a size is not known before the run, an operator counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from rocketnpu.ir import Graph, Operator, Tensor

_Count: TypeAlias = Callable[[Sequence[Tensor], Tensor], int]
"""MACs of operands and the first result."""


def macs(graph: Graph, operator: Operator) -> int:
    """The MACs of one inference."""
    count = _COUNTS.get(operator.kind)
    if count is None or not operator.outputs:
        return 0
    operands = [graph.tensors[name] for name in operator.inputs if name is not None]
    try:
        return max(0, count(operands, graph.tensors[operator.outputs[0]]))
    except (IndexError, ZeroDivisionError):  # an operator that no runtime runs either, or without elements
        return 0


def _elements(shape: Sequence[int]) -> int:
    return 0 if min(shape, default=1) < 0 else math.prod(shape)


def _convolution(operands: Sequence[Tensor], output: Tensor) -> int:
    """Each output element sums over a kernel, whose first dimension is the output channel."""
    return _elements(output.shape) * _elements(operands[1].shape[1:])


def _depthwise(operands: Sequence[Tensor], output: Tensor) -> int:
    """TFLite's weights are (1, KH, KW, C)."""
    return _elements(output.shape) * _elements(operands[1].shape[1:3])


def _volume(operands: Sequence[Tensor], output: Tensor) -> int:
    """TFLite's weights of CONV_3D are (KD, KH, KW, IC, OC)."""
    return _elements(output.shape) * _elements(operands[1].shape[:-1])


def _scattered(operands: Sequence[Tensor]) -> int:
    """Each input element meets the kernel of its channel: weights (IC, OC / groups, ...), as ONNX has them."""
    return _elements(operands[0].shape) * _elements(operands[1].shape[1:])


def _transposed(operands: Sequence[Tensor]) -> int:
    """TFLite's operands are the output's shape, weights (OC, KH, KW, IC) and data."""
    return _elements(operands[2].shape) * _elements(operands[1].shape[:-1])


def _fully_connected(operands: Sequence[Tensor], output: Tensor) -> int:
    return _elements(output.shape) * operands[1].shape[-1]


def _product(operands: Sequence[Tensor], output: Tensor) -> int:
    """Matrices (M, K) and (K, N), either of which may be transposed: K is what the first has beside M."""
    first, second = operands[0].shape, operands[1].shape
    rows = 1 if len(first) == 1 else output.shape[-2 if len(second) > 1 else -1]
    return _elements(output.shape) * (_elements(first[-2:]) // rows)


def _recurrent(operands: Sequence[Tensor], output: Tensor) -> int:  # noqa: ARG001 - the signature of all
    """All matrices of weights, once for each step of each sequence."""
    steps = _elements(operands[0].shape[:-1])
    matrices = (tensor for tensor in operands[1:] if tensor.data is not None and len(tensor.shape) > 1)
    return steps * sum(_elements(tensor.shape) for tensor in matrices)


_COUNTS: Mapping[str, _Count] = MappingProxyType(
    {
        **dict.fromkeys(("CONV_2D", "Conv", "ConvInteger", "FusedConv"), _convolution),
        "DEPTHWISE_CONV_2D": _depthwise,
        "CONV_3D": _volume,
        "TRANSPOSE_CONV": lambda operands, _: _transposed(operands),
        "ConvTranspose": lambda operands, _: _scattered(operands),
        "FULLY_CONNECTED": _fully_connected,
        **dict.fromkeys(("BATCH_MATMUL", "Gemm", "MatMul", "MatMulInteger", "FusedMatMul"), _product),
        **dict.fromkeys(
            (
                "BIDIRECTIONAL_SEQUENCE_LSTM",
                "BIDIRECTIONAL_SEQUENCE_RNN",
                "GRU",
                "LSTM",
                "RNN",
                "SVDF",
                "UNIDIRECTIONAL_SEQUENCE_LSTM",
                "UNIDIRECTIONAL_SEQUENCE_RNN",
            ),
            _recurrent,
        ),
    }
)
