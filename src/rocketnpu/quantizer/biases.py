"""Bias correction: what rounding the weights adds to a convolution's results on average goes off its bias.

The errors of a channel's weights, each times the mean of what it is multiplied with, add up to a constant error of the
channel. (M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.2;
here with measured means. Padding, which has other means at an image's borders, is left out of account.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mean_error(
    errors: NDArray[np.float64], means: NDArray[np.float64], output_axis: int, input_axis: int
) -> NDArray[np.float64] | None:
    """The constant error of each output channel, float64 (outputs,); None where means and weights do not fit together.

    `errors`: quantized weights minus float ones; `means`: those of the channels that they read. Both axes are the same
    for depthwise weights. A flattened image has its channels' means again and again.
    """
    sums = errors.sum(axis=tuple(axis for axis in range(errors.ndim) if axis not in (output_axis, input_axis)))
    if sums.shape[-1] % means.size:
        return None
    if output_axis == input_axis:  # outputs of one input channel follow one another
        return sums * np.repeat(means, sums.size // means.size)
    by_output = sums if output_axis < input_axis else sums.T
    return by_output @ np.tile(means, by_output.shape[1] // means.size)
