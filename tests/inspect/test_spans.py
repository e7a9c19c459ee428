"""Spans are sets of bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rocketnpu.inspect.spans import Spans, difference, intersection, runs, size_bytes, union

PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 6)), max_size=8)


def spans_of(pairs: list[tuple[int, int]]) -> Spans:
    return union(np.array([[start, start + size]], np.int64) for start, size in pairs)


def bytes_of(spans: Spans) -> set[int]:
    assert (np.diff(spans.reshape(-1)) > 0).all(), spans
    return {byte for start, end in spans.tolist() for byte in range(start, end)}


@given(PAIRS, PAIRS)
def test_spans_behave_like_sets(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> None:
    left, right = spans_of(a), spans_of(b)
    assert bytes_of(left) == {byte for start, size in a for byte in range(start, start + size)}
    assert bytes_of(intersection(left, right)) == bytes_of(left) & bytes_of(right)
    assert bytes_of(difference(left, right)) == bytes_of(left) - bytes_of(right)
    assert size_bytes(left) == len(bytes_of(left))


@given(st.lists(st.integers(-20, 40), max_size=8), st.integers(0, 9))
def test_runs_cover_what_each_of_them_covers(starts: list[int], size: int) -> None:
    assert bytes_of(runs(np.array(starts, np.int64), size)) == {
        byte for start in starts for byte in range(start, start + size)
    }
