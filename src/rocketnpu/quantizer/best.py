"""The best quantized model of what a calibration offers: ranges chosen by their cost, lossy layers float.

1. The model is quantized on the ranges of all values, so that it is known which tensors are int8.
2. Each of these gets the range that costs least (choose.py), and the model is quantized again.
3. Where an output has lost much, layers that lose much by themselves go to float, as long as the CPU has little to
   multiply for them. That stays so if the outputs gain by it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Literal

from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.ir import Graph
from rocketnpu.quantizer.borders import behind_layers
from rocketnpu.quantizer.calibration import Bounds, Method, bounds_by
from rocketnpu.quantizer.choose import candidates, choose
from rocketnpu.quantizer.formats import Format
from rocketnpu.quantizer.histogram import Histogram
from rocketnpu.quantizer.place import Placed, quantize_for_npu
from rocketnpu.quantizer.ranges import Range
from rocketnpu.quantizer.report import POOR, Comparison, Report, compare
from rocketnpu.quantizer.samples import Samples
from rocketnpu.quantizer.streams import Array, Stream, Tensors, flat
from rocketnpu.quantizer.vocabulary import macs_of

PROBED = 4
"""Sets of inputs that the cost of ranges is measured on."""

FLOAT_MACS = 0.01
"""Share of the model's multiply-accumulates that rule 3 may give to the CPU."""


@dataclass(frozen=True, eq=False)
class Work:
    """A repaired and equalized file, the ranges of its tensors, and the inputs to measure on.

    `original` gives the outputs of the user's own model. `step(what, count)` makes what is called after each input.
    """

    kind: Format
    data: bytes
    ranges: Mapping[str, Range]
    samples: Samples
    held: Samples
    original: Callable[[list[Array]], Tensors]
    step: Callable[[str, int], Callable[[], None]]

    @cached_property
    def graph(self) -> Graph:
        """The file's graph."""
        return load_model(self.data)

    @cached_property
    def behind(self) -> frozenset[str]:
        """The tensors behind its last layers with weights."""
        return behind_layers(self.graph)


@dataclass(frozen=True, eq=False)
class Best:
    """A quantized file and what it has lost."""

    model: bytes
    report: Report


def quantize_best(work: Work, method: Method | Literal["auto"], keep_float: Collection[str]) -> Best:
    """The rules above; `method` is one of METHODS for all tensors, or "auto".

    `keep_float` has names or patterns of tensors. Raises ModelError for one that the model does not have.
    """
    kept = _named(work.graph, keep_float)
    placed = quantize_for_npu(work.kind, work.data, work.ranges, kept)
    ranges = work.ranges
    if method != "min-max":
        ranges = _chosen(work, placed, method)
        placed = quantize_for_npu(work.kind, work.data, ranges, kept)
    best = Best(placed.model, _report(work, placed))
    lossy = _lossy(work, best.report)
    if not lossy:
        return best
    other = quantize_for_npu(work.kind, work.data, ranges, {*kept, *lossy})
    found = Best(other.model, replace(_report(work, other), kept_float=tuple(lossy)))
    return found if max(found.report.lost.values()) < max(best.report.lost.values()) else best


def _named(graph: Graph, patterns: Collection[str]) -> set[str]:
    made = [name for operator in graph.operators for name in operator.outputs]
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        names = {name for name in made if name == pattern or fnmatchcase(name, pattern)}
        if not names:
            near = get_close_matches(pattern, made, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ModelError(f"keep_float: the model has no tensor {pattern!r} that an operator makes{hint}")
        found |= names
    return found


def _chosen(work: Work, placed: Placed, method: Method | Literal["auto"]) -> dict[str, Range]:
    """The ranges of all tensors; those that are int8 have the one of the method, or of the best one."""
    names = set(placed.names.values())
    histograms = {name: Histogram() for name in names}
    run, step = work.kind.run_float(work.data), work.step("finding ranges", len(work.samples))
    for sample in work.samples:
        for name, values in flat(run(sample)):
            if name in histograms:
                histograms[name].add(values)
        step()
    if method != "auto":
        chosen = {name: bounds_by(method, histograms[name], _whole(work.ranges[name])) for name in names}
    else:
        proposed = {name: candidates(histograms[name], work.ranges[name]) for name in names}
        probed = work.samples.spread(PROBED)
        step = work.step("choosing ranges", len(probed))
        runs = _counted((run(sample) for sample in probed), step)
        chosen = choose(work.graph, proposed, work.behind, runs, work.kind.pieces(work.graph))
    return {**work.ranges, **{name: work.ranges[name].clipped(*bounds) for name, bounds in chosen.items()}}


def _whole(range_: Range) -> Bounds:
    low, high = range_.bounds
    return float(low), float(high)


def _counted(runs: Iterable[Stream], step: Callable[[], None]) -> Iterator[Stream]:
    for run in runs:
        yield run
        step()


def _report(work: Work, placed: Placed) -> Report:
    kind, graph = work.kind, placed.graph
    comparison = Comparison(
        original=work.original,
        prepared=kind.run_float(work.data),
        quantized=kind.run_quantized(graph.model),
        graph=graph,
        names=placed.names,
        behind=work.behind,
        piece=kind.pieces(graph),
    )
    layers, outputs, lost = compare(comparison, work.held, work.step("measuring", len(work.held)))
    return Report(len(work.samples), len(work.held), layers, outputs, lost)


def _lossy(work: Work, report: Report) -> list[str]:
    """The tensors of rule 3, none where no output is poor."""
    if not report.poor:
        return []
    macs = {name: macs_of(work.graph, operator) for operator in work.graph.operators for name in operator.outputs}
    left = FLOAT_MACS * sum(macs_of(work.graph, operator) for operator in work.graph.operators)
    found: list[str] = []
    for layer in report.blamed:
        if layer.alone > POOR and macs.get(layer.tensor, 0) <= left and layer.tensor in macs:
            left -= macs[layer.tensor]
            found.append(layer.tensor)
    return found
