"""What values the tensors of a float model take: the range and the mean of each channel, over many inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import ModelError
from rocketnpu.quantizer.streams import Stream, Tensors, flat


@dataclass(frozen=True, eq=False)
class Range:
    """Values of one tensor over all inputs, channel by channel: arrays (channels,), or (1,) below two dimensions.

    `low` and `high` are float32, `total` float64 the sum over `count` means, one of each input.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    total: NDArray[np.float64]
    count: int = 1

    def __or__(self, other: Range) -> Range:
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        return Range(low, high, self.total + other.total, self.count + other.count)

    def divided(self, divisors: NDArray[np.float32]) -> Range:
        """The range when channel c is divided by `divisors[c]`, which are positive."""
        return Range(self.low / divisors, self.high / divisors, self.total / divisors, self.count)

    def clipped(self, low: float, high: float) -> Range:
        """The range of values that are limited to `low` .. `high`. Their mean is taken to stay."""
        lows, highs = (np.clip(bound, np.float32(low), np.float32(high)) for bound in (self.low, self.high))
        return Range(lows, highs, self.total, self.count)

    @property
    def magnitude(self) -> NDArray[np.float32]:
        """Largest absolute value of each channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of each channel."""
        return self.total / self.count

    @property
    def bounds(self) -> tuple[np.float32, np.float32]:
        """Smallest and largest value of the whole tensor."""
        return self.low.min(), self.high.max()

    @property
    def width(self) -> float:
        """Of the whole tensor's range, with 0 in it, as a grid has it."""
        low, high = self.bounds
        return max(float(high), 0.0) - min(float(low), 0.0)


def measure(runs: Iterable[Tensors | Stream], channel_axis: int, advance: Callable[[], None]) -> dict[str, Range]:
    """The range of every float32 tensor over all runs; `advance` is called after each.

    `channel_axis` is where tensors of two dimensions or more have their channels.
    Raises ModelError for a tensor that is not finite.
    """
    ranges: dict[str, Range] = {}
    for number, run in enumerate(runs):
        for name, values in flat([run] if isinstance(run, Mapping) else run):
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
    array = values.reshape(-1, 1) if values.ndim < 2 else values
    others = tuple(axis for axis in range(array.ndim) if axis != channel_axis % array.ndim)
    return Range(array.min(axis=others), array.max(axis=others), array.mean(axis=others, dtype=np.float64))
