"""Which bytes a share of a plan reads and writes: ranges of pixels in ranges of planes of one place on the device."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rocketnpu.compiler.multicore.share import Share, channel_unit, input_rows, output_rows, whole
from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, Convolution, CubeShape, Move
from rocketnpu.compiler.passes.assign import Planned, PlannedMove, PlannedUpsample
from rocketnpu.compiler.passes.group_steps import Location
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.sizes import INT32_BYTES, align


@dataclass(frozen=True)
class Extent:
    """Pixels start..stop of the planes first..last-1 of `place`, counted from its beginning; half-open ranges.

    `is_solid`: all these bytes are written, none left out.
    """

    place: str
    first: int
    last: int
    start: int
    stop: int
    is_solid: bool = True

    def shares_planes(self, other: Extent) -> bool:
        """Whether both have planes in common."""
        return self.place == other.place and self.first < other.last and other.first < self.last

    def covers(self, other: Extent) -> bool:
        """Whether all pixels of `other`, which shares planes with this one, are in it."""
        return self.is_solid and self.start <= other.start and other.stop <= self.stop

    def meets(self, other: Extent) -> bool:
        """Whether both have bytes in common."""
        return self.shares_planes(other) and self.start < other.stop and other.start < self.stop


def reads(plan: Planned, share: Share, located: Mapping[str, Location]) -> Iterator[Extent]:
    """What a share reads of each tensor that the plan reads."""
    form = plan.form
    if isinstance(plan, PlannedMove):
        yield _moved(plan.form, plan.form.first, plan.form.first_start, share, located)
        if plan.form.second is not None:
            yield _moved(plan.form, plan.form.second, plan.form.second_start, share, located)
        return
    if isinstance(form, Convolution) and form.image_input:
        # Dense rows are the host's, and no task's: all of them.
        yield Extent(located[form.input].place, 0, 1, 0, form.input_shape.pixels)
        return
    y0, y1 = input_rows(plan, share.y0, share.y1)
    for name in form.inputs:
        shape, rows, c0, c1 = form.input_shape, (y0, y1), share.c0, share.c1
        if isinstance(form, Convolution) and name == form.residual:
            shape, rows = form.output_shape, output_rows(plan, share.y0, share.y1)
        elif isinstance(form, Convolution):
            first = form.first_input_channel
            c0, c1 = (c0 + first, c1 + first) if form.depthwise else (first, first + form.input_channels)
        yield _extent(located[name], shape, rows, c0, c1)


def writes(plan: Planned, share: Share, located: Mapping[str, Location]) -> Extent:
    """What a share writes, the planes of its real channels."""
    form = plan.form
    if isinstance(plan, PlannedMove):
        return _made(plan.form, share, located)
    c0, c1, is_solid = share.c0, share.c1, True
    rows = output_rows(plan, share.y0, share.y1)
    if isinstance(form, Convolution):
        c0, c1 = c0 + form.first_output_channel, c1 + form.first_output_channel
        is_solid = form.window.x1 - form.window.x0 == form.output_shape.width
        is_solid = is_solid and rows[1] - rows[0] == share.y1 - share.y0
        if form.fraction_bits is not None:
            c0, c1 = c0 * INT32_BYTES, c1 * INT32_BYTES
    return _extent(located[form.output], form.output_shape, rows, c0, c1, is_solid)


def filled_extent(plan: Planned, located: Mapping[str, Location]) -> Extent:
    """What all of a plan writes, with the planes that only fill its last group of channels."""
    share = whole(plan)
    return writes(plan, replace(share, c1=align(share.c1, channel_unit(plan))), located)


def bands_that_fit(plan: Planned, made: Sequence[Sequence[Extent]], located: Mapping[str, Location]) -> list[Share]:
    """For each core the rows whose inputs are in what it has made; `made` are its extents for each writer.

    The rows in between are left out; empty if some core has none, or rows before the first or after the last are.
    """
    all_rows = whole(plan)
    if isinstance(plan, PlannedUpsample) and all_rows.y1 % 2:
        return []
    rows = range(all_rows.y0, all_rows.y1)
    bands: list[Share] = []
    below = all_rows.y0
    for own in made:
        low, high = below, all_rows.y1
        for index, extent in enumerate(reads(plan, all_rows, located)):
            for written in (item for item in own if item.shares_planes(extent)):
                if not written.is_solid:
                    return []
                first = bisect_left(rows, written.start, key=lambda y: _read(plan, y, y + 1, index, located).start)
                last = bisect_right(rows, written.stop, key=lambda y: _read(plan, y, y + 1, index, located).stop)
                low, high = max(low, rows.start + first), min(high, rows.start + last)
        if low >= high:
            return []
        bands.append(Share(low, high, all_rows.c0, all_rows.c1))
        below = high
    if bands[0].y0 != all_rows.y0 or bands[-1].y1 != all_rows.y1:
        return []
    return bands


def channels_that_fit(
    plan: Planned, made: Sequence[Sequence[Extent]], located: Mapping[str, Location], unit: int
) -> list[Share]:
    """For each core the channels whose inputs are in the planes that it has made; empty if these are not whole units,
    or leave channels out."""
    form, all_of = plan.form, whole(plan)
    if isinstance(form, Convolution) and not form.depthwise:
        return []
    shares: list[Share] = []
    for own in made:
        low, high = all_of.c0, all_of.c1
        for extent in reads(plan, all_of, located):
            for written in (item for item in own if item.shares_planes(extent)):
                if not written.is_solid or not (written.start <= extent.start and extent.stop <= written.stop):
                    return []
                low = max(low, (written.first - extent.first) * ATOM_CHANNELS)
                high = min(high, (written.last - extent.first) * ATOM_CHANNELS)
        if low >= high or low % unit or (high % unit and high != all_of.c1):
            return []
        shares.append(Share(all_of.y0, all_of.y1, low, high))
    edges = [all_of.c0, *(share.c1 for share in shares)]
    if [share.c0 for share in shares] != edges[:-1] or edges[-1] != all_of.c1:
        return []
    return shares


def _read(plan: Planned, y0: int, y1: int, index: int, located: Mapping[str, Location]) -> Extent:
    share = whole(plan)
    return list(reads(plan, Share(y0, y1, share.c0, share.c1), located))[index]


def _extent(at: Location, shape: CubeShape, rows: tuple[int, int], c0: int, c1: int, is_solid: bool = True) -> Extent:
    plane = at.offset_bytes // (shape.pixels * ATOM_BYTES)
    first, last = plane + c0 // ATOM_CHANNELS, plane + -(-c1 // ATOM_CHANNELS)
    return Extent(at.place, first, last, rows[0] * shape.width, rows[1] * shape.width, is_solid)


def _moved(move: Move, name: str, start: int, share: Share, located: Mapping[str, Location]) -> Extent:
    """The pixels that a move reads, which are consecutive in each image, from the first to the last."""
    pixels = move.input_shape.pixels
    plane, first = divmod(start, pixels)
    c0, c1 = share.c0 + plane * ATOM_CHANNELS, share.c1 + plane * ATOM_CHANNELS
    found = _extent(located[name], move.input_shape, (0, 1), c0, c1)
    top, bottom = (_pixel(move, y, pixels // move.images, move.width) for y in (share.y0, share.y1 - 1))
    return Extent(found.place, found.first, found.last, first + top, first + bottom + move.width)


def _made(move: Move, share: Share, located: Mapping[str, Location]) -> Extent:
    plane, first = divmod(move.output_start, move.output_shape.pixels)
    c0, c1 = share.c0 + plane * ATOM_CHANNELS, share.c1 + plane * ATOM_CHANNELS
    found = _extent(located[move.output], move.output_shape, (0, 1), c0, c1)
    pixels = move.output_shape.pixels // move.images
    top, bottom = (_pixel(move, y, pixels, move.row_step) for y in (share.y0, share.y1 - 1))
    is_solid = move.row_step == move.width and bottom + move.width - top == (share.y1 - share.y0) * move.width
    return Extent(found.place, found.first, found.last, first + top, first + bottom + move.width, is_solid)


def _pixel(move: Move, row: int, image_pixels: int, row_step: int) -> int:
    """Pixels from the first that a move reads, or makes, to those of a row."""
    image, row = divmod(row, move.height)
    return image * image_pixels + row * row_step
