"""Options of the operators that the compiler analyses, read from a TFLite file and checked for sense."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rocketnpu.errors import ModelError, counted
from rocketnpu.frontends.tflite.flatbuffer import Reader, enum_names, schema
from rocketnpu.frontends.tflite.operator import Context, Kind, Result
from rocketnpu.frontends.tflite.options_data_movement import MOVES
from rocketnpu.ir import (
    ConvOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    PoolOptions,
    ReduceOptions,
    Tensor,
    UnaryOptions,
)
from rocketnpu.unary import FUNCTIONS

_OPTION_NAMES = enum_names("BuiltinOptions")

_USUAL_BIAS_TYPES = (schema.TensorType.FLOAT32, schema.TensorType.INT32, schema.TensorType.INT64)
"""FLOAT32, the schema's default, means "as the kernel has it": INT32 for 8-bit operands, INT64 for 16-bit ones."""
_TYPE_NAMES = enum_names("TensorType")


def _conv(context: Context) -> Result:
    unsupported = _bias_type(context)
    return _window(context, multiplier=0), unsupported


def _depthwise(context: Context) -> Result:
    """The multiplier follows from the shapes; a file that states another one contradicts itself."""
    channels, weights = context.operand(0).shape[-1:], context.operand(1).shape[-1:]
    if not channels or not weights or channels[0] == 0 or weights[0] % channels[0]:
        raise ModelError(
            f"{context.where} has weights for {weights} channels, which {channels} input channels can't feed"
        )
    multiplier = weights[0] // channels[0]
    stated: int = context.table.DepthMultiplier()
    if stated not in (0, multiplier):
        raise ModelError(f"{context.where} has depth multiplier {stated}, its shapes say {multiplier}")
    return _window(context, multiplier), None


def _window(context: Context, multiplier: int) -> ConvOptions:
    return ConvOptions(
        padding=context.padding(),
        stride_h=context.positive("StrideH"),
        stride_w=context.positive("StrideW"),
        dilation_h=context.positive("DilationHFactor"),
        dilation_w=context.positive("DilationWFactor"),
        activation=context.activation(),
        multiplier=multiplier,
    )


def _pool(context: Context) -> Result:
    options = PoolOptions(
        padding=context.padding(),
        stride_h=context.positive("StrideH"),
        stride_w=context.positive("StrideW"),
        filter_h=context.positive("FilterHeight"),
        filter_w=context.positive("FilterWidth"),
        activation=context.activation(),
    )
    return options, None


def _fully_connected(context: Context) -> Result:
    if context.table is None:
        return FullyConnectedOptions(), None
    unsupported = _bias_type(context)
    if context.table.WeightsFormat() != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        unsupported = "its weights are shuffled"
    elif context.table.QuantSpecLength():
        unsupported = "it has a quant_spec"
    return FullyConnectedOptions(context.activation(), bool(context.table.KeepNumDims())), unsupported


def _bias_type(context: Context) -> str | None:
    number = context.table.QuantizedBiasType()
    return None if number in _USUAL_BIAS_TYPES else f"its quantized bias type is {_TYPE_NAMES.get(number, number)}"


def _elementwise(context: Context) -> Result:
    return ElementwiseOptions() if context.table is None else ElementwiseOptions(context.activation()), None


def _plain(_context: Context) -> Result:
    """No options that the compiler needs."""
    return None, None


def _gelu(context: Context) -> Result:
    return UnaryOptions(approximate=context.table is not None and bool(context.table.Approximate())), None


def _leaky_relu(context: Context) -> Result:
    alpha = 0.0 if context.table is None else float(context.table.Alpha())
    return UnaryOptions(alpha=alpha), None if math.isfinite(alpha) else f"its alpha is {alpha}"


