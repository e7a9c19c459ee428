"""What quantization loses of one tensor, as a share: 0 is nothing, 1 is all.

The shares of many inputs are averaged, so that an input of large values counts no more than another, and one whose
tensor is lost altogether no more than its share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Loss: TypeAlias = Callable[[NDArray[Any], NDArray[Any]], float]
"""From found and expected values of one tensor, of one shape, to the share."""


def lost_power(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The errors' power beside that of the values: for what is summed up later."""
    real = expected.astype(np.float64)
    noise = float(np.square(found.astype(np.float64) - real).sum())
    signal = float(np.square(real).sum())
    return min(1.0, noise / signal) if signal > 0 else float(noise > 0)


def lost_values(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The mean error of an element beside the spread of half of them: for what stands for itself, as scores do.

    No element loses more than all, so that a few of very large values do not hide the others.
    """
    real = expected.astype(np.float64).reshape(-1)
    if not real.size:
        return 0.0
    low, high = np.percentile(real, (25, 75))
    errors = np.abs(found.astype(np.float64).reshape(-1) - real)
    spread = float(high - low) or float(np.abs(real).max())
    return float(np.minimum(1.0, errors / spread).mean()) if spread > 0 else float(errors.any())


def loss_of(stands_for_itself: bool) -> Loss:
    """The loss of a tensor behind the last layer with weights, or before it."""
    return lost_values if stands_for_itself else lost_power


class Mean:
    """The mean of the shares of many inputs."""

    def __init__(self) -> None:
        self._total, self._count = 0.0, 0

    def add(self, share: float) -> None:
        """Count one more input."""
        self._total += share
        self._count += 1

    @property
    def value(self) -> float:
        """0 without inputs."""
        return self._total / self._count if self._count else 0.0

    @property
    def decibels(self) -> float:
        """As a ratio of powers, infinite where nothing is lost."""
        return -10 * math.log10(self.value) if self.value else math.inf
