"""A piece of an ONNX model that ONNX Runtime runs on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocketnpu.errors import ModelError
from rocketnpu.frontends.onnx_library import library, refusal_is_model_error
from rocketnpu.frontends.onnx_runtime import build_session, run_session
from rocketnpu.ort.reference import Reference

QUANTIZED_TYPES = ("QuantizeLinear", "DequantizeLinear", "QLinear", "QGemm", "ConvInteger", "MatMulInteger")
"""How the names of operators on quantized numbers begin."""


class Piece:
    """An ONNX model on the CPU. The session is built at the first run; runs from several threads take turns.

    Quantized pieces run node by node, as the reference does; float ones with ONNX Runtime's optimizations.
    """

    def __init__(self, model: bytes, name: str = "the CPU's piece of the model", threads: int = 1) -> None:
        """`threads` is what ONNX Runtime may use."""
        self._model, self._name, self._threads = model, name, threads
        self._lock = threading.Lock()
        self._session: Any = None

    def run(self, inputs: Sequence[ArrayLike]) -> list[NDArray[Any]]:
        """The outputs for one set of inputs, both by position, in the tensors' own shapes and dtypes.

        Raises ModelError for a model that ONNX Runtime refuses, DeviceError when the run fails.
        """
        with self._lock:
            if self._session is None:
                optimize = not _is_quantized(self._model, self._name)
                self._session = build_session(self._model, optimize=optimize, threads=self._threads)
            names = [value.name for value in self._session.get_inputs()]
            if len(inputs) != len(names):
                raise ModelError(f"{self._name} has {len(names)} inputs; {len(inputs)} were given")
            values = {name: np.asarray(value) for name, value in zip(names, inputs, strict=True)}
            return run_session(self._session, [value.name for value in self._session.get_outputs()], values)

    def tensors(self, inputs: Sequence[ArrayLike]) -> dict[str, NDArray[Any]]:
        """All tensors of one run by name, also those that do not leave the piece; slower than `run`. Raises as `run`
        does."""
        return Reference(self._model, self._name).tensors(inputs)


def _is_quantized(model: bytes, name: str) -> bool:
    proto = library("onnx").ModelProto()
    with refusal_is_model_error(f"{name} is not an ONNX model"):
        proto.ParseFromString(model)
    return any(node.op_type.startswith(QUANTIZED_TYPES) for node in proto.graph.node)
