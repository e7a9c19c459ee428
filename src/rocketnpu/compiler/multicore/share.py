"""What one core does of a plan: a range of its output rows, or of its output channels, and what that costs.

1. Rows of a convolution are a convolution of their own, tiled anew; channels are cut in the groups that the MAC array
   works on, so that each core reads only its share of the weights.
2. DPU-only tasks are cut in rows or in planes of 16 channels, as the vendor cuts its copies (hardware/convolution.md,
   Multi-core). A lookup goes with the load of its table: every core has a table of its own.
3. Any other plan is not shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, Convolution, CubeShape, Elementwise
from rocketnpu.compiler.passes.assign import (
    Planned,
    PlannedAlias,
    PlannedConvolution,
    PlannedElementwise,
    PlannedLookup,
    PlannedMove,
    PlannedRescale,
    PlannedTableLoad,
    PlannedUpsample,
)
from rocketnpu.compiler.passes.group_steps import StepPlan
from rocketnpu.compiler.tiling.convolution import Tile, tile
from rocketnpu.hw import limits
from rocketnpu.hw.cost import TaskCost
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.sizes import align


@dataclass(frozen=True)
class Share:
    """Half-open ranges of output rows and of output channels.

    Rows of a convolution are those of its window, those of a move the ones that it makes; in a batch they are counted
    through all images.
    """

    y0: int
    y1: int
    c0: int
    c1: int


@dataclass(frozen=True, eq=False)
class Work:
    """A plan of step `step`, by its index, with the table load that must run right before it, if there is one."""

    step: int
    plan: Planned
    table: PlannedTableLoad | None = None


SHARED = PlannedConvolution | PlannedElementwise | PlannedRescale | PlannedLookup | PlannedMove | PlannedUpsample


def works(index: int, step: StepPlan) -> Iterator[Work]:
    """The plans of a step that have tasks; a lookup with the load of its table."""
    table: PlannedTableLoad | None = None
    for plan in step.plans:
        if isinstance(plan, PlannedTableLoad):
            table = plan
        elif not isinstance(plan, PlannedAlias):
            yield Work(index, plan, table if isinstance(plan, PlannedLookup) else None)


def whole(plan: Planned) -> Share:
    """All of a plan."""
    form = plan.form
    if isinstance(plan, PlannedConvolution):
        conv = plan.form
        return Share(conv.window.y0, conv.window.y0 + conv.images * conv.window_rows, 0, conv.output_channels)
    if isinstance(plan, PlannedMove):
        return Share(0, plan.form.images * plan.form.height, 0, plan.form.channels)
    return Share(0, form.output_shape.height, 0, form.output_shape.channels)


def channel_unit(plan: Planned) -> int:
    """Channels come in multiples of this many."""
    if not isinstance(plan, PlannedConvolution):
        return ATOM_CHANNELS
    return limits.DEPTHWISE_GROUP if plan.form.depthwise else limits.DIRECT_OUTPUT_GROUP


def share_tiles(conv: Convolution, share: Share, optimize: int) -> tuple[Tile, ...]:
    """The tasks of a share of a convolution; ConstraintError if no tiles are legal."""
    rows = (share.y0, share.y1)
    if (share.c0, share.c1) == (0, conv.output_channels):
        return tile(conv, optimize, rows)
    cut = slice(share.c0, share.c1)
    part = replace(
        conv,
        weights=conv.weights[cut],
        weight_zero_points=conv.weight_zero_points[cut],
        bias=conv.bias[cut],
        gains=conv.gains[cut],
        slopes=None if conv.slopes is None else conv.slopes[cut],
    )
    return tuple(replace(found, c0=found.c0 + share.c0, c1=found.c1 + share.c0) for found in tile(part, optimize, rows))


def share_cost(plan: Planned, share: Share) -> TaskCost:
    """What a share of a DPU-only plan costs, or a whole plan of any other kind but a convolution."""
    form = plan.form
    channels = align(share.c1 - share.c0, ATOM_CHANNELS)
    rows = share.y1 - share.y0
    if isinstance(plan, PlannedMove):
        pixels = rows * plan.form.width
        return TaskCost(0, pixels * channels * (1 + (plan.form.second is not None)), pixels * channels)
    out = form.output_shape
    written = rows * out.width * channels
    if not isinstance(plan, SHARED):
        return TaskCost(0, len(form.inputs) * _bytes(form.input_shape), _bytes(out))
    if isinstance(plan, PlannedUpsample):
        return TaskCost(0, written // 4, written)
    return TaskCost(0, written * (1 + isinstance(form, Elementwise)), written)


def input_rows(plan: Planned, y0: int, y1: int) -> tuple[int, int]:
    """The rows of each input that the output rows y0..y1 read, from the first to the last; not for moves."""
    if isinstance(plan, PlannedConvolution):
        conv = plan.form
        runs = list(conv.runs(y0, y1))
        (first_image, top, _), (last_image, _, bottom) = runs[0], runs[-1]
        first = max(top * conv.stride_h + conv.origin_h, 0)
        last = min((bottom - 1) * conv.stride_h + conv.origin_h + conv.reach_h, conv.input_height)
        return first_image * conv.input_height + first, last_image * conv.input_height + last
    if isinstance(plan, PlannedUpsample):
        return y0 // 2, -(-y1 // 2)
    return y0, y1


def output_rows(plan: Planned, y0: int, y1: int) -> tuple[int, int]:
    """Where the output rows y0..y1 lie in the output's cube, from the first to the last; not for moves."""
    if not isinstance(plan, PlannedConvolution):
        return y0, y1
    height = plan.form.output_height
    runs = list(plan.form.runs(y0, y1))
    return runs[0][0] * height + runs[0][1], runs[-1][0] * height + runs[-1][2]


def _bytes(shape: CubeShape) -> int:
    return align(shape.channels, ATOM_CHANNELS) // ATOM_CHANNELS * shape.pixels * ATOM_BYTES
