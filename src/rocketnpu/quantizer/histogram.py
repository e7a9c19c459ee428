"""How often values occur, in bins that need no range in advance: those of float32's sign, exponent and first bits.

A bin is 1/16 of an octave wide, whatever the values' size, so that outliers cost no resolution where the others are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FRACTION_BITS = 4
"""Of a bin's 23."""

BINS = 1 << (1 + 8 + FRACTION_BITS)

MOST_VALUES = 1 << 16
"""Of one tensor and one input. More are thinned out evenly: a histogram has less noise than what is read from it."""


def _edges() -> NDArray[np.float64]:
    """Lower and upper end of each bin, by the value of its bits, float64 (BINS, 2), finite."""
    first = np.arange(BINS, dtype=np.uint32) << (23 - FRACTION_BITS)
    last = first + ((1 << (23 - FRACTION_BITS)) - 1)
    with np.errstate(invalid="ignore"):
        inner, outer = (codes.view(np.float32).astype(np.float64) for codes in (first, last))
    limit = float(np.finfo(np.float32).max)
    pair = np.nan_to_num(np.stack([inner, outer], axis=1), nan=limit, posinf=limit, neginf=-limit)
    return np.sort(pair, axis=1)


EDGES = _edges()

ORDER = np.argsort(EDGES.mean(axis=1), kind="stable")
"""Bins from the lowest values to the highest."""


@dataclass
class Histogram:
    """Of one tensor over many inputs. `counts` and `weights` are float64 (BINS,).

    In `weights` a value counts less where its input's values are large: each input has the same power in it.
    """

    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the finite values of one input's tensor."""
        flat = np.ascontiguousarray(values).reshape(-1)
        flat = flat[:: -(-flat.size // MOST_VALUES) | 1]  # an odd step does not stay in a few channels
        found = np.bincount(flat.view(np.uint32) >> (23 - FRACTION_BITS), minlength=BINS)
        power = float(np.square(flat, dtype=np.float64).sum())
        self.counts += found
        if power > 0:
            self.weights += found / power

    def values(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """The middles of the bins that hold values, from the lowest on, their counts and their weights."""
        used = ORDER[self.counts[ORDER] > 0]
        return EDGES[used].mean(axis=1), self.counts[used], self.weights[used]

    def uniform(self, bins: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The counts in bins of one width between minus and plus the largest magnitude, and their edges."""
        middles, counts, _ = self.values()
        limit = float(np.abs(middles).max(initial=0.0)) or 1.0
        found, edges = np.histogram(middles, bins, range=(-limit, limit), weights=counts)
        return np.round(found).astype(np.int64), edges.astype(np.float32)
