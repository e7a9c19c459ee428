"""The reference for a model's meaning: every tensor as LiteRT's reference kernels compute it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from rocketnpu.frontends import load_tflite
from rocketnpu.litert.inputs import check_inputs
from rocketnpu.litert.interpreter import Kernels, build_interpreter, run_interpreter


class Reference:
    """All tensors of a model for any number of inputs; the interpreter is built once and runs take turns."""

    def __init__(self, model: bytes, name: str = "the model", kernels: Kernels = "reference") -> None:
        """Raises ModelError for a malformed file, and when LiteRT refuses it. `kernels` other than the reference ones
        serve to look inside a piece that runs with them.
        """
        self.graph = load_tflite(model, name)
        self._lock = threading.Lock()
        self._interpreter = build_interpreter(model, kernels, keep_tensors=True)

    def tensors(self, inputs: Sequence[ArrayLike]) -> dict[str, NDArray[Any]]:
        """Graph inputs and the outputs of all operators of the first subgraph, by the frontend's names.

        Raises ModelError for inputs that don't fit, DeviceError when LiteRT fails.
        """
        graph = self.graph
        values = check_inputs([graph.tensors[name] for name in graph.inputs], inputs)
        produced = {*graph.inputs, *(name for operator in graph.operators for name in operator.outputs)}
        with self._lock:
            run_interpreter(self._interpreter, values)
            return {
                name: self._interpreter.get_tensor(index)
                for index, name in enumerate(graph.tensors)
                if name in produced
            }
