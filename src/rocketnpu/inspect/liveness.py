"""When the bytes of each tensor on the device matter: from the step that makes it to the last that reads it.

Steps on the NPU that follow one another are one run: the host writes a run's inputs before it, and reads what it
needs of the results after it (compare runtime.Session).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rocketnpu.inspect.names import PlacedTensor, placed_tensors
from rocketnpu.program.model import CpuStep, NpuStep, Program


@dataclass(frozen=True, eq=False)
class Life:
    """The tensor's bytes matter from step `first`, which makes them, to step `last`; indices into Program.steps.

    `by_host` says that the host writes them, before step `first` runs.
    """

    tensor: PlacedTensor
    first: int
    last: int
    by_host: bool

    def survives(self, step: int) -> bool:
        """Whether step `step` must leave the bytes alone."""
        begins_before = self.first <= step if self.by_host else self.first < step
        return begins_before and step <= self.last


def lives(program: Program) -> tuple[Life, ...]:
    """The life of every tensor with a place that some step needs; several for one that the host writes repeatedly."""
    steps, placed = program.steps, placed_tensors(program)
    return tuple(life for name, tensor in placed.items() for life in _lives_of(program, steps, name, tensor))


def _lives_of(program: Program, steps: Sequence[NpuStep | CpuStep], name: str, tensor: PlacedTensor) -> Iterator[Life]:
    readers = [index for index, step in enumerate(steps) if isinstance(step, NpuStep) and name in step.inputs]
    maker = next((index for index, step in enumerate(steps) if name in step.outputs), None)
    if maker is not None and isinstance(steps[maker], NpuStep):
        host_reads = name in program.outputs or any(isinstance(step, CpuStep) and name in step.inputs for step in steps)
        ends = [maker, *readers]
        if host_reads:
            ends.append(_run_end(steps, maker))
        yield Life(tensor, maker, max(ends), by_host=False)
        return
    runs: dict[int, int] = {}
    for reader in readers:
        runs[_run_start(steps, reader)] = reader
    for start, last in runs.items():
        yield Life(tensor, start, last, by_host=True)


def _run_start(steps: Sequence[NpuStep | CpuStep], index: int) -> int:
    while index and isinstance(steps[index - 1], NpuStep):
        index -= 1
    return index


def _run_end(steps: Sequence[NpuStep | CpuStep], index: int) -> int:
    while index + 1 < len(steps) and isinstance(steps[index + 1], NpuStep):
        index += 1
    return index
