"""Tensors that come part by part, and are forgotten as soon as nobody needs them any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Tensors: TypeAlias = Mapping[str, Array]

Stream: TypeAlias = Iterator[Tensors]
"""All tensors of one run in the model's order, some at a time."""

Run: TypeAlias = Callable[[Sequence[Array]], list[Array]]
"""One operator, from its variable operands to its results."""


class Held:
    """The tensors of a stream by name. Each is kept until it has been taken as often as `uses` says."""

    def __init__(self, stream: Stream, uses: Counter[str]) -> None:
        self._stream = stream
        self._uses = Counter(uses)
        self._kept: dict[str, Array] = {}

    def take(self, name: str) -> Array:
        """One tensor; the stream goes on until it is there. KeyError when it ends before."""
        while name not in self._kept:
            part = next(self._stream, None)
            if part is None:
                raise KeyError(name)
            self._kept.update((other, value) for other, value in part.items() if self._uses[other] > 0)
        value = self._kept[name]
        self._uses[name] -= 1
        if self._uses[name] <= 0:
            del self._kept[name]
        return value


def flat(stream: Iterable[Tensors]) -> Iterator[tuple[str, Array]]:
    """The tensors of a stream one by one."""
    for part in stream:
        yield from part.items()
