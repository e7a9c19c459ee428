"""Sets of bytes as spans: int64 arrays of shape (n, 2), half-open, sorted, disjoint and not touching."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Spans = NDArray[np.int64]

EMPTY: Spans = np.empty((0, 2), np.int64)


def runs(starts: NDArray[np.int64], run_bytes: int) -> Spans:
    """The bytes of runs of one length, which may overlap."""
    if run_bytes <= 0 or not starts.size:
        return EMPTY
    starts = np.unique(starts)
    first = np.concatenate([[True], np.diff(starts) > run_bytes])
    last = np.concatenate([first[1:], [True]])
    return np.stack([starts[first], starts[last] + run_bytes], axis=1)


def union(parts: Iterable[Spans]) -> Spans:
    """All bytes of the parts."""
    spans = np.concatenate([EMPTY, *parts])
    if not len(spans):
        return EMPTY
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    ends = np.maximum.accumulate(spans[:, 1])
    first = np.concatenate([[True], spans[1:, 0] > ends[:-1]])
    last = np.concatenate([first[1:], [True]])
    return np.stack([spans[first, 0], ends[last]], axis=1)


def intersection(a: Spans, b: Spans) -> Spans:
    """The bytes in both."""
    if not len(a) or not len(b) or a[-1, 1] <= b[0, 0] or b[-1, 1] <= a[0, 0]:
        return EMPTY
    first = np.searchsorted(b[:, 1], a[:, 0], side="right")
    past = np.searchsorted(b[:, 0], a[:, 1], side="left")
    counts = np.maximum(past - first, 0)
    mine = np.repeat(np.arange(len(a)), counts)
    within = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts)
    other = first[mine] + within
    return np.stack([np.maximum(a[mine, 0], b[other, 0]), np.minimum(a[mine, 1], b[other, 1])], axis=1)


def difference(a: Spans, b: Spans) -> Spans:
    """The bytes of `a` that are not in `b`."""
    common = intersection(a, b)
    if not len(common):
        return a
    low, high = int(a[0, 0]), int(a[-1, 1])
    gaps = np.stack([np.concatenate([[low], common[:, 1]]), np.concatenate([common[:, 0], [high]])], axis=1)
    return intersection(a, gaps[gaps[:, 0] < gaps[:, 1]])


def size_bytes(spans: Spans) -> int:
    """How many bytes."""
    return int((spans[:, 1] - spans[:, 0]).sum())
