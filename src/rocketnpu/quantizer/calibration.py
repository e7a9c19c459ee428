"""From the values that a tensor takes to the range of its grid: the published methods.

min-max: all values.
percentile: all but the 0.01 % that are farthest out (ONNX Runtime's `CalibPercentile`).
entropy: the range whose int8 values have the distribution that is nearest to that of the real ones, by Kullback and
Leibler's measure (S. Migacz, "8-bit Inference with TensorRT", 2017), as ONNX Runtime's calibration finds it.
mse: the range with the smallest mean square error, the errors of values outside included (R. Banner et al.,
"Post-training 4-bit quantization of convolution networks for rapid-deployment", 2019). No library at hand has it for
activations.
"""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Literal, TypeAlias, get_args

import numpy as np

from rocketnpu.frontends.onnx.library import library
from rocketnpu.quantizer.histogram import Histogram

Method: TypeAlias = Literal["min-max", "percentile", "entropy", "mse"]

METHODS: tuple[Method, ...] = get_args(Method)

Bounds: TypeAlias = tuple[float, float]
"""Smallest and largest value of a grid."""

PERCENTILE = 99.99

ENTROPY_BINS, ENTROPY_STEPS = 256, 128
"""Of the histogram, and of the distribution that is compared with it. The search takes the square of it in time."""

PERCENTILE_BINS = 1 << 14

STEPS = 255
"""Of an int8 grid."""

FRACTIONS = np.geomspace(1.0, 1 / 64, 49)
"""Of the range of all values, what the search for the smallest square error tries: eight to an octave."""


def bounds_by(method: Method, histogram: Histogram, bounds: Bounds) -> Bounds:
    """The range that a method takes, inside `bounds`, which has all values."""
    match method:
        case "min-max":
            return bounds
        case "mse":
            found = _smallest_error(histogram, bounds)
        case _:
            found = _by_library(method, histogram, bounds)
    low, high = max(bounds[0], found[0]), min(bounds[1], found[1])
    return (low, high) if low < high else bounds


def _by_library(method: Method, histogram: Histogram, bounds: Bounds) -> Bounds:
    bins = ENTROPY_BINS if method == "entropy" else PERCENTILE_BINS
    counts, edges = histogram.uniform(bins)
    make = library("onnxruntime.quantization.calibrate").HistogramCollector
    collector = make(method, False, bins, ENTROPY_STEPS, PERCENTILE, "same")
    low, high = (np.float32(bound) for bound in bounds)
    collector.histogram_dict = {"": (counts, edges, low, high, edges[-1])}
    with redirect_stdout(io.StringIO()):
        found = collector.compute_collection_result()[""]
    return float(found[0]), float(found[1])


def _smallest_error(histogram: Histogram, bounds: Bounds) -> Bounds:
    """Of all ranges that come of shrinking `bounds` on either side."""
    middles, _, weights = histogram.values()
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    lows = low * FRACTIONS if low < 0 else np.zeros(1)
    highs = high * FRACTIONS if high > 0 else np.zeros(1)
    below = np.array([(weights * np.square(np.minimum(middles - bound, 0))).sum() for bound in lows])
    above = np.array([(weights * np.square(np.maximum(middles - bound, 0))).sum() for bound in highs])
    steps = (highs[None, :] - lows[:, None]) / STEPS
    errors = below[:, None] + above[None, :] + weights.sum() * np.square(steps) / 12
    first, second = np.unravel_index(int(errors.argmin()), errors.shape)
    return float(lows[first]), float(highs[second])
