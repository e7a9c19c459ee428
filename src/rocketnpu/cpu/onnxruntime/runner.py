"""A piece of an ONNX model that ONNX Runtime runs on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocketnpu.cpu.onnxruntime.allowlist import operators_of
from rocketnpu.cpu.onnxruntime.engine import guarded_engine
from rocketnpu.cpu.onnxruntime.reference import Reference
from rocketnpu.frontends.onnx.parse import parse_piece

QUANTIZED_TYPES = ("QuantizeLinear", "DequantizeLinear", "QLinear", "QGemm", "ConvInteger", "MatMulInteger")
"""How the names of operators on quantized numbers begin."""


class Piece:
    """An ONNX model on the CPU. The first run builds the session; runs from several threads take turns.

    Quantized pieces run node by node, as the reference does; float ones with ONNX Runtime's optimizations.
    """

    def __init__(self, model: bytes, name: str = "the CPU's piece of the model", threads: int = 1) -> None:
        """Raises ModelError when `model` is no ONNX file, or not whole. `threads` is what ONNX Runtime may use."""
        proto = parse_piece(model, name)
        model = proto.SerializeToString()
        self._model, self._name = model, name
        operators = operators_of(proto)
        optimize = not any(operator.startswith(QUANTIZED_TYPES) for operator in operators)
        self._engine = guarded_engine(model, operators, name, optimize=optimize, threads=threads)
        self._lock = threading.Lock()

    @property
    def keeps_state(self) -> bool:
        """Whether a run depends on those before it: no ONNX model's does."""
        return False

    def reset(self) -> None:
        """Nothing to do: a piece keeps no state."""

    def run(self, inputs: Sequence[ArrayLike]) -> list[NDArray[Any]]:
        """The outputs for one set of inputs, both by position, in the tensors' own shapes and dtypes.

        Raises ModelError for a model that ONNX Runtime refuses or dies of, DeviceError when the run fails.
        """
        with self._lock:
            return self._engine.run([np.asarray(value) for value in inputs])

    def tensors(self, inputs: Sequence[ArrayLike]) -> dict[str, NDArray[Any]]:
        """All tensors of one run by name, also those that do not leave the piece; slower than `run`. Raises as `run`
        does."""
        return Reference(self._model, self._name).tensors(inputs)
