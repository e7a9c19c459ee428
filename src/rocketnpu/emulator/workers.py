"""Parallel blocks of one task: a few threads, each with buffers that it keeps (numpy releases the GIL)."""

from __future__ import annotations

import importlib
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array: TypeAlias = NDArray[Any]
Item = TypeVar("Item")

_threadpoolctl: Any = importlib.import_module("threadpoolctl")


_ROW_ELEMENTS = 512
"""Rows of about this length, since numpy is slow on short ones."""


class Workspace:
    """Named scratch buffers of one thread: `take` hands out the same memory again and again."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
        """An uninitialised array; its contents last until the name is taken again."""
        kind: np.dtype[Any] = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            buffer = self._buffers[name] = np.zeros(size, np.uint8)
        return np.ndarray(shape, kind, buffer.data)


class Workers:
    """Runs the blocks of a task on all processors this process may use; the calling thread takes part."""

    def __init__(self) -> None:
        self.count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._workspaces = [Workspace() for _ in range(self.count)]
        self._pool: ThreadPoolExecutor | None = None
        self._libraries: Any = _threadpoolctl.ThreadpoolController()

    def alone(self) -> AbstractContextManager[Any]:
        """While this lasts, BLAS starts no threads of its own: its and ours would fight for the same processors."""
        return self._libraries.limit(limits=1, user_api="blas")

    def run(self, items: Sequence[Item], work: Callable[[Item, Workspace], None]) -> None:
        """Call `work` once for each item, in any order; the first exception is raised when all have stopped."""
        queue = iter(items)
        lock = threading.Lock()
        helpers = min(self.count, len(items)) - 1
        if helpers <= 0:
            _drain(queue, lock, work, self._workspaces[0])
            return
        futures = [
            future
            for workspace in self._workspaces[1 : helpers + 1]
            if (future := self._submit(queue, lock, work, workspace)) is not None
        ]
        try:
            _drain(queue, lock, work, self._workspaces[0])
        finally:
            for future in futures:
                future.result()

    def _submit(
        self, queue: Iterator[Item], lock: threading.Lock, work: Callable[[Item, Workspace], None], workspace: Workspace
    ) -> Future[None] | None:
        """Give work to a further thread; None when the interpreter is on its way out and starts none."""
        try:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.count - 1, "rocketnpu-emulator")
            return self._pool.submit(_drain, queue, lock, work, workspace)
        except RuntimeError:
            return None


def _drain(
    queue: Iterator[Item], lock: threading.Lock, work: Callable[[Item, Workspace], None], workspace: Workspace
) -> None:
    while True:
        with lock:
            item = next(queue, None)
        if item is None:
            return
        work(item, workspace)


def pixels_per_row(pixels: int, channels: int) -> int:
    """How many pixels to treat as one row, with repeated channel operands: a power of two that divides their number."""
    group = 1
    while group * channels < _ROW_ELEMENTS and pixels % (2 * group) == 0:
        group *= 2
    return group
