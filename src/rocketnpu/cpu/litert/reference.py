"""The reference for a model's meaning: every tensor as LiteRT's reference kernels compute it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import ArrayLike, NDArray

from rocketnpu.cpu.litert.engine import Runner
from rocketnpu.cpu.litert.inputs import check_inputs
from rocketnpu.cpu.litert.interpreter import CRASH, NO_KERNEL, Kernels
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_tflite


class Reference:
    """All tensors of a model for any number of inputs; the first run builds the interpreter, and runs take turns.

    A model that keeps state goes on from run to run. LiteRT has no reference kernels for some operators (ELU), and some
    end the process where the optimised ones do not (a SOFTMAX of a scale below 2^-26): such a model runs with the
    optimised kernels, and `note` says so.
    """

    def __init__(self, model: bytes, name: str = "the model", kernels: Kernels = "reference") -> None:
        """Raises ModelError for a malformed file. `kernels` other than the reference ones
        serve to look inside a piece that runs with them.
        """
        self.graph = load_tflite(model, name)
        self.note = ""
        self._kernels: Kernels = kernels
        self._runner = Runner(self.graph, kernels, keep_tensors=True)
        self._lock = threading.Lock()

    def tensors(self, inputs: Sequence[ArrayLike]) -> dict[str, NDArray[Any]]:
        """Graph inputs and the outputs of all operators of the first subgraph, by the frontend's names; those that hold
        no numbers (handles, strings) are left out.

        Raises ModelError for inputs that don't fit and when LiteRT refuses the model or dies of it, DeviceError when
        the run fails.
        """
        values = check_inputs([self.graph.tensors[name] for name in self.graph.inputs], inputs)
        with self._lock:
            try:
                return self._runner.tensors(values)
            except ModelError as error:
                note = _why_not_reference(str(error))
                if self._kernels != "reference" or not note:
                    raise
                self._fall_back(note)
                return self._runner.tensors(values)

    def stream(self, inputs: Sequence[ArrayLike]) -> Iterator[dict[str, NDArray[Any]]]:
        """What `tensors` returns, in one part: LiteRT computes a model as a whole. Raises as `tensors` does."""
        yield self.tensors(inputs)

    def _fall_back(self, note: str) -> None:
        """Take LiteRT's optimised kernels from now on."""
        self._kernels = "plain"
        self._runner = Runner(self.graph, "plain", keep_tensors=True)
        self.note = note


def _why_not_reference(error: str) -> str:
    """What an error says about the reference kernels in a sentence; empty if it may be about the model."""
    if NO_KERNEL in error:
        missing = error.partition(f"{NO_KERNEL} '")[2].partition("'")[0]
        return f"LiteRT has no reference kernel for {missing or 'an operator'}: compared with its optimised kernels"
    if error.startswith(CRASH):
        return "LiteRT's reference kernels crash on the model: compared with its optimised kernels"
    return ""
