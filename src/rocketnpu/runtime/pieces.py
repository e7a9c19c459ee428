"""Pieces of a model on the CPU, whatever runs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import ArrayLike, NDArray

from rocketnpu.cpu import litert
from rocketnpu.cpu import onnxruntime as ort
from rocketnpu.program.model import CpuStep


class Piece(Protocol):
    """Some operators of a model, built at the first run."""

    def run(self, inputs: Sequence[ArrayLike]) -> list[NDArray[Any]]:
        """The outputs of one run; inputs and outputs by position.

        Raises ModelError for a model that its runtime refuses, DeviceError when the run fails.
        """
        ...

    def tensors(self, inputs: Sequence[ArrayLike]) -> dict[str, NDArray[Any]]:
        """All tensors of one run by name, also those that do not leave the piece."""
        ...


def make_piece(step: CpuStep) -> Piece:
    """The piece of a step; ModelError for a malformed file."""
    return ort.Piece(step.model, step.name) if step.runtime == "onnxruntime" else litert.Piece(step.model, step.name)
