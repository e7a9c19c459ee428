"""A pass over placed operators: one task does the work of two where the tensor between them is needed nowhere else.

1. *A clamp or a change of grid* (RELU and its kin, QUANTIZE) goes into the output converter and the clamp of the
   convolution or element-wise task before it. On one grid the bytes stay the same; onto a coarser one they are rounded
   once instead of twice, which moves them by at most 1. Onto a finer grid nothing is fused, nor where saturation on the
   grid between would need a clamp below that is not at zero.
2. *Functions of one tensor*: a lookup of a lookup, or an element-wise operator on a tensor and a function of it
   (x * LOGISTIC(x)), are one lookup in a table that gives the bytes of the separate tasks.
3. A tensor that is an output, that the caller keeps, or that another operator reads, stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints import ConstraintError
from rocketnpu.compiler.lowered import Convolution, Elementwise, Lookup, Rescale, TableLoad
from rocketnpu.compiler.place import (
    Placed,
    Planned,
    PlannedConvolution,
    PlannedElementwise,
    PlannedLookup,
    PlannedRescale,
    PlannedTableLoad,
    plan,
)
from rocketnpu.compiler.requantize_elementwise import combined_bytes, copied_bytes
from rocketnpu.ir import Graph

Table = NDArray[np.int8]
EVERY_BYTE: Table = np.arange(-128, 128).astype(np.int8)


def fuse(graph: Graph, placed: Sequence[Placed], keep: Collection[str]) -> tuple[tuple[Placed, ...], dict[str, str]]:
    """The operators that are left, and the tensors that are gone with the operator that stands for their maker."""
    uses = Counter(name for item in placed for name in item.operator.inputs if name is not None)
    uses.update([*graph.outputs, *keep])
    result: dict[str, Placed] = {}
    dissolved: dict[str, str] = {}
    for item in placed:
        makers = {
            name: result[name]
            for name in item.operator.inputs
            if name is not None and name in result and uses[name] == 1
        }
        fused, gone = _fused(item, makers)
        for name in gone:
            absorbed = result.pop(name).operator.name
            dissolved = {key: fused.operator.name if by == absorbed else by for key, by in dissolved.items()}
            dissolved[name] = fused.operator.name
        result[fused.operator.name] = fused
    return tuple(result.values()), dissolved


def _fused(item: Placed, makers: Mapping[str, Placed]) -> tuple[Placed, tuple[str, ...]]:
    """`item` with the work of those makers of its inputs that it can take over, and the tensors gone with them."""
    if len(item.plan) == 1 and isinstance(item.plan[0], PlannedRescale):
        copy = item.plan[0].form
        maker = makers.get(copy.input)
        merged = None if maker is None else _with_copy(maker, copy)
        if maker is not None and merged is not None:
            operator = replace(maker.operator, outputs=item.operator.outputs)
            return Placed(operator, merged), (copy.input,)
    function = _function(item, makers)
    if function is None or not function.gone:
        return item, ()
    load = TableLoad(f"{item.operator.name}#table", function.table)
    lookup = Lookup(function.source, item.operator.outputs[0], item.plan[-1].form.output_shape)
    operator = replace(item.operator, inputs=(function.source,))
    return Placed(operator, (plan(load), plan(lookup))), function.gone


def _with_copy(maker: Placed, copy: Rescale) -> tuple[Planned, ...] | None:
    """Rule 1: the maker's plan with `copy` inside; None where that is not possible."""
    merged: list[Planned] = []
    for step in maker.plan:
        if step.form.output != copy.input:
            merged.append(step)
            continue
        if not isinstance(step, PlannedConvolution | PlannedElementwise) or copy.gain > 1:
            return None
        # What saturates on the grid between saturates there still.
        low, high = (_through(copy, bound) for bound in (step.form.low, step.form.high))
        low, high = max(low, copy.low), min(high, copy.high)
        if low not in (-128, copy.output_zero_point, copy.low):
            return None
        try:
            merged.append(plan(_onto(step.form, copy, low, high)))
        except ConstraintError:
            return None
    return tuple(merged)


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
class _Function:
    """A tensor whose every byte follows from the same byte of `source`: `table` int8 (256,), from -128 on.

    `gone` are the tensors between that are not needed then.
    """

    source: str
    table: Table
    gone: tuple[str, ...] = ()


def _function(item: Placed, makers: Mapping[str, Placed]) -> _Function | None:
    """Rule 2: what `item` computes as a function of one tensor, through makers of its inputs where they have tables."""
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
