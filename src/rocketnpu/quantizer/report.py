"""How much accuracy a quantized model has lost: signal to quantization noise, tensor by tensor and at the outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.ir import Graph, Quantization
from rocketnpu.quantizer.ranges import Tensors


class Sqnr:
    """Signal-to-quantization-noise ratio: the power of real values to that of their errors, over many arrays."""

    def __init__(self) -> None:
        self._signal = self._noise = 0.0

    def add(self, found: NDArray[Any], expected: NDArray[Any]) -> None:
        """Count one more pair of arrays of real values."""
        reference = expected.astype(np.float64)
        self._signal += float(np.square(reference).sum())
        self._noise += float(np.square(found.astype(np.float64) - reference).sum())

    @property
    def decibels(self) -> float:
        """10 log10(signal / noise); infinite without noise, and minus infinite for noise where all should be 0."""
        if self._noise == 0.0:
            return math.inf
        return 10 * math.log10(self._signal / self._noise) if self._signal else -math.inf


@dataclass(frozen=True)
class LayerLoss:
    """One quantized tensor: the float model's name for it, the operator that makes it, and its SQNR in dB.

    `grid`: what its own grid costs, when the float model's values are rounded to it. `end_to_end`: with all that was
    lost before, in the quantized model fed with the same inputs.
    """

    tensor: str
    operator: str
    shape: tuple[int, ...]
    grid: float
    end_to_end: float


@dataclass(frozen=True)
class Report:
    """What quantization did to a model; SQNR in dB against the float model.

    `inputs`: sets it was calibrated on; `evaluated`: sets these figures come from. `outputs` has the SQNR of each
    output.
    """

    inputs: int
    evaluated: int
    layers: tuple[LayerLoss, ...]
    outputs: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is compared: functions from a set of inputs to tensors by name, and the quantized model's graph.

    `original` gives the outputs of the user's model, `prepared` and `quantized` all tensors of the models after and
    before quantization. `names` maps the quantized graph's int8 tensors to the prepared model's float ones.
    """

    original: Callable[[list[NDArray[Any]]], Tensors]
    prepared: Callable[[list[NDArray[Any]]], Tensors]
    quantized: Callable[[list[NDArray[Any]]], Tensors]
    graph: Graph
    names: Mapping[str, str]


def compare(
    comparison: Comparison, samples: Iterable[list[NDArray[Any]]], advance: Callable[[], None]
) -> tuple[tuple[LayerLoss, ...], dict[str, float]]:
    """The losses of all tensors in the model's order, and the SQNR of the outputs; `advance` is called for each set."""
    graph = comparison.graph
    grids = {name: Sqnr() for name in comparison.names}
    ends = {name: Sqnr() for name in comparison.names}
    outputs = {name: Sqnr() for name in graph.outputs}
    for inputs in samples:
        original, real, found = (
            run(inputs) for run in (comparison.original, comparison.prepared, comparison.quantized)
        )
        for name, float_name in comparison.names.items():
            grid = graph.tensors[name].quantization
            assert grid is not None  # what `names` promises
            expected = real[float_name]
            limits = np.iinfo(graph.tensors[name].dtype.name)
            rounded = np.clip(np.round(expected / _scale(grid)) + _zero(grid), limits.min, limits.max)
            grids[name].add(_real(rounded, grid), expected)
            ends[name].add(_real(found[name], grid), expected)
        for name, total in outputs.items():
            total.add(found[name], original[name])
        advance()
    makers = {name: operator.kind for operator in graph.operators for name in operator.outputs}
    layers = tuple(
        LayerLoss(float_name, makers[name], graph.tensors[name].shape, grids[name].decibels, ends[name].decibels)
        for name, float_name in comparison.names.items()
    )
    return layers, {name: total.decibels for name, total in outputs.items()}


def _scale(grid: Quantization) -> float:
    return float(grid.scales[0])


def _zero(grid: Quantization) -> int:
    return int(grid.zero_points[0])


def _real(values: NDArray[Any], grid: Quantization) -> NDArray[np.float64]:
    return (values.astype(np.float64) - _zero(grid)) * _scale(grid)
