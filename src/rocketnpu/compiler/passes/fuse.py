"""A pass over placed operators: one task does the work of two where the tensor between them is needed nowhere else.

1. *A clamp or a change of grid* (RELU and its kin, QUANTIZE) goes into the output converter and the clamp of the
   convolution or element-wise task before it. On one grid the bytes stay the same. Onto another they are rounded once
   instead of twice, which moves them by at most 1 if steps shrink by less than 2; beyond that nothing is fused, nor
   where saturation on the grid between would need a clamp below that is not at zero.
2. *A sum* goes into the convolution that makes one operand, as far as fuse_residual.py allows, and with the option
   `experimental` only: that form stands on documentation.
3. *Slopes* (LEAKY_RELU, PRELU) go into the convolution before them, under the same conditions.
4. *Functions of one tensor*: a lookup of a lookup, or an element-wise operator on a tensor and a function of it
   (x * LOGISTIC(x)), are one lookup in a table that gives the bytes of the separate tasks.
5. A tensor that is an output, that the caller keeps, or that another operator reads, stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints.table import operands
from rocketnpu.compiler.lower.grids import scale_of, zero_point_of
from rocketnpu.compiler.npu_ops import Convolution, Elementwise, Lookup, Rescale, TableLoad
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.options import Options
from rocketnpu.compiler.passes.assign import (
    Placed,
    Planned,
    PlannedConvolution,
    PlannedElementwise,
    PlannedLookup,
    PlannedRescale,
    PlannedTableLoad,
    plan,
)
from rocketnpu.compiler.passes.fuse_residual import with_residual
from rocketnpu.compiler.requantize.elementwise import combined_bytes, copied_bytes
from rocketnpu.ir import Graph, Operator, UnaryOptions

Table = NDArray[np.int8]
FINEST = 2.0
"""Output steps in one of the grid between, from which on half of the latter, not rounded, may move a result by 2."""
LOWEST, HIGHEST = -127, 126
"""Where saturation on the grid between ends up, without a clamp for it: 1 from the end of int8 at most."""
EVERY_BYTE: Table = np.arange(-128, 128).astype(np.int8)


def fuse(
    graph: Graph, placed: Sequence[Placed], keep: Collection[str], options: Options
) -> tuple[tuple[Placed, ...], dict[str, str]]:
    """The operators that are left, and the tensors that are gone with the operator that stands for their maker."""
    uses = Counter(name for item in placed for name in item.operator.inputs if name is not None)
    uses.update([*graph.outputs, *keep])
    result: dict[str, Placed] = {}
    dissolved: dict[str, str] = {}
    for item in placed:
        makers = {
            name: result[name]
            for name in item.operator.inputs
            if name is not None and name in result and uses[name] == 1 and result[name].reason is None
        }
        fused, gone = _fused(graph, item, makers, options)
        before: list[Operator] = []
        for name in gone:
            maker = result.pop(name)
            before += (*maker.absorbed, maker.operator)
            dissolved = {key: fused.operator.name if by == maker.operator.name else by for key, by in dissolved.items()}
            dissolved[name] = fused.operator.name
        absorbed = (*before, *item.absorbed)
        result[fused.operator.name] = replace(fused, absorbed=absorbed)
    return tuple(result.values()), dissolved


def _fused(
    graph: Graph, item: Placed, makers: Mapping[str, Placed], options: Options
) -> tuple[Placed, tuple[str, ...]]:
    """`item` with the work of those makers of its inputs that it can take over, and the tensors gone with them."""
    if len(item.plan) == 1 and isinstance(item.plan[0], PlannedRescale):
        copy = item.plan[0].form
        maker = makers.get(copy.input)
        merged = None if maker is None else _with_copy(maker, copy, options)
        if maker is not None and merged is not None:
            operator = replace(item.operator, inputs=maker.operator.inputs)
            return Placed(operator, merged), (copy.input,)
    if item.operator.kind in ("LEAKY_RELU", "PRELU") and item.plan:
        slopes = _slopes(graph, item)
        maker = makers.get(slopes.input)
        merged = None if maker is None else _with_slopes(maker, slopes, options)
        if maker is not None and merged is not None:
            operator = replace(item.operator, inputs=maker.operator.inputs)
            return Placed(operator, merged), (slopes.input,)
    if len(item.plan) == 1 and isinstance(item.plan[0], PlannedElementwise):
        add = item.plan[0].form
        for name in add.inputs:
            merged = with_residual(makers[name], name, add) if name in makers and options.experimental else None
            if merged is not None:
                others = tuple(other for other in item.operator.inputs if other != name)
                operator = replace(item.operator, inputs=makers[name].operator.inputs + others)
                return Placed(operator, merged), (name,)
    function = _function(item, makers)
    if function is None or not function.gone:
        return item, ()
    load = TableLoad(f"{item.operator.name}#table", function.table)
    lookup = Lookup(function.source, item.operator.outputs[0], item.plan[-1].form.output_shape)
    operator = replace(item.operator, inputs=(function.source,))
    return Placed(operator, (plan(load, options), plan(lookup, options))), function.gone


def _with_copy(maker: Placed, copy: Rescale, options: Options) -> tuple[Planned, ...] | None:
    """Rule 1: the maker's plan with `copy` inside; None where that is not possible."""
    merged: list[Planned] = []
    for step in maker.plan:
        if step.form.output != copy.input:
            merged.append(step)
            continue
        if not isinstance(step, PlannedConvolution | PlannedElementwise) or copy.gain >= FINEST:
            return None
        if isinstance(step, PlannedConvolution) and step.form.residual is not None:
            return None
        # What saturates on the grid between saturates there still.
        low, high = (_through(copy, bound) for bound in (step.form.low, step.form.high))
        low, high = max(low, copy.low), min(high, copy.high)
        if low > LOWEST and low not in (copy.output_zero_point, copy.low):
            return None
        planned = _planned(_onto(step.form, copy, low, high), copy.gain, options)
        if planned is None:
            return None
        merged.append(planned)
    return tuple(merged)


