"""The reference for an ONNX model's meaning: every tensor as ONNX Runtime computes it node by node."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocketnpu.cpu.onnxruntime.allowlist import is_allowed, operators_of
from rocketnpu.cpu.onnxruntime.segments import Segments, cut
from rocketnpu.errors import ModelError
from rocketnpu.frontends.onnx.library import refusal_is_model_error
from rocketnpu.frontends.onnx.parse import parse_piece
from rocketnpu.sandbox import Guarded


class Reference:
    """All tensors of a model for any number of inputs; runs take turns.

    Between DequantizeLinear and QuantizeLinear it is float. `note` is empty: ONNX Runtime has one set of kernels.
    """

    note = ""

    def __init__(self, model: bytes, name: str = "the model") -> None:
        """`model` is an ONNX file. Raises ModelError for a malformed one."""
        proto = parse_piece(model, name)
        constants = {tensor.name for tensor in proto.graph.initializer}
        self._name = name
        self._inputs = [value.name for value in proto.graph.input if value.name not in constants]
        with refusal_is_model_error(f"{name} is malformed"):
            self._segments = cut(proto)
        kinds = tuple(dict.fromkeys(operators_of(proto)))
        crash = f"ONNX Runtime crashes on the model's operators {', '.join(kinds)}"
        self._engine = Guarded(Segments, self._segments, name, safe=is_allowed(kinds), crash=crash)
        self._lock = threading.Lock()

    def tensors(self, inputs: Sequence[ArrayLike]) -> dict[str, NDArray[Any]]:
        """Graph inputs, in the order of which `inputs` come, and the outputs of all nodes by name.

        Raises ModelError when the number of inputs differs, and when ONNX Runtime refuses the model or dies of it,
        DeviceError when the run fails.
        """
        return {name: value for part in self.stream(inputs) for name, value in part.items()}

    def stream(self, inputs: Sequence[ArrayLike]) -> Iterator[dict[str, NDArray[Any]]]:
        """What `tensors` returns, part by part in the model's order. Raises as `tensors` does.

        Only the tensors that are still read are kept between two parts, so that the whole need not fit in memory.
        """
        if len(inputs) != len(self._inputs):
            names = ", ".join(map(repr, self._inputs))
            raise ModelError(f"{self._name} needs an array for each of its inputs ({names}); given: {len(inputs)}")
        readers = Counter(name for segment in self._segments for name in segment.inputs)
        kept = dict(zip(self._inputs, map(np.asarray, inputs), strict=True))
        yield dict(kept)
        for number, segment in enumerate(self._segments):
            with self._lock:
                found = self._engine.run([number, *(kept[name] for name in segment.inputs)])
            made = dict(zip(segment.outputs, found, strict=True))
            readers.subtract(segment.inputs)
            kept = {name: value for name, value in (kept | made).items() if readers[name] > 0}
            del found
            yield made
