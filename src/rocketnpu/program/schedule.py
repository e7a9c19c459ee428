"""In which order the task lists of consecutive steps run, and which of them share a kick.

1. Segments whose step gives them a number run in the order of their numbers; those of one number are one kick, in which
   each core goes on from one step's list to the next step's.
2. Without numbers every segment is a kick of its own, but lists for one core whose tasks follow one another are joined.
3. A kick has at most as many tasks on a core as the program controller counts (hardware/regcmd.md, Chaining).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from rocketnpu.hw.limits import MAX_TASKS_PER_KICK
from rocketnpu.program.model import NpuStep

Kick: TypeAlias = tuple[tuple[int, ...], ...]
"""Task indices, one chain for each core; none is empty."""


def kicks(steps: Sequence[NpuStep], cores: int) -> list[Kick]:
    """The kicks of consecutive steps that have task lists for `cores` cores."""
    if all(cores in step.kicks for step in steps):
        return [piece for kick in _numbered(steps, cores) for piece in _pieces(kick)]
    segments = (segment for step in steps for segment in step.tasks[cores])
    return [piece for kick in _joined(segments) for piece in _pieces(kick)]


def _numbered(steps: Sequence[NpuStep], cores: int) -> Iterator[list[list[int]]]:
    """Rule 1."""
    found: dict[int, list[list[int]]] = {}
    for step in steps:
        for number, segment in zip(step.kicks[cores], step.tasks[cores], strict=True):
            chains = found.setdefault(number, [[] for _ in segment])
            for chain, tasks in zip(chains, segment, strict=True):
                chain.extend(tasks)
    for number in sorted(found):
        yield found[number]


def _joined(segments: Iterable[Sequence[Sequence[int]]]) -> Iterator[list[list[int]]]:
    """Rule 2."""
    chain: list[int] = []
    for segment in segments:
        single = len(segment) == 1
        if chain and not (single and segment[0] and segment[0][0] == chain[-1] + 1):
            yield [chain]
            chain = []
        if single:
            chain = [*chain, *segment[0]]
        else:
            yield [list(core) for core in segment]
    yield [chain]


def _pieces(kick: Sequence[Sequence[int]]) -> Iterator[Kick]:
    """Rule 3, for a chain on one core; and cores that have nothing to do are left out."""
    chains = [tuple(chain) for chain in kick if chain]
    if len(chains) == 1:
        for start in range(0, len(chains[0]), MAX_TASKS_PER_KICK):
            yield (chains[0][start : start + MAX_TASKS_PER_KICK],)
    elif chains:
        yield tuple(chains)
