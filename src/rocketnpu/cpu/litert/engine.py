"""LiteRT's interpreter as one function of arrays, in this process where it is known to be safe, else in a child.

LiteRT does not check everything in a file: a reshape between types of other sizes, or an addition without scales, ends
the process. allowlist.py names the operators that survive damaged models. Every other model runs in a child process.
The child costs a third of a second once, and copies its tensors at each run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from rocketnpu.cpu.litert.allowlist import is_allowed
from rocketnpu.cpu.litert.interpreter import Kernels, build_interpreter, run_interpreter
from rocketnpu.ir import Graph
from rocketnpu.sandbox import Guarded


class Engine:
    """An interpreter, built at once; a run takes the model's inputs by position."""

    def __init__(self, model: bytes, kernels: Kernels, threads: int, tensors: Sequence[int] | None) -> None:
        """`tensors` are the indices of those that a run returns; None: the model's outputs.

        Raises ModelError with LiteRT's reason when it refuses the model.
        """
        self._interpreter = build_interpreter(model, kernels, keep_tensors=tensors is not None, threads=threads)
        self._tensors = tensors

    def run(self, values: Sequence[Any]) -> list[NDArray[Any]]:
        """Copies of the tensors after one run; raises DeviceError with LiteRT's reason when it fails."""
        run_interpreter(self._interpreter, values)
        tensors = self._tensors
        if tensors is None:
            tensors = [detail["index"] for detail in self._interpreter.get_output_details()]
        return [self._interpreter.get_tensor(index) for index in tensors]


def guarded_engine(graph: Graph, kernels: Kernels, threads: int = 1, tensors: Sequence[int] | None = None) -> Guarded:
    """An `Engine` for a graph of any origin; in a child process unless all its operators are on the allow-list."""
    kinds = ", ".join(dict.fromkeys(operator.kind for operator in graph.operators))
    crash = f"LiteRT crashes on the model's operators {kinds}"
    return Guarded(Engine, graph.model, kernels, threads, tensors, safe=is_allowed(graph), crash=crash)
