"""Which cores do what: plans are gathered into groups that several cores work through without waiting for each other.

1. Either one core does all plans of a group, or each of several cores does its share of each: a band of rows, or a
   range of channels.
2. In a group no core reads what another one writes, nor writes where another one reads or writes. What a plan writes
   is therefore new to its group, and allocate.py keeps every tensor of a group apart from the others until its end.
3. Rows: a core computes those whose inputs it has made itself. A window of several rows leaves seams between the bands;
   a second kick computes them, all plans of one seam on one core.
4. Channels: a core computes those that read only channels of its own, which a direct convolution never does.
5. The cheapest sequence of groups wins, by the cost of its kicks (hw/cost.py). The search keeps the best few
   unfinished sequences, as what a group may take in depends on what is in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, pairwise
from math import inf
from typing import Literal, TypeAlias

from rocketnpu.compiler.multicore.extents import Extent, bands_that_fit, channels_that_fit, filled_extent, reads, writes
from rocketnpu.compiler.multicore.share import SHARED, Share, Work, channel_unit, share_cost, share_tiles, whole, works
from rocketnpu.compiler.npu_ops import ATOM_CHANNELS
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.passes.assign import PlannedConvolution, PlannedMove, PlannedUpsample
from rocketnpu.compiler.passes.group_steps import Location, StepPlan, storage
from rocketnpu.compiler.tiling.convolution import Tile, tile_cost
from rocketnpu.hw import cost, limits
from rocketnpu.hw.cost import ChainCost, TaskCost, chain_cost, kick_cost

SEARCHES = (((1, False),), ((6, False),), ((24, False), (24, True)))
"""For each level of `optimize`: how many sequences a search keeps, and whether it also shares rows so that they fill
whole groups of pixels."""
TABLE_LOAD = TaskCost(0, ATOM_CHANNELS, ATOM_CHANNELS)

Way: TypeAlias = Literal["alone", "rows", "channels"]


@dataclass(frozen=True, eq=False)
class Member:
    """A plan in a group: what each core does of it, and each seam's core in the second kick (None: nothing)."""

    work: Work
    shares: tuple[Share, ...]
    seams: tuple[Share | None, ...] = ()


@dataclass(frozen=True, eq=False)
class Group:
    """Plans that `cores` cores work through without waiting."""

    way: Way
    cores: int
    members: tuple[Member, ...]

    @property
    def steps(self) -> tuple[int, int]:
        """The first and the last step with a plan of this group."""
        return self.members[0].work.step, self.members[-1].work.step


@dataclass(frozen=True, eq=False)
class _Open:
    """A group that may still grow: the extents of its shares and seams, and the cost of its two kicks by core."""

    group: Group
    made: tuple[tuple[Extent, ...], ...] = ()
    seams_made: tuple[tuple[Extent, ...], ...] = ()
    touched: tuple[Extent, ...] = ()
    chains: tuple[ChainCost, ...] = ()
    seams: tuple[ChainCost, ...] = ()

    @property
    def cost(self) -> float:
        """What the group costs (rule 5)."""
        kicks = (chains for chains in (self.chains, self.seams) if any(chain.moved_bytes for chain in chains))
        return sum(map(kick_cost, kicks))


_Closed: TypeAlias = "tuple[_Closed | None, Group]"


@dataclass(frozen=True, eq=False)
class _Sequence:
    """Closed groups, the last one first, what they cost, and the open group."""

    closed: _Closed | None = None
    cost: float = 0.0
    open: _Open | None = None

    @property
    def total(self) -> float:
        return self.cost + (0.0 if self.open is None else self.open.cost)

    def close(self) -> _Sequence:
        return self if self.open is None else _Sequence((self.closed, self.open.group), self.total)


