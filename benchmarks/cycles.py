"""`python -m benchmarks.cycles`: what programs cost by the vendor compiler's formula, and what `optimize` makes of it.

The formula's cycles and the times of the measured model come from the tasks as they are emitted (rocketnpu/profile.py).
Exit code 1 if a target is missed. Further models, by their paths, are shown without targets of their own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import rocketnpu as rn
from benchmarks.figures import MEGABYTE, Figure
from benchmarks.models import MOBILENET, shared_folder
from rocketnpu.hw.limits import CORES
from rocketnpu.inspect import view
from rocketnpu.inspect.memory import program_memory
from rocketnpu.inspect.spans import size_bytes, union
from rocketnpu.profile import Profile, profile

MEGACYCLE = 1_000_000
MOBILENET_MEGACYCLES = 1.20
"""The vendor's figures for its own program: hardware/performance.md, The vendor compiler's own cost model."""
MOBILENET_BYTES = 14_605_712
"""Of the formula, layer by layer: 14.6 MB."""
MOBILENET_ONCE_BYTES = 9_307_728 + 2064
"""The same with the weights and every layer's output alone: 9.3 MB. The vendor's network has 1000 classes, this one
1001: two more kernels of 1024, as their number is even, and an atom of the output."""
MOBILENET_TASKS = 38
MOBILENET_ARENA_BYTES = 2_160_000
LEAST_COMPUTE_GAIN = 2.4
LEAST_SHARE_OF_BOUND = 0.95
LEVELS = (0, 1, 2)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cycles", description=__doc__)
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL", help="further models (.tflite, .onnx)")
    arguments = parser.parse_args()
    mobilenet = shared_folder() / "models" / MOBILENET
    missed = 0
    for model in (mobilenet, *arguments.models):
        print(model.name)
        for figure in _figures(model, is_mobilenet=model == mobilenet):
            print(figure, flush=True)
            missed += figure.missed
    return 1 if missed else 0


def _figures(model: Path, *, is_mobilenet: bool) -> Iterator[Figure]:
    if is_mobilenet:
        yield from _one_core(rn.compile(model))
    yield from core_figures(profile(rn.compile(model, cores=CORES)))
    yield from level_figures(model)


def _one_core(program: rn.Program) -> Iterator[Figure]:
    """Against the vendor's own figures."""
    found = profile(program)
    total, layers = found.totals[0], found.layers
    arena = next(segment.size_bytes for segment in program.segments if segment.name == "activations")
    written = sum(layer.written_bytes for layer in layers)
    yield Figure("cycles, one core", total.cycles / MEGACYCLE, "million", MOBILENET_MEGACYCLES)
    yield Figure("bytes read and written", total.moved_bytes / MEGABYTE, "MB", MOBILENET_BYTES / MEGABYTE)
    once = _weight_bytes(program) + written
    yield Figure("weights and outputs alone", once / MEGABYTE, "MB", MOBILENET_ONCE_BYTES / MEGABYTE)
    yield Figure("tasks", total.tasks, "", MOBILENET_TASKS)
    yield Figure("arena", arena / MEGABYTE, "MB", MOBILENET_ARENA_BYTES / MEGABYTE)


def core_figures(found: Profile) -> Iterator[Figure]:
    """Several cores against one: compute, and all with the DRAM that they share; both models."""
    alone = found.totals[0]
    for total in found.totals:
        name = f"{total.cores} cores" if total.cores > 1 else "one core"
        yield Figure(f"cycles, {name}", total.cycles / MEGACYCLE, "million")
        if total is not alone:
            least = LEAST_COMPUTE_GAIN if total.cores == CORES else None
            yield Figure(f"compute, one core / busiest of {name}", alone.mac_cycles / total.mac_cycles, least=least)
            yield Figure(f"total, one core / {name}", total.gain, "times")
            yield Figure(f"the formula's bound of {name}", total.gain_bound, "times")
            least = LEAST_SHARE_OF_BOUND if total.cores == CORES else None
            yield Figure(f"total / bound of {name}", total.gain / total.gain_bound, least=least)
        yield Figure(f"kicks, {name}", total.kicks)
        yield Figure(f"time by the measured model, rknpu, {name}", 1000 * total.rknpu_seconds, "ms")
        if total.rocket_seconds is not None:
            yield Figure(f"time by the measured model, rocket, {name}", 1000 * total.rocket_seconds, "ms")


def level_figures(model: Path) -> Iterator[Figure]:
    """Time to compile and cost at each level of `optimize`; none may cost more than the level below."""
    before: dict[int, float] = {}
    for level in LEVELS:
        start = time.perf_counter()
        program = rn.compile(model, cores=CORES, optimize=level)
        yield Figure(f"optimize={level}: compile time, {CORES} cores", time.perf_counter() - start, "s")
        for total in profile(program).totals:
            yield Figure(f"optimize={level}: cycles, cores={total.cores}", total.cycles / MEGACYCLE, "million")
            name = f"optimize={level}: cost, cores={total.cores}"
            yield Figure(name, total.cost / MEGACYCLE, "million", before.get(total.cores))
            before[total.cores] = total.cost / MEGACYCLE
        arena = next(segment.size_bytes for segment in program.segments if segment.name == "activations")
        yield Figure(f"optimize={level}: arena, {CORES} cores", arena / MEGABYTE, "MB")


def _weight_bytes(program: rn.Program) -> int:
    """Weights, each byte once."""
    touches = (touch for memory in program_memory(view(program)) for touch in memory.touches)
    return size_bytes(union(touch.spans for touch in touches if touch.access.role == "weights"))


if __name__ == "__main__":
    sys.exit(main())
