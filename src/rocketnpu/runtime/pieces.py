"""Pieces of a model on the CPU, whatever runs them, and the state that some keep from frame to frame.

1. A piece that keeps state serves all frames of a session: there is one of it. Each lane has the others to itself.
2. Frames run such a piece in the order in which they were started, also where several are under way.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from numpy.typing import ArrayLike, NDArray

from rocketnpu.cpu import litert
from rocketnpu.cpu import onnxruntime as ort
from rocketnpu.errors import ModelError
from rocketnpu.ir import fits_shape
from rocketnpu.program.model import CpuStep, Step, TensorEntry


class Piece(Protocol):
    """Some operators of a model, built at the first run."""

    @property
    def keeps_state(self) -> bool:
        """Whether a run depends on those before it."""
        ...

    def run(self, inputs: Sequence[ArrayLike]) -> list[NDArray[Any]]:
        """The outputs of one run; inputs and outputs by position.

        Raises ModelError for a model that its runtime refuses, DeviceError when the run fails.
        """
        ...

    def tensors(self, inputs: Sequence[ArrayLike]) -> dict[str, NDArray[Any]]:
        """All tensors of one run by name, also those that do not leave the piece."""
        ...

    def reset(self) -> None:
        """Let the next run begin with the state that the model starts from."""
        ...


def make_piece(step: CpuStep) -> Piece:
    """The piece of a step; ModelError for a malformed file."""
    return ort.Piece(step.model, step.name) if step.runtime == "onnxruntime" else litert.Piece(step.model, step.name)


def made_inside(step: Step) -> set[str]:
    """Tensors that a piece on the CPU makes, those that do not leave it included."""
    return {operator.name for operator in step.operators} if isinstance(step, CpuStep) else set()


def run_piece(
    piece: Piece,
    step: CpuStep,
    values: Mapping[str, NDArray[Any]],
    inner: Collection[str],
    entries: Mapping[str, TensorEntry],
) -> dict[str, NDArray[Any]]:
    """The outputs of a step on the CPU, and the tensors of `inner` that do not leave it.

    Raises ModelError for outputs that are not as the program's table of tensors, `entries`, says.
    """
    given = [values[name] for name in step.inputs]
    inside = [name for name in inner if name in made_inside(step)]
    if inside:
        found = piece.tensors(given)
        return {name: found[name] for name in (*step.outputs, *inside)}
    results = piece.run(given)
    if len(results) != len(step.outputs):
        raise ModelError(f"step {step.name!r} has {len(step.outputs)} outputs, its piece of a model {len(results)}")
    for name, result in zip(step.outputs, results, strict=True):
        entry = entries[name]
        if result.dtype.name != entry.dtype or not fits_shape(result.shape, entry.shape):
            raise ModelError(
                f"step {step.name!r} makes {name!r} as {result.dtype} of shape {result.shape}, but the program says "
                f"{entry.dtype} of shape {entry.shape}"
            )
    return dict(zip(step.outputs, results, strict=True))


class StatefulPieces:
    """The pieces of rule 1 that keep state, by step, and the order of the frames that run them. Safe in threads."""

    def __init__(self) -> None:
        self._pieces: dict[str, Piece] = {}
        self._making = threading.Lock()
        self._started = 0
        self._under_way: dict[int, set[str]] = {}
        self._changed = threading.Condition()

    def piece(self, step: CpuStep, own: dict[str, Piece]) -> Piece:
        """The piece of a step: a shared one if it keeps state, else one in `own`, the lane's; made where missing.

        Raises ModelError for a malformed file.
        """
        if step.name in own:
            return own[step.name]
        with self._making:
            if step.name not in self._pieces:
                piece = make_piece(step)
                (self._pieces if piece.keeps_state else own)[step.name] = piece
                return piece
            return self._pieces[step.name]

    def begin(self) -> int:
        """Number a frame that starts now; to be given to `end`."""
        with self._changed:
            self._started += 1
            self._under_way[self._started] = set()
            return self._started

    def end(self, frame: int) -> None:
        """The frame has ended, well or not."""
        with self._changed:
            del self._under_way[frame]
            self._changed.notify_all()

    @contextmanager
    def turn(self, frame: int, step: str) -> Generator[None]:
        """Wait until the frames before this one have passed a step (rule 2), then let this one pass it."""
        with self._changed:
            while any(other < frame and step not in passed for other, passed in self._under_way.items()):
                self._changed.wait()
        yield
        with self._changed:
            self._under_way[frame].add(step)
            self._changed.notify_all()

    def reset(self, steps: Sequence[str]) -> None:
        """Let frames that start from now on begin with the state that the model starts from.

        `steps` names all steps on the CPU. Waits for the frames under way to pass them.
        """
        frame = self.begin()
        try:
            for step in steps:
                with self.turn(frame, step):
                    if step in self._pieces:
                        self._pieces[step].reset()
        finally:
            self.end(frame)