@dataclass(frozen=True, eq=False)
class Splitter:
    """Splits the steps of one model; remembers the tiles of each share."""

    steps: Sequence[StepPlan]
    optimize: int
    _tiles: dict[tuple[int, Share, int], tuple[Tile, ...]] = field(
        default_factory=dict[tuple[int, Share, int], tuple[Tile, ...]]
    )

    @cached_property
    def works(self) -> tuple[tuple[Work, ...], ...]:
        """The plans of each step that have tasks."""
        return tuple(tuple(works(index, step)) for index, step in enumerate(self.steps))

    def groups(self, most_cores: int) -> dict[int, tuple[Group, ...]]:
        """For 2 .. `most_cores` cores: all plans that have tasks, in groups, in the order in which the groups run.

        What lower levels find with their tiles counts, too, and what fewer cores do: none of them does better.
        """
        located = storage(self.steps)
        result: dict[int, tuple[Group, ...]] = {}
        for cores in range(2, most_cores + 1):
            found = list(result.values())
            for level in range(self.optimize + 1):
                search = _Search(self, cores, located, level)
                found += [search.groups(width, fills_groups) for width, fills_groups in SEARCHES[level]]
            result[cores] = min(found, key=_Search(self, cores, located, self.optimize).cost)
        return result

    def tiles(self, work: Work, share: Share, level: int | None = None) -> tuple[Tile, ...]:
        """The tiles of a share of a convolution, at a level of `optimize`; ConstraintError if there are none."""
        assert isinstance(work.plan, PlannedConvolution)
        level = self.optimize if level is None else level
        if share == whole(work.plan) and level == self.optimize:
            return work.plan.tiles
        key = id(work.plan), share, level  # the steps keep their plans
        if key not in self._tiles:
            self._tiles[key] = share_tiles(work.plan.form, share, level)
        return self._tiles[key]


@dataclass(frozen=True, eq=False)
class _Search:
    """A search for groups on up to `cores` cores, with the tiles of a level of `optimize`."""

    splitter: Splitter
    cores: int
    located: Mapping[str, Location]
    level: int

    def groups(self, width: int, fills_groups: bool) -> tuple[Group, ...]:
        """The best groups that are found if `width` sequences are kept."""
        link, groups = self._best(width, fills_groups).closed, list[Group]()
        while link is not None:
            link, group = link
            groups.append(group)
        return tuple(reversed(groups))

    def cost(self, groups: Sequence[Group]) -> float:
        """What groups cost with this level's tiles."""
        total = 0.0
        for group in groups:
            opened: _Open | None = _Open(Group(group.way, group.cores, ()))
            for member in group.members:
                opened = None if opened is None else self._grown(opened, member)
            total += inf if opened is None else opened.cost
        return total

    def _best(self, width: int, fills_groups: bool) -> _Sequence:
        beam: list[_Sequence] = [_Sequence()]
        for on_npu, run in groupby(enumerate(self.splitter.steps), key=lambda item: item[1].on_npu):
            for work in (work for index, _ in run for work in self.splitter.works[index]) if on_npu else ():
                fresh = list(self._fresh(work, fills_groups))
                found: list[_Sequence] = []
                for sequence in beam:
                    found += self._followed(sequence, work, fresh)
                beam = sorted(found, key=lambda sequence: sequence.total)[:width]
            beam = [sequence.close() for sequence in beam]
        return min(beam, key=lambda sequence: sequence.cost)

    def _followed(self, sequence: _Sequence, work: Work, fresh: Sequence[_Open]) -> Iterator[_Sequence]:
        """The sequence with one more plan: in the open group, or in a group of its own."""
        if sequence.open is not None:
            member = _joined(sequence.open, work, self.located)
            grown = None if member is None else self._grown(sequence.open, member)
            if grown is not None:
                yield _Sequence(sequence.closed, sequence.cost, grown)
        closed = sequence.close()
        yield from (_Sequence(closed.closed, closed.cost, group) for group in fresh)

    def _fresh(self, work: Work, fills_groups: bool) -> Iterator[_Open]:
        """The groups that the plan may begin."""
        for way, count, shares in _beginnings(work, self.cores, fills_groups):
            grown = self._grown(_Open(Group(way, count, ())), Member(work, shares))
            if grown is not None:
                yield grown

    def _grown(self, group: _Open, member: Member) -> _Open | None:
        """The group with one more member; None where a share has no legal tiles."""
        work, located = member.work, self.located
        try:
            chains = [self._cost(work, share) for share in member.shares]
            seams = [ChainCost() if share is None else self._cost(work, share) for share in member.seams]
        except ConstraintError:
            return None
        before = group.group
        if before.way == "alone":
            made, seams_made, touched = (), (), ()
        else:
            made = _added(group.made, [writes(work.plan, share, located) for share in member.shares])
            seams_made = _added(
                group.seams_made, [share and writes(work.plan, share, located) for share in member.seams]
            )
            all_of = whole(work.plan)
            touched = (*group.touched, filled_extent(work.plan, located), *reads(work.plan, all_of, located))
        return _Open(
            Group(before.way, before.cores, (*before.members, member)),
            made,
            seams_made,
            touched,
            _summed(group.chains, chains),
            _summed(group.seams, seams),
        )

    def _cost(self, work: Work, share: Share) -> ChainCost:
        if isinstance(work.plan, PlannedConvolution):
            conv = work.plan.form
            return chain_cost(tile_cost(conv, part) for part in self.splitter.tiles(work, share, self.level))
        return chain_cost([share_cost(work.plan, share), *([TABLE_LOAD] if work.table else [])])


