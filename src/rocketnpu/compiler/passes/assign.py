"""Deciding what runs where: each operator gets its NPU plan, or the constraint that puts it on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeAlias

from rocketnpu.compiler.constraints.table import check, data_inputs
from rocketnpu.compiler.lower import lower
from rocketnpu.compiler.lower.images import on_images, over_images
from rocketnpu.compiler.lower.pooling_unit import POOLS, lower_on_pooling_unit
from rocketnpu.compiler.npu_ops import (
    Alias,
    Convolution,
    Elementwise,
    Lookup,
    Lowered,
    Move,
    Part,
    Pool,
    Rescale,
    TableLoad,
    Upsample,
    WideSum,
)
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.options import Options
from rocketnpu.compiler.passes.fold_flatten import Fold, flatten_folds
from rocketnpu.compiler.passes.fold_pad import pad_folds
from rocketnpu.compiler.requantize.convolution import Requantization, requantize
from rocketnpu.compiler.requantize.elementwise import ElementwiseValues, requantize_copy, requantize_elementwise
from rocketnpu.compiler.tiling.areas import has_few_tasks, legal_moves
from rocketnpu.compiler.tiling.convolution import Tile, tile
from rocketnpu.compiler.tiling.pool import PoolTile, tile_pool
from rocketnpu.compiler.tiling.pool_cost import convolution_cycles, move_cycles, pool_cycles
from rocketnpu.hw import limits
from rocketnpu.ir import Graph, Operator
from rocketnpu.program.model import RKNPU


@dataclass(frozen=True, eq=False)
class PlannedConvolution:
    """A convolution with its register arithmetic and its tiles."""

    form: Convolution
    values: Requantization
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class PlannedElementwise:
    """An element-wise operation on two cubes with its register arithmetic."""

    form: Elementwise
    values: ElementwiseValues


@dataclass(frozen=True)
class PlannedWideSum:
    """A sum in 32 bits, which needs no arithmetic."""

    form: WideSum


@dataclass(frozen=True)
class PlannedRescale:
    """A copy onto another grid with its register arithmetic."""

    form: Rescale
    values: ElementwiseValues


@dataclass(frozen=True)
class PlannedTableLoad:
    """The load of a lookup table."""

    form: TableLoad


@dataclass(frozen=True)
class PlannedLookup:
    """A lookup in the table that the plan before it loads."""

    form: Lookup


@dataclass(frozen=True)
class PlannedMove:
    """A copy or a maximum, which needs no arithmetic."""

    form: Move


@dataclass(frozen=True)
class PlannedPool:
    """A pool of the PPU with its tiles."""

    form: Pool
    tiles: tuple[PoolTile, ...]


@dataclass(frozen=True)
class PlannedUpsample:
    """Nearest neighbours by two."""

    form: Upsample


@dataclass(frozen=True)
class PlannedAlias:
    """A change of name and shape, or a tensor's place inside another one; no task."""

    form: Alias | Part


Planned: TypeAlias = (
    PlannedConvolution
    | PlannedElementwise
    | PlannedWideSum
    | PlannedRescale
    | PlannedTableLoad
    | PlannedLookup
    | PlannedAlias
    | PlannedMove
    | PlannedPool
    | PlannedUpsample
)


@dataclass(frozen=True, eq=False)
class Placed:
    """An operator with its plan for the NPU, or the reason why it has none.

    `absorbed` are the operators of the model, in their order, whose work it does besides its own.
    """

    operator: Operator
    plan: tuple[Planned, ...] = ()
    reason: str | None = None
    absorbed: tuple[Operator, ...] = ()


def place(graph: Graph, keep: Collection[str], options: Options) -> tuple[tuple[Placed, ...], dict[str, str]]:
    """Every operator of the graph, in order; and the tensors that fusion dissolved, with the operator that absorbed
    each.

    `keep` names tensors that must not be dissolved.
    """
    candidates = [
        fold for fold in (*flatten_folds(graph, keep), *pad_folds(graph, keep)) if fold.absorbed.opaque is None
    ]
    folds = {fold.consumer.index: (fold, _place(graph, fold.folded, options)) for fold in candidates}
    folds = {index: pair for index, pair in folds.items() if pair[1].reason is None}
    gone = _gone(graph, [fold for fold, _ in folds.values()], keep)
    placed = [
        replace(folds[op.index][1], absorbed=tuple(other for other in graph.operators if gone.get(other.index) is op))
        if op.index in folds
        else _place(graph, op, options)
        for op in graph.operators
        if op.index not in gone
    ]
    dissolved = {name: gone[op.index].name for op in graph.operators if op.index in gone for name in op.outputs}
    return _without_detours(placed), dissolved