def _planned(form: Convolution | Elementwise, gain: float, options: Options) -> Planned | None:
    """The plan of a form that leaves out a rounding to steps of `gain` output steps; None if it may then be 2 off."""
    try:
        planned = plan(form, options)
    except ConstraintError:
        return None
    if gain != 1 and isinstance(planned, PlannedConvolution) and gain / FINEST + planned.values.residue >= 1:
        return None
    return planned


def _through(copy: Rescale, value: int) -> int:
    return int(np.clip(round(copy.gain * (value - copy.input_zero_point)) + copy.output_zero_point, -128, 127))


def _onto(form: Convolution | Elementwise, copy: Rescale, low: int, high: int) -> Convolution | Elementwise:
    """`form` with the output, grid and clamps of `copy`."""
    zero = copy.output_zero_point
    if isinstance(form, Convolution):
        gains = form.gains * copy.gain
        return replace(form, output=copy.output, gains=gains, output_zero_point=zero, low=low, high=high)
    scale = form.output_scale / copy.gain
    return replace(form, output=copy.output, output_scale=scale, output_zero_point=zero, low=low, high=high)


@dataclass(frozen=True, eq=False)
class _Slopes:
    """LEAKY_RELU or PRELU: round(gain * (q - zi) * (slope where negative)) + zo; slopes float64 (channels,)."""

    input: str
    output: str
    gain: float
    input_zero_point: int
    output_zero_point: int
    slopes: NDArray[np.float64]


def _slopes(graph: Graph, item: Placed) -> _Slopes:
    found, form = operands(graph, item.operator), item.plan[-1].form
    if isinstance(form, Convolution) and form.slopes is not None:
        slopes = form.slopes
    else:
        assert isinstance(item.operator.options, UnaryOptions)
        slopes = np.full(form.output_shape.channels, item.operator.options.alpha)
    gain = scale_of(found.data) / scale_of(found.output)
    return _Slopes(
        found.data.name, found.output.name, gain, zero_point_of(found.data), zero_point_of(found.output), slopes
    )


def _with_slopes(maker: Placed, change: _Slopes, options: Options) -> tuple[Planned, ...] | None:
    """Rule 3: the maker's plan with slopes inside; None where that is not possible."""
    zero, steps = change.output_zero_point, change.gain * change.slopes.min()
    lowest = steps * (-128 - change.input_zero_point) + zero
    highest = change.gain * (127 - change.input_zero_point) + zero
    if change.gain >= FINEST or round(lowest) > LOWEST or round(highest) < HIGHEST or change.slopes.min() < 0:
        return None
    merged: list[Planned] = []
    for step in maker.plan:
        form = step.form
        if form.output != change.input:
            merged.append(step)
            continue
        if not isinstance(form, Convolution) or form.slopes is not None or form.residual is not None:
            return None
        if form.low > -128 or form.high < 127:
            return None
        part = change.slopes[form.first_output_channel :][: form.output_channels]
        gains = form.gains * change.gain
        sloped = replace(form, output=change.output, gains=gains, output_zero_point=zero, slopes=part)
        planned = _planned(sloped, change.gain, options)
        if planned is None:
            return None
        merged.append(planned)
    return tuple(merged)


@dataclass(frozen=True, eq=False)
class _Function:
    """A tensor whose every byte follows from the same byte of `source`: `table` int8 (256,), from -128 on.

    `gone` are the tensors between that are not needed then.
    """

    source: str
    table: Table
    gone: tuple[str, ...] = ()


def _function(item: Placed, makers: Mapping[str, Placed]) -> _Function | None:
    """Rule 4: what `item` computes as a function of one tensor, through makers of its inputs where they have tables."""
    match item.plan:
        case (PlannedTableLoad(load), PlannedLookup(lookup)):
            inner = _operand(lookup.input, makers)
            return _Function(inner.source, load.table[inner.table.astype(np.int64) + 128], inner.gone)
        case (PlannedRescale(form, values),):
            inner = _operand(form.input, makers)
            return _Function(inner.source, copied_bytes(form, values, inner.table), inner.gone)
        case (PlannedElementwise(form, values),) if form.second is not None:
            first, second = (_operand(name, makers) for name in (form.first, form.second))
            if first.source != second.source:
                return None
            gone = tuple(dict.fromkeys(first.gone + second.gone))
            return _Function(first.source, combined_bytes(form, values, first.table, second.table), gone)
        case _:
            return None


def _operand(name: str, makers: Mapping[str, Placed]) -> _Function:
    """An operand as a function of the tensor that its maker looks up, or of itself."""
    maker = makers.get(name)
    if maker is not None and len(maker.plan) == 2:
        function = _function(maker, {})
        if function is not None:
            return replace(function, gone=(name,))
    return _Function(name, EVERY_BYTE)
