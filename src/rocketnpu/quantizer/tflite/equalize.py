"""Equalization of a float TFLite file: which tensors lie between two convolutions, and where their channels are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.frontends.tflite.flatbuffer import schema
from rocketnpu.quantizer.equalize import factors
from rocketnpu.quantizer.ranges import Range
from rocketnpu.quantizer.tflite.model import TfliteModel

OUTPUT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""Where the weights have the channels that the operator makes (schema.fbs has no word on it; TFLite's kernels do)."""

INPUT_AXIS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 1}
"""Where they have the channels that it reads; a depthwise one with a multiplier has more than its input."""


HOMOGENEOUS = frozenset({"LEAKY_RELU", "PRELU", "RELU"})
"""Operators that give c times as much, channel by channel, for c times as large a first operand (c > 0)."""


def equalize(data: bytes, ranges: Mapping[str, Range]) -> tuple[bytes, dict[str, Range]]:
    """The same function in other weights, and the ranges of its tensors; `data` is a repaired file."""
    model = TfliteModel(data)
    changed = dict(ranges)
    readers = Counter(name for operator in model.operators for name in model.inputs(operator) if name is not None)
    readers.update(model.results)
    makers: dict[str, Any] = {name: operator for operator in model.operators for name in model.outputs(operator)}
    for reader in model.operators:
        path = _path(model, makers, str(model.inputs(reader)[0])) if model.kind(reader) in INPUT_AXIS else None
        if path is None or any(readers[name] != 1 or name not in ranges for name in path):
            continue
        maker = makers[path[-1]]
        if any(readers[name] != 1 for name in (_weights(model, maker), _weights(model, reader), _bias(model, maker))):
            continue
        divisors = _equalize(model, maker, reader, ranges[path[0]])
        if divisors is not None:
            changed.update({name: ranges[name].divided(divisors) for name in path})
    return model.build(), changed


def _path(model: TfliteModel, makers: Mapping[str, Any], name: str) -> list[str] | None:
    """The tensors from what one such operator reads back to what another makes, through operators of HOMOGENEOUS."""
    path: list[str] = []
    while name in makers:
        path.append(name)
        if model.kind(makers[name]) in OUTPUT_AXIS:
            return path if _scales(makers[name]) else None
        if model.kind(makers[name]) not in HOMOGENEOUS:
            return None
        name = str(model.inputs(makers[name])[0])
    return None


def _scales(maker: Any) -> bool:
    """Whether the operator's results scale with its weights."""
    free = (schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU)
    return maker.builtinOptions.fusedActivationFunction in free


def _weights(model: TfliteModel, operator: Any) -> str:
    return str(model.inputs(operator)[1])


def _bias(model: TfliteModel, operator: Any) -> str:
    """The bias, or the weights where there is none."""
    operands = model.inputs(operator)
    return str(operands[2] if len(operands) > 2 and operands[2] is not None else operands[1])


def _equalize(model: TfliteModel, maker: Any, reader: Any, range_: Range) -> NDArray[np.float32] | None:
    """Change the weights on both sides; what each channel between is divided by, None when they do not fit."""
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
    return divisors
