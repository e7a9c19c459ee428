"""A pass over placed operators: parts of a concatenation are made where they belong (hardware/layouts.md, vendor).

1. A copy of a whole cube to whole planes of another is not needed if the copied tensor can lie there from the start:
   an NPU step computes it, it is no alias of another tensor, and no other concatenation holds it.
2. Writers fill whole groups of channels, so that a tensor may reach into the planes behind its own. It stays a copy if
   one of the parts there is written first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, Alias, Move, Part
from rocketnpu.compiler.passes.assign import Placed, Planned, PlannedAlias, PlannedConvolution, PlannedMove
from rocketnpu.compiler.tiling.convolution import aligned_channels
from rocketnpu.hw.sizes import align


@dataclass(frozen=True)
class _Writes:
    """The steps that write a tensor, first and last, and the planes that they write."""

    first: int
    last: int
    planes: int


def with_parts_in_place(placed: Sequence[Placed]) -> tuple[Placed, ...]:
    """The same operators, with parts in place of copies where both rules allow it."""
    writes: dict[str, _Writes] = {}
    held: set[str] = set()
    result: list[Placed] = []
    for index, item in enumerate(placed):
        if item.operator.kind == "CONCATENATION":
            item = replace(item, plan=_with_parts(item.plan, writes, held, index))
        for plan in item.plan:
            _note(plan, writes, index)
        result.append(item)
    return tuple(result)


def _with_parts(
    plan: Sequence[Planned], writes: Mapping[str, _Writes], held: set[str], index: int
) -> tuple[Planned, ...]:
    made = {step.form.output: _Writes(index, index, 0) for step in plan} | dict(writes)
    copies = [step.form for step in plan if isinstance(step, PlannedMove)]
    result: list[Planned] = []
    for step in plan:
        form = step.form
        if not isinstance(form, Move) or not _is_whole(form) or form.first in held or form.first not in made:
            result.append(step)
            continue
        own, pixels = made[form.first], form.output_shape.pixels
        end = form.output_start + own.planes * pixels
        behind = {other.first for other in copies if form.output_start < other.output_start < end}
        if any(name in writes and writes[name].first <= own.last for name in behind):
            result.append(step)
            continue
        held.add(form.first)
        first_plane = form.output_start // pixels
        result.append(PlannedAlias(Part(form.first, form.output, form.input_shape, form.output_shape, first_plane)))
    return tuple(result)


def _is_whole(form: Move) -> bool:
    """Whether a move copies whole planes to whole planes."""
    pixels = form.height * form.width
    return (
        form.second is None
        and pixels == form.input_shape.pixels == form.output_shape.pixels
        and form.first_start == 0
        and form.output_start % pixels == 0
    )


def _note(plan: Planned, writes: dict[str, _Writes], index: int) -> None:
    form = plan.form
    if isinstance(form, Alias):
        return
    planes = align(form.output_shape.channels, ATOM_CHANNELS) // ATOM_CHANNELS
    first = last = index
    if isinstance(plan, PlannedConvolution):
        ends = (tile.c0 + aligned_channels(plan.form, tile) for tile in plan.tiles)
        planes = max(planes, (plan.form.first_output_channel + max(ends)) // ATOM_CHANNELS)
    if isinstance(form, Part):
        part = writes[form.input]
        first, last, planes = part.first, part.last, max(planes, form.first_plane + part.planes)
    before = writes.get(form.output, _Writes(first, last, planes))
    writes[form.output] = _Writes(min(before.first, first), max(before.last, last), max(before.planes, planes))
