"""Equalization of a float TFLite file: which tensors lie between two convolutions, and where their channels are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from rocketnpu.frontends.flatbuffer import schema
from rocketnpu.quantizer.equalize import factors
from rocketnpu.quantizer.ranges import Range
from rocketnpu.quantizer.tflite_model import TfliteModel

OUTPUT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""Where the weights have the channels that the operator makes (schema.fbs has no word on it; TFLite's kernels do)."""

INPUT_AXIS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 1}
"""Where they have the channels that it reads; a depthwise one with a multiplier has more than its input."""


def equalize(data: bytes, ranges: Mapping[str, Range]) -> tuple[bytes, dict[str, Range]]:
    """The same function in other weights, and the ranges of its tensors; `data` is a repaired file."""
    model = TfliteModel(data)
    changed = dict(ranges)
    readers = Counter(name for operator in model.operators for name in model.inputs(operator) if name is not None)
    readers.update(model.results)
    makers: dict[str, Any] = {name: operator for operator in model.operators for name in model.outputs(operator)}
    for reader in model.operators:
        source = model.inputs(reader)[0] if model.kind(reader) in INPUT_AXIS else None
        maker = makers.get(source) if source is not None else None
        if source is None or maker is None or readers[source] != 1 or source not in ranges or not _scales(model, maker):
            continue
        if any(readers[name] != 1 for name in (_weights(model, maker), _weights(model, reader), _bias(model, maker))):
            continue
        range_ = _equalize(model, maker, reader, ranges[source])
        if range_ is not None:
            changed[source] = range_
    return model.build(), changed


def _scales(model: TfliteModel, maker: Any) -> bool:
    """Whether the operator's results scale with its weights."""
    free = (schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU)
    return model.kind(maker) in OUTPUT_AXIS and maker.builtinOptions.fusedActivationFunction in free


def _weights(model: TfliteModel, operator: Any) -> str:
    return str(model.inputs(operator)[1])


def _bias(model: TfliteModel, operator: Any) -> str:
    """The bias, or the weights where there is none."""
    operands = model.inputs(operator)
    return str(operands[2] if len(operands) > 2 and operands[2] is not None else operands[1])


def _equalize(model: TfliteModel, maker: Any, reader: Any, range_: Range) -> Range | None:
    """Change the weights on both sides of a tensor; its new range, None when they do not fit."""
    channels = range_.low.size
    making, reading = model.constant(_weights(model, maker)), model.constant(_weights(model, reader))
    bias = model.constant(_bias(model, maker))
    output_axis, input_axis = OUTPUT_AXIS[model.kind(maker)], INPUT_AXIS[model.kind(reader)]
    if making is None or reading is None or bias is None:
        return None
    if making.shape[output_axis] != channels or reading.shape[input_axis] != channels:
        return None
    others = tuple(axis for axis in range(reading.ndim) if axis != input_axis)
    depthwise = model.kind(reader) == "DEPTHWISE_CONV_2D"
    divisors = factors(range_.magnitude, np.abs(reading).max(axis=others), own_scales=depthwise)
    along = [-1 if axis == output_axis else 1 for axis in range(making.ndim)]
    if _bias(model, maker) != _weights(model, maker):
        model.set_constant(_bias(model, maker), bias / divisors)
    model.set_constant(_weights(model, maker), making / divisors.reshape(along))
    model.set_constant(_weights(model, reader), reading * divisors)  # both kinds of axis are the last one
    return range_.divided(divisors)
