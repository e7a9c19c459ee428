"""Cross-layer equalization: a tensor between two convolutions gets channels that fill its one int8 grid alike.

A channel of the tensor may be divided by any positive factor if the weights that make it are divided, and the weights
that read it multiplied by it: nothing changes in real numbers, through a ReLU neither. With one scale for all channels,
a channel of small values else has few steps left. (M. Nagel et al., "Data-Free Quantization Through Weight Equalization
and Bias Correction", 2019, section 4.1; here with measured ranges of the tensor instead of those of the weights.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST_FACTOR = 1000.0
"""Beyond this a channel is as good as dead, and its weights would come near the ends of float32's precision."""


def factors(magnitude: NDArray[np.float32], weights: NDArray[np.float32], *, own_scales: bool) -> NDArray[np.float32]:
    """What to divide each channel of a tensor by; float32 (channels,), 1 for channels that are always 0 or not read.

    `magnitude` is the largest absolute value of each channel, `weights` that of the weights that read it.
    `own_scales`: the reader has a scale for each of these channels (depthwise), so that only the tensor's range counts;
    else its weights lose as much precision as the tensor gains, and the factor is the geometric mean of both wishes.
    """
    alive = (magnitude > 0) & (weights > 0)
    if not alive.any():
        return np.ones_like(magnitude)
    wished = magnitude.astype(np.float64) if own_scales else np.sqrt(magnitude / np.where(alive, weights, 1.0))
    logarithm = np.log(np.where(alive, wished, 1.0))
    logarithm -= logarithm[alive].mean()
    limit = np.log(LARGEST_FACTOR)
    return np.where(alive, np.exp(np.clip(logarithm, -limit, limit)), 1.0).astype(np.float32)
