"""A piece of a model that LiteRT runs on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from rocketnpu.cpu.litert.engine import Runner
from rocketnpu.cpu.litert.inputs import check_inputs
from rocketnpu.cpu.litert.interpreter import Kernels
from rocketnpu.cpu.litert.reference import Reference
from rocketnpu.frontends import load_tflite
from rocketnpu.frontends.tflite.opaque import STATEFUL
from rocketnpu.ir import Graph, Tensor


class Piece:
    """A TFLite model on the CPU. The first run builds the interpreter; runs from several threads take turns.

    Quantized pieces run without XNNPACK, whose rounding differs from TFLite's reference kernels; float ones with it.
    """

    def __init__(
        self, model: bytes, name: str = "the CPU's piece of the model", threads: int = 1, *, is_whole: bool = False
    ) -> None:
        """Checks the file; raises ModelError as `load_tflite` does. `threads` is what LiteRT may use.

        In a piece, sizes of inputs that the file leaves open are whatever a run gives; in a whole model they are those
        that the file states.
        """
        self._graph: Graph = load_tflite(model, name, open_inputs=not is_whole)
        self._runner = Runner(self._graph, _kernels(self._graph), threads, keep_tensors=self.keeps_state)
        self._lock = threading.Lock()

    @property
    def keeps_state(self) -> bool:
        """Whether a run depends on those before it."""
        return any(operator.shares or operator.kind in STATEFUL for operator in self._graph.operators)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What `run` takes, in its order."""
        return tuple(self._graph.tensors[name] for name in self._graph.inputs)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What `run` gives, in its order."""
        return tuple(self._graph.tensors[name] for name in self._graph.outputs)

    def run(self, inputs: Sequence[ArrayLike]) -> list[NDArray[Any]]:
        """The outputs for one set of inputs, both by position, in the tensors' own shapes and dtypes.

        Raises ModelError for inputs that don't fit or a model that LiteRT refuses or dies of, DeviceError when the run
        fails.
        """
        values = check_inputs(self.inputs, inputs)
        with self._lock:
            return self._runner.run(values)

    def tensors(self, inputs: Sequence[ArrayLike]) -> dict[str, NDArray[Any]]:
        """All tensors of one run by name, also those that do not leave the piece; slower than `run`. Raises as `run`
        does."""
        if self.keeps_state:
            values = check_inputs(self.inputs, inputs)
            with self._lock:
                return self._runner.tensors(values)
        return Reference(self._graph.model, kernels=_kernels(self._graph)).tensors(inputs)

    def reset(self) -> None:
        """Let the next run begin with the state that the model starts from."""
        with self._lock:
            self._runner.reset()


def _kernels(graph: Graph) -> Kernels:
    """XNNPACK only for float pieces with inputs: it fails to run pieces that do nothing but unpack constants."""
    quantized = any(tensor.quantization is not None for tensor in graph.tensors.values())
    return "plain" if quantized or not graph.inputs else "fast"
