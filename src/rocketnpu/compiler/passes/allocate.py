"""Where activations lie: one arena, planned by the lifetimes of the tensors.

1. A tensor lives from the step that writes it to the last step that reads it; aliases share one place.
2. Steps on the NPU that follow one another are submitted together, and the host touches memory only between
   submissions.
   A tensor that the host writes therefore lives from the start of that run of steps, one that it reads to its end.
3. Cores that work through a group of plans do not wait for each other (multicore/search.py): a tensor that one of
   these plans reads or writes lives from the group's first step to its last.
4. Larger tensors are placed first, each at the lowest offset where no tensor of overlapping lifetime lies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rocketnpu.hw.limits import TENSOR_ALIGNMENT_BYTES
from rocketnpu.hw.sizes import align

ACTIVATIONS = "activations"
"""Name of the arena's segment."""


@dataclass(frozen=True)
class Lifetime:
    """A buffer of `size_bytes` that is in use from step `first` to step `last`, both included."""

    name: str
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Arena:
    """Offsets in bytes by name, and the size of the whole."""

    offsets: Mapping[str, int]
    size_bytes: int


ORDERS: tuple[Callable[[Lifetime], tuple[float, ...]], ...] = (
    lambda item: (-item.size_bytes, item.first),
    lambda item: (-item.size_bytes * (item.last - item.first + 1), item.first),
    lambda item: (item.first - item.last, -item.size_bytes),
    lambda item: (item.first, -item.size_bytes),
)
"""In which order buffers get their places: large ones first; those that hold many bytes for long; the longest-lived;
as the model makes them."""


def allocate(buffers: Iterable[Lifetime], optimize: int = 1) -> Arena:
    """Place every buffer (rule 4); at the level 2 of `optimize` the smallest arena of all ORDERS wins."""
    listed = list(buffers)
    orders = ORDERS if optimize > 1 else ORDERS[:1]
    arenas = [_placed(sorted(sorted(listed, key=_name), key=order)) for order in orders]
    return min(arenas, key=lambda arena: arena.size_bytes)


def _name(item: Lifetime) -> str:
    return item.name


def _placed(buffers: Sequence[Lifetime]) -> Arena:
    """Each at the lowest offset that is free as long as it lives."""
    placed: list[tuple[int, int, Lifetime]] = []
    for buffer in buffers:
        size = align(buffer.size_bytes, TENSOR_ALIGNMENT_BYTES)
        start = 0
        for other_start, other_end, other in sorted(placed, key=lambda item: item[0]):
            overlaps_in_time = other.first <= buffer.last and buffer.first <= other.last
            if overlaps_in_time and other_start < start + size and start < other_end:
                start = other_end
        placed.append((start, start + size, buffer))
    return Arena({item.name: start for start, _, item in placed}, max((end for _, end, _ in placed), default=0))
