"""ONNX Runtime's session as one function of arrays, in this process where it is known to be safe, else in a child.

Some operators of ONNX Runtime crash the process on strange shapes and values. The allow-list names operators that were
tested with damaged models and survived. Every other model runs in a child process. The child costs a third of a second
once, and copies its tensors at each run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.cpu.onnxruntime.allowlist import is_allowed
from rocketnpu.errors import ModelError
from rocketnpu.frontends.onnx.session import build_session, run_session
from rocketnpu.sandbox import Guarded


class Engine:
    """A session, built at once; a run takes the model's inputs by position and returns its outputs."""

    def __init__(self, model: bytes, name: str, optimize: bool, threads: int, keeps_memory: bool = True) -> None:
        """`name` is what errors call the model, `keeps_memory` as for `build_session`.

        Raises ModelError with ONNX Runtime's reason when it refuses the model.
        """
        self._session: Any = build_session(model, optimize=optimize, threads=threads, keeps_memory=keeps_memory)
        self._name = name
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]

    def run(self, values: Sequence[Any]) -> list[NDArray[Any]]:
        """One run; ModelError for another number of inputs, DeviceError with ONNX Runtime's reason when it fails."""
        if len(values) != len(self._inputs):
            names = ", ".join(map(repr, self._inputs))
            raise ModelError(f"{self._name} needs an array for each of its inputs ({names}); given: {len(values)}")
        arrays = {name: np.asarray(value) for name, value in zip(self._inputs, values, strict=True)}
        return run_session(self._session, self._outputs, arrays)


def guarded_engine(model: bytes, operators: Sequence[str], name: str, *, optimize: bool, threads: int = 1) -> Guarded:
    """An `Engine` for a model of any origin; in a child process unless all its operators are on the allow-list.

    `operators` are named as in allowlist.py.
    """
    kinds = tuple(dict.fromkeys(operators))
    crash = f"ONNX Runtime crashes on the model's operators {', '.join(kinds)}"
    return Guarded(Engine, model, name, optimize, threads, safe=is_allowed(kinds), crash=crash)
