"""Options of the operators that the compiler analyses, read from a TFLite file and checked for sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.frontends.flatbuffer import Reader, enum_names, schema
from rocketnpu.ir import (
    Activation,
    ConvOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    Options,
    Padding,
    PoolOptions,
    ReduceOptions,
    Tensor,
)

_OPTION_NAMES = enum_names("BuiltinOptions")
_ACTIVATION_NAMES = enum_names("ActivationFunctionType")
_PADDING_NAMES = enum_names("Padding")

_USUAL_BIAS_TYPES = (schema.TensorType.FLOAT32, schema.TensorType.INT32)
"""FLOAT32, the schema's default, means "as the kernel has it", which is INT32 for 8-bit operands."""


@dataclass(frozen=True)
class _Context:
    """What an options reader may look at: the options table and the operator's operands."""

    reader: Reader
    table: Any
    where: str
    inputs: Sequence[Tensor | None]
    outputs: Sequence[Tensor]

    def operand(self, index: int) -> Tensor:
        tensor = self.inputs[index]
        if tensor is None:
            raise ModelError(f"{self.where} leaves out its input {index}, which is not optional")
        return tensor

    def activation(self) -> Activation:
        number = self.table.FusedActivationFunction()
        name = _ACTIVATION_NAMES.get(number)
        if name is None:
            raise ModelError(f"{self.where} has unknown activation number {number}")
        return Activation(name)

    def padding(self) -> Padding:
        number = self.table.Padding()
        name = _PADDING_NAMES.get(number)
        if name is None:
            raise ModelError(f"{self.where} has unknown padding number {number}")
        return Padding(name)

    def positive(self, field: str) -> int:
        value: int = getattr(self.table, field)()
        if value < 1:
            raise ModelError(f"{self.where} has {field} {value}; it must be positive")
        return value


_Result: TypeAlias = tuple[Options, str | None]
"""The options, and why the compiler can't analyse this instance (None when it can)."""


@dataclass(frozen=True)
class _Kind:
    """How one kind of operator looks in the file; `table` None: its options table is not needed."""

    table: str | None
    inputs: range
    read: Callable[[_Context], _Result]
    required: bool = True


def _conv(context: _Context) -> _Result:
    unsupported = _bias_type(context)
    return _window(context, multiplier=0), unsupported


def _depthwise(context: _Context) -> _Result:
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


def _window(context: _Context, multiplier: int) -> ConvOptions:
    return ConvOptions(
        padding=context.padding(),
        stride_h=context.positive("StrideH"),
        stride_w=context.positive("StrideW"),
        dilation_h=context.positive("DilationHFactor"),
        dilation_w=context.positive("DilationWFactor"),
        activation=context.activation(),
        multiplier=multiplier,
    )


def _pool(context: _Context) -> _Result:
    options = PoolOptions(
        padding=context.padding(),
        stride_h=context.positive("StrideH"),
        stride_w=context.positive("StrideW"),
        filter_h=context.positive("FilterHeight"),
        filter_w=context.positive("FilterWidth"),
        activation=context.activation(),
    )
    return options, None


def _fully_connected(context: _Context) -> _Result:
    if context.table is None:
        return FullyConnectedOptions(), None
    unsupported = _bias_type(context)
    if context.table.WeightsFormat() != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        unsupported = "its weights are shuffled"
    elif context.table.AsymmetricQuantizeInputs():
        unsupported = "it quantizes its input when it runs"
    elif context.table.QuantSpecLength():
        unsupported = "it has a quant_spec"
    return FullyConnectedOptions(context.activation(), bool(context.table.KeepNumDims())), unsupported


def _bias_type(context: _Context) -> str | None:
    number = context.table.QuantizedBiasType()
    return None if number in _USUAL_BIAS_TYPES else f"its quantized bias type is number {number}"


def _elementwise(context: _Context) -> _Result:
    return ElementwiseOptions() if context.table is None else ElementwiseOptions(context.activation()), None


def _mean(context: _Context) -> _Result:
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


def _reshape(context: _Context) -> _Result:
    """The output tensor's shape says it all; the operand or option that repeats it is not needed."""
    context.operand(0)
    return None, None


_KINDS: Mapping[str, _Kind] = {
    "CONV_2D": _Kind("Conv2DOptions", range(2, 4), _conv),
    "DEPTHWISE_CONV_2D": _Kind("DepthwiseConv2DOptions", range(2, 4), _depthwise),
    "FULLY_CONNECTED": _Kind("FullyConnectedOptions", range(2, 4), _fully_connected, required=False),
    "ADD": _Kind("AddOptions", range(2, 3), _elementwise, required=False),
    "AVERAGE_POOL_2D": _Kind("Pool2DOptions", range(1, 2), _pool),
    "MAX_POOL_2D": _Kind("Pool2DOptions", range(1, 2), _pool),
    "MEAN": _Kind("ReducerOptions", range(2, 3), _mean, required=False),
    "RESHAPE": _Kind(None, range(1, 3), _reshape),
}
"""The operators whose options the compiler knows. The schema's defaults apply where options are not required."""


def read_options(
    reader: Reader,
    operator: Any,
    kind: str,
    where: str,
    inputs: Sequence[Tensor | None],
    outputs: Sequence[Tensor],
) -> _Result:
    """The options of an operator, and why this instance can't be analysed; (None, None) for kinds not listed above.

    Raises ModelError when inputs, outputs or options are not as the kind needs them.
    """
    known = _KINDS.get(kind)
    if known is None:
        return None, None
    if len(inputs) not in known.inputs:
        raise ModelError(
            f"{where} has {len(inputs)} inputs; {known.inputs.start} to {known.inputs.stop - 1} are possible"
        )
    if len(outputs) != 1:
        raise ModelError(f"{where} has {len(outputs)} outputs; it must have 1")
    table = None if known.table is None else _options_table(operator, known.table, where)
    if table is None and known.required and known.table is not None:
        raise ModelError(f"{where} has no options")
    context = _Context(reader, table, where, inputs, outputs)
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
