"""The reference for an ONNX model's meaning: every tensor as ONNX Runtime computes it node by node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocketnpu.errors import ModelError
from rocketnpu.frontends.onnx_library import library, refusal_is_model_error
from rocketnpu.frontends.onnx_runtime import build_session, run_session


class Reference:
    """All tensors of a model for any number of inputs. Between DequantizeLinear and QuantizeLinear it is float."""

    def __init__(self, model: bytes, name: str = "the model") -> None:
        """`model` is an ONNX file. Raises ModelError for a malformed one, and when ONNX Runtime refuses it."""
        onnx = library("onnx")
        proto = onnx.ModelProto()
        with refusal_is_model_error(f"{name} is not an ONNX model"):
            proto.ParseFromString(model)
        constants = {tensor.name for tensor in proto.graph.initializer}
        self._inputs = [value.name for value in proto.graph.input if value.name not in constants]
        declared = {value.name for value in proto.graph.output}
        for node in proto.graph.node:
            # A declaration without a type asks ONNX Runtime to infer it.
            proto.graph.output.extend(
                onnx.ValueInfoProto(name=output) for output in node.output if output and output not in declared
            )
        self._outputs = [value.name for value in proto.graph.output]
        self._session: Any = build_session(proto.SerializeToString(), optimize=False)

    def tensors(self, inputs: Sequence[ArrayLike]) -> dict[str, NDArray[Any]]:
        """Graph inputs, in the order of which `inputs` come, and the outputs of all nodes by name.

        Raises ModelError when the number of inputs differs, DeviceError when ONNX Runtime fails.
        """
        if len(inputs) != len(self._inputs):
            raise ModelError(f"the model has {len(self._inputs)} inputs; {len(inputs)} were given")
        values = {name: np.asarray(value) for name, value in zip(self._inputs, inputs, strict=True)}
        found = run_session(self._session, self._outputs, values)
        return values | dict(zip(self._outputs, found, strict=True))