def _beginnings(work: Work, cores: int, fills_groups: bool = False) -> Iterator[tuple[Way, int, tuple[Share, ...]]]:
    """Ways to do a plan that nothing in its group comes before."""
    all_of = whole(work.plan)
    yield "alone", 1, (all_of,)
    if not isinstance(work.plan, SHARED):
        return
    units = {channel_unit(work.plan)}
    if all_of.c1 > limits.DEPTHWISE_GROUP:
        units.add(limits.DEPTHWISE_GROUP)  # so that a depthwise convolution may follow
    has_residual = isinstance(work.plan, PlannedConvolution) and work.plan.form.residual is not None
    for count in range(2, cores + 1):
        for unit in _row_units(work, fills_groups):
            rows = _cut(all_of.y0, all_of.y1, unit, count)
            if rows:
                yield "rows", count, tuple(Share(y0, y1, all_of.c0, all_of.c1) for y0, y1 in rows)
        for unit in sorted(units) if not has_residual else ():
            channels = _cut(all_of.c0, all_of.c1, unit, count)
            if channels:
                yield "channels", count, tuple(Share(all_of.y0, all_of.y1, c0, c1) for c0, c1 in channels)


def _row_units(work: Work, fills_groups: bool) -> Iterator[int]:
    """Rows are shared in multiples of this many."""
    if isinstance(work.plan, PlannedUpsample):
        yield 2
        return
    yield 1
    if isinstance(work.plan, PlannedConvolution) and work.plan.form.images > 1 and work.plan.form.window_rows > 1:
        yield work.plan.form.window_rows
    if isinstance(work.plan, PlannedMove) and work.plan.form.images > 1 and work.plan.form.height > 1:
        yield work.plan.form.height
    if fills_groups and isinstance(work.plan, PlannedConvolution):
        unit = cost.group_rows(work.plan.form.window.x1 - work.plan.form.window.x0)
        if unit > 1:
            yield unit


def _cut(start: int, stop: int, unit: int, parts: int) -> list[tuple[int, int]]:
    """Ranges of nearly equal length, in whole units but for the last; none if there are too few units."""
    units = -(-(stop - start) // unit)
    if units < parts:
        return []
    return list(pairwise(min(start + units * part // parts * unit, stop) for part in range(parts + 1)))


def _joined(group: _Open, work: Work, located: Mapping[str, Location]) -> Member | None:
    """The shares of a plan that an open group takes in; None where a rule forbids it."""
    way, cores = group.group.way, group.group.cores
    all_of = whole(work.plan)
    if way == "alone":
        return Member(work, (all_of,))
    if not isinstance(work.plan, SHARED):
        return None
    filled = filled_extent(work.plan, located)
    if any(filled.shares_planes(extent) for extent in group.touched):
        return None
    wanted = list(reads(work.plan, all_of, located))
    if not any(extent.shares_planes(item) for extent in wanted for own in group.made for item in own):
        same = (shares for kind, count, shares in _beginnings(work, cores) if (kind, count) == (way, cores))
        shares = next(same, None)
        return None if shares is None else Member(work, shares, (None,) * (cores - 1) if way == "rows" else ())
    if way == "channels":
        fitting = channels_that_fit(work.plan, group.made, located, channel_unit(work.plan))
        return Member(work, tuple(fitting)) if fitting else None
    bands = bands_that_fit(work.plan, group.made, located)
    if len(bands) != cores:
        return None
    seams = tuple(
        Share(above.y1, below.y0, all_of.c0, all_of.c1) if above.y1 < below.y0 else None
        for above, below in pairwise(bands)
    )
    for number, seam in enumerate(seams):
        others = [extent for core, own in enumerate(group.seams_made) if core != number for extent in own]
        if seam and any(extent.meets(other) for extent in reads(work.plan, seam, located) for other in others):
            return None
    return Member(work, tuple(bands), seams)


def _added(before: Sequence[tuple[Extent, ...]], extents: Sequence[Extent | None]) -> tuple[tuple[Extent, ...], ...]:
    """The extents of each core with one more."""
    own = before or [()] * len(extents)
    return tuple((*items, *([] if item is None else [item])) for items, item in zip(own, extents, strict=True))


def _summed(before: Sequence[ChainCost], costs: Sequence[ChainCost]) -> tuple[ChainCost, ...]:
    """The chains' costs with one more plan's; a group's first members have no seams."""
    if not costs:
        return tuple(before)
    return tuple(a + b for a, b in zip(before or [ChainCost()] * len(costs), costs, strict=True))