def _mean(context: Context) -> Result:
    keep_dims = context.table is not None and bool(context.table.KeepDims())
    rank = len(context.operand(0).shape)
    axes = context.operand(1)
    if axes.data is None:
        return ReduceOptions((), keep_dims), "its axes are not constant"
    if axes.dtype != np.int32:
        raise ModelError(f"{context.where} has axes of type {axes.dtype}; they must be int32")
    context.reader.spend(axes.data.nbytes)
    values: list[int] = axes.data.reshape(-1).tolist()
    for axis in values:
        if not -rank <= axis < rank:
            raise ModelError(f"{context.where} has axis {axis}, its input has {rank} dimensions")
    return ReduceOptions(tuple(sorted({axis % rank for axis in values})), keep_dims), None


def _reshape(context: Context) -> Result:
    """The output tensor's shape says it all; the operand or option that repeats it is not needed."""
    context.operand(0)
    return None, None


KINDS: Mapping[str, Kind] = {
    "CONV_2D": Kind("Conv2DOptions", range(2, 4), _conv),
    "DEPTHWISE_CONV_2D": Kind("DepthwiseConv2DOptions", range(2, 4), _depthwise),
    "FULLY_CONNECTED": Kind("FullyConnectedOptions", range(2, 4), _fully_connected, required=False),
    "ADD": Kind("AddOptions", range(2, 3), _elementwise, required=False),
    "SUB": Kind("SubOptions", range(2, 3), _elementwise, required=False),
    "MUL": Kind("MulOptions", range(2, 3), _elementwise, required=False),
    "MAXIMUM": Kind(None, range(2, 3), _plain),
    "MINIMUM": Kind(None, range(2, 3), _plain),
    **dict.fromkeys((*FUNCTIONS, "QUANTIZE", "RELU", "RELU6", "RELU_0_TO_1"), Kind(None, range(1, 2), _plain)),
    "PRELU": Kind(None, range(2, 3), _plain),
    "GELU": Kind("GeluOptions", range(1, 2), _gelu, required=False),
    "LEAKY_RELU": Kind("LeakyReluOptions", range(1, 2), _leaky_relu, required=False),
    "AVERAGE_POOL_2D": Kind("Pool2DOptions", range(1, 2), _pool),
    "MAX_POOL_2D": Kind("Pool2DOptions", range(1, 2), _pool),
    "MEAN": Kind("ReducerOptions", range(2, 3), _mean, required=False),
    "RESHAPE": Kind(None, range(1, 3), _reshape),
    **MOVES,
}
"""The operators whose options the compiler knows. The schema's defaults apply where options are not required."""


def read_options(
    reader: Reader,
    operator: Any,
    kind: str,
    where: str,
    inputs: Sequence[Tensor | None],
    outputs: Sequence[Tensor],
) -> Result:
    """The options of an operator, and why this instance can't be analysed; (None, None) for kinds not listed above.

    Raises ModelError when inputs, outputs or options are not as the kind needs them.
    """
    known = KINDS.get(kind)
    if known is None:
        return None, None
    if len(inputs) not in known.inputs:
        few, many = known.inputs.start, known.inputs.stop - 1
        takes = f"{few} to {many}" if many > few else f"{few}"
        raise ModelError(f"{where} has {counted(len(inputs), 'input')}; it takes {takes}")
    if len(outputs) not in known.outputs:
        raise ModelError(f"{where} has {counted(len(outputs), 'output')}; it must have {known.outputs.start}")
    table = None if known.table is None else _options_table(operator, known.table, where)
    if table is None and known.required and known.table is not None:
        raise ModelError(f"{where} has no options")
    context = Context(reader, table, where, inputs, outputs)
    for index in range(known.inputs.start):
        context.operand(index)
    return known.read(context)


def _options_table(operator: Any, table_name: str, where: str) -> Any:
    """The options table of the union; None when the file has none."""
    number: int = operator.BuiltinOptionsType()
    raw = operator.BuiltinOptions()
    if number == schema.BuiltinOptions.NONE or raw is None:
        return None
    if number != getattr(schema.BuiltinOptions, table_name):
        raise ModelError(f"{where} has options of type {_OPTION_NAMES.get(number, number)} instead of {table_name}")
    table = getattr(schema, table_name)()
    table.Init(raw.Bytes, raw.Pos)
    return table