def _gone(graph: Graph, folds: Sequence[Fold], keep: Collection[str]) -> dict[int, Operator]:
    """For each operator that folds make needless, by index, the one that stands for it: for those absorbed, and for
    what computes an operand, such as a shape, for these alone."""
    gone = {fold.absorbed.index: fold.consumer for fold in folds}
    folded = {fold.consumer.index: fold.folded for fold in folds}
    readers: dict[str, list[int]] = {}
    for op in graph.operators:
        for name in folded.get(op.index, op).inputs:
            readers.setdefault(name or "", []).append(op.index)
    kept = {*graph.outputs, *keep}
    for op in reversed(graph.operators):
        after = [index for name in op.outputs for index in readers.get(name, ())]
        if op.index not in gone and kept.isdisjoint(op.outputs) and after and all(index in gone for index in after):
            gone[op.index] = gone[after[0]]
    return gone


def _without_detours(placed: Sequence[Placed]) -> tuple[Placed, ...]:
    """Operators that only rename or copy stay on the host where no neighbour, near or through others of that sort,
    computes on the NPU."""
    on_npu = {name for item in placed if _computes(item) for name in _data(item)}
    movers = [item for item in placed if item.reason is None and not _computes(item)]
    while reached := [item for item in movers if on_npu.intersection(_data(item))]:
        on_npu.update(name for item in reached for name in _data(item))
        movers = [item for item in movers if item not in reached]
    return tuple(
        Placed(item.operator, reason="a neighbour computes on the NPU") if item in movers else item for item in placed
    )


def _data(item: Placed) -> tuple[str, ...]:
    return (*data_inputs(item.operator), *item.operator.outputs)


def _computes(item: Placed) -> bool:
    copies = (plan.form for plan in item.plan if isinstance(plan, PlannedMove))
    return any(not isinstance(plan, PlannedAlias | PlannedMove) for plan in item.plan) or any(
        form.second is not None for form in copies
    )


def _place(graph: Graph, op: Operator, options: Options) -> Placed:
    try:
        steps = list(on_images(graph, op))
        for step in steps:
            check(step.graph, step.operator)
    except ConstraintError as constraint:
        return Placed(op, reason=str(constraint))
    ways: list[Callable[[Graph, Operator], Iterable[Lowered]]] = [lower]
    if options.target == RKNPU and op.kind in POOLS:
        ways.append(lower_on_pooling_unit)
    plans: list[tuple[Planned, ...]] = []
    reasons: list[str] = []
    for way in ways:
        try:
            forms = [over_images(way(step.graph, step.operator), step.count) for step in steps]
            plans.append(tuple(plan(form, options) for form in chain.from_iterable(forms)))
        except ConstraintError as constraint:
            reasons.append(str(constraint))
    if not plans:
        return Placed(op, reason=reasons[0])
    return Placed(op, plans[0] if len(plans) == 1 else min(plans, key=_pooling_cycles))


def _pooling_cycles(plans: Sequence[Planned]) -> float:
    """Cycles of an operator that has a form for the pooling unit, and one without."""
    total = 0.0
    for planned in plans:
        match planned:
            case PlannedPool(form, tiles):
                total += pool_cycles(form, tiles)
            case PlannedConvolution(form, _, tiles):
                total += convolution_cycles(form, tiles)
            case PlannedMove(form):
                total += move_cycles(form)
            case _:
                raise AssertionError(f"no pool has {planned}")
    return total


def plan(form: Lowered, options: Options) -> Planned:
    """The register arithmetic and tiles of a form; ConstraintError if its sizes or gains rule it out."""
    match form:
        case Convolution():
            return PlannedConvolution(form, requantize(form), tile(form, options.optimize))
        case Elementwise():
            return PlannedElementwise(form, requantize_elementwise(form))
        case WideSum():
            return PlannedWideSum(form)
        case Rescale():
            return PlannedRescale(form, requantize_copy(form))
        case TableLoad():
            return PlannedTableLoad(form)
        case Lookup():
            return PlannedLookup(form)
        case Move():
            if not has_few_tasks(legal_moves(form)):
                raise ConstraintError(f"at most {limits.MAX_TASKS_PER_KICK} tasks compute one operator")
            return PlannedMove(form)
        case Pool():
            return PlannedPool(form, tile_pool(form))
        case Upsample():
            return PlannedUpsample(form)
        case Alias() | Part():
            return PlannedAlias(form)
