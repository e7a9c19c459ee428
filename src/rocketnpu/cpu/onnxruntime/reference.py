"""The reference for an ONNX model's meaning: every tensor as ONNX Runtime computes it node by node."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocketnpu.cpu.onnxruntime.allowlist import operators_of
from rocketnpu.cpu.onnxruntime.engine import guarded_engine
from rocketnpu.frontends.onnx.library import library
from rocketnpu.frontends.onnx.parse import parse_piece


class Reference:
    """All tensors of a model for any number of inputs; runs take turns.

    Between DequantizeLinear and QuantizeLinear it is float. `note` is empty: ONNX Runtime has one set of kernels.
    """

    note = ""

    def __init__(self, model: bytes, name: str = "the model") -> None:
        """`model` is an ONNX file. Raises ModelError for a malformed one."""
        onnx = library("onnx")
        proto = parse_piece(model, name)
        constants = {tensor.name for tensor in proto.graph.initializer}
        self._inputs = [value.name for value in proto.graph.input if value.name not in constants]
        declared = {value.name for value in proto.graph.output}
        for node in proto.graph.node:
            # A declaration without a type asks ONNX Runtime to infer it.
            proto.graph.output.extend(
                onnx.ValueInfoProto(name=output) for output in node.output if output and output not in declared
            )
        self._outputs = [value.name for value in proto.graph.output]
        self._lock = threading.Lock()
        self._engine = guarded_engine(proto.SerializeToString(), operators_of(proto), name, optimize=False)

    def tensors(self, inputs: Sequence[ArrayLike]) -> dict[str, NDArray[Any]]:
        """Graph inputs, in the order of which `inputs` come, and the outputs of all nodes by name.

        Raises ModelError when the number of inputs differs, and when ONNX Runtime refuses the model or dies of it,
        DeviceError when the run fails.
        """
        values = [np.asarray(value) for value in inputs]
        with self._lock:
            found = self._engine.run(values)
        return dict(zip(self._inputs, values, strict=True)) | dict(zip(self._outputs, found, strict=True))
