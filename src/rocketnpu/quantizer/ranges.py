"""What values the tensors of a float model take: the smallest and the largest of each channel, over many inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import ModelError

Tensors = Mapping[str, NDArray[Any]]
"""All tensors of one run by name."""


@dataclass(frozen=True, eq=False)
class Range:
    """Values of one tensor over all inputs: `low` and `high` are float32 (channels,), or (1,) below two dimensions."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def __or__(self, other: Range) -> Range:
        return Range(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def divided(self, divisors: NDArray[np.float32]) -> Range:
        """The range when channel c is divided by `divisors[c]`, which are positive."""
        return Range(self.low / divisors, self.high / divisors)

    @property
    def magnitude(self) -> NDArray[np.float32]:
        """Largest absolute value of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def bounds(self) -> tuple[np.float32, np.float32]:
        """Smallest and largest value of the whole tensor."""
        return self.low.min(), self.high.max()


def measure(runs: Iterable[Tensors], channel_axis: int, advance: Callable[[], None]) -> dict[str, Range]:
    """The range of every float32 tensor over all runs; `advance` is called after each.

    `channel_axis` is where tensors of two dimensions or more have their channels.
    Raises ModelError for a tensor that is not finite.
    """
    ranges: dict[str, Range] = {}
    for number, tensors in enumerate(runs):
        for name, values in tensors.items():
            if values.dtype != np.float32 or not values.size:
                continue
            found = _range(values, channel_axis)
            if not (np.isfinite(found.low).all() and np.isfinite(found.high).all()):
                raise ModelError(
                    f"tensor {name} has NaN or infinity for calibration input {number}: check the model and its inputs"
                )
            ranges[name] = ranges[name] | found if name in ranges else found
        advance()
    return ranges


def _range(values: NDArray[np.float32], channel_axis: int) -> Range:
    if values.ndim < 2:
        return Range(values.min(keepdims=True).reshape(1), values.max(keepdims=True).reshape(1))
    others = tuple(axis for axis in range(values.ndim) if axis != channel_axis % values.ndim)
    return Range(values.min(axis=others), values.max(axis=others))
