"""Biases of quantized TFLite models: corrected (biases.py), and saved where LiteRT's quantizer cuts them off.

A bias is int32 in steps of (scale of the data times scale of the channel's weights). Where the weights are all but 0,
as in dead or pruned channels, the steps are so small that the bias does not fit; the quantizer saturates it, and the
channel is lost. Here its weights get a larger scale, in which they are 0, as they are beside such a bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rocketnpu.quantizer.biases import mean_error
from rocketnpu.quantizer.ranges import Range
from rocketnpu.quantizer.tflite.model import QUANTIZED, TfliteModel


@dataclass(frozen=True)
class Layer:
    """Places of data, weights and bias among an operator's inputs, and of channels among the weights' dimensions."""

    data: int
    weights: int
    bias: int
    output_axis: int
    input_axis: int


LAYERS = {
    "CONV_2D": Layer(0, 1, 2, 0, 3),
    "DEPTHWISE_CONV_2D": Layer(0, 1, 2, 3, 3),
    "FULLY_CONNECTED": Layer(0, 1, 2, 0, 1),
    "TRANSPOSE_CONV": Layer(2, 1, 3, 0, 3),
}

LARGEST_BIAS = 1 << 30
"""Half of what int32 holds: the rest is for the sums of products, and for the zero point that the NPU adds to it."""


def correct_biases(model: TfliteModel, source: TfliteModel, ranges: Mapping[str, Range]) -> None:
    """Change biases of a quantized model, and scales of weights where a bias does not fit.

    `source` is the float model, with the same names of constants; `ranges` are those of its tensors.
    """
    found: list[tuple[Layer, str, str, str, float]] = []
    for operator in model.operators:
        kind, operands = model.kind(operator), model.inputs(operator)
        if kind not in LAYERS or len(operands) <= LAYERS[kind].bias:
            continue
        layer = LAYERS[kind]
        data, weights, bias = (operands[place] for place in (layer.data, layer.weights, layer.bias))
        if data is None or weights is None or bias is None or not {weights, bias} <= source.places.keys():
            continue
        grid, real, wanted = model.grid(data), source.constant(weights), source.constant(bias)
        if grid is None or real is None or wanted is None or model.constant(bias, np.int32) is None:
            continue
        _make_room(model, weights, np.abs(wanted) / (grid[0] * LARGEST_BIAS))
        found.append((layer, data, weights, bias, grid[0]))
    # Scales of weights are what they stay: layers may share weights.
    for layer, data, weights, bias, scale in found:
        real, wanted = source.constant(weights), source.constant(bias)
        assert real is not None and wanted is not None  # noqa: PT018 - as above
        range_ = ranges.get(data.removesuffix(QUANTIZED))
        if range_ is not None:
            error = mean_error(_real_weights(model, weights) - real, range_.mean, layer.output_axis, layer.input_axis)
            wanted = wanted if error is None else wanted - error
        _set_bias(model, bias, wanted, scale * _scales(model, weights))


def _scales(model: TfliteModel, name: str) -> NDArray[np.float32]:
    return np.array(model.tensor(name).quantization.scale, np.float32)


def _along(model: TfliteModel, name: str) -> tuple[int, ...]:
    """The shape in which a constant's scales broadcast to it."""
    quantization, rank = model.tensor(name).quantization, len(model.tensor(name).shape)
    axis = quantization.quantizedDimension if len(quantization.scale) > 1 else 0
    return tuple(-1 if dimension == axis else 1 for dimension in range(rank))


def _real_weights(model: TfliteModel, name: str) -> NDArray[np.float64]:
    steps = model.constant(name, np.int8)
    assert steps is not None  # beside an int32 bias
    return steps.astype(np.float64) * _scales(model, name).reshape(_along(model, name))


def _make_room(model: TfliteModel, weights: str, needed: NDArray[np.float64]) -> None:
    """Let the scales of weights be at least `needed`, of one value for each output channel."""
    scales = _scales(model, weights)
    larger = np.maximum(scales, needed if scales.size > 1 else needed.max()).astype(np.float32)
    if (larger > scales).any():
        steps = _real_weights(model, weights) / larger.reshape(_along(model, weights))
        model.set_constant(weights, np.round(steps).astype(np.int8))
        model.tensor(weights).quantization.scale = larger


def _set_bias(model: TfliteModel, bias: str, real: NDArray[np.float64], scales: NDArray[np.float32]) -> None:
    model.set_constant(bias, np.round(real / scales).astype(np.int32))
    model.tensor(bias).quantization.scale = scales
