"""LiteRT's interpreter as one function of arrays, in this process where it is known to be safe, else in a child.

LiteRT does not check everything in a file: a reshape between types of other sizes, or an addition without scales, ends
the process. allowlist.py names the operators that survive damaged models. Every other model runs in a child process.
The child costs a third of a second once, and copies its tensors at each run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.cpu.litert.allowlist import is_allowed
from rocketnpu.cpu.litert.interpreter import (
    CRASH,
    Kernels,
    build_interpreter,
    read_tensor,
    resize_inputs,
    run_interpreter,
)
from rocketnpu.ir import Graph
from rocketnpu.sandbox import Guarded


class Engine:
    """An interpreter, built at once.

    A run takes two numbers in one array, then the model's inputs by position. The numbers are how often the model was
    reset, and 1 to return all of `tensors` or 0 for the model's outputs.
    """

    def __init__(
        self, model: bytes, kernels: Kernels, threads: int, tensors: Sequence[int] | None, is_static: bool
    ) -> None:
        """`tensors` are the indices of those that a run can return; None: only the model's outputs.

        `is_static`: the inputs have the shapes that the model states. Raises ModelError with LiteRT's reason when it
        refuses the model.
        """
        self._recipe = (model, kernels, tensors is not None, threads, is_static)
        self._tensors = tensors or ()
        self._is_static = is_static
        self._resets = 0
        self._interpreter = build_interpreter(*self._recipe)

    def run(self, values: Sequence[Any]) -> list[NDArray[Any]]:
        """Copies of the tensors after one run; raises DeviceError with LiteRT's reason when it fails."""
        (resets, everything), *inputs = values
        if resets != self._resets:
            self._interpreter = build_interpreter(*self._recipe)  # LiteRT resets variables, but not resources
            self._resets = resets
        if not self._is_static:
            resize_inputs(self._interpreter, inputs)
        run_interpreter(self._interpreter, inputs)
        tensors = self._tensors
        if not everything:
            tensors = [detail["index"] for detail in self._interpreter.get_output_details()]
        return [read_tensor(self._interpreter, index) for index in tensors]


class Runner:
    """A graph of any origin behind an `Engine`, in a child process unless all its operators are on the allow-list.

    Not safe in threads.
    """

    def __init__(self, graph: Graph, kernels: Kernels, threads: int = 1, *, keep_tensors: bool) -> None:
        """With `keep_tensors` a run can return all tensors that hold numbers: inputs, outputs, results of operators."""
        kinds = ", ".join(dict.fromkeys(operator.kind for operator in graph.operators))
        crash = f"{CRASH} {kinds}"
        made = {*graph.inputs, *graph.outputs, *(name for operator in graph.operators for name in operator.outputs)}
        kept = {
            name: index
            for index, (name, tensor) in enumerate(graph.tensors.items())
            if name in made and not tensor.dtype.hasobject  # reading a handle ends the process
        }
        self._names = tuple(kept) if keep_tensors else ()
        indices = tuple(kept.values()) if keep_tensors else None
        is_static = all(graph.tensors[name].has_static_shape for name in graph.inputs)
        recipe = (graph.model, kernels, threads, indices, is_static)
        self._engine = Guarded(Engine, *recipe, safe=is_allowed(graph), crash=crash)
        self._resets = 0

    def run(self, inputs: Sequence[Any]) -> list[NDArray[Any]]:
        """The model's outputs.

        Raises ModelError when LiteRT refuses the model or dies of it, DeviceError when the run fails.
        """
        return self._engine.run([np.array([self._resets, 0]), *inputs])

    def tensors(self, inputs: Sequence[Any]) -> dict[str, NDArray[Any]]:
        """All tensors by name; raises as `run` does."""
        return dict(zip(self._names, self._engine.run([np.array([self._resets, 1]), *inputs]), strict=True))

    def reset(self) -> None:
        """Let the next run begin with the state that the model starts from."""
        self._resets += 1
