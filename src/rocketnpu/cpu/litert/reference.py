"""The reference for a model's meaning: every tensor as LiteRT's reference kernels compute it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from rocketnpu.cpu.litert.engine import guarded_engine
from rocketnpu.cpu.litert.inputs import check_inputs
from rocketnpu.cpu.litert.interpreter import Kernels
from rocketnpu.frontends import load_tflite


class Reference:
    """All tensors of a model for any number of inputs; the first run builds the interpreter, and runs take turns."""

    def __init__(self, model: bytes, name: str = "the model", kernels: Kernels = "reference") -> None:
        """Raises ModelError for a malformed file. `kernels` other than the reference ones
        serve to look inside a piece that runs with them.
        """
        self.graph = load_tflite(model, name)
        graph = self.graph
        produced = {*graph.inputs, *(name for operator in graph.operators for name in operator.outputs)}
        self._indices = {name: index for index, name in enumerate(graph.tensors) if name in produced}
        self._engine = guarded_engine(graph, kernels, tensors=tuple(self._indices.values()))
        self._lock = threading.Lock()

    def tensors(self, inputs: Sequence[ArrayLike]) -> dict[str, NDArray[Any]]:
        """Graph inputs and the outputs of all operators of the first subgraph, by the frontend's names.

        Raises ModelError for inputs that don't fit and when LiteRT refuses the model or dies of it, DeviceError when
        the run fails.
        """
        values = check_inputs([self.graph.tensors[name] for name in self.graph.inputs], inputs)
        with self._lock:
            return dict(zip(self._indices, self._engine.run(values), strict=True))
